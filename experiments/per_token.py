"""How many FLOPs a token costs to train on, as a function of N, from a table's exact C."""

from dataclasses import dataclass, replace

import numpy as np

from experiments.runs import Runs


@dataclass(frozen=True)
class PerToken:
    """Training FLOPs per token over 6N: ln(C/(6ND)) = (c0 + c1 ln(N/N0)) (N/N0)^(-1/3).

    Small models spend more or less than 6 FLOPs per parameter and token (attention, head, lookups);
    that share falls with width, about N^(1/3), so both terms fade and C = 6ND far out. Below the
    smallest model of the table the ratio stays as it is there.
    """

    N0: float = 1.0
    c0: float = 0.0
    c1: float = 0.0
    smallest: float = 0.0  # N of the table's smallest model, over N0
    error: float = 0.0  # largest relative deviation from the runs

    def log_ratio(self, log_N: np.ndarray) -> np.ndarray:
        x = self._position(log_N)
        return (self.c0 + self.c1 * x) * np.exp(-x / 3)

    def slope(self, log_N: np.ndarray) -> np.ndarray:
        """Derivative of log_ratio in ln N."""
        x = self._position(log_N)
        slope = (self.c1 - (self.c0 + self.c1 * x) / 3) * np.exp(-x / 3)
        return np.where(np.exp(x) > self.smallest, slope, 0.0)

    def _position(self, log_N: np.ndarray) -> np.ndarray:
        lowest = np.log(self.smallest) if self.smallest > 0 else -np.inf
        return np.maximum(log_N - np.log(self.N0), lowest)


def fit_per_token(runs: Runs) -> PerToken:
    """FLOPs per token over 6N as a function of N, by least squares; 1 where C is 6ND."""
    if runs.C_counted != "exact":
        return PerToken()
    N0 = float(np.exp(np.log(runs.N).mean()))
    x, y = np.log(runs.N / N0), np.log(runs.C / (6 * runs.N * runs.D))
    columns = np.stack([np.ones_like(x), x], axis=1) * np.exp(-x / 3)[:, None]
    c0, c1 = np.linalg.lstsq(columns, y, rcond=None)[0]
    relation = PerToken(N0, float(c0), float(c1), float(runs.N.min() / N0))
    error = float(np.abs(np.expm1(relation.log_ratio(np.log(runs.N)) - y)).max())
    return replace(relation, error=error)
