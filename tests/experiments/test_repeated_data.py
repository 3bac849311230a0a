import numpy as np
import pytest

from data.errors import UserError
from experiments.published_data import load, where
from experiments.repeated_data import C4, Constants, fit, loss, optimal_parameters


@pytest.fixture(scope="module")
def runs():
    table = load("datablations")
    return where(table, table["in_fit"] == 1)


@pytest.fixture(scope="module")
def decay(runs):
    return fit(runs["N"], runs["D"], runs["U"], runs["loss"])


def test_values_that_the_authors_print():
    assert loss(6.34e9, 242e9, 25e9, 15.387756, 5.309743) == pytest.approx(
        2.2256440889984, rel=1e-12
    )
    assert loss(8.67e9, 178e9, 25e9, 15.387756, 5.309743) == pytest.approx(
        2.2269634075088, rel=1e-12
    )


def test_the_published_fit_is_a_local_minimum_and_the_global_one_is_found(runs, decay):
    assert len(runs["N"]) == 182
    assert pytest.approx(95.365, rel=1e-4) == decay.R_D
    assert pytest.approx(1.7059, rel=1e-4) == decay.R_N
    assert decay.objective == pytest.approx(0.0158046625, rel=1e-8)
    published = min(decay.minima, key=lambda m: abs(m[0] - 15.387756))
    assert published[:2] == pytest.approx((15.3718, 5.3151), rel=1e-4)
    assert published[2] == pytest.approx(0.015825932, rel=1e-6)
    assert 0 < decay.reached < 1  # the published one is where the other starts end
    assert 1 < decay.condition_number < 1e6


def test_a_flat_profile_is_said_in_words(decay):
    low, high = decay.flat_R_D
    assert low < 15.4 and high > 200
    assert any("R_D* is not identified" in warning for warning in decay.warnings)


def test_one_epoch_is_the_plain_law():
    N, D = np.array([1e8, 1e9]), np.array([1e10, 3e10])
    plain = C4.E + C4.A / N**C4.alpha + C4.B / D**C4.beta
    # Parameters beyond the optimum of the unique tokens count less, so only smaller models agree.
    assert (optimal_parameters(D, C4) > N).all()
    assert loss(N, D, D, 15.0, 5.0) == pytest.approx(plain, rel=1e-14)


def test_optimal_parameters_minimise_the_plain_law():
    c = Constants(1.8, 480.0, 2100.0, 0.35, 0.37)
    N = float(optimal_parameters(np.array(2e10), c))
    x = np.log(N) + np.linspace(-1, 1, 20001)
    C = N * 2e10
    curve = c.E + c.A * np.exp(-c.alpha * x) + c.B * (C / np.exp(x)) ** -c.beta
    assert x[np.argmin(curve)] == pytest.approx(np.log(N), abs=2e-4)


def test_recovers_a_known_truth_without_noise():
    rng = np.random.default_rng(0)
    N, U = np.exp(rng.uniform(np.log([1e7, 1e8]), np.log([5e9, 2e10]), (60, 2))).T
    D = U * np.exp(rng.uniform(0, np.log(60), 60))
    found = fit(N, D, U, loss(N, D, U, 12.0, 4.0), grid=24)
    assert pytest.approx((12.0, 4.0), rel=1e-5) == (found.R_D, found.R_N)
    assert found.reached == 1


def test_refuses_runs_that_repeat_nothing():
    N = np.array([1e9, 2e9, 3e9])
    with pytest.raises(UserError, match="no run has D above U"):
        fit(N, 10 * N, 10 * N, np.array([3.0, 2.9, 2.8]))
    with pytest.raises(UserError, match="2 runs cannot fit"):
        fit(N[:2], 10 * N[:2], N[:2], np.array([3.0, 2.9]))
