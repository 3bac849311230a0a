"""Approach 2 without a parabola: isoFLOP minima by Akima interpolation, weighed by their certainty.

Porian et al. 2024 (arXiv 2406.19146), appendix: for each budget ln L is interpolated over ln N
(Akima 1970: local, so that a far point cannot bend the curve at the minimum) and its minimum taken
on a fine grid, again and again with noise added to the losses. A budget whose minimum lies at an
end of its models in half of the draws or more is left out. N* is the median of the draws, and
N* = k C^a the least-squares line weighted by 1/variance. N parameters, C FLOPs, losses nats/token.
"""

from typing import NamedTuple

import numpy as np

from data.errors import UserError

PER_GAP = 25  # grid points between two models
FLOOR = 0.33  # of the mean distance of two models in ln N: no minimum is known better than that
FEWEST = 4  # models that a budget needs


class Minimum(NamedTuple):
    """One budget's minimum."""

    C: float
    N: float  # median of the draws
    spread: float  # standard deviation of ln N*, with the floor
    valid: float  # share of draws with the minimum inside
    problem: str  # why it is not used, or ''


class Exponent(NamedTuple):
    """N* = k C^a with its 95% interval over the draws."""

    a: float
    k: float
    low: float
    high: float
    minima: tuple[Minimum, ...]


def minimum(
    C: float, N: np.ndarray, loss: np.ndarray, noise: float, draws: int, seed: int
) -> tuple[Minimum, np.ndarray]:
    """A budget's Minimum, and ln N* of each draw (nan where it is at an end)."""
    from scipy.interpolate import Akima1DInterpolator

    sizes, place = np.unique(N, return_inverse=True)
    loss = np.bincount(place, loss) / np.bincount(place)  # runs of one size count as their mean
    x = np.log(sizes)
    step = (x[-1] - x[0]) / (PER_GAP * (len(x) - 1) - 1)
    grid = x[0] + step * np.arange(PER_GAP * (len(x) - 1))
    rng = np.random.default_rng(seed)
    y = np.log(loss[:, None] + noise * rng.standard_normal((len(x), draws)))
    best = np.argmin(Akima1DInterpolator(x, y)(grid), axis=0)
    inside = (best > 0) & (best < len(grid) - 1)
    log_N = np.where(inside, grid[best], np.nan)
    valid = float(inside.mean())
    if valid < 0.5:
        side = "smaller" if np.median(best) < len(grid) / 2 else "larger"
        problem = f"the minimum is at an end of the models tried: add {side} ones"
        return Minimum(C, np.nan, np.nan, valid, problem), log_N
    spread = max(float(np.nanstd(log_N)), FLOOR * PER_GAP * step)
    return Minimum(C, float(np.exp(np.nanmedian(log_N))), spread, valid, ""), log_N


def fit_exponent(
    C: np.ndarray,
    N: np.ndarray,
    loss: np.ndarray,
    noise: float = 0.002,
    draws: int = 1000,
    seed: int = 0,
) -> Exponent:
    """The exponent of N*(C). C names each run's budget; noise: the losses' standard deviation.

    UserError: fewer than two budgets with a minimum inside.
    """
    found = []
    for i, budget in enumerate(np.unique(C)):
        rows = budget == C
        if len(np.unique(N[rows])) >= FEWEST:
            found.append(minimum(float(budget), N[rows], loss[rows], noise, draws, seed + i))
    used = [(m, log_N) for m, log_N in found if not m.problem]
    if len(used) < 2:
        raise UserError(
            f"{len(used)} of {len(found)} budgets have a minimum inside the models tried; "
            "an exponent needs two"
        )
    x = np.log([m.C for m, _ in used])
    weight = np.array([m.spread for m, _ in used]) ** -2
    a, intercept = _line(x, np.log([[m.N] for m, _ in used]), weight)
    each, _ = _line(x, np.stack([log_N for _, log_N in used]), weight)
    low, high = np.nanquantile(each, [0.025, 0.975])
    return Exponent(
        float(a[0]),
        float(np.exp(intercept[0])),
        float(low),
        float(high),
        tuple(m for m, _ in found),
    )


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least-squares slopes and intercepts of the columns of y, without its nan entries."""
    w = np.where(np.isnan(y), 0.0, weight[:, None])
    y = np.nan_to_num(y)
    total = w.sum(axis=0)
    mean_x, mean_y = (w * x[:, None]).sum(axis=0) / total, (w * y).sum(axis=0) / total
    dx = x[:, None] - mean_x
    slope = (w * dx * (y - mean_y)).sum(axis=0) / (w * dx * dx).sum(axis=0)
    return slope, mean_y - slope * mean_x
