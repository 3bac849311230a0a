"""Many questions to a loaded decoder: what it writes after prompts, and how likely answers are.

A prompt is a text or its token ids, and follows an end-of-text, as documents do in training.
Prompts of unequal length are put together by their length rounded up, in batches of one size, so
that few programs are compiled; answers come back in the order of the prompts.
"""

import collections
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.errors import UserError
from data.tokenizer import EOT, PAD
from lm.decode import Sampling, generate
from lm.load import Run
from lm.score import Request, score

ROWS = 64  # prompts in a batch
BUCKET = 32  # prompts are filled up to a multiple of so many tokens
GREEDY = Sampling()

Prompt = str | Sequence[int]


def ids_of(run: Run, prompt: Prompt) -> list[int]:
    """A prompt's token ids, without the end-of-text before it."""
    return run.tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)


def write(
    run: Run, prompts: Sequence[Prompt], new: int, sampling: Sampling = GREEDY, seed: int = 0
) -> list[list[int]]:
    """Up to `new` ids after each prompt; one that wrote end-of-text ends with it.

    What is drawn hangs on the seed and on which prompts are asked together. For several samples
    of a prompt, give it several times.

    Raises:
      UserError: the model is no decoder, or a prompt and `new` tokens are longer than it was
        trained for.
    """
    if run.arch != "decoder":
        raise UserError(f"only a decoder goes on after a prompt; this run is an {run.arch}")
    rows = [[EOT, *ids_of(run, prompt)] for prompt in prompts]
    longest = max(map(len, rows), default=0)
    if longest + new > run.longest:
        raise UserError(
            f"a prompt of {longest} tokens and {new} new ones are more than the {run.longest} "
            "that the model was trained with (seq_len): shorten the prompt, or write less"
        )
    groups: dict[int, list[int]] = collections.defaultdict(list)
    for i, row in enumerate(rows):
        groups[-(-len(row) // BUCKET) * BUCKET].append(i)
    written: list[list[int]] = [[] for _ in rows]
    number = 0
    for length, members in sorted(groups.items()):
        for first in range(0, len(members), ROWS):
            batch = members[first : first + ROWS]
            drawn = int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)
            out = _write_batch(run, [rows[i] for i in batch], length, new, sampling, drawn)
            for i, ids in zip(batch, out, strict=False):
                written[i] = ids[: ids.index(EOT) + 1] if EOT in ids else ids
            number += 1
    return written


def _write_batch(
    run: Run, rows: list[list[int]], length: int, new: int, sampling: Sampling, seed: int
) -> list[list[int]]:
    """What is written after up to ROWS prompts; rows beyond them are an end-of-text alone."""
    tokens = np.full((ROWS, length), PAD, np.int32)
    tokens[:, 0] = EOT
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    lengths = np.array([len(row) for row in rows] + [1] * (ROWS - len(rows)), np.int32)
    vocab, model = run.tokenizer.vocab_size, run.model
    key = (model.config, new, sampling, vocab)
    if key not in _programs:
        _programs[key] = jax.jit(
            lambda params, tokens, lengths, seed: generate(
                model.with_values(params), tokens, lengths, seed, new, sampling, vocab
            )
        )
    return np.asarray(_programs[key](run.params, tokens, lengths, jnp.int32(seed))).tolist()


_programs: dict[Any, Any] = {}  # a compiled function for each shape of model and way to write


def texts(
    run: Run, prompts: Sequence[Prompt], new: int, sampling: Sampling = GREEDY, seed: int = 0
) -> list[str]:
    """As `write`, as text; an end-of-text gives none."""
    return [run.tokenizer.decode(ids) for ids in write(run, prompts, new, sampling, seed)]


def likelihoods(
    run: Run, prompts: Sequence[Prompt], answers: Sequence[Sequence[Prompt]]
) -> list[np.ndarray]:
    """Log-likelihoods in nats of each prompt's given answers, float64 [answers], <= 0."""
    befores = [ids_of(run, prompt) for prompt in prompts]
    requests = [
        Request(before, ids_of(run, answer))
        for before, given in zip(befores, answers, strict=True)
        for answer in given
    ]
    nats = np.array([s.nats for s in score(run, requests)])
    ends = np.cumsum([len(given) for given in answers])
    return np.split(nats, ends[:-1])
