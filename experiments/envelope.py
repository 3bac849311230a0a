"""Approach 1: the lower envelope of training curves, and the model sizes along it.

Hoffmann et al. 2022 (arXiv 2203.15556), section 3.1: smooth the curves, find at each of 1,500
log-spaced values of C the run of least loss, and fit N* = k C^a through those sizes. Hull rule used
here: a level counts only where two or more runs have been trained that far and the winner is
neither the smallest nor the largest of them, since at the edges the next size was not tried. Runs
of one size, whatever their lengths or schedules, count as that size's least loss.
"""

from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments.isoflop import LEVEL
from experiments.runs import Runs

LEVELS = 1500
SMOOTHED = 40  # a curve is averaged over a window of its length over this


class Envelope(NamedTuple):
    """N* = k C^a along the envelope, D* ~ C^(1 - a) as C = 6ND; the interval resamples sizes."""

    a: float
    k: float
    interval: tuple[float, float]
    C: np.ndarray
    N: np.ndarray
    loss: np.ndarray  # the envelope's, smoothed
    sizes: int  # different models on the envelope


def fit_envelope(curves: Runs, draws: int = 500, seed: int = 0) -> Envelope:
    """Fit approach 1 to checkpoints; rows of one `group` are one run's curve.

    Raises UserError without curves, or where fewer than three sizes win anywhere.
    """
    if curves.group is None:
        raise UserError(
            'approach 1 needs training curves: rows with a "group" column naming the run'
        )
    levels = np.geomspace(curves.C.min(), curves.C.max(), LEVELS)
    models = np.unique(curves.N)
    losses = np.stack([_lowest(curves.where(curves.N == N), np.log(levels)) for N in models])
    sizes = np.log(models)
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
        kept = np.unique(rng.integers(len(sizes), size=len(sizes)))
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
        losses.min(axis=0)[inside],
        len(np.unique(found[inside])),
    )


def _lowest(runs: Runs, log_C: np.ndarray) -> np.ndarray:
    """The least loss of one size's runs at each level; inf where none of them was."""
    assert runs.group is not None
    lines = [_curve(runs.where(runs.group == label)) for label in np.unique(runs.group)]
    return np.min([np.interp(log_C, *line, left=np.inf, right=np.inf) for line in lines], axis=0)


def _curve(run: Runs) -> tuple[np.ndarray, np.ndarray]:
    """ln C and the loss, smoothed by a running mean over a fortieth of the run."""
    order = np.argsort(run.C)
    loss = run.loss[order]
    width = max(len(loss) // SMOOTHED, 1)
    half = width // 2
    total = np.concatenate([[0.0], np.cumsum(loss)])
    place = np.arange(len(loss))
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, len(loss))
    return np.log(run.C[order]), (total[high] - total[low]) / (high - low)


def _winners(sizes: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """ln N of the best run at each level; nan where it is at the edge of what was tried there."""
    alive = np.isfinite(losses)
    best = sizes[np.argmin(losses, axis=0)]
    smallest = np.where(alive, sizes[:, None], np.inf).min(axis=0)
    largest = np.where(alive, sizes[:, None], -np.inf).max(axis=0)
    inside = (alive.sum(axis=0) >= 2) & (best > smallest) & (best < largest)
    return np.where(inside, best, np.nan)
