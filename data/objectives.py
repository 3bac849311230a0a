"""What each objective makes of windows of the token stream: pure functions to a Batch.

All that is random hangs on (seed, example number), so any step, host and order gives the same. B
batch, L length.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from data import spans
from data.errors import UserError, suggest
from data.shuffle import random_bits
from data.tokenizer import MASK
from data.windows import Batch, Objective, Vocabulary, Windows, segments_and_positions

__all__ = ["Batch", "Objective", "Vocabulary", "Windows", "OBJECTIVES", "make"]

Settings = Mapping[str, Mapping[str, Any]]


def causal(seq_len: int) -> Objective:
    """Next-token prediction: a window's first L tokens predict its last L."""
    return Objective("causal", next_tokens, seq_len + 1, seq_len, seq_len, targets=seq_len)


def next_tokens(windows: Windows) -> Batch:
    """Return windows [B, L + 1] as the causal batch [B, L]."""
    tokens = windows.tokens.astype(np.int32)
    inputs = np.ascontiguousarray(tokens[:, :-1])
    targets = np.ascontiguousarray(tokens[:, 1:])
    segments, positions = segments_and_positions(inputs)
    if windows.weights is None:
        weights = np.ones(targets.shape, np.float32)
    else:
        weights = windows.weights[:, 1:].astype(np.float32)
    return Batch(inputs, targets, weights, positions, segments)


def masked(
    seq_len: int, vocabulary: Vocabulary, rate: float = 0.15, whole_words: bool = False
) -> Objective:
    """Masked language modelling (Devlin et al. 2019): L tokens, of which a share is predicted.

    Of the chosen 80% become the mask, 10% another id of text at random, 10% stay. `whole_words`
    chooses words; a last one that does not fit into the share is left out.
    """
    _check_share("masked.rate", rate)
    transform = partial(mask, vocabulary=vocabulary, rate=rate, whole_words=whole_words)
    most = math.ceil(rate * seq_len)
    targets = rate * seq_len
    return Objective("masked", transform, seq_len, seq_len, seq_len, targets=targets, scored=most)


def mask(windows: Windows, vocabulary: Vocabulary, rate: float, whole_words: bool) -> Batch:
    """Return windows [B, L] as the masked batch; control symbols are never chosen.

    Of n ids of text in a row, rate x n are chosen, rounded up or down at random so that the mean
    is exact; so never more than the next integer above rate x L.
    """
    tokens = windows.tokens.astype(np.int32)
    length = tokens.shape[1]
    bits = random_bits(windows.seed, windows.examples, length + 1)
    dice = (bits[:, -1:] >> np.uint64(11)) * 2.0**-53
    bits = bits[:, :-1]
    first = vocabulary.sentinels.stop
    text = tokens >= first
    rank = np.take_along_axis(bits, word_starts(tokens, vocabulary), 1) if whole_words else bits
    rank = np.where(text, rank, np.uint64(2**64 - 1))
    count = np.floor(rate * text.sum(1, keepdims=True) + dice).astype(np.int64)
    beyond = np.take_along_axis(np.sort(rank, 1), np.minimum(count, length - 1), 1)
    chosen = (rank < beyond) & text
    fate = (bits & np.uint64(0xFFFF)).astype(np.int32)  # the low bits do not decide the rank
    draw = ((bits >> np.uint64(16)) & np.uint64(0xFFFFFF)).astype(np.int64)
    other = first + (draw * (vocabulary.size - first) >> 24).astype(np.int32)
    replaced = np.where(fate < 0.8 * 2**16, MASK, np.where(fate < 0.9 * 2**16, other, tokens))
    inputs = np.where(chosen, replaced, tokens)
    segments, positions = segments_and_positions(tokens)
    return Batch(inputs, tokens, chosen * windows.weighing(), positions, segments)


def word_starts(tokens: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return int64 [B, L]: where each token's word begins.

    A word is a run of letters and digits; any other token begins one of its own.
    """
    goes_on = vocabulary.begins[tokens[:, 1:]] & vocabulary.ends[tokens[:, :-1]]
    starts = np.pad(~goes_on, ((0, 0), (1, 0)), constant_values=True)
    return np.maximum.accumulate(np.where(starts, np.arange(tokens.shape[1]), 0), axis=1)


def prefix(seq_len: int, shortest: float = 0.25, longest: float = 0.75) -> Objective:
    """Prefix language modelling on a decoder alone (Raffel et al. 2020; Liu et al. 2018).

    A prefix of random length, a share of the window between `shortest` and `longest`, sees itself
    in both directions; the rest is predicted as by the causal objective.
    """
    spans.check_shares(shortest, longest)
    low, high = spans.prefix_range(seq_len, shortest, longest)
    targets = seq_len + 1 - (low + high) / 2
    transform = partial(visible_prefix, low=low, high=high)
    return Objective("prefix", transform, seq_len + 1, seq_len, seq_len, targets=targets)


def visible_prefix(windows: Windows, low: int, high: int) -> Batch:
    """Return windows [B, L + 1] as the causal batch with a prefix of `low` to `high` tokens."""
    batch = next_tokens(windows)
    cut = spans.prefix_lengths(windows, low, high)[:, None]
    place = np.arange(batch.inputs.shape[1])
    weights = np.where(place < cut - 1, np.float32(0), batch.weights)
    return batch._replace(weights=weights, prefix=place < cut)


def _check_share(name: str, share: float) -> None:
    if not 0 < share < 1:
        raise UserError(f"{name}={share:g} must be a share between 0 and 1")


# name: (on a model with an encoder and a decoder?) -> the constructor; missing: not for that.
OBJECTIVES: dict[str, dict[bool, Callable[..., Objective]]] = {
    "causal": {False: causal},
    "masked": {False: masked},
    "prefix": {False: prefix, True: spans.prefix},
    "span": {True: spans.span},
    "ul2": {True: spans.ul2},
}
USES_VOCABULARY = ("masked", "span", "ul2")


def make(
    name: str,
    seq_len: int,
    vocabulary: Vocabulary | None = None,
    settings: Settings | None = None,
    encoder_decoder: bool = False,
) -> Objective:
    """Return an objective by name.

    Args:
      name: one of OBJECTIVES.
      seq_len: length of its inputs (the encoder's, where there is one).
      vocabulary: for all but causal and prefix.
      settings: keyword arguments by objective: {"masked": {"rate": 0.3}}.
      encoder_decoder: of the model that it is for.

    Raises UserError for a name that there is not, or one that the model cannot learn.
    """
    if name not in OBJECTIVES:
        known = ", ".join(OBJECTIVES)
        raise UserError(f'objective "{name}" is not one of: {known}{suggest(name, OBJECTIVES)}')
    if encoder_decoder not in OBJECTIVES[name]:
        needs = "without a separate encoder" if encoder_decoder else "with encoder and decoder"
        raise UserError(f'objective "{name}" needs a model {needs}; change objective or the model')
    keywords: dict[str, Any] = dict((settings or {}).get(name, {}))
    if name in USES_VOCABULARY:
        keywords["vocabulary"] = vocabulary
    return OBJECTIVES[name][encoder_decoder](seq_len, **keywords)
