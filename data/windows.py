"""What an objective takes and gives: windows of the token stream, and batches of static shape.

B batch, R tokens that a window reads, L length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.tokenizer import EOT, FIRST_SENTINEL, PAD, Tokenizer, sentinel_count


class Batch(NamedTuple):
    """Arrays of static shape [B, L]; integers are int32, weights float32.

    A document is a segment, numbered from 1 in each row; 0 is padding, or what no document may
    see. Positions count within segments. The loss of targets[b, i] counts weights[b, i] times. The
    rest is None where the objective does without: the encoder's side [B, encoder's length], whose
    segments the decoder's see by the same number, and the positions (bool) that all of their
    segment see, also from before.
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
    segments = np.cumsum(tokens == EOT, axis=1, dtype=np.int32)
    segments += 1 - segments[:, :1]
    return segments, positions_within(segments)


def closed_segments(tokens: np.ndarray) -> np.ndarray:
    """Return segments, int32 [B, R], of documents that end with their end-of-text.

    An encoder-decoder has them so (Raffel et al. 2020): the token that stops the decoder is its
    document's own.
    """
    ends = tokens == EOT
    return 1 + np.cumsum(ends, axis=1, dtype=np.int32) - ends


def positions_within(segments: np.ndarray) -> np.ndarray:
    """Return positions, int32 [B, L], that begin anew wherever the segment changes."""
    place = np.arange(segments.shape[1], dtype=np.int32)
    changes = np.pad(segments[:, 1:] != segments[:, :-1], ((0, 0), (1, 0)))
    return place - np.maximum.accumulate(np.where(changes, place, np.int32(0)), axis=1)


def padded(rows: np.ndarray, length: int, fill: float = PAD) -> np.ndarray:
    """Return rows [B, n] filled up on the right to [B, length]."""
    return np.pad(rows, ((0, 0), (0, length - rows.shape[1])), constant_values=fill)


class Side(NamedTuple):
    """What an encoder reads or a decoder writes: tokens and their segments [B, n]."""

    tokens: np.ndarray
    segments: np.ndarray


def pair(read: Side, written: Side, weights: np.ndarray, size: tuple[int, int]) -> Batch:
    """Return the batch of an encoder that reads one side and a decoder that writes the other.

    Both are filled up to `size`. The decoder reads what it has written of the same document,
    shifted right by one, from a pad on (Raffel et al. 2020). A document of which nothing is read
    is not predicted: a query that sees no key would be given the mean of all.
    """
    enc_inputs, enc_segments = (padded(x, size[0]).astype(np.int32) for x in read)
    targets, segments = (padded(x, size[1]).astype(np.int32) for x in written)
    is_read = np.zeros((len(targets), 1 + max(enc_segments.max(), segments.max())), np.int32)
    np.put_along_axis(is_read, enc_segments, 1, 1)
    segments *= np.take_along_axis(is_read, segments, 1)
    positions = positions_within(segments)
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)), constant_values=PAD)
    goes_on = (segments > 0) & (positions > 0)
    return Batch(
        inputs=np.where(goes_on, shifted, np.int32(PAD)),
        targets=targets,
        weights=np.where(segments > 0, padded(weights, size[1], 0.0), 0.0).astype(np.float32),
        positions=positions,
        segments=segments,
        enc_inputs=enc_inputs,
        enc_positions=positions_within(enc_segments),
        enc_segments=enc_segments,
    )
