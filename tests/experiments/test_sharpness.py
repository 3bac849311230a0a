"""Sharpness on curves made smooth and made sudden, and intervals that hold the truth."""

import math

import numpy as np
import pytest

from experiments.sharpness import (
    Points,
    crossing,
    explained,
    fit,
    predicted,
    resampled_difference,
    sharpness,
    wilson,
)

X = np.repeat(np.linspace(0, 1.5, 8), 2)  # eight sizes, two seeds


def smooth(x, middle=0.75, width=1.2):
    return 1 / (1 + np.exp(-(x - middle) * 2 * math.log(9) / width))


def sudden(x):
    return np.where(x > 0.8, 0.95, 0.02)


def measured(curve, seed, asked=100, runs=0.0, x=X):
    """Shares of `asked` questions, by runs that differ by `runs`."""
    rng = np.random.default_rng(seed)
    p = np.clip(curve(x) + runs * rng.standard_normal(len(x)), 0, 1)
    y = rng.binomial(asked, p) / asked
    error = np.array([np.ptp(wilson(v * asked, asked)) / 2 / 1.96 for v in y])
    return Points(x, y, error, np.unique(x, return_inverse=True)[1])


def share_sudden(curve, runs=0.0, times=12):
    found = [sharpness(measured(curve, seed, runs=runs), 0.0) for seed in range(times)]
    return sum(s.sudden for s in found) / times


@pytest.mark.parametrize("runs", [0.0, 0.1])
def test_sudden_curves_are_called_sudden_and_smooth_ones_are_not(runs):
    assert share_sudden(sudden, runs) == 1
    assert share_sudden(smooth, runs) == 0


def test_the_steepest_curve_of_the_null_is_called_sudden_as_seldom_as_stated():
    assert share_sudden(lambda x: smooth(x, width=0.75), times=20) <= 0.15
    assert share_sudden(lambda x: np.full_like(x, 0.02)) == 0


def test_many_steps_multiplied_look_sharper_than_each():
    """Exact match on 16 steps against their mean rate: what Schaeffer et al. 2023 describe."""
    each = sharpness(measured(lambda x: smooth(x, 0.4), 0), 0.0)
    whole = sharpness(measured(lambda x: smooth(x, 0.4) ** 16, 0), 0.0)
    assert whole.value > 1.3 * each.value
    assert not each.sudden


def test_wilson_is_the_published_interval():
    """Brown, Cai, DasGupta 2001 give the formula; 0 of 10 and 5 of 10 by R's prop.test."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert wilson(5, 10) == pytest.approx((0.2365931, 0.7634069), abs=1e-6)
    low, high = wilson(100, 100)
    assert high == 1 and 0.96 < low < 0.97


def test_fit_finds_what_it_was_made_from():
    x = np.linspace(0, 2, 30)
    made = 0.1 + 0.8 * smooth(x, 1.0, 0.5)
    for floor in (0.1, None):
        found = fit(x, made[None], floor, 1.0)
        assert found.floor[0] == pytest.approx(0.1, abs=0.02)
        assert found.lift[0] == pytest.approx(0.8, abs=0.04)
        assert found.middle[0] == pytest.approx(1.0, abs=0.05)
        assert found.width[0] == pytest.approx(0.5, rel=0.25)
    falling = fit(x, made[None, ::-1], 0.1, 1.0)
    assert falling.lift[0] < 0.6 and (np.diff(falling.at(x)[0]) >= 0).all()


def test_crossings_hold_the_truth_and_are_open_where_nothing_is_crossed():
    inside = 0
    for seed in range(20):
        found = crossing(measured(smooth, seed, runs=0.05), 0.5, 0.0)
        inside += found.low <= 0.75 <= found.high
    assert inside >= 17
    assert math.isinf(crossing(measured(lambda x: 0 * x + 0.02, 0), 0.5, 0.0).high)


def test_predictions_hold_what_comes():
    inside, total = 0, 0
    for seed in range(10):
        known = measured(smooth, seed, runs=0.05, x=np.repeat(np.linspace(0, 1.1, 6), 2))
        new = measured(smooth, seed + 100, runs=0.05, x=np.array([1.3, 1.5]))
        _, low, high = predicted(known, new.x, 0.05, 0.0)
        inside += int(((low <= new.y) & (new.y <= high)).sum())
        total += 2
    assert inside / total >= 0.8


def test_the_axis_that_a_score_follows_is_told_from_one_that_it_does_not():
    rng = np.random.default_rng(0)
    right = measured(smooth, 0, x=rng.uniform(0, 1.5, 24))
    other = right._replace(x=rng.permutation(right.x))
    assert explained(right, 0.0) > 0.95 > 0.6 > explained(other, 0.0)
    low, high = resampled_difference(right, other, 0.0)
    assert 0 < low < high
