"""From model and data size to task accuracy in two steps: task loss first, accuracy from it second.

Bhagia et al. 2024 (arXiv 2412.04403): L(N, D) = E + A/N^alpha + B/D^beta for the task's own loss
(bits per byte of the right answer), fitted to final checkpoints with Huber on ln L, delta 1e-3;
then accuracy = b + a / (1 + exp(-k (L - L0))), fitted by least squares to intermediate checkpoints
and one artificial point: at loss 0 the accuracy is the task's best. N parameters, D tokens,
accuracy 0 to 1.
"""

from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from experiments.power_law import design, fit_theta, mean_loss, uncentre
from experiments.runs import from_columns
from experiments.search import Objective, search
from experiments.uncertainty import estimate_noise, quantiles, resample

AVERAGED = 5  # checkpoints: of a run's end in step 1, of a moving average in step 2
SKIPPED = 0.1  # share of a run's first checkpoints that step 2 leaves out


class Sigmoid(NamedTuple):
    """accuracy = b + a / (1 + exp(-k (L - L0))), a negative."""

    a: float
    L0: float
    k: float
    b: float

    def predict(self, loss: np.ndarray) -> np.ndarray:
        """Accuracy at a task loss."""
        return self.b + self.a / (1 + np.exp(-self.k * (loss - self.L0)))


class TwoStep(NamedTuple):
    """A fitted pair, and refits of it to resampled runs."""

    theta: np.ndarray  # (ln E, ln A, ln B, alpha, beta)
    sigmoid: Sigmoid
    objective: float  # of the task loss: sum of Huber of its logarithm
    draws: tuple[tuple[np.ndarray, Sigmoid], ...] = ()

    def loss(self, N: float, D: float) -> float:
        """Task loss."""
        return float(mean_loss(self.theta, np.log(N), np.log(D)))

    def accuracy(self, N: float, D: float) -> float:
        """Task accuracy."""
        return float(self.sigmoid.predict(np.array(self.loss(N, D))))

    def interval(self, N: float, D: float) -> tuple[float, float]:
        """90% interval of the accuracy, over the refits."""
        found = [s.predict(mean_loss(theta, np.log(N), np.log(D))) for theta, s in self.draws]
        return quantiles(np.array(found), 0.9)


def fit_task_loss(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """(ln E, ln A, ln B, alpha, beta) of the task loss, the global optimum.

    UserError: fewer runs than the 5 parameters and one more.
    """
    return _task_loss(N, D, loss)[0]


def _task_loss(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, float]:
    if len(N) < 6:
        raise UserError(f"{len(N)} runs are too few for the 5 parameters of the task loss")
    theta, found = fit_theta(N, D, loss, Objective())
    return theta, found.objective


def fit_sigmoid(loss: np.ndarray, accuracy: np.ndarray, best: float = 1.0) -> Sigmoid:
    """Least squares within -1 <= a <= 0, 0 <= b <= 1 and k >= 0, from a grid of starts.

    best: the accuracy at loss 0, added as one point. UserError: fewer than 4 points.
    """
    if len(loss) < 4:
        raise UserError(f"{len(loss)} checkpoints are too few for the 4 parameters of the sigmoid")
    starts = [[-0.5, q, k, best] for q in np.quantile(loss, [0.1, 0.5, 0.9]) for k in (1, 3, 9)]
    return _least(loss, accuracy, best, starts)


def _least(loss: np.ndarray, accuracy: np.ndarray, best: float, starts: list[Any]) -> Sigmoid:
    from scipy.optimize import least_squares

    x, y = np.append(loss, 0.0), np.append(accuracy, best)
    bounds = ([-1, 0, 0, 0], [0, np.inf, np.inf, 1])
    fits = [least_squares(lambda p: Sigmoid(*p).predict(x) - y, s, bounds=bounds) for s in starts]
    return Sigmoid(*(float(v) for v in min(fits, key=lambda f: f.cost).x))


def smooth(values: np.ndarray, width: int = AVERAGED) -> np.ndarray:
    """Mean of each value and up to width - 1 before it."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    return (total[end] - total[start]) / (end - start)


def fit(
    run: np.ndarray,
    N: np.ndarray,
    D: np.ndarray,
    loss: np.ndarray,
    accuracy: np.ndarray,
    best: float = 1.0,
    draws: int = 100,
) -> TwoStep:
    """Both steps from evaluations in training order; `run` names the run that each belongs to."""
    final: list[tuple[float, float, float]] = []
    losses, accuracies = [], []
    for name in dict.fromkeys(run.tolist()):
        rows = np.flatnonzero(run == name)
        last = rows[-1]
        final.append((float(N[last]), float(D[last]), float(loss[rows[-AVERAGED:]].mean())))
        kept = rows[int(np.ceil(SKIPPED * len(rows))) :]
        losses.append(smooth(loss[kept]))
        accuracies.append(smooth(accuracy[kept]))
    ends = np.array(final).T
    theta, objective = _task_loss(*ends)
    sigmoid = fit_sigmoid(np.concatenate(losses), np.concatenate(accuracies), best)
    thetas = _theta_draws(ends[0], ends[1], ends[2], draws)
    sigmoids = _sigmoid_draws(losses, accuracies, best, sigmoid, draws)
    return TwoStep(theta, sigmoid, objective, tuple(zip(thetas, sigmoids, strict=True)))


def _theta_draws(N: np.ndarray, D: np.ndarray, loss: np.ndarray, draws: int) -> np.ndarray:
    """Task-loss parameters of refits to new losses around the fit (experiments.uncertainty)."""
    terms, centre = design(N, D)
    runs = from_columns({"N": N.tolist(), "D": D.tolist(), "loss": loss.tolist()})
    found = search(terms, loss, Objective())
    noise = estimate_noise(runs, terms, found.theta)
    return uncentre(resample(terms, loss, found.theta, Objective(), noise, draws), centre)


def _sigmoid_draws(
    losses: list[np.ndarray], accuracies: list[np.ndarray], best: float, start: Sigmoid, draws: int
) -> list[Sigmoid]:
    """Sigmoids of refits to runs drawn with replacement: checkpoints of one share its luck."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        picks = rng.integers(len(losses), size=len(losses))
        x = np.concatenate([losses[i] for i in picks])
        found.append(_least(x, np.concatenate([accuracies[i] for i in picks]), best, [start]))
    return found
