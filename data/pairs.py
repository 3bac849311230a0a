"""Prompts and answers as a token store: only what an answer writes weighs.

A file of pairs has one JSON object a line with a `prompt` and an `answer`. In the stream each pair
stands as a document does, end-of-text before the prompt and after the answer, and no pair lies
across two windows: the rest of a window is padding. Weights are 1 for the answer's tokens and the
end-of-text that ends it, so a model learns to answer and to stop, not to ask.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from data.files import PathLike, hash_bytes
from data.prepare import Prepared
from data.split import SCALE, draw
from data.store import Store, token_dtype
from data.tokenizer import EOT, PAD, Tokenizer


class Pair(NamedTuple):
    """A prompt and what should follow it, to the letter: a space between them belongs to one."""

    prompt: str
    answer: str


def read(path: PathLike) -> list[Pair]:
    """Return the pairs of a .jsonl file.

    Raises UserError where it cannot be read, is empty, or a line is no pair.
    """
    found = []
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"{path}: pairs cannot be read ({reason.lower()})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON ({error})") from error
        fields = [record.get(k) if isinstance(record, dict) else None for k in Pair._fields]
        if not all(isinstance(value, str) and value for value in fields):
            raise UserError(f'{path}, line {number}: a pair has texts "prompt" and "answer"')
        found.append(Pair(*map(str, fields)))
    if not found:
        raise UserError(f"{path}: there are no pairs in it")
    return found


def prepare(
    pairs: Sequence[Pair], tokenizer: Tokenizer, seq_len: int, valid_share: float
) -> Prepared:
    """Return stores for training and validation; a pair's place hangs on its text alone.

    Raises UserError for a pair longer than a window, or too few pairs for both.
    """
    if not 0 < valid_share < 1:
        raise UserError(f"valid_share={valid_share} is not a share between 0 and 1")
    sides: tuple[list[Pair], list[Pair]] = ([], [])
    for pair in pairs:
        sides[draw(f"{pair.prompt}\0{pair.answer}").split < valid_share * SCALE].append(pair)
    if not all(sides):
        raise UserError(
            f"{len(pairs)} pairs are too few to train with and validate on a share of "
            f"{valid_share}: give more, or another share"
        )
    train, valid = (store(side, tokenizer, seq_len) for side in sides)
    return Prepared(tokenizer, train, valid, {"pairs": len(pairs)})


def store(pairs: Iterable[Pair], tokenizer: Tokenizer, seq_len: int) -> Store:
    """Return pairs as a store in memory: whole windows of `seq_len` and a closing end-of-text."""
    tokens: list[int] = []
    weights: list[int] = []
    offsets: list[int] = []

    def fill() -> None:
        rest = -len(tokens) % seq_len
        tokens.extend([PAD] * rest)
        weights.extend([0] * rest)

    for pair in pairs:
        prompt, answer = tokenizer.encode_batch(pair)
        needed = len(prompt) + len(answer) + 2
        if needed > seq_len:
            raise UserError(
                f"a pair takes {needed} tokens, more than seq_len={seq_len}: shorten or drop "
                f"the one that begins {pair.prompt[:40]!r}"
            )
        used = len(tokens) % seq_len
        # The end-of-text that ends a pair begins the next one of its window.
        if used == 0 or used + needed - 1 > seq_len:
            fill()
            tokens.append(EOT)
            weights.append(0)
        offsets.append(len(tokens) - 1)
        tokens += [*prompt, *answer, EOT]
        weights += [0] * len(prompt) + [1] * (len(answer) + 1)
    fill()
    stream = np.array([*tokens, EOT], token_dtype(tokenizer.vocab_size))
    weigh = np.array([*weights, 0], np.uint8)
    manifest = {
        "tokenizer": tokenizer.hash,
        "pairs": len(offsets),
        "tokens": hash_bytes(stream.tobytes()),
        "weights": hash_bytes(weigh.tobytes()),
    }
    return Store(Path("pairs"), manifest, stream, np.array(offsets, np.int64), weigh)
