"""batch(step): a pure function of (config, seed, step), and reading ahead of the device.

Example e of a run is window `permute(e % windows)` of the store, in an order drawn anew for each
epoch e // windows. No iterator has a state: a run resumes, on any number of hosts, by its step.
"""

import queue
import threading
from collections.abc import Callable, Generator

import numpy as np

from data.errors import UserError
from data.mixture import Mixture, Source, Usage
from data.shuffle import permute
from data.store import Store
from data.tokenizer import PAD
from data.windows import Batch, Objective, Windows

__all__ = ["Batch", "Batches", "eval_batches", "prefetch"]

EVAL_SEED = 0  # of what objectives draw at random for evaluations: the same for every run


class Batches:
    """The training batches of a store, by step.

    Args:
      store: the token store.
      batch_size: sequences in a step, over all hosts.
      objective: what is made of its windows (`data.objectives`).
      seed: of the shuffle, and of what the objective draws at random.
      rows: those of a batch that this process computes, by number; all by default.
      max_epochs: refuse steps that read the store more often than this; a source of a mixture
        then drops out.
      mixture: sources of the store with their weights; by default all of it, as it is.

    Attributes: `windows`, examples in an epoch; `tokens_per_epoch`, the tokens of them that D
    counts. The store's tail, less than one window, is left out of training.
    """

    def __init__(
        self,
        store: Store,
        batch_size: int,
        objective: Objective,
        seed: int,
        rows: np.ndarray | None = None,
        max_epochs: float = float("inf"),
        mixture: list[Source] | None = None,
    ):
        self.store, self.batch_size, self.objective, self.seed = store, batch_size, objective, seed
        self.rows = np.arange(batch_size) if rows is None else rows
        self.max_epochs = max_epochs
        self.mixture = Mixture(mixture, objective, max_epochs) if mixture else None
        self.windows = self.mixture.windows if self.mixture else whole_windows(store, objective)
        self.tokens_per_epoch = self.windows * objective.stride

    def __call__(self, step: int) -> Batch:
        """Return this process's rows of a step's batch: arrays [len(rows), L]."""
        return self.stack(step, 1).each(lambda x: x[0])

    def stack(self, step: int, count: int) -> Batch:
        """Return the batches of `count` steps from `step` on: arrays [count, B, L].

        Raises UserError for a step beyond `max_epochs`.
        """
        self.check_budget(step + count)
        steps = np.arange(step, step + count, dtype=np.int64)
        examples = (steps[:, None] * self.batch_size + self.rows).ravel()
        starts, length = self._starts(examples), self.objective.raw_length
        tokens = _gather(self.store.tokens, starts, length)
        weights = self.store.weights
        if weights is not None:
            weights = _gather(weights, starts, length)
        batch = self.objective.transform(Windows(tokens, weights, examples, self.seed))
        shape = (count, len(self.rows))
        return batch.each(lambda x: x.reshape(*shape, *x.shape[1:]))

    def _starts(self, examples: np.ndarray) -> np.ndarray:
        """Return where in the store each example's window starts."""
        if self.mixture:
            return self.mixture.places(examples, self.seed)[1]
        epochs, places = np.divmod(examples, self.windows)
        return permute(places, self.windows, self.seed, epochs) * self.objective.stride

    def usage(self, steps: int) -> list[Usage]:
        """Return what of each source `steps` steps read; without a mixture there is one, 'all'."""
        examples = steps * self.batch_size
        if self.mixture:
            return self.mixture.usage(examples)
        read = examples * self.objective.stride
        epochs = examples / self.windows
        return [Usage("all", 1.0, self.tokens_per_epoch, read, epochs, False)]

    def check_budget(self, steps: int) -> None:
        """Raise UserError where `steps` steps read the store more than `max_epochs` times."""
        if self.mixture:
            if steps * self.batch_size > self.mixture.capacity:
                raise UserError(self.mixture.too_long(steps * self.batch_size))
            return
        epochs = steps * self.batch_size / self.windows
        if epochs > self.max_epochs:
            budget = steps * self.batch_size * self.objective.stride
            raise UserError(
                f"a budget of {budget:,} tokens is {epochs:.2f} epochs of the "
                f"{self.tokens_per_epoch:,} unique tokens, more than data.max_epochs="
                f"{self.max_epochs:g}; use fewer steps, more text or a higher data.max_epochs"
            )


def _gather(array: np.ndarray, starts: np.ndarray, length: int) -> np.ndarray:
    """Return array[start : start + length] for each start, as rows."""
    return np.lib.stride_tricks.sliding_window_view(array, length)[starts]


def whole_windows(store: Store, objective: Objective) -> int:
    """Return the number of windows in a store; UserError where there is none."""
    count = (len(store) - objective.raw_length) // objective.stride + 1
    if count < 1:
        raise UserError(
            f"{store.folder}: {len(store):,} tokens are too few for a window of "
            f"{objective.stride} tokens; use more text or a smaller seq_len"
        )
    return count


def eval_batches(
    store: Store,
    batch_size: int,
    objective: Objective,
    limit: int = 0,
    rows: np.ndarray | None = None,
) -> Generator[Batch, None, None]:
    """Yield a store's windows in order, each once, whatever the run's seed.

    The causal objective predicts the tail too, padded with weight 0; others leave out what is
    less than a window. With a `limit` in tokens, as many windows as hold it, spread evenly over
    the store. The last batch is filled with padding, so every batch has the same shape. `rows` as
    for Batches.
    """
    stride = objective.stride
    if objective.name == "causal":
        count = -(-(len(store) - 1) // stride)
    else:
        count = whole_windows(store, objective)
    taken = min(count, -(-limit // stride)) if limit else count
    windows = np.arange(taken, dtype=np.int64) * count // max(1, taken)
    rows = np.arange(batch_size) if rows is None else rows
    for first in range(0, taken, batch_size):
        mine = first + rows
        beyond = -(-len(store) // stride)
        chosen = np.where(mine < taken, windows[np.minimum(mine, taken - 1)], beyond)
        yield _padded(store, chosen, objective)


def _padded(store: Store, windows: np.ndarray, objective: Objective) -> Batch:
    """Return the batch of windows that may reach over the store's end, or lie behind it."""
    starts = windows[:, None] * objective.stride
    places = starts + np.arange(objective.raw_length)
    outside = places >= len(store)
    places = np.minimum(places, len(store) - 1)
    tokens = np.where(outside, PAD, store.tokens[places])
    weights = np.where(outside, 0, 1 if store.weights is None else store.weights[places])
    batch = objective.transform(Windows(tokens, weights, windows, EVAL_SEED))
    behind = np.broadcast_to(starts >= len(store), batch.targets.shape)
    if not objective.encoder_length:
        behind = outside[:, : objective.length]
    return batch._replace(
        weights=np.where(starts >= len(store), np.float32(0), batch.weights),
        segments=np.where(behind, 0, batch.segments).astype(np.int32),
    )


def prefetch(
    batches: Batches,
    start: int,
    stop: int,
    depth: int = 2,
    stack: int | None = None,
) -> Generator[Batch, None, None]:
    """Yield the batches of steps [start, stop), made up to `depth` ahead in a thread.

    With `stack`, each has the batches of that many steps on a leading axis; the last is filled
    up with its own last step, so all have one shape. Closing the generator ends the thread;
    what fails in it is raised here.
    """

    def make(step: int) -> Batch:
        if not stack:
            return batches(step)
        count = min(stack, stop - step)
        batch = batches.stack(step, count)
        if count == stack:
            return batch
        fill = np.minimum(np.arange(stack), count - 1)
        return batch.each(lambda x: x[fill])

    return _ahead(make, range(start, stop, stack or 1), depth)


def _ahead(make: Callable[[int], Batch], steps: range, depth: int) -> Generator[Batch, None, None]:
    made: queue.Queue[Batch | Exception | None] = queue.Queue(depth)
    closed = threading.Event()

    def put(item: Batch | Exception | None) -> None:
        while not closed.is_set():
            try:
                return made.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for step in steps:
                if closed.is_set():
                    return
                put(make(step))
            put(None)
        except Exception as error:
            put(error)

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        closed.set()
        thread.join()
