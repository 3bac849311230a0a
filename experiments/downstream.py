"""From model and data size to task accuracy in two steps: task loss first, accuracy from it second.

Bhagia et al. 2024 (arXiv 2412.04403): L(N, D) = E + A/N^alpha + B/D^beta for the task's own loss
(bits per byte of the right answer), fitted to final checkpoints with Huber on ln L, delta 1e-3;
then accuracy = b + a / (1 + exp(-k (L - L0))), fitted by least squares to intermediate checkpoints
and one artificial point: at loss 0 the accuracy is the task's best. N parameters, D tokens,
accuracy 0 to 1.
"""

from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments.laws import design, mean_loss, uncentre
from experiments.search import Objective, search

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
    """A fitted pair."""

    theta: np.ndarray  # (ln E, ln A, ln B, alpha, beta)
    sigmoid: Sigmoid

    def loss(self, N: float, D: float) -> float:
        """Task loss."""
        return float(mean_loss(self.theta, np.log(N), np.log(D)))

    def accuracy(self, N: float, D: float) -> float:
        """Task accuracy."""
        return float(self.sigmoid.predict(np.array(self.loss(N, D))))


def fit_task_loss(N: np.ndarray, D: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """(ln E, ln A, ln B, alpha, beta) of the task loss, the global optimum.

    UserError: fewer runs than the 5 parameters and one more.
    """
    if len(N) < 6:
        raise UserError(f"{len(N)} runs are too few for the 5 parameters of the task loss")
    terms, centre = design(N, D)
    return uncentre(search(terms, loss, Objective()).theta[None], centre)[0]


def fit_sigmoid(loss: np.ndarray, accuracy: np.ndarray, best: float = 1.0) -> Sigmoid:
    """Least squares within -1 <= a <= 0, 0 <= b <= 1 and k >= 0, from a grid of starts.

    best: the accuracy at loss 0, added as one point. UserError: fewer than 4 points.
    """
    if len(loss) < 4:
        raise UserError(f"{len(loss)} checkpoints are too few for the 4 parameters of the sigmoid")
    from scipy.optimize import least_squares

    x, y = np.append(loss, 0.0), np.append(accuracy, best)
    bounds = ([-1, 0, 0, 0], [0, np.inf, np.inf, 1])
    starts = [[-0.5, q, k, best] for q in np.quantile(loss, [0.1, 0.5, 0.9]) for k in (1, 3, 9)]
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
    theta = fit_task_loss(*np.array(final).T)
    return TwoStep(theta, fit_sigmoid(np.concatenate(losses), np.concatenate(accuracies), best))
