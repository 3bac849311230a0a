"""Approach 1: the lower envelope of training curves, and the model sizes along it.

Hoffmann et al. 2022 (arXiv 2203.15556), section 3.1: smooth the curves, find at each of 1,500
log-spaced values of C the run of least loss, and fit N* = k C^a through those sizes. Hull rule used
here: a level counts only where two or more runs have been trained that far and the winner is
neither the smallest nor the largest of them, since at the edges the next size was not tried.
"""

from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments.isoflop import LEVEL
from experiments.runs import Runs

LEVELS = 1500


class Envelope(NamedTuple):
    """N* = k C^a along the envelope, D* ~ C^(1 - a) as C = 6ND; the interval resamples sizes."""

    a: float
    k: float
    interval: tuple[float, float]
    C: np.ndarray
    N: np.ndarray
    sizes: int  # different models on the envelope


def fit_envelope(curves: Runs, draws: int = 500, seed: int = 0) -> Envelope:
    """Fit approach 1 to checkpoints; rows of one `group` are one run's curve.

    Raises UserError without curves, or where fewer than three sizes win anywhere.
    """
    if curves.group is None:
        raise UserError(
            'approach 1 needs training curves: rows with a "group" column naming the run'
        )
    labels = np.unique(curves.group)
    lines = [_curve(curves.where(curves.group == label)) for label in labels]
    levels = np.geomspace(curves.C.min(), curves.C.max(), LEVELS)
    losses = np.stack(
        [np.interp(np.log(levels), C, loss, left=np.inf, right=np.inf) for _, C, loss in lines]
    )
    sizes = np.log([N for N, _, _ in lines])
    found = _winners(sizes, losses)
    inside = np.isfinite(found)
    if len(np.unique(found[inside])) < 3:
        raise UserError(
            f"only {len(np.unique(found[inside]))} model sizes win on the envelope; three or more "
            "are needed: add sizes, or train the smaller ones on more tokens"
        )
    slope, intercept = np.polyfit(np.log(levels[inside]), found[inside], 1)
    rng = np.random.default_rng(seed)
    slopes = []
    for _ in range(draws):
        # Sizes are what was sampled: 1,500 levels are not 1,500 observations.
        kept = np.unique(rng.integers(len(lines), size=len(lines)))
        again = _winners(sizes[kept], losses[kept])
        good = np.isfinite(again)
        if len(np.unique(again[good])) >= 2:
            slopes.append(np.polyfit(np.log(levels[good]), again[good], 1)[0])
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(slopes, [tail, 1 - tail]) if slopes else (np.nan, np.nan)
    return Envelope(
        float(slope),
        float(np.exp(intercept)),
        (float(low), float(high)),
        levels[inside],
        np.exp(found[inside]),
        len(np.unique(found[inside])),
    )


def _curve(run: Runs) -> tuple[float, np.ndarray, np.ndarray]:
    """N, ln C and the running median of three of the loss."""
    order = np.argsort(run.C)
    loss = run.loss[order]
    if len(loss) >= 3:
        middle = np.median(np.stack([loss[:-2], loss[1:-1], loss[2:]]), axis=0)
        loss = np.concatenate([loss[:1], middle, loss[-1:]])
    return float(run.N[0]), np.log(run.C[order]), loss


def _winners(sizes: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """ln N of the best run at each level; nan where it is at the edge of what was tried there."""
    alive = np.isfinite(losses)
    best = sizes[np.argmin(losses, axis=0)]
    smallest = np.where(alive, sizes[:, None], np.inf).min(axis=0)
    largest = np.where(alive, sizes[:, None], -np.inf).max(axis=0)
    inside = (alive.sum(axis=0) >= 2) & (best > smallest) & (best < largest)
    return np.where(inside, best, np.nan)
