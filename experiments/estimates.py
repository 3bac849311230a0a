"""Measured values with their 95% intervals, and how they are written."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.stats

from experiments.sharpness import wilson

DRAWS = 1000  # of a bootstrap


class Estimate(NamedTuple):
    """A value, its 95% interval, and how many cases it rests on."""

    value: float
    low: float
    high: float
    n: int
    unit: str = ""  # 'share' is written in per cent

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.value:.0%} [{self.low:.0%}, {self.high:.0%}]"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]{unit}"


def share(hits: np.ndarray | list[bool]) -> Estimate:
    """How many of the cases are true, with Wilson's interval (1927): it stays within 0 and 1."""
    cases = np.asarray(hits, bool)
    n = len(cases)
    if not n:
        return Estimate(math.nan, 0.0, 1.0, 0, "share")
    p, (low, high) = float(cases.mean()), wilson(int(cases.sum()), n)
    return Estimate(p, min(low, p), max(high, p), n, "share")  # rounding: at 1 it ends below 1


def mean(
    values: np.ndarray | list[float],
    unit: str = "",
    within: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """The mean with Student's interval, cut off where no value can be."""
    x = np.asarray(values, float)
    half = math.inf
    if len(x) > 1:
        half = float(scipy.stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    middle = float(x.mean()) if len(x) else math.nan
    low, high = max(within[0], middle - half), min(within[1], middle + half)
    return Estimate(middle, low, high, len(x), unit)


def bootstrap(
    statistic: Callable[[np.ndarray], float], cases: int, unit: str = "", seed: int = 0
) -> Estimate:
    """A statistic of case numbers, with the percentiles of what it gives for drawn cases."""
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.integers(0, cases, cases)) for _ in range(DRAWS)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(statistic(np.arange(cases)), float(low), float(high), cases, unit)
