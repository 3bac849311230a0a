"""Objectives of an encoder and a decoder: span corruption, prefix LM, and UL2's mixture.

The encoder reads a corrupted text, the decoder writes what is missing. A window may hold several
documents: each has its own inputs and targets, and sees no other. B batch, R tokens that a window
reads, S spans.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from data.shuffle import random_bits
from data.tokenizer import EOT, PAD
from data.windows import (
    Batch,
    Objective,
    Side,
    Vocabulary,
    Windows,
    closed_segments,
    pair,
    positions_within,
)

# Mode, mean span and share of noise of Tay et al. 2022, table 2; S is one span at the end.
UL2 = "R:3:0.15,R:8:0.15,S::0.25,X:3:0.5,X:8:0.5,X:64:0.15,X:64:0.5"
MODES = ("R", "S", "X")  # UL2's mode tokens: the last three sentinels, in this order


class Corruption(NamedTuple):
    """How much of a window of `raw` tokens becomes noise, in how many spans."""

    raw: int
    noise: int
    spans: int

    @property
    def inputs(self) -> int:
        """Length of the inputs: what is left, a sentinel for each span, end-of-text."""
        return self.raw - self.noise + self.spans + 1

    @property
    def targets(self) -> int:
        """Length of the targets: each span after its sentinel, end-of-text."""
        return self.noise + self.spans + 1


def corruption(raw: int, density: float, mean_length: float) -> Corruption:
    """Return the counts for a window, rounded as by Raffel et al. 2020 (sec. 3.1.4 and code)."""
    noise = min(max(round(raw * density), 1), raw - 1)
    wanted = round(noise / mean_length) if mean_length else 1
    return Corruption(raw, noise, min(max(wanted, 1), noise, raw - noise))


def fit(inputs_length: int, density: float, mean_length: float) -> Corruption:
    """Return the corruption of the longest window whose inputs fit: 568 tokens for 512."""
    if inputs_length < 4:
        raise UserError(f"seq_len={inputs_length} is too short to corrupt; use 4 or more")
    raw = inputs_length - 1
    while corruption(raw + 1, density, mean_length).inputs <= inputs_length:
        raw += 1
    return corruption(raw, density, mean_length)


def span(
    seq_len: int, vocabulary: Vocabulary, density: float = 0.15, mean_length: float = 3.0
) -> Objective:
    """T5's span corruption: random spans become sentinels, the targets say what they were."""
    _check_span("span", density, mean_length)
    c = fit(seq_len, density, mean_length)
    _check_sentinels("span", seq_len, c.spans, len(vocabulary.sentinels), vocabulary.size)

    def transform(windows: Windows) -> Batch:
        bits = random_bits(windows.seed, windows.examples, c.raw)
        sides = corrupt(windows, bits, c, vocabulary.sentinels.start)
        return pair(*sides, (seq_len, c.targets))

    return Objective("span", transform, c.raw, c.raw, c.targets, seq_len, c.targets)


def corrupt(
    windows: Windows, bits: np.ndarray, c: Corruption, first_sentinel: int
) -> tuple[Side, Side, np.ndarray]:
    """Return what is read, what is written, and the weights of that; `bits` [B, R] are random.

    Text and noise are each cut into `spans` pieces of random lengths, all ways equally likely, and
    take turns, text first (Raffel et al. 2020). In the inputs each noise piece is one sentinel, in
    the targets each text piece. Sentinels are counted anew in each document. Where a span goes on
    into the next document, that part of it is neither read nor predicted: sizes stay as they are.
    """
    tokens = windows.tokens.astype(np.int32)
    texts = _cuts(bits[:, : c.raw - c.noise], c.spans)
    noises = _cuts(bits[:, c.raw - c.noise :], c.spans)
    text_starts = texts[:, :-1] + noises[:, :-1]
    noise_starts = texts[:, 1:] + noises[:, :-1]
    turns = np.zeros(tokens.shape, np.int8)
    np.put_along_axis(turns, text_starts, np.int8(-1), 1)
    np.put_along_axis(turns, noise_starts, np.int8(1), 1)
    turns[:, 0] = 0
    noise = np.cumsum(turns, axis=1, dtype=np.int8) > 0
    documents = closed_segments(tokens)
    of_spans = np.take_along_axis(documents, noise_starts, 1)
    begun = np.zeros_like(documents)
    np.put_along_axis(begun, noise_starts, of_spans, 1)
    # Of noise, 0 where its span began in another document.
    own = np.where(documents == np.maximum.accumulate(begun, axis=1), documents, 0)
    sentinels = first_sentinel + positions_within(of_spans)
    ones = np.ones(of_spans.shape, np.float32)
    read = Side(
        _collapsed(tokens, noise, noise_starts, sentinels, EOT),
        _collapsed(documents, noise, noise_starts, of_spans, of_spans[:, -1:]),
    )
    written = Side(
        _collapsed(tokens, ~noise, text_starts, sentinels, EOT),
        _collapsed(own, ~noise, text_starts, of_spans, own[:, -1:]),
    )
    return read, written, _collapsed(windows.weighing(), ~noise, text_starts, ones, 1)


def _cuts(bits: np.ndarray, pieces: int) -> np.ndarray:
    """Cut [0, n) into pieces of at least 1, all ways equally likely: int64 [B, pieces + 1]."""
    rows, n = bits.shape
    cuts = np.zeros((rows, pieces + 1), np.int64)
    cuts[:, -1] = n
    if pieces > 1:
        chosen = np.argpartition(bits[:, : n - 1], pieces - 2, axis=1)[:, : pieces - 1]
        cuts[:, 1:-1] = np.sort(chosen, axis=1) + 1
    return cuts


def _collapsed(
    rows: np.ndarray, inside: np.ndarray, starts: np.ndarray, marks: np.ndarray, end: Any
) -> np.ndarray:
    """Return rows with each span of `inside` replaced by its mark [B, S], and `end` behind."""
    rows, kept = rows.copy(), ~inside
    np.put_along_axis(rows, starts, marks, 1)
    np.put_along_axis(kept, starts, True, 1)
    result = rows[kept].reshape(len(rows), -1)
    return np.hstack([result, np.broadcast_to(end, (len(rows), 1)).astype(result.dtype)])


def prefix(seq_len: int, shortest: float = 0.25, longest: float = 0.75) -> Objective:
    """Prefix LM on encoder and decoder: the one reads the beginning, the other goes on.

    A prefix is a random share of the window between `shortest` and `longest`, and of each document
    in it; the longest fills the encoder. With both equal nothing is padded.
    """
    check_shares(shortest, longest)
    raw = int(seq_len / longest)
    low, high = prefix_range(raw, shortest, longest)
    size = (seq_len, raw - low)
    targets = raw - (low + high) / 2

    def transform(windows: Windows) -> Batch:
        return pair(*continued(windows, prefix_lengths(windows, low, high), raw - low), size)

    return Objective("prefix", transform, raw, raw, size[1], seq_len, targets)


def check_shares(shortest: float, longest: float) -> None:
    if not 0 < shortest <= longest < 1:
        raise UserError(
            f"prefix.shortest={shortest:g} and prefix.longest={longest:g} must be shares of a "
            "window, above 0 and below 1, the longest no smaller"
        )


def prefix_range(raw: int, shortest: float, longest: float) -> tuple[int, int]:
    """Return the fewest and most tokens of a prefix."""
    low = min(max(round(raw * shortest), 1), raw - 1)
    return low, min(max(int(raw * longest + 1e-9), low), raw - 1)


def prefix_lengths(windows: Windows, low: int, high: int) -> np.ndarray:
    """Return int64 [B]: lengths, evenly from `low` to `high`."""
    bits = random_bits(windows.seed, windows.examples, 1)[:, 0]
    return low + (bits % np.uint64(high - low + 1)).astype(np.int64)


def continued(windows: Windows, cut: np.ndarray, length: int) -> tuple[Side, Side, np.ndarray]:
    """Return prefixes of `cut` [B] tokens in all, the `length` or less that follow, their weights.

    Each document gives the same share of itself to the prefixes, to within a token.
    """
    tokens = windows.tokens
    raw = tokens.shape[1]
    documents, place, cut = closed_segments(tokens), np.arange(raw), cut[:, None]
    starts = place - positions_within(documents)
    closing = np.where((tokens == EOT) | (place == raw - 1), place + 1, raw)
    ends = np.minimum.accumulate(closing[:, ::-1], axis=1)[:, ::-1]
    given = ends * cut // raw - starts * cut // raw
    order = np.argsort(place - starts >= given, axis=1, kind="stable")
    first = order[:, : cut.max()]
    then = np.take_along_axis(order, np.minimum(cut + np.arange(length), raw - 1), 1)

    def side(which: np.ndarray, count: np.ndarray) -> Side:
        inside = np.arange(which.shape[1]) < count
        chosen = (np.take_along_axis(x, which, 1) for x in (tokens, documents))
        return Side(*(np.where(inside, x, PAD) for x in chosen))

    weights = np.take_along_axis(windows.weighing(), then, 1)
    return side(first, cut), side(then, raw - cut), weights


class Denoiser(NamedTuple):
    """One part of the mixture; a mean of 0 is one span at the end: a prefix LM."""

    mode: str
    mean: float
    density: float


def parse(text: str) -> list[Denoiser]:
    """Read denoisers as UL2 has them; UserError where one cannot be."""
    found = []
    for part in text.replace(" ", "").split(","):
        mode, _, numbers = part.partition(":")
        mean, _, density = numbers.partition(":")
        try:
            found.append(Denoiser(mode, float(mean or 0), float(density)))
        except ValueError:
            raise UserError(
                f"ul2.denoisers: {part!r} is not MODE:MEAN:SHARE, as in R:3:0.15 or S::0.25"
            ) from None
        if mode not in MODES:
            raise UserError(f"ul2.denoisers: mode {mode!r} is not one of {', '.join(MODES)}")
        _check_span("ul2.denoisers", found[-1].density, found[-1].mean or 1.0)
    return found


def ul2(seq_len: int, vocabulary: Vocabulary, denoisers: str = "") -> Objective:
    """UL2's mixture of denoisers (Tay et al. 2022), each example by one, all equally likely.

    Each document's inputs begin with the mode's token. All denoisers read windows of one length,
    the longest for which every one's inputs fit with one such token; where a window of several
    documents needs more room than there is, the end of its inputs is cut off.
    """
    mixture = parse(denoisers or UL2)
    raw = min(_longest(seq_len - 1, d.mean, d.density) for d in mixture)
    kinds = [corruption(raw, d.density, d.mean) for d in mixture]
    sentinels = vocabulary.sentinels
    most = max(c.spans for c in kinds)
    _check_sentinels("ul2", seq_len, most, len(sentinels) - len(MODES), vocabulary.size)
    written = [c.targets if d.mean else c.noise for c, d in zip(kinds, mixture, strict=True)]
    length = max(written)

    def denoise(windows: Windows, bits: np.ndarray, kind: int) -> Batch:
        c = kinds[kind]
        if mixture[kind].mean:
            read, written, weights = corrupt(windows, bits, c, sentinels.start)
        else:
            cut = np.full(len(windows.tokens), raw - c.noise)
            read, written, weights = continued(windows, cut, c.noise)
        token = sentinels.stop - len(MODES) + MODES.index(mixture[kind].mode)
        return pair(opened(read, token, seq_len), written, weights, (seq_len, length))

    def transform(windows: Windows) -> Batch:
        bits = random_bits(windows.seed, windows.examples, raw + 1)
        which = (bits[:, -1] % np.uint64(len(mixture))).astype(np.int64)
        order = np.argsort(which, kind="stable")
        parts = []
        for kind in range(len(mixture)):
            rows = np.flatnonzero(which == kind)
            if len(rows):
                parts.append(denoise(windows.rows(rows), bits[rows, :-1], kind))
        return Batch(*(_together(some, np.argsort(order)) for some in zip(*parts, strict=True)))

    targets = float(np.mean(written))
    return Objective("ul2", transform, raw, raw, length, seq_len, targets)


def opened(read: Side, token: int, length: int) -> Side:
    """Return what is read with a token before each document, and no more than `length` of it."""
    tokens, segments = read
    starts = (positions_within(segments) == 0) & (segments > 0)
    shift = np.cumsum(starts, axis=1)
    at = np.arange(tokens.shape[1]) + shift
    width = max(length, tokens.shape[1] + int(shift.max()))
    result = Side(*(np.zeros((len(tokens), width), np.int32) for _ in read))
    for row, x in zip(result, read, strict=True):
        np.put_along_axis(row, at, x.astype(np.int32), 1)
    rows, places = np.nonzero(starts)
    result.tokens[rows, at[starts] - 1] = token
    result.segments[rows, at[starts] - 1] = segments[rows, places]
    return Side(*(row[:, :length] for row in result))


def _together(parts: Sequence[np.ndarray | None], order: np.ndarray) -> Any:
    there = [part for part in parts if part is not None]
    return np.concatenate(there)[order] if there else None


def _longest(inputs_length: int, mean: float, density: float) -> int:
    """Return the longest window whose inputs fit: with a mean of 0, whose prefix does."""
    if mean:
        return fit(inputs_length, density, mean).raw
    raw = inputs_length
    while raw + 1 - corruption(raw + 1, density, mean).noise <= inputs_length:
        raw += 1
    return raw


def _check_span(name: str, density: float, mean_length: float) -> None:
    if not 0 < density < 1 or mean_length < 1:
        raise UserError(
            f"{name}: a share of noise of {density:g} in spans of {mean_length:g} cannot "
            "be; the share lies between 0 and 1, spans are 1 or longer"
        )


def _check_sentinels(name: str, seq_len: int, needed: int, there: int, vocab_size: int) -> None:
    if needed > there:
        raise UserError(
            f"objective={name} at seq_len={seq_len} needs {needed} sentinels, and a vocabulary of "
            f"{vocab_size} has {there} for it: use a smaller seq_len, longer spans, or "
            "data.vocab_size=8192 or more"
        )
