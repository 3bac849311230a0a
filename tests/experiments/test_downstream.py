import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import UserError
from experiments.downstream import Sigmoid, fit, fit_sigmoid, smooth
from experiments.published_data import load, where

N_13B, D_13B = 13202396160, 5000088518656
# Accuracy of the 13B model trained on 5T tokens, in percent: measured, and predicted by the paper's
# scripts; the relative error of its predicted task loss, in percent.
PUBLISHED = {
    "mmlu_test": (51.6, 51.3, 0.2),
    "hellaswag_val": (83.2, 85.3, -1.2),
    "arc_challenge_test": (63.8, 52.7, 9.4),
    "arc_easy_test": (87.2, 77.2, 16.0),
    "piqa_val": (83.0, 82.1, -2.7),
    "csqa_val": (74.1, 77.6, -18.5),
    "socialiqa_val": (61.6, 59.9, 3.6),
    "openbookqa_test": (48.6, 44.9, 0.9),
}


@pytest.fixture(scope="module")
def evaluations():
    return load("olmo_ladder")


def fitted(evaluations, task):
    t = where(evaluations, evaluations["mode"] == "train")
    return fit(t["run_id"], t["N"], t["D"], t[f"bpb_{task}"], t[f"acc_{task}"])


@pytest.mark.parametrize("task", PUBLISHED)
def test_predictions_for_the_13b_model(evaluations, task):
    measured, predicted, loss_error = PUBLISHED[task]
    law = fitted(evaluations, task)
    target = where(evaluations, evaluations["run_id"] == "peteish13_eval_final")
    assert 100 * law.accuracy(N_13B, D_13B) == pytest.approx(predicted, abs=0.2)
    assert 100 * target[f"acc_{task}"][-5:].mean() == pytest.approx(measured, abs=0.06)
    error = 100 * (law.loss(N_13B, D_13B) / target[f"bpb_{task}"][-5:].mean() - 1)
    assert error == pytest.approx(loss_error, abs=0.06)


def test_parameters_of_the_mmlu_loss(evaluations):
    theta = fitted(evaluations, "mmlu_test").theta
    assert np.exp(theta[:3]) == pytest.approx([0.4541, 38.07, 100.1], rel=1e-3)
    assert theta[3:] == pytest.approx([0.2262, 0.2361], abs=1e-4)


def test_recovers_a_known_sigmoid():
    loss = np.linspace(0.4, 2.5, 60)
    accuracy = 0.95 - 0.7 / (1 + np.exp(-4.0 * (loss - 1.1)))
    found = fit_sigmoid(loss, accuracy, best=float(0.95 - 0.7 / (1 + np.exp(4.4))))
    assert found.params == pytest.approx(Sigmoid(-0.7, 1.1, 4.0, 0.95)._asdict(), rel=1e-4)
    assert found.objective < 1e-12 and found.diagnostics["condition_number"] > 1


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=20), st.integers(1, 7))
def test_smooth_is_the_mean_of_the_last_values(values, width):
    expected = [np.mean(values[max(0, i + 1 - width) : i + 1]) for i in range(len(values))]
    assert smooth(np.array(values), width) == pytest.approx(expected, abs=1e-9)


def test_refusals():
    few = np.array([1.0, 2.0, 3.0])
    with pytest.raises(UserError, match="3 runs cannot fit 5 parameters"):
        fit(few, few * 1e8, few * 1e9, few, few / 4)
    with pytest.raises(UserError, match="3 checkpoints are too few"):
        fit_sigmoid(few, few)
