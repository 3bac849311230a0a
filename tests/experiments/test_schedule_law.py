"""The learning-rate-schedule law: its formula by hand, and published curves not seen by it."""

import numpy as np
import pytest

from experiments.published_data import load
from experiments.schedule_law import Curve, areas, fit_schedule, predict, score

FITTED = ("cosine_24000", "constant_24000", "wsdcon_9")


def published(size: str) -> dict[str, Curve]:
    table = load("multipower_curves")
    found = {}
    for schedule in dict.fromkeys(table["schedule"]):
        rows = table["run_id"] == f"{size}/{schedule}"
        found[str(schedule)] = Curve(*(table[k][rows] for k in ("step", "lr", "loss")))
    return found


def test_a_constant_rate_leaves_a_power_law_of_the_area():
    step = np.arange(100.0, 1100, 100)
    curve = Curve(step, np.full(10, 3e-4), np.zeros(10))
    assert areas(curve) == pytest.approx(3e-4 * (step - 50))
    theta = np.array([2.0, np.log(0.5), 0.4, np.log(300), 0.0, 0.5, 0.5])
    assert predict(theta, curve) == pytest.approx(2 + 0.5 * (3e-4 * (step - 50)) ** -0.4)


def test_one_drop_by_hand():
    """Two rates: past the drop the loss is lower by B x drop x (1 - (1 + C lr^-gamma S)^-beta)."""
    step = np.array([100.0, 200, 300, 400])
    rate = np.array([1e-3, 1e-3, 4e-4, 4e-4])
    theta = np.array([2.0, np.log(0.5), 0.4, np.log(300), np.log(0.7), 0.5, 0.6])
    with_drop = predict(theta, Curve(step, rate, step))
    area = np.array([0.05, 0.15, 0.22, 0.26])
    since = area - 0.22
    gain = 300 * 6e-4 * (1 - (1 + 0.7 * 4e-4**-0.6 * np.maximum(since, 0)) ** -0.5)
    assert with_drop == pytest.approx(2 + 0.5 * area**-0.4 - gain)


def test_predicts_schedules_and_lengths_it_has_not_seen():
    """Three runs of 24,000 steps predict decays and runs of 72,000 (paper: R2 .9983 on average)."""
    curves = published("100M")
    found = fit_schedule([curves[name] for name in FITTED])
    scores = {name: score(found, c) for name, c in curves.items() if name not in FITTED}
    assert len(scores) == 6
    assert np.mean([s.r2 for s in scores.values()]) > 0.995
    assert np.mean([s.mean_error for s in scores.values()]) < 0.006
    assert all(s.worst_relative < 0.01 for s in scores.values())
    assert scores["wsd_20000_24000"].r2 > 0.999
