"""Does a score rise suddenly? Sigmoids, a sharpness with its interval under a smooth null, onsets.

Scores y at x (log10 of parameters or compute, or minus the loss) are fitted by
y = floor + lift / (1 + exp(-(x - middle) / scale)) over a grid of middles and scales, where the
rest is linear: no start to choose, no minimum missed, and hundreds of resampled curves at once.

*Sharpness* is the range of x over the width of the rise from 10% to 90%: 1 where the rise takes all
of the range, 10 where a tenth of it. Any curve measured at a few points with noise looks sharp now
and then, so it is held against a null: the best curve whose rise takes at least half of the range,
measured again many times at the same x with the same noise. Only what lies above 97.5% of
those is called sudden. Noise is what the instances give (known) and what runs of one size differ
by (from repeated seeds, else from the scatter about the curve).

n points, s curves.
"""

import math
from typing import NamedTuple

import numpy as np

from experiments.uncertainty import quantiles

LEVEL = 0.95
TEN_TO_NINETY = 2 * math.log(9)  # width from 10% to 90% of a sigmoid of scale 1
MIDDLES, WIDTHS = 81, 25
NARROWEST, WIDEST = 1 / 30, 4.0  # widths tried, in ranges of x
SMOOTH = 0.5  # the null's narrowest rise
BEYOND = 2.0  # ranges of x beyond the data in which a middle is looked for
DRAWS = 400


class Points(NamedTuple):
    """A score along an axis; all arrays [n]."""

    x: np.ndarray
    y: np.ndarray
    error: np.ndarray  # standard error over the instances asked
    group: np.ndarray  # number of the size and tokens: runs of a group differ in their seed alone


class Sigmoids(NamedTuple):
    """Fitted curves; arrays [s]."""

    floor: np.ndarray
    lift: np.ndarray
    middle: np.ndarray
    width: np.ndarray  # of the rise from 10% to 90%
    squares: np.ndarray  # sum of squared residuals

    def at(self, x: np.ndarray) -> np.ndarray:
        """Values [s, n] at x [n]."""
        rise = _rise(x[None], self.middle[:, None], self.width[:, None])
        return self.floor[:, None] + self.lift[:, None] * rise


class Sharpness(NamedTuple):
    """How sudden a rise is."""

    value: float
    low: float  # its 95% interval
    high: float
    null_low: float  # where 95% of smooth curves lie
    null_high: float

    @property
    def sudden(self) -> bool:
        return self.value > self.null_high


class Crossing(NamedTuple):
    """Where a curve comes to a level; an infinite end: not within what was looked at."""

    value: float
    low: float
    high: float


def wilson(right: float, asked: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's interval of a share (1927)."""
    from scipy.special import ndtri

    z = float(ndtri((1 + level) / 2))
    p, n = right / asked, asked
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def _rise(x: np.ndarray, middle: np.ndarray, width: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(np.clip(-(x - middle) * TEN_TO_NINETY / width, -500, 500)))


def fit(
    x: np.ndarray, Y: np.ndarray, floor: float | None, ceiling: float, narrowest: float = NARROWEST
) -> Sigmoids:
    """Least squares of curves Y [s, n], none falling.

    floor None: fitted too. ceiling: what no curve exceeds. narrowest: of the widths, in ranges of
    x. Where several fit alike, the widest counts.
    """
    span = max(float(np.ptp(x)), 1e-9)
    middles = np.linspace(x.min() - 0.5 * span, x.max() + BEYOND * span, MIDDLES)
    widths = span * np.geomspace(WIDEST, narrowest, WIDTHS)  # the first of equals is kept
    w, m = (a.ravel() for a in np.meshgrid(widths, middles, indexing="ij"))
    G = _rise(x[None], m[:, None], w[:, None])  # [grid, n]
    if floor is None:
        mean, level = G.mean(1, keepdims=True), Y.mean(1)
        centred = G - mean
    else:
        mean, level = np.zeros((len(G), 1)), np.full(len(Y), floor)
        centred = G
    Z = Y - level[:, None]
    power = np.maximum((centred**2).sum(1), 1e-12)[:, None]
    product = centred @ Z.T  # [grid, s]
    lift = np.maximum(product / power, 0.0)
    if floor is not None:
        lift = np.minimum(lift, ceiling - floor)
    squares = (Z**2).sum(1)[None] - 2 * lift * product + lift**2 * power
    best = np.argmin(np.round(squares, 12), 0)
    s = np.arange(len(Y))
    lift = lift[best, s]
    return Sigmoids(level - lift * mean[best, 0], lift, m[best], w[best], squares[best, s])


def run_noise(points: Points, fitted: np.ndarray, parameters: int = 4) -> float:
    """Standard deviation between runs beyond what the instances give."""
    groups = [np.flatnonzero(points.group == g) for g in np.unique(points.group)]
    repeated = [g for g in groups if len(g) > 1]
    if repeated:
        freedom = sum(len(g) - 1 for g in repeated)
        squares = sum(float(np.sum((points.y[g] - points.y[g].mean()) ** 2)) for g in repeated)
        known = sum((len(g) - 1) * float(np.mean(points.error[g] ** 2)) for g in repeated)
    else:
        freedom = max(len(points.y) - parameters, 1)
        squares = float(np.sum((points.y - fitted) ** 2))
        known = freedom * float(np.mean(points.error**2))
    return math.sqrt(max(squares - known, 0.0) / freedom)


def redrawn(
    points: Points, mean: np.ndarray, noise: float, ceiling: float, seed: int, draws: int = DRAWS
) -> np.ndarray:
    """Curves [draws, n] measured again around a mean, with the noise of instances and of runs."""
    rng = np.random.default_rng(seed)
    scale = np.sqrt(np.maximum(points.error, 1e-4) ** 2 + noise**2)
    return np.minimum(mean + scale * rng.standard_normal((draws, len(mean))), ceiling)


def sharpness(
    points: Points, floor: float | None, ceiling: float = 1.0, seed: int = 0
) -> Sharpness:
    """How sudden the rise of a score is, against curves that rise smoothly."""
    span = float(np.ptp(points.x))
    free = fit(points.x, points.y[None], floor, ceiling)
    smooth = fit(points.x, points.y[None], floor, ceiling, SMOOTH)
    noise = run_noise(points, free.at(points.x)[0])

    def again(curve: Sigmoids, seed: int) -> np.ndarray:
        Y = redrawn(points, curve.at(points.x)[0], noise, ceiling, seed)
        return span / fit(points.x, Y, floor, ceiling).width

    value = float(span / free.width[0])
    low, high = quantiles(again(free, seed), LEVEL)
    null = quantiles(again(smooth, seed + 1), LEVEL)
    return Sharpness(value, min(low, value), max(high, value), *null)


def crossing(
    points: Points, level: float, floor: float | None, ceiling: float = 1.0, seed: int = 0
) -> Crossing:
    """The x at which the fitted curve reaches a level, with a 95% interval."""
    free = fit(points.x, points.y[None], floor, ceiling)
    noise = run_noise(points, free.at(points.x)[0])
    Y = redrawn(points, free.at(points.x)[0], noise, ceiling, seed)
    found = np.sort(_reaches(fit(points.x, Y, floor, ceiling), level))
    value = float(_reaches(free, level)[0])
    ends = [found[math.floor(q * (len(found) - 1))] for q in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)]
    return Crossing(value, min(value, float(ends[0])), max(value, float(ends[1])))


def _reaches(curves: Sigmoids, level: float) -> np.ndarray:
    """x [s] at which each curve comes to a level; infinite where it stays below."""
    share = (level - curves.floor) / np.maximum(curves.lift, 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = curves.middle + curves.width / TEN_TO_NINETY * np.log(share / (1 - share))
    return np.where(share >= 1, np.inf, np.where(share <= 0, -np.inf, x))


def explained(points: Points, floor: float | None, ceiling: float = 1.0) -> float:
    """The share of a score's variance that a sigmoid along this axis explains."""
    total = float(np.sum((points.y - points.y.mean()) ** 2))
    found = fit(points.x, points.y[None], floor, ceiling).squares[0]
    return max(0.0, 1 - float(found) / total) if total else 0.0


def resampled_difference(
    a: Points, b: Points, floor: float | None, ceiling: float = 1.0, seed: int = 0
) -> tuple[float, float]:
    """The 95% interval of `explained` along axis a minus axis b: runs drawn with replacement."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(DRAWS // 4):
        picks = rng.integers(len(a.y), size=len(a.y))
        if np.ptp(a.y[picks]) and np.ptp(a.x[picks]) and np.ptp(b.x[picks]):
            ours, theirs = (Points(*(v[picks] for v in p)) for p in (a, b))
            found.append(explained(ours, floor, ceiling) - explained(theirs, floor, ceiling))
    return quantiles(np.array(found), LEVEL) if found else (math.nan, math.nan)


def predicted(
    points: Points, x: np.ndarray, error: float, floor: float | None, ceiling: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a fit to some runs expects of a new one at each x: value, and 95% ends; arrays [x]."""
    free = fit(points.x, points.y[None], floor, ceiling)
    noise = run_noise(points, free.at(points.x)[0])
    Y = redrawn(points, free.at(points.x)[0], noise, ceiling, 0)
    values = fit(points.x, Y, floor, ceiling).at(x)
    luck = np.random.default_rng(1).standard_normal(values.shape) * math.hypot(noise, error)
    low, high = np.quantile(values + luck, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return free.at(x)[0], low, high
