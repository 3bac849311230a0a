"""The data-constrained law: what repeated tokens and excess parameters are worth.

Muennighoff et al. 2023 (arXiv 2305.16264), section 3 and appendix A:
L = E + A/N'^alpha + B/D'^beta with an effective number of tokens
D' = U + U R_D* (1 - exp(-R_D/R_D*)), R_D = D/U - 1 repetitions of U unique tokens, and N' alike
with U_N = min(N, the model that U tokens are optimal for). The first epoch counts in full, later
ones decay; R_D* and R_N* are where that decay has taken 1 - 1/e.
N parameters, D and U tokens, losses nats/token.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments.minimise import LEVEL, NEAR, condition_number, jacobian_at, refits
from experiments.search import Objective
from experiments.tables import table
from experiments.uncertainty import quantiles

RANGE = (0.05, 2000.0)  # of R_D* and R_N* that is searched
FLAT = 0.004  # relative rise of the objective that still counts as fitting as well
SIMPLEX = np.array([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]])  # around a start, in log parameters
Value = Callable[[np.ndarray], float]  # the objective at (ln R_D*, ln R_N*)
C4_TIED = 0.3526596  # alpha = beta of their fit to C4


class Constants(NamedTuple):
    """The law of runs that repeat nothing."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float


# Their fit to single-epoch runs on C4, held fixed while R_D* and R_N* are fitted.
C4 = Constants(np.exp(0.6254804), np.exp(6.255414), np.exp(7.3049974), C4_TIED, C4_TIED)


class Decay(NamedTuple):
    """A fit of R_D* and R_N*."""

    R_D: float
    R_N: float
    objective: float
    minima: tuple[tuple[float, float, float], ...]  # (R_D*, R_N*, objective), the best first
    reached: float  # share of the polished starts that ended at the best
    condition_number: float  # of the curvature in ln R_D* and ln R_N*
    flat_R_D: tuple[float, float]  # range of R_D* whose best fit is within 0.4% of the objective
    intervals: dict[str, tuple[float, float]]  # 90%, of R_D and R_N, from refits of resampled runs
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        rows = [["parameter", "value", "90% interval"]]
        for name in ("R_D", "R_N"):
            low, high = self.intervals[name]
            rows.append([f"{name}*", f"{getattr(self, name):.5g}", f"{low:.4g} to {high:.4g}"])
        text = (
            f"objective {self.objective:.9g}; {self.reached:.0%} of polished starts reached it; "
            f"{len(self.minima)} minima; condition number {self.condition_number:.2g}"
        )
        return "\n".join([table(rows), text, *(f"warning: {w}" for w in self.warnings)])


def optimal_parameters(U: np.ndarray, c: Constants) -> np.ndarray:
    """The compute-optimal N of U tokens: Hoffmann et al. 2022, equation 4, solved for D = U."""
    G = (c.alpha * c.A / (c.beta * c.B)) ** (1 / (c.alpha + c.beta))
    return G * (U * G) ** (c.beta / c.alpha)


def loss(
    N: np.ndarray, D: np.ndarray, U: np.ndarray, R_D: float, R_N: float, c: Constants = C4
) -> np.ndarray:
    """Loss of N parameters trained on D tokens, U of them unique. Arrays broadcast."""
    U = np.minimum(U, D)
    U_N = np.minimum(N, optimal_parameters(U, c))
    return c.E + c.A / _effective(N, U_N, R_N) ** c.alpha + c.B / _effective(D, U, R_D) ** c.beta


def _effective(total: np.ndarray, unique: np.ndarray, decay: float) -> np.ndarray:
    repeats = np.maximum(total / unique - 1, 0)
    return unique * (1 - decay * np.expm1(-repeats / decay))


def fit(
    N: np.ndarray,
    D: np.ndarray,
    U: np.ndarray,
    observed: np.ndarray,
    c: Constants = C4,
    objective: Objective = Objective(),  # noqa: B008 (immutable)
    grid: int = 48,
    draws: int = 100,
) -> Decay:
    """R_D* and R_N* by Huber on ln loss: every local minimum of a grid is polished, none guessed.

    UserError: no run repeats data (nothing to fit), fewer than 3 runs, or arrays of different
    lengths.
    """
    if not len(N) == len(D) == len(U) == len(observed):
        raise UserError("N, D, U and loss must have one length")
    if len(N) < 3:
        raise UserError(f"{len(N)} runs cannot fit R_D* and R_N* and measure the noise: give 3")
    if not (D > U).any():
        raise UserError("no run has D above U: repeated data is needed to see what it is worth")

    def residuals(log_R: np.ndarray) -> np.ndarray:
        R_D, R_N = np.exp(log_R)
        return np.log(loss(N, D, U, R_D, R_N, c)) - np.log(observed)

    def value(log_R: np.ndarray) -> float:
        return float(objective.values(residuals(log_R)).sum())

    axis = np.linspace(np.log(RANGE[0]), np.log(RANGE[1]), grid)
    surface = np.array([[value(np.array([x, y])) for y in axis] for x in axis])
    minima, reached = _polish(value, axis, surface)
    best = minima[0]
    flat = _flat(value, axis, surface, best)
    warnings = []
    if flat[1] > 3 * flat[0]:
        end = "without an upper end" if flat[1] >= 0.99 * RANGE[1] else f"to {flat[1]:.3g}"
        warnings.append(
            f"R_D* is not identified: any value from {flat[0]:.3g} {end} fits within "
            f"{FLAT:.1%} of the best objective"
        )
    if len(minima) > 1:
        warnings.append(
            f"{len(minima)} minima: the second, R_D* = {minima[1][0]:.4g}, R_N* = "
            f"{minima[1][1]:.4g}, is {minima[1][2] / best[2] - 1:.2%} worse"
        )
    near = [np.log(m[:2]) for m in minima if m[2] < best[2] * (1 + NEAR)]
    box = np.tile(np.log(RANGE), (2, 1)).T
    jacobian = jacobian_at(residuals, np.log(best[:2]), box)
    condition = condition_number(jacobian.T @ jacobian)
    cloud = np.exp(refits(residuals, near, objective.delta, box, draws=draws))
    ends = [quantiles(column, LEVEL) for column in cloud.T]
    intervals = dict(zip(("R_D", "R_N"), ends, strict=True))
    return Decay(*best, tuple(minima), reached, condition, flat, intervals, tuple(warnings))


def _polish(
    value: Value, axis: np.ndarray, surface: np.ndarray
) -> tuple[list[tuple[float, float, float]], float]:
    """Minimise from each grid point that is below its neighbours.

    Returns the different minima, the best first, and the share of starts that ended there.
    """
    from scipy.ndimage import minimum_filter
    from scipy.optimize import minimize

    found: list[tuple[float, float, float]] = []
    for i, j in np.argwhere(surface == minimum_filter(surface, 3, mode="nearest")):
        start = np.array([axis[i], axis[j]])
        options = {"xatol": 1e-9, "fatol": 1e-16, "initial_simplex": start + SIMPLEX}
        result = minimize(value, start, method="Nelder-Mead", options=options)
        R_D, R_N = np.exp(result.x)
        found.append((float(R_D), float(R_N), float(result.fun)))
    found.sort(key=lambda m: m[2])
    different = [m for k, m in enumerate(found) if not any(_same(m, f) for f in found[:k])]
    return different, sum(_same(m, found[0]) for m in found) / len(found)


def _same(a: tuple[float, float, float], b: tuple[float, float, float]) -> bool:
    return bool(abs(np.log(a[0] / b[0])) + abs(np.log(a[1] / b[1])) <= 0.02)


def _flat(
    value: Value, axis: np.ndarray, surface: np.ndarray, best: tuple[float, float, float]
) -> tuple[float, float]:
    """The range of R_D* around the best one within which refitting R_N* loses at most FLAT."""
    from scipy.optimize import minimize_scalar

    profile = np.empty(len(axis))
    for i, x in enumerate(axis):
        j = int(np.argmin(surface[i]))
        bounds = (axis[max(j - 1, 0)], axis[min(j + 1, len(axis) - 1)])
        refit = minimize_scalar(
            lambda y, x=x: value(np.array([x, y])), bounds=bounds, method="bounded"
        )
        profile[i] = refit.fun
    within = np.flatnonzero(profile <= best[2] * (1 + FLAT))
    ends = np.exp(axis[within]).tolist() + [best[0]]
    return min(ends), max(ends)
