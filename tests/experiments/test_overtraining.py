import numpy as np
import pytest

from data.errors import UserError
from experiments.overtraining import a_b_eta, error_at, fit_error, fit_tied
from experiments.published_data import load, where

SMALL = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")


def split(train_set):
    """The five runs that the law is fitted on, those six with the 1.4B one, and all."""
    table = load("gadre_overtraining")
    table = where(table, table["train_set"] == train_set)
    five = np.isin(table["model"], SMALL) & (table["M"] == 20)
    five |= (table["model"] == SMALL[0]) & (table["M"] == 320)
    six = five | ((table["model"] == "open_lm_1b") & (table["M"] == 20))
    return where(table, five), where(table, six), table


def tied(table):
    return fit_tied({k: table[k] for k in ("N", "D", "loss")}, bootstrap=100)


def target(table, model, M):
    return where(table, (table["model"] == model) & (table["M"] == M))


def test_the_four_extrapolation_errors_to_the_printed_digits():
    five, six, table = split("rpj")
    assert len(five["N"]) == 5 and len(six["N"]) == 6
    law = tied(five)
    error = fit_error(six["loss"], six["err_avg17"])
    expected = {("open_lm_1b", 640): (0.7103, 3.6365), ("open_lm_7b", 20): (0.7320, 0.0464)}
    for (model, M), (loss_error, task_error) in expected.items():
        run = target(table, model, M)
        loss = law.predict(float(run["N"][0]), float(run["D"][0])).value
        assert round(float(100 * abs(loss / run["loss"] - 1)[0]), 4) == loss_error
        relative = 100 * abs(error_at(error.params, loss) / run["err_avg17"] - 1)
        assert round(float(relative[0]), 4) == task_error


@pytest.mark.parametrize(
    "train_set, a, b, eta, E",
    [("rpj", 212.2, 366.7, 0.13643, 1.83665), ("rw_original", 157.1, 246.2, 0.1272, 1.73446)],
)
def test_parameters_of_the_paper(train_set, a, b, eta, E):
    five, _, _ = split(train_set)
    law = tied(five)
    assert a_b_eta(law) == pytest.approx((a, b, eta), rel=3e-4)
    assert law.params["E"] == pytest.approx(E, abs=1e-5)


@pytest.mark.parametrize("train_set, percent", [("c4_original", 4.295), ("rw_original", 1.619)])
def test_loss_error_of_the_largest_model_on_other_corpora(train_set, percent):
    five, _, table = split(train_set)
    run = target(table, "open_lm_7b", 20)
    predicted = tied(five).predict(float(run["N"][0]), float(run["D"][0])).value
    assert float(100 * abs(predicted / run["loss"] - 1)[0]) == pytest.approx(percent, abs=6e-4)


def test_recovers_a_known_truth_without_noise():
    N, D = (x.ravel() for x in np.meshgrid([1e7, 1e8, 1e9], [1e9, 1e10, 1e11]))
    law = tied({"N": N, "D": D, "loss": 1.7 + 150 * N**-0.26 + 260 * D**-0.26})
    truth = {"E": 1.7, "A": 150, "B": 260, "alpha": 0.26, "beta": 0.26}
    assert law.params == pytest.approx(truth, rel=1e-6)
    loss = np.linspace(2.4, 5, 6)
    found = fit_error(loss, 0.85 - 2.1 * np.exp(-0.7 * loss))
    assert found.params == pytest.approx({"epsilon": 0.85, "k": 2.1, "gamma": 0.7}, rel=1e-5)


def test_intervals_hold_the_truth_and_the_tie_is_said():
    rng = np.random.default_rng(3)
    N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5)))
    loss = (1.7 + 150 * N**-0.26 + 260 * D**-0.26) * np.exp(rng.normal(0, 0.003, 25))
    law = tied({"N": N, "D": D, "loss": loss})
    low, high = law.intervals["alpha"]
    assert low < 0.26 < high and law.intervals["a"] == (0.5, 0.5)
    assert any("alpha = beta is assumed" in w for w in law.warnings)
    error = fit_error(loss, 0.85 - 2.1 * np.exp(-0.7 * loss) + rng.normal(0, 0.002, 25))
    low, high = error.intervals["gamma"]
    assert low < 0.7 < high


def test_refusals():
    N = np.array([1e7, 1e8, 1e9, 1e10, 1e11])
    loss = np.array([4.0, 3.5, 3.0, 2.5, 2.2])
    with pytest.raises(UserError, match="4 runs cannot fit 4 parameters"):
        tied({"N": N[:4], "D": N[:4], "loss": loss[:4]})
    with pytest.raises(UserError, match="D/N is the same"):
        tied({"N": N, "D": 20 * N, "loss": loss})
    with pytest.raises(UserError, match="3 points cannot fit 3 parameters"):
        fit_error(N[:3], N[:3])
