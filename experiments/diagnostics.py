"""What a fit's data do and do not determine: profiles, conditioning, flat directions, bounds.

A parameter's profile is the objective with that parameter held and the others fitted again. Its
range is where the objective stays within `rise` of the best, rise = exp(2.71 / n) - 1: the 90%
limit of the likelihood ratio, noise profiled out (Venzon & Moolgavkar 1988). A range without an end
says that the data do not determine the parameter, however many digits the fit prints.
"""

from typing import NamedTuple

import numpy as np

from experiments.search import Objective, Terms, derivatives, log_terms, newton

CHI2_90 = 2.7055  # 90% point of chi-squared with one degree of freedom
REACH = 700.0  # how far a log coefficient is followed before its range counts as open
STEPS = np.array([0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 50])  # in standard errors of the curvature
SMALL_TERM = 1e-5  # a term below this share of the loss everywhere is absent


class Profile(NamedTuple):
    """The range of a parameter within which the best fit is at most `rise` worse."""

    low: float
    high: float
    open_low: bool  # the objective never rose that much as far as it was followed
    open_high: bool
    rise: float


def rise(points: int) -> float:
    """Relative rise of the objective at the ends of a 90% likelihood range."""
    return float(np.expm1(CHI2_90 / points))


def curvature(theta: np.ndarray, terms: Terms) -> np.ndarray:
    """Gauss-Newton Hessian (P, P) of least squares, which unlike Huber's sees every point.

    It is least squares' own where the residuals are zero, and never negative: at the minimum of
    another objective the squares need not have one.
    """
    fitted = np.logaddexp.reduce(log_terms(theta[None], terms)[0], axis=0)
    everything = Objective(np.inf)
    return derivatives(theta[None], terms, fitted, np.ones(len(fitted)), everything)[1][0]


def condition(theta: np.ndarray, terms: Terms) -> float:
    """Condition number of the Hessian after scaling each parameter to unit curvature."""
    hessian = curvature(theta, terms)
    scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    return float(np.linalg.cond(hessian / np.outer(scale, scale)))


def flattest(theta: np.ndarray, terms: Terms, loss: np.ndarray) -> np.ndarray:
    """The move of theta (P) along which the fit worsens least.

    Its length is the one that takes the sum of squares to the end of a 90% likelihood range.
    """
    return soft_direction(
        curvature(theta, terms),
        np.logaddexp.reduce(log_terms(theta[None], terms)[0], axis=0) - np.log(loss),
    )


def soft_direction(hessian: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """As `flattest`, from the Hessian (P, P) of half the sum of squared residuals."""
    scale = np.sqrt(np.maximum(np.abs(np.diag(hessian)), 1e-300))
    values, vectors = np.linalg.eigh(hessian / np.outer(scale, scale))
    direction = vectors[:, 0] / scale
    size = np.sqrt(rise(len(residual)) * float(residual @ residual) / max(values[0], 1e-15))
    return direction * size * (1.0 if direction[np.argmax(np.abs(direction))] > 0 else -1.0)


def in_words(names: list[str], move: np.ndarray) -> str:
    """'ln A +0.41, alpha +0.02': a direction and how far it goes."""
    return ", ".join(f"{name} {step:+.2g}" for name, step in zip(names, move, strict=True))


def absent_terms(theta: np.ndarray, terms: Terms) -> list[int]:
    """Terms that the fit has driven to nothing: a coefficient at its lower bound, zero."""
    z = log_terms(theta[None], terms)[0]
    share = np.exp(z - np.logaddexp.reduce(z, axis=0))
    return [int(k) for k in np.flatnonzero(share.max(axis=1) < SMALL_TERM)]


def profile(
    direction: np.ndarray,
    theta: np.ndarray,
    terms: Terms,
    loss: np.ndarray,
    objective: Objective,
    best: float,
) -> Profile:
    """Profile of the linear function `direction @ theta` (P), theta the optimum with value `best`.

    Points are followed outward on both sides in steps of the curvature's standard error, each with
    the other parameters fitted again, and the crossing is interpolated.
    """
    smooth = objective if objective.delta > 0 else objective._replace(delta=1e-5)
    limit = rise(len(loss))
    centre = float(direction @ theta)
    basis = np.linalg.svd(direction[None])[2][1:].T  # what leaves direction @ theta alone
    residual = np.logaddexp.reduce(log_terms(theta[None], terms)[0], axis=0) - np.log(loss)
    hessian = curvature(theta, terms)
    cover = np.linalg.pinv(hessian, rcond=1e-12, hermitian=True)
    along = cover @ direction
    spread = float(direction @ along)
    if not spread > 0:
        along, spread = direction, float(direction @ direction)
    error = np.sqrt(spread * max(float(residual @ residual) / len(loss), 1e-30))
    ends, opens = [], []
    for sign in (-1.0, 1.0):
        shifts = np.minimum(sign * STEPS * error, REACH) if sign > 0 else np.maximum(
            sign * STEPS * error, -REACH
        )  # fmt: skip
        starts = theta + shifts[:, None] * along / spread
        y, w = np.log(loss), np.ones(len(loss))
        _, values = newton(starts, terms, y, w, smooth, basis=basis)
        excess = np.concatenate([[0.0], values / max(best, 1e-300) - 1])
        x = np.concatenate([[0.0], shifts])
        outside = np.flatnonzero(excess > limit)
        opens.append(len(outside) == 0)
        ends.append(centre + (x[-1] if opens[-1] else _crossing(x, excess, int(outside[0]), limit)))
    return Profile(ends[0], ends[1], opens[0], opens[1], limit)


def _crossing(x: np.ndarray, excess: np.ndarray, i: int, limit: float) -> float:
    """Where the excess reaches `limit` between points i - 1 and i; it grows like a square."""
    low, high = np.sqrt(max(excess[i - 1], 0.0)), np.sqrt(excess[i])
    share = (np.sqrt(limit) - low) / (high - low)
    return float(x[i - 1] + share * (x[i] - x[i - 1]))
