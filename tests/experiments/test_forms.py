"""Forms other than the main law, on noise-free truth and on what must be refused."""

import numpy as np
import pytest

from data.errors import UserError
from experiments import forms
from experiments.minimise import Fit, examined, minimise
from experiments.published_data import load


def test_kaplan_recovers_its_published_constants():
    """Table of arXiv 2001.08361: alpha_N .076, alpha_D .103, Nc 6.4e13, Dc 1.8e13."""
    truth = {"log_Nc": np.log(6.4e13), "log_Dc": np.log(1.8e13), "alpha_N": 0.076, "alpha_D": 0.103}
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e6, 1e9, 6), np.geomspace(1e8, 2e10, 6)))
    found = forms.fit_kaplan(N, D, forms.kaplan_loss(truth, N, D), draws=10)
    assert found.params == pytest.approx(truth, rel=1e-4)
    assert found.derived["a"] == pytest.approx(0.103 / 0.179, rel=1e-4)
    limit = forms.kaplan_loss(truth, 1e9, 1e30)  # infinite data leaves the size term alone
    assert limit == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-3)


def test_kaplan_fits_chinchilla_points_worse_than_a_law_with_a_floor():
    table = load("epoch_chinchilla")
    kept = table["in_fit"] > 0
    found = forms.fit_kaplan(*(table[k][kept] for k in ("N", "D", "loss")), draws=30)
    assert found.objective > 2 * 0.00101827401770388


def test_broken_power_law():
    truth = {"a": 0.3, "log_b": np.log(2), "c0": 0.1, "c1": 0.4, "log_d": np.log(100), "f": 0.3}
    x = np.geomspace(1, 1e4, 40)
    found = forms.fit_broken(x, forms.broken_power_law(truth, x))
    assert found.params == pytest.approx(truth, abs=1e-5)
    after = forms.broken_power_law(truth | {"a": 0.0}, np.array([1e8, 1e9]))
    assert np.log(after[1] / after[0]) / np.log(10) == pytest.approx(-0.5, abs=1e-6)


def test_a_plain_power_law_has_no_break():
    x = np.geomspace(1, 1e4, 30)
    assert "no break" in forms.fit_broken(x, 0.5 + 2 * x**-0.3).warnings[0]


def test_critical_batch():
    batch = np.array([8.0, 32, 128, 512, 2048])
    found = forms.fit_critical_batch(batch, 1000 * (1 + 256 / batch))
    truth = {"S_min": 1000, "E_min": 256_000, "B_critical": 256}
    assert found.derived == pytest.approx(truth)
    assert not found.warnings  # exact data leave nothing open
    with pytest.raises(UserError, match="3 or more"):
        forms.fit_critical_batch(batch[:2], batch[:2])
    with pytest.raises(UserError, match="one side"):
        forms.fit_critical_batch(batch, batch * 1.0)


def test_power_of_two_variables():
    """Li et al. 2025 state lr = 1.79 N^-.713 D^.307."""
    rng = np.random.default_rng(0)
    N, D = np.exp(rng.uniform(16, 21, 30)), np.exp(rng.uniform(20, 25, 30))
    found = forms.fit_power(1.79 * N**-0.713 * D**0.307, N=N, D=D)
    assert found.params == pytest.approx({"log_k": np.log(1.79), "N": -0.713, "D": 0.307})
    with pytest.raises(UserError, match="do not vary independently"):
        forms.fit_power(N, N=N, D=20 * N)


def test_search_reports_other_minima():
    """Two valleys: the better one wins from any start, the other is named with its objective."""

    def residuals(theta: np.ndarray) -> np.ndarray:
        x = theta[0]
        return np.array([(x**2 - 1) * 1.0, 0.1 * (x - 1)])

    found = minimise(residuals, {"x": np.linspace(-2, 2, 9)})
    assert found.params["x"] == pytest.approx(1.0, abs=1e-6)
    assert found.others[0][0]["x"] == pytest.approx(-1.0, abs=0.02)
    assert 0 < found.reached < 1


def test_intervals_of_a_line_are_the_textbooks():
    """Least squares of a line: refits' intervals against Student's, and both hold the truth."""
    from scipy.stats import linregress, t

    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 40)
    y = 2 + 3 * x + rng.normal(0, 0.1, 40)
    for linear in (False, True):

        def residuals(theta: np.ndarray) -> np.ndarray:
            return theta[0] + theta[1] * x - y

        found = minimise(residuals, {"a": (0.0,), "b": (0.0,)})
        found = examined(found, residuals, draws=600 if linear else 200, linear=linear)
        line = linregress(x, y)
        half = t.ppf(0.95, 38) * line.stderr
        low, high = found.intervals["b"]
        assert low < 3 < high
        assert high - low == pytest.approx(2 * half, rel=0.15)
        profile = found.diagnostics["profiles"]["b"]
        assert profile["high"] - profile["low"] == pytest.approx(2 * half, rel=0.1)


def test_rows_of_a_group_share_their_luck():
    """Forty points in four groups, each shifted as one, know a mean no better than four."""
    luck = np.array([1.0, -1.0, 2.0, -2.0])
    y = np.repeat(luck, 10)

    def residuals(theta: np.ndarray) -> np.ndarray:
        return theta[0] - y

    found = minimise(residuals, {"mean": (0.5,)})
    alone = examined(found, residuals, draws=400, linear=True).intervals["mean"]
    grouped = examined(found, residuals, group=np.repeat(np.arange(4), 10), draws=400, linear=True)
    low, high = grouped.intervals["mean"]
    assert high - low > 2.5 * (alone[1] - alone[0])


def test_a_flat_parameter_is_named():
    x = np.linspace(1, 2, 30)
    y = 1 + 1e-3 * np.sin(40 * x)

    def residuals(theta: np.ndarray) -> np.ndarray:
        return theta[0] + np.exp(-np.exp(theta[1]) * x * 50) - y

    bounds = {"rate": (-3.0, 5.0)}
    found = minimise(residuals, {"floor": (0.5, 1.0), "rate": (0.0, 2.0)}, bounds=bounds)
    found = examined(found, residuals, bounds=bounds, draws=50)
    assert any(w.startswith("rate is not identified") for w in found.warnings)
    assert not any(w.startswith("floor is") for w in found.warnings)


def test_a_form_round_trips_and_shows_itself():
    batch = np.array([8.0, 32, 128, 512, 2048])
    noisy = 1000 * (1 + 256 / batch) * np.array([1.01, 0.99, 1.02, 0.98, 1.0])
    found = forms.fit_critical_batch(batch, noisy)
    assert Fit.from_dict(found.to_dict()) == found
    low, high = found.intervals["B_critical"]
    assert low < 256 < high
    assert "B_critical" in str(found) and found._repr_html_().startswith("<pre")


def test_too_few_points_are_refused():
    with pytest.raises(UserError, match="4 points cannot fit 4 parameters.*1 more"):
        forms.fit_kaplan(*np.array([[1e7, 1e8, 1e9, 1e10]] * 2), np.array([4.0, 3.5, 3, 2.5]))
