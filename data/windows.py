"""What an objective takes and gives: windows of the token stream, and batches of static shape.

B batch, R tokens that a window reads, L length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.tokenizer import EOT, FIRST_SENTINEL, PAD, Tokenizer, sentinel_count


class Batch(NamedTuple):
    """Arrays of static shape [B, L]; integers are int32, weights float32.

    A document is a segment, numbered from 1 in each row, 0 where there is only padding;
    positions count from its end-of-text token. The loss of targets[b, i] counts weights[b, i]
    times. The rest is None where the objective does without: the encoder's side [B, encoder's
    length], whose segments the decoder's see by the same number, and the positions (bool) that
    all of their segment see, also from before.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    enc_inputs: np.ndarray | None = None
    enc_positions: np.ndarray | None = None
    enc_segments: np.ndarray | None = None
    prefix: np.ndarray | None = None

    def each(self, function: Callable[[np.ndarray], np.ndarray]) -> "Batch":
        """Return the batch with `function` applied to every array that it has."""
        arrays: list[Any] = [None if x is None else function(x) for x in self]
        return Batch(*arrays)


class Windows(NamedTuple):
    """Token windows [B, R] with their weights, and what their randomness hangs on."""

    tokens: np.ndarray
    weights: np.ndarray | None
    examples: np.ndarray  # int64 [B]: the number of the example in the run
    seed: int

    def rows(self, which: np.ndarray) -> "Windows":
        """Return some of the windows."""
        weights = None if self.weights is None else self.weights[which]
        return Windows(self.tokens[which], weights, self.examples[which], self.seed)

    def weighing(self) -> np.ndarray:
        """Return the weights, float32 [B, R]: 1 where the store has none."""
        if self.weights is None:
            return np.ones(self.tokens.shape, np.float32)
        return self.weights.astype(np.float32)


class Vocabulary(NamedTuple):
    """What objectives have to know of a tokenizer; ids from `sentinels.stop` on are text."""

    size: int
    sentinels: range
    begins: np.ndarray  # bool [V]: the id's text begins with a letter or digit
    ends: np.ndarray  # bool [V]: it ends with one

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Vocabulary":
        """Return a tokenizer's; bytes of characters that have no piece count as letters."""
        texts = [piece.decode("utf-8", "replace") for piece in tokenizer.pieces]
        inside = [[c.isalnum() or c == "\ufffd" for c in text] or [False] for text in texts]
        begins, ends = (np.array([row[i] for row in inside]) for i in (0, -1))
        return cls(tokenizer.vocab_size, tokenizer.sentinels, begins, ends)

    @classmethod
    def sized(cls, size: int) -> "Vocabulary":
        """Return one of a size, for an objective that is only asked for its sizes."""
        sentinels = range(FIRST_SENTINEL, FIRST_SENTINEL + sentinel_count(size))
        return cls(size, sentinels, np.zeros(size, bool), np.zeros(size, bool))


class Objective(NamedTuple):
    """A data transform, and the static sizes of what it reads and makes."""

    name: str
    transform: Callable[[Windows], Batch]
    raw_length: int  # tokens that a window reads
    stride: int  # from one window to the next: the tokens that D counts
    length: int  # of inputs and targets
    encoder_length: int = 0  # of the encoder's inputs; 0: there is no encoder
    targets: float = 0.0  # positions with a weight in a window, as expected
    scored: int | None = None  # the most there can be; None: all


def segments_and_positions(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return segments and positions, int32 [B, L]: both begin anew at each end-of-text."""
    starts = tokens == EOT
    segments = np.cumsum(starts, axis=1, dtype=np.int32)
    segments += 1 - segments[:, :1]
    place = np.arange(tokens.shape[1], dtype=np.int32)
    positions = place - np.maximum.accumulate(np.where(starts, place, 0), axis=1)
    return segments, positions.astype(np.int32)


def padded(rows: np.ndarray, length: int, fill: float = PAD) -> np.ndarray:
    """Return rows [B, n] filled up on the right to [B, length]."""
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])), constant_values=fill)


def pair(
    inputs: np.ndarray,
    targets: np.ndarray,
    weights: np.ndarray,
    lengths: tuple[np.ndarray | int, np.ndarray | int],
    size: tuple[int, int],
) -> Batch:
    """Return the batch of an encoder that reads `inputs` and a decoder that writes `targets`.

    Each row has (inputs, targets) of `lengths`, counted from the left; both sides are filled up to
    `size`. The decoder reads its targets shifted right by one, from a pad on (Raffel et al. 2020).
    A row is one segment: documents in it see each other.
    """
    enc_size, size_ = size
    enc_inside, inside = (
        np.arange(n) < np.broadcast_to(np.reshape(count, (-1, 1)), (len(inputs), 1))
        for n, count in zip(size, lengths, strict=True)
    )
    enc_inputs = np.where(enc_inside, padded(inputs, enc_size), PAD).astype(np.int32)
    targets = np.where(inside, padded(targets, size_), PAD).astype(np.int32)
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
    return Batch(
        inputs=np.where(inside, shifted, PAD),
        targets=targets,
        weights=np.where(inside, padded(weights, size_, 0.0), 0.0).astype(np.float32),
        positions=_places(len(inputs), size_),
        segments=inside.astype(np.int32),
        enc_inputs=enc_inputs,
        enc_positions=_places(len(inputs), enc_size),
        enc_segments=enc_inside.astype(np.int32),
    )


def _places(rows: int, length: int) -> np.ndarray:
    return np.tile(np.arange(length, dtype=np.int32), (rows, 1))
