"""The check of the rule for width."""

import pytest

from experiments.lr_width import Point, best_rate, draw, train_point
from tests.experiments.sweeps import small


def test_best_rate_is_that_of_the_lowest_loss():
    points = [Point(32, 1e-3, True, 4.0), Point(32, 2e-3, True, 3.9), Point(32, 2e-3, False, 3.0)]
    assert best_rate(points, 32, True) == 2e-3


def test_the_figure_is_drawn(tmp_path):
    points = [
        Point(width, rate, rule, 4 + abs(rate - 2e-3) * width)
        for width in (32, 64)
        for rate in (1e-3, 2e-3, 4e-3)
        for rule in (True, False)
    ]
    draw(points, tmp_path / "lr.png")
    assert (tmp_path / "lr.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_rule_changes_other_widths_only(tmp_path):
    base = small(tmp_path / "text", tmp_path / "cache").base
    base.mesh = "data:8"

    def loss(rule: bool, base_width: int) -> float:
        base.optim.base_width = base_width
        return train_point(16, 4e-3, rule, 2560, base).loss

    assert loss(True, 16) == loss(False, 16)
    assert loss(True, 64) != loss(False, 64)
