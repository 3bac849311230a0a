"""From model and data size to task accuracy in two steps: task loss first, accuracy from it second.

Bhagia et al. 2024 (arXiv 2412.04403): L(N, D) = E + A/N^alpha + B/D^beta for the task's own loss
(bits per byte of the right answer), fitted to final checkpoints with Huber on ln L, delta 1e-3;
then accuracy = b + a / (1 + exp(-k (L - L0))), fitted by least squares to intermediate checkpoints
and one artificial point: at loss 0 the accuracy is the task's best. N parameters, D tokens,
accuracy 0 to 1.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from experiments import laws
from experiments.minimise import AGAIN, Fit, Function, examined, minimise, polish
from experiments.power_law import mean_loss
from experiments.uncertainty import quantiles

AVERAGED = 5  # checkpoints: of a run's end in step 1, of a moving average in step 2
SKIPPED = 0.1  # share of a run's first checkpoints that step 2 leaves out
BOUNDS = {"a": (-1.0, 0.0), "L0": (0.0, np.inf), "k": (0.0, np.inf), "b": (0.0, 1.0)}


class Sigmoid(NamedTuple):
    """accuracy = b + a / (1 + exp(-k (L - L0))), a negative."""

    a: float
    L0: float
    k: float
    b: float

    def predict(self, loss: np.ndarray) -> np.ndarray:
        """Accuracy at a task loss."""
        return self.b + self.a / (1 + np.exp(-self.k * (loss - self.L0)))


@dataclass(frozen=True)
class TwoStep:
    """A fitted pair: each step with its search, what it leaves open, and its refits."""

    task_loss: laws.Law  # in the task's unit
    sigmoid_fit: Fit
    sigmoids: np.ndarray  # (refits, 4), to runs drawn with replacement

    @property
    def theta(self) -> np.ndarray:
        """(ln E, ln A, ln B, alpha, beta) of the task loss."""
        return self.task_loss.theta

    @property
    def sigmoid(self) -> Sigmoid:
        return Sigmoid(**self.sigmoid_fit.params)

    def loss(self, N: float, D: float) -> float:
        """Task loss."""
        return float(mean_loss(self.theta, np.log(N), np.log(D)))

    def accuracy(self, N: float, D: float) -> float:
        """Task accuracy."""
        return float(self.sigmoid.predict(np.array(self.loss(N, D))))

    def interval(self, N: float, D: float) -> tuple[float, float]:
        """90% interval of the accuracy, over the refits."""
        losses = mean_loss(self.task_loss.draws, np.log(N), np.log(D))
        return quantiles(Sigmoid(*self.sigmoids.T).predict(losses), laws.LEVEL)


def fit_sigmoid(
    loss: np.ndarray, accuracy: np.ndarray, best: float = 1.0, group: np.ndarray | None = None
) -> Fit:
    """Least squares within -1 <= a <= 0, 0 <= b <= 1 and k >= 0, from a grid of starts.

    best: the accuracy at loss 0, added as one point. group: the run of each point. UserError: fewer
    than 4 points.
    """
    if len(loss) < 4:
        raise UserError(f"{len(loss)} checkpoints are too few for the 4 parameters of the sigmoid")
    residuals = _residuals(loss, accuracy, best)
    starts = [[-0.5, q, k, best] for q in np.quantile(loss, [0.1, 0.5, 0.9]) for k in (1, 3, 9)]
    form = "accuracy = b + a / (1 + exp(-k (loss - L0))) (Bhagia et al. 2024)"
    axes: dict[str, Any] = dict.fromkeys(Sigmoid._fields)
    found = minimise(residuals, axes, np.inf, BOUNDS, np.array(starts), form)
    label = np.arange(len(loss) + 1) if group is None else np.append(group, group.max() + 1)
    return examined(found, residuals, np.inf, BOUNDS, group=label, linear=True)


def _residuals(loss: np.ndarray, accuracy: np.ndarray, best: float) -> Function:
    x, y = np.append(loss, 0.0), np.append(accuracy, best)
    return lambda p: Sigmoid(*p).predict(x) - y


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
    """Both steps from evaluations in training order; `run` names the run that each belongs to.

    UserError: final checkpoints that cannot determine the task loss (experiments.identify), or too
    few checkpoints for the sigmoid.
    """
    final: list[tuple[float, float, float]] = []
    losses, accuracies = [], []
    for name in dict.fromkeys(run.tolist()):
        rows = np.flatnonzero(run == name)
        last = rows[-1]
        final.append((float(N[last]), float(D[last]), float(loss[rows[-AVERAGED:]].mean())))
        kept = rows[int(np.ceil(SKIPPED * len(rows))) :]
        losses.append(smooth(loss[kept]))
        accuracies.append(smooth(accuracy[kept]))
    N_end, D_end, loss_end = np.array(final).T
    law = laws.fit({"N": N_end, "D": D_end, "loss": loss_end}, bootstrap=draws)
    label = np.repeat(np.arange(len(losses)), [len(x) for x in losses])
    found = fit_sigmoid(np.concatenate(losses), np.concatenate(accuracies), best, label)
    sigmoids = _sigmoid_draws(losses, accuracies, best, found.theta, draws)
    ends = np.quantile(sigmoids, [(1 - laws.LEVEL) / 2, (1 + laws.LEVEL) / 2], axis=0)
    intervals = {
        name: (min(low, x), max(high, x))
        for (name, x), low, high in zip(found.params.items(), *ends.tolist(), strict=True)
    }
    return TwoStep(law, replace(found, intervals=intervals), sigmoids)


def _sigmoid_draws(
    losses: list[np.ndarray],
    accuracies: list[np.ndarray],
    best: float,
    start: np.ndarray,
    draws: int,
) -> np.ndarray:
    """Sigmoids of refits to runs drawn with replacement: checkpoints of one share its luck."""
    rng = np.random.default_rng(0)
    box = np.array(list(BOUNDS.values())).T
    found = []
    for _ in range(draws):
        picks = rng.integers(len(losses), size=len(losses))
        x, y = (np.concatenate([of[i] for i in picks]) for of in (losses, accuracies))
        found.append(polish(_residuals(x, y, best), start, np.inf, box, *AGAIN)[0])
    return np.array(found)
