"""How fast batches are made: ours, a flat memory-mapped array, and Grain's MapDataset.

    python -m data.bench

All three read random windows of the same memory-mapped uint16 file. Ours and Grain's make the
whole causal batch (inputs, targets, weights, positions, segments) of a shuffled epoch; the flat
array gives inputs and targets of windows drawn with replacement, and nothing else, as nanoGPT's
loader does: what reading alone costs.
"""

import importlib.util
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from data.batch import Batch, Batches
from data.errors import Parser, run
from data.objectives import Windows, causal, next_tokens
from data.store import Store
from data.tokenizer import EOT

SHAPES = ((16, 128), (32, 1024))
STACK = 8  # steps in one call, as training on a CPU asks for
DOCUMENT = 500  # tokens, on average

Feed = Callable[[], object]  # makes the next batch


def made_up_store(folder: Path, tokens: int) -> Store:
    """Write random ids in documents of random lengths, and map them."""
    rng = np.random.default_rng(0)
    ids = rng.integers(EOT + 1, 1024, tokens, dtype=np.uint16)
    ids[rng.integers(0, tokens, tokens // DOCUMENT)] = EOT
    ids.tofile(folder / "tokens.bin")
    mapped = np.asarray(np.memmap(folder / "tokens.bin", np.uint16, mode="r"))
    return Store(folder, {}, mapped, np.flatnonzero(ids == EOT))


def ours(store: Store, batch_size: int, seq_len: int) -> Feed:
    batches = Batches(store, batch_size, causal(seq_len), seed=0)
    steps = itertools.count()
    return lambda: batches(next(steps))


def ours_stacked(store: Store, batch_size: int, seq_len: int) -> Feed:
    batches = Batches(store, batch_size, causal(seq_len), seed=0)
    steps = itertools.count(step=STACK)
    return lambda: batches.stack(next(steps), STACK)


def flat(store: Store, batch_size: int, seq_len: int) -> Feed:
    rng = np.random.default_rng(0)
    tokens = store.tokens

    def batch() -> tuple[np.ndarray, np.ndarray]:
        starts = rng.integers(0, len(tokens) - seq_len, batch_size)
        inputs = np.stack([tokens[i : i + seq_len].astype(np.int32) for i in starts])
        targets = np.stack([tokens[i + 1 : i + 1 + seq_len].astype(np.int32) for i in starts])
        return inputs, targets

    return batch


class GrainWindows:
    """The store's windows as a random-access source of Grain's."""

    def __init__(self, tokens: np.ndarray, seq_len: int):
        self.tokens, self.seq_len = tokens, seq_len

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.seq_len

    def __getitem__(self, index: int) -> np.ndarray:
        start = index * self.seq_len
        return self.tokens[start : start + self.seq_len + 1]


def grain(store: Store, batch_size: int, seq_len: int) -> Feed:
    from grain import MapDataset

    def transform(tokens: np.ndarray) -> Batch:
        return next_tokens(Windows(tokens, None, np.zeros(0, np.int64), 0))

    windows = MapDataset.source(GrainWindows(store.tokens, seq_len)).seed(0).shuffle().repeat()
    batches: Iterator[Batch] = iter(windows.batch(batch_size).map(transform))
    return lambda: next(batches)


FEEDS: dict[str, tuple[Callable[[Store, int, int], Feed], int]] = {
    "batch(step)": (ours, 1),
    f"batch(step), {STACK} steps at once": (ours_stacked, STACK),
    "flat array, inputs and targets only": (flat, 1),
    "Grain MapDataset": (grain, 1),
}


def seconds_per_call(feed: Feed, budget: float) -> float:
    """Return the mean time of a call, over as many as fit into `budget` seconds."""
    start, calls = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < budget or not calls:
        feed()
        calls += 1
    return spent / calls


def measure(store: Store, batch_size: int, seq_len: int, rounds: int, budget: float) -> list[str]:
    """Return the rows of the table of one shape; feeds take turns, so load hits all alike."""
    feeds = {name: (make(store, batch_size, seq_len), k) for name, (make, k) in available()}
    speeds: dict[str, list[float]] = {name: [] for name in feeds}
    for feed, _ in feeds.values():
        feed()
    for _ in range(rounds):
        for name, (feed, steps) in feeds.items():
            seconds = seconds_per_call(feed, budget)
            speeds[name].append(steps * batch_size * seq_len / seconds)
    medians = {name: statistics.median(some) for name, some in speeds.items()}
    base = medians["flat array, inputs and targets only"]
    return [
        f"{f'{batch_size} x {seq_len}':>10}  {name:<36} {speed / 1e6:10.1f} {speed / base:10.2f}"
        for name, speed in medians.items()
    ]


def available() -> list[tuple[str, tuple[Callable[[Store, int, int], Feed], int]]]:
    """Return the feeds that can be measured here: Grain is optional."""
    installed = importlib.util.find_spec("grain") is not None
    return [(name, feed) for name, feed in FEEDS.items() if installed or feed[0] is not grain]


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="python -m data.bench",
        description="Measure how fast batches are made, against a flat array and Grain.",
        epilog="example: python -m data.bench --tokens=20000000 --rounds=7",
    )
    parser.add_argument("--tokens", type=int, default=20_000_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=7, help="medians of this many")
    parser.add_argument("--seconds", type=float, default=0.3, help="per feed and round")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        store = made_up_store(Path(folder), options.tokens)
        print(f"{'batch':>10}  {'feed':<36} {'Mtokens/s':>10} {'vs flat':>10}")
        for shape in SHAPES:
            for row in measure(store, *shape, options.rounds, options.seconds):
                print(row)
    if importlib.util.find_spec("grain") is None:
        print("Grain is not installed, so not measured: pip install -r requirements-test.txt")


if __name__ == "__main__":
    run(main)
