"""Over-training: loss and task error of models far beyond the compute-optimal D/N.

Gadre et al. 2024 (arXiv 2403.08540), equations 4 and 5: L(C, M) = E + (a M^eta + b M^-eta) C^-eta
with M = D/N and C = 6ND, which is E + A/N^(2 eta) + B/D^(2 eta) with A = a 6^-eta and B = b 6^-eta:
one exponent for both terms, so that the loss falls equally fast at every M. Average task error
follows the loss: Err = epsilon - k exp(-gamma L). Losses nats/token, errors 0 to 1.
"""

from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments.search import Objective, Terms, search

SQUARES = Objective(delta=np.inf, log=False)  # of the loss itself, as they fit it


class TiedLaw(NamedTuple):
    """L = E + A/N^exponent + B/D^exponent."""

    E: float
    A: float
    B: float
    exponent: float
    objective: float

    def predict(self, N: np.ndarray, D: np.ndarray) -> np.ndarray:
        """Loss of N parameters on D tokens."""
        return self.E + self.A * N**-self.exponent + self.B * D**-self.exponent

    @property
    def a_b_eta(self) -> tuple[float, float, float]:
        """The paper's a, b and eta."""
        eta = self.exponent / 2
        return self.A * 6**eta, self.B * 6**eta, eta


def fit_tied(
    N: np.ndarray, D: np.ndarray, loss: np.ndarray, objective: Objective = SQUARES
) -> TiedLaw:
    """The law with one exponent, at its global optimum.

    UserError: fewer runs than its 4 parameters, or one D/N only.
    """
    if len(N) < 4:
        raise UserError(f"{len(N)} runs cannot fit the 4 parameters of the over-training law")
    if np.ptp(np.log(D / N)) < 0.1:
        raise UserError("D/N is the same in all runs: add one at another to tell N from D")
    log_N, log_D = np.log(N), np.log(D)
    design = np.zeros((3, len(N), 4))
    for k in range(3):
        design[k, :, k] = 1
    design[1, :, 3], design[2, :, 3] = log_N.mean() - log_N, log_D.mean() - log_D
    found = search(Terms(design, 3), loss, objective, grid=200)
    e, a, b, exponent = found.theta
    A, B = np.exp(a + exponent * log_N.mean()), np.exp(b + exponent * log_D.mean())
    return TiedLaw(float(np.exp(e)), float(A), float(B), float(exponent), found.objective)


class ErrorLaw(NamedTuple):
    """Err = epsilon - k exp(-gamma L)."""

    epsilon: float
    k: float
    gamma: float

    def predict(self, loss: np.ndarray) -> np.ndarray:
        """Average error at a loss."""
        return self.epsilon - self.k * np.exp(-self.gamma * loss)


def fit_error(loss: np.ndarray, error: np.ndarray) -> ErrorLaw:
    """Least squares: gamma by a search in one dimension, epsilon and k are linear given it.

    UserError: fewer than 4 runs.
    """
    if len(loss) < 4:
        raise UserError(f"{len(loss)} runs are too few to fit the 3 parameters of the error law")
    from scipy.optimize import minimize_scalar

    centre = loss.mean()

    def solve(log_gamma: float) -> tuple[np.ndarray, float]:
        columns = np.stack([np.ones_like(loss), -np.exp(-np.exp(log_gamma) * (loss - centre))], 1)
        solution = np.linalg.lstsq(columns, error, rcond=None)[0]
        return solution, float(np.sum((columns @ solution - error) ** 2))

    grid = np.linspace(np.log(0.01), np.log(20), 200)
    best = int(np.argmin([solve(g)[1] for g in grid]))
    bounds = (grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)])
    options = {"xatol": 1e-12}
    log_gamma = minimize_scalar(
        lambda g: solve(g)[1], bounds=bounds, method="bounded", options=options
    ).x
    (epsilon, k), gamma = solve(log_gamma)[0], float(np.exp(log_gamma))
    return ErrorLaw(float(epsilon), float(k * np.exp(gamma * centre)), gamma)
