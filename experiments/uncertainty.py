"""How sure a fit is: noise of single runs, and refits to resampled data.

Two resamplings: `rows` draws runs with replacement (many runs: Epoch's way); `noise` keeps the
design and draws new losses around the fit, with residuals inflated for the degrees of freedom that
the fit used up and, for each draw, a noise scale drawn from its own uncertainty, so that intervals
are Student's and not normal ones when runs are few. Rows of one group (checkpoints of a run) are
drawn together, or change sign together (the wild cluster bootstrap: Cameron et al. 2008).
"""

from typing import NamedTuple

import numpy as np

from experiments.runs import Runs
from experiments.search import Objective, Terms, log_prediction, newton

MANY = 20  # runs per parameter from which on resampling rows is safe


class Noise(NamedTuple):
    """Scatter of single runs around the law, of ln loss."""

    scale: float  # standard deviation
    freedom: int  # degrees of freedom it was measured with
    seed_scale: float | None  # from runs repeated at the same N and D; None without them

    def draw(self, count: int, seed: int = 0) -> np.ndarray:
        """Log deviations of new runs (Student's t), the same for the same seed."""
        return self.scale * np.random.default_rng([seed, 1]).standard_t(self.freedom, count)


def estimate_noise(runs: Runs, terms: Terms, theta: np.ndarray) -> Noise:
    """Residual scatter, corrected for the parameters fitted; never below the seeds' own scatter."""
    r = np.log(runs.loss) - log_prediction(theta[None], terms)[0]
    freedom = len(r) - len(theta)
    scale = float(np.sqrt(np.sum(r * r) / freedom))
    cells: dict[tuple[float, float], list[float]] = {}
    for N, D, residual in zip(runs.N, runs.D, r, strict=True):
        cells.setdefault((float(N), float(D)), []).append(float(residual))
    repeats = [np.array(v) for v in cells.values() if len(v) > 1]
    within = sum(len(v) - 1 for v in repeats)
    if not within:
        return Noise(scale, freedom, None)
    seeds = float(np.sqrt(sum(float(np.sum((v - v.mean()) ** 2)) for v in repeats) / within))
    return Noise(max(scale, seeds), freedom, seeds)


def resample(
    terms: Terms,
    loss: np.ndarray,
    theta: np.ndarray,
    objective: Objective,
    noise: Noise,
    count: int,
    seed: int = 0,
    rows: bool | None = None,
    group: np.ndarray | None = None,
) -> np.ndarray:
    """Parameters of `count` refits, count P; `rows` None chooses by the number of runs."""
    rng = np.random.default_rng([seed, 0])
    n, P = len(loss), len(theta)
    start = np.tile(theta, (count, 1))
    # A start exactly at the fitted minimum would be fine but for absolute values, which have no
    # slope to follow there; Huber's have.
    used = objective if objective.delta > 0 else objective._replace(delta=1e-5)
    label = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
    groups = int(label.max()) + 1
    if (groups >= MANY * P) if rows is None else rows:
        times = rng.multinomial(groups, np.full(groups, 1 / groups), size=count)
        weights = times[:, label].astype(float)
        return newton(start, terms, np.log(loss) if used.log else loss, weights, used)[0]
    fitted = log_prediction(theta[None], terms)[0]
    residual = np.log(loss) - fitted
    inflated = (residual - residual.mean()) * (noise.scale / max(residual.std(), 1e-300))
    scale = np.sqrt(noise.freedom / rng.chisquare(noise.freedom, size=(count, 1)))
    if groups < n:
        picked = inflated * rng.choice([-1.0, 1.0], size=(count, groups))[:, label]
    else:
        picked = inflated[rng.integers(n, size=(count, n))]
    y = fitted + picked * scale
    return newton(start, terms, y if used.log else np.exp(y), np.ones(n), used)[0]


def quantiles(draws: np.ndarray, level: float) -> tuple[float, float]:
    """The central interval of `level`."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
