"""Mixtures by token weights: which source each example comes from, computed from its number.

A store whose documents are sorted by kind has each kind in one range of tokens: a source. Sources
get shares of the windows read, so of the tokens. The shares are counted out in blocks of BLOCK
examples, spread evenly in each, so any example is placed without looking at another.

A source that has been read `max_epochs` times drops out, and its share goes to the others in
proportion to theirs. When the last has dropped out the mixture is exhausted: that is an error.
Where a source drops out depends on weights and sizes alone, never on how long a run is, so a
longer run begins with the same batches.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data.errors import UserError, suggest
from data.shuffle import permute
from data.store import Store
from data.windows import Objective

BLOCK = 1024  # examples in which the shares are exact, to 1 / BLOCK
BY_SIZE = "all"  # a mixture of every source, by its tokens


class Source(NamedTuple):
    """A range of a store's tokens, and its weight; only the ratios of weights count."""

    name: str
    start: int
    stop: int
    weight: float


class Usage(NamedTuple):
    """What of a source some examples read."""

    name: str
    share: float  # of the examples
    unique_tokens: int  # there are: in whole windows
    tokens: int  # read
    epochs: float
    exhausted: bool


class Phase(NamedTuple):
    """Examples from `start` on, in blocks of one pattern; arrays are over sources, or [BLOCK]."""

    start: int
    counts: np.ndarray  # of each source in a block
    before: np.ndarray  # examples of each source before this phase
    order: np.ndarray  # the source of each example of a block
    rank: np.ndarray  # how many of its source precede it in the block


def sources(store: Store, mixture: str, temperature: float = 1.0) -> list[Source]:
    """Return the sources of a store that was written by kind.

    Args:
      mixture: 'all', weighing each by its tokens, or 'books:2,web:1' (the others are left out).
      temperature: weights are raised to 1 / temperature: above 1 small sources count more.

    Raises UserError for a name that the store lacks, or weights that are none.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"data.temperature={temperature:g} is not a number above 0")
    ranges = kind_ranges(store)
    sizes = {name: float(stop - start) for name, (start, stop) in ranges.items()}
    weights = sizes if mixture == BY_SIZE else parse(mixture)
    for name in weights:
        if name not in ranges:
            known = ", ".join(ranges)
            raise UserError(
                f'data.mixture: "{name}" is not one of {known}{suggest(name, ranges)}; "all" is all'
            )
    if len(weights) > BLOCK:
        raise UserError(f"data.mixture: {len(weights):,} sources, more than {BLOCK}; name fewer")
    return [Source(n, *ranges[n], w ** (1 / temperature)) for n, w in weights.items() if w > 0]


def parse(mixture: str) -> dict[str, float]:
    """Return {name: weight} of 'books:2,web:1'; UserError where it is not written so."""
    weights: dict[str, float] = {}
    for part in mixture.split(","):
        match = re.fullmatch(r"\s*([^:,]+?)\s*:\s*(\d+\.?\d*(?:e-?\d+)?)\s*", part)
        if not match or match[1] in weights:
            raise UserError(
                f'data.mixture: "{part.strip()}" is not NAME:WEIGHT, each name once; '
                'write "books:2,web:1" or "all"'
            )
        weights[match[1]] = float(match[2])
    if not any(weights.values()):
        raise UserError(f"data.mixture={mixture}: no weight is above 0")
    return weights


def kind_ranges(store: Store) -> dict[str, tuple[int, int]]:
    """Return the range of tokens of each kind in a store that was written by kind."""
    if not store.manifest.get("by_kind"):
        raise UserError(f"{store.folder}: not written by kind; prepare it with by_kind")
    ranges, first = {}, 0
    ends = np.append(store.offsets, len(store) - 1)
    for kind, count in store.manifest["documents_by_kind"].items():
        ranges[kind] = (int(ends[first]), int(ends[first + count]) + 1)  # the next end-of-text too
        first += count
    return ranges


class Mixture:
    """Places examples in the windows of several sources.

    Attributes: `capacity`, the number of examples until all sources are exhausted (inf without
    a cap); `windows`, those of all sources together.
    """

    def __init__(
        self, sources: list[Source], objective: Objective, max_epochs: float = float("inf")
    ):
        self.sources, self.stride, self.max_epochs = sources, objective.stride, max_epochs
        lengths = np.array([source.stop - source.start for source in sources])
        self.sizes = (lengths - objective.raw_length) // objective.stride + 1
        for source, windows in zip(sources, self.sizes, strict=True):
            if windows < 1:
                raise UserError(
                    f'data.mixture: the {source.stop - source.start:,} tokens of "{source.name}" '
                    "are less than a window; leave it out or use a smaller seq_len"
                )
        self.starts = np.array([source.start for source in sources])
        self.windows = int(self.sizes.sum())
        self.phases, self.capacity = self._plan()

    def _plan(self) -> tuple[list[Phase], float]:
        """Return the phases and the number of examples that they have in all."""
        weights = np.array([source.weight for source in self.sources])
        if np.isinf(self.max_epochs):
            counts = block_counts(weights)
            return [Phase(0, counts, np.zeros_like(counts), *pattern(counts))], float("inf")
        left = np.floor(self.sizes * self.max_epochs).astype(np.int64)
        before, start, phases = np.zeros_like(left), 0, list[Phase]()
        while left.any():
            counts = block_counts(np.where(left > 0, weights, 0))
            phase = Phase(start, counts, before, *pattern(counts))
            phases.append(phase)
            length = min(
                _examples_until(phase, int(source), int(left[source]))
                for source in np.flatnonzero(left)
            )
            read = _read(phase, length)
            before, left, start = before + read, left - read, start + length
        return phases, start

    def places(self, examples: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the source of each example, int64 [B], and where its window starts, int64 [B]."""
        if examples.size and examples.max() >= self.capacity:
            raise UserError(self.too_long(int(examples.max()) + 1))
        which, starts = np.empty(len(examples), np.int64), np.empty(len(examples), np.int64)
        in_phase = np.searchsorted([p.start for p in self.phases], examples, side="right") - 1
        numbers = np.empty(len(examples), np.int64)
        for number in np.unique(in_phase):
            phase, mine = self.phases[number], in_phase == number
            block, place = np.divmod(examples[mine] - phase.start, BLOCK)
            source = phase.order[place]
            which[mine] = source
            numbers[mine] = phase.before[source] + block * phase.counts[source] + phase.rank[place]
        for source in np.unique(which):
            mine = which == source
            epochs, index = np.divmod(numbers[mine], self.sizes[source])
            windows = permute(index, int(self.sizes[source]), seed + int(source), epochs)
            starts[mine] = self.starts[source] + windows * self.stride
        return which, starts

    def read(self, examples: int) -> np.ndarray:
        """Return how many of the first `examples` are of each source."""
        phase = self._phase(examples)
        return phase.before + _read(phase, examples - phase.start)

    def _phase(self, example: int) -> Phase:
        return [phase for phase in self.phases if phase.start <= example][-1]

    def usage(self, examples: int) -> list[Usage]:
        """Return what of each source the first `examples` read."""
        count, phase = self.read(examples), self._phase(examples)
        return [
            Usage(
                source.name,
                float(count[i] / max(1, examples)),
                int(self.sizes[i] * self.stride),
                int(count[i] * self.stride),
                float(count[i] / self.sizes[i]),
                examples >= self.capacity or not phase.counts[i],
            )
            for i, source in enumerate(self.sources)
        ]

    def too_long(self, examples: int) -> str:
        most = int(self.capacity) * self.stride
        return (
            f"a budget of {examples * self.stride:,} tokens exhausts every source of data.mixture: "
            f"at data.max_epochs={self.max_epochs:g} they give {most:,}; "
            "use fewer steps, more text or a higher data.max_epochs"
        )


def _read(phase: Phase, length: int) -> np.ndarray:
    """Return how many of a phase's first `length` examples are of each source."""
    blocks, rest = divmod(length, BLOCK)
    return blocks * phase.counts + np.bincount(phase.order[:rest], minlength=len(phase.counts))


def _examples_until(phase: Phase, source: int, count: int) -> int:
    """Return the length of a phase that ends with the `count`-th example of a source."""
    blocks, rank = divmod(count - 1, int(phase.counts[source]))
    return blocks * BLOCK + int(np.flatnonzero(phase.order == source)[rank]) + 1


def block_counts(weights: np.ndarray) -> np.ndarray:
    """Return how many examples of a block each source gets: by largest remainder, one at least."""
    shares = weights / weights.sum() * BLOCK
    counts = np.where(weights > 0, np.maximum(1, np.floor(shares)), 0).astype(np.int64)
    while (missing := BLOCK - counts.sum()) > 0:
        order = np.argsort(counts - shares, kind="stable")
        counts[order[weights[order] > 0][:missing]] += 1
    while counts.sum() > BLOCK:  # many tiny sources got their one
        counts[np.argmax(counts)] -= 1
    return counts


def pattern(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return source and rank of each example of a block, every source spread evenly over it."""
    source = np.repeat(np.arange(len(counts)), counts)
    rank = np.concatenate([np.arange(count) for count in counts])
    due = (rank + 0.5) / counts[source]
    order = np.argsort(due, kind="stable")
    return source[order], rank[order]


def table(usage: list[Usage]) -> str:
    """Return what was read of each source, as lines."""
    rows = [f"{'source':<16} {'share':>7} {'unique tokens':>14} {'tokens read':>14} {'epochs':>7}"]
    for u in usage:
        end = "  exhausted" if u.exhausted else ""
        rows.append(
            f"{u.name:<16} {u.share:>7.1%} {u.unique_tokens:>14,} {u.tokens:>14,} "
            f"{u.epochs:>7.2f}{end}"
        )
    return "\n".join(rows)


def as_record(usage: list[Usage]) -> Mapping[str, dict[str, float]]:
    """Return usage by source, for a run record."""
    return {u.name: {k: v for k, v in u._asdict().items() if k != "name"} for u in usage}
