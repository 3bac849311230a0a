"""The loss along a learning-rate schedule: predict one schedule's curve from runs with others.

Luo et al. 2025 (arXiv 2503.12811), the multi-power law, equations 1 to 3: with S(t) the area under
the learning rate up to step t and S_k(t) that from step k on,

    L(t) = L0 + A S(t)^-alpha - B sum_k (lr_{k-1} - lr_k) (1 - (1 + C lr_k^-gamma S_k(t))^-beta)

The sum is what lowering the rate has gained by t. It runs from the first step of training, as in
the authors' program: the warm-up, a ramp from zero to the first logged rate, is a negative gain of
up to B times the peak rate, and L0 lies that much lower than the loss that training tends to.
Between logged steps the rate is taken along straight lines.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.minimise import Fit, examined, minimise

RAMP = 20  # points that stand for the warm-up
POLISHED = 4
BLOCK = 10  # logged points in a row that share their luck: a curve's residuals are correlated


class Curve(NamedTuple):
    """A logged run: steps, learning rates and losses (nats/token), from the end of warm-up on."""

    step: np.ndarray
    rate: np.ndarray
    loss: np.ndarray


class Score(NamedTuple):
    """How well a prediction meets a curve, as the paper scores it."""

    r2: float
    mean_error: float  # mean absolute error, nats
    mean_relative: float
    worst_relative: float


def areas(curve: Curve) -> np.ndarray:
    """Area under the learning rate up to each logged step, the warm-up's ramp included."""
    between = np.diff(curve.step) * (curve.rate[1:] + curve.rate[:-1]) / 2
    warm_up = 0.5 * curve.step[0] * curve.rate[0]
    return warm_up + np.concatenate([[0.0], np.cumsum(between)])


def predict(theta: np.ndarray, curve: Curve) -> np.ndarray:
    """Loss at each logged step; theta is (L0, ln A, alpha, ln B, ln C, beta, gamma)."""
    L0, log_A, alpha, log_B, log_C, beta, gamma = theta
    area, peak = areas(curve), curve.rate[0]
    drop = -np.diff(curve.rate)
    k = np.flatnonzero(drop)  # only steps at which the rate changes gain anything
    ramp = (np.arange(RAMP) + 0.5) / RAMP
    rate = np.concatenate([ramp * peak, curve.rate[k + 1]])
    before = np.concatenate([0.5 * ramp**2 * curve.step[0] * peak, area[k + 1]])
    drop = np.concatenate([np.full(RAMP, -peak / RAMP), drop[k]])
    since = np.maximum(area[:, None] - before, 0.0)  # S_k(t): a rate counts from its own step on
    gain = (1 - (1 + np.exp(log_C - gamma * np.log(rate)) * since) ** -beta) @ drop
    return L0 + np.exp(log_A - alpha * np.log(area)) - np.exp(log_B) * gain


def fit_schedule(curves: Sequence[Curve], delta: float = 1e-3) -> Fit:
    """Fit the seven parameters to curves of different schedules, Huber on ln loss."""
    lowest = min(float(c.loss.min()) for c in curves)
    observed = np.log(np.concatenate([c.loss for c in curves]))

    def residuals(theta: np.ndarray) -> np.ndarray:
        found = np.concatenate([predict(theta, c) for c in curves])
        return np.log(np.maximum(found, 1e-9)) - observed

    axes = {
        "L0": (0.85 * lowest, 0.95 * lowest),
        "log_A": np.log([0.3, 0.8]),
        "alpha": (0.3, 0.6),
        "log_B": np.log([100.0, 400.0, 1000.0]),
        "log_C": np.log([0.3, 2.0]),
        "beta": (0.3, 0.7),
        "gamma": (0.3, 0.7),
    }
    box = {
        "L0": (0.0, lowest),
        "alpha": (0.01, 2.0),
        "log_C": (-10.0, 10.0),
        "beta": (0.01, 5.0),
        "gamma": (0.0, 2.0),
    }
    form = "L(t) = L0 + A S^-alpha - B sum_k drop_k (1 - (1 + C lr_k^-gamma S_k)^-beta)"
    found = minimise(residuals, axes, delta, box, form=form, polished=POLISHED)
    derived = {n: (lambda t, i=i: float(np.exp(t[i]))) for n, i in (("A", 1), ("B", 3), ("C", 4))}
    run = np.repeat(np.arange(len(curves)), [len(c.loss) for c in curves])
    place = np.concatenate([np.arange(len(c.loss)) // BLOCK for c in curves])
    blocks = run * (place.max() + 1) + place
    return examined(found, residuals, delta, box, derived, blocks, linear=True)


def score(theta: np.ndarray, curve: Curve) -> Score:
    """The law's prediction (theta as in `predict`) of a curve that it has not seen."""
    predicted = predict(theta, curve)
    error = np.abs(predicted - curve.loss)
    spread = float(np.sum((curve.loss - curve.loss.mean()) ** 2))
    return Score(
        1 - float(np.sum(error**2)) / spread,
        float(error.mean()),
        float((error / curve.loss).mean()),
        float((error / curve.loss).max()),
    )
