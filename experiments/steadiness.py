"""How steady a model's judgement is: what a prefix does to it, and whether it knows what it knows.

The judgement is which of two sentences is likelier, the grammatical one or the other (BLiMP:
Warstadt et al. 2020). Before both stands nothing, or an irrelevant sentence, or the ungrammatical
sentence itself, twice: nothing of which changes the answer. Calibration is that of the next token
on held-out text: how often a model's first choice is right, against the probability it gives.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.errors import UserError
from data.tokenizer import EOT
from experiments import asking, estimates
from experiments.estimates import Estimate
from lm.load import Run

PREFIXES = ("nothing", "irrelevant", "adversarial")
BINS = 10
ROWS = 16  # windows in a batch


class Judgement(NamedTuple):
    """Of pairs of sentences under a prefix."""

    accuracy: Estimate
    flipped: Estimate  # share of the pairs judged otherwise than without the prefix


def judgements(
    run: Run, items: Sequence[dict[str, Any]], irrelevant: Sequence[str]
) -> dict[str, Judgement]:
    """What each prefix does; `irrelevant` sentences are taken in turn."""
    before = {
        "nothing": [""] * len(items),
        "irrelevant": [f"{irrelevant[i % len(irrelevant)]} " for i in range(len(items))],
        "adversarial": [f"{item['bad']} {item['bad']} " for item in items],
    }
    right = {}
    for prefix, prompts in before.items():
        answers = [[item["good"], item["bad"]] for item in items]
        nats = np.array(asking.likelihoods(run, prompts, answers))
        right[prefix] = nats[:, 0] > nats[:, 1]
    return {
        prefix: Judgement(estimates.share(r), estimates.share(r != right["nothing"]))
        for prefix, r in right.items()
    }


class Calibration(NamedTuple):
    """Of the next token; bins hold as many tokens each, the least sure first."""

    error: Estimate  # expected calibration error: mean gap between confidence and accuracy
    confidence: list[float]  # of each bin
    accuracy: list[float]


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between confidence and accuracy over equally full bins (Naeini et al. 2015)."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, bins)
    gaps = [abs(confidence[p].mean() - right[p].mean()) * len(p) for p in parts if len(p)]
    return float(sum(gaps) / len(order))


def calibration(run: Run, tokens: np.ndarray, windows: int) -> Calibration:
    """On so many windows of a stream of tokens; the interval is over windows drawn again."""
    length = run.longest
    count = min(windows, (len(tokens) - 1) // length) // ROWS * ROWS
    if not count:
        raise UserError(
            f"{len(tokens):,} held-out tokens are too few for {ROWS} windows of {length}"
        )
    starts = np.linspace(0, len(tokens) - length - 1, count).astype(int)
    rows = np.array([[EOT, *tokens[i : i + length]] for i in starts], np.int32)
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (ROWS, length))
    vocab = run.tokenizer.vocab_size

    @jax.jit
    def first_choice(params: Any, part: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = run.model(params, part[:, :-1], places, jnp.ones_like(places))[..., :vocab]
        probs = jax.nn.softmax(logits.astype(jnp.float32))
        return probs.max(-1), probs.argmax(-1) == part[:, 1:]

    parts = [first_choice(run.params, rows[i : i + ROWS]) for i in range(0, count, ROWS)]
    confidence = np.concatenate([np.asarray(c, np.float64) for c, _ in parts])
    right = np.concatenate([np.asarray(r, np.float64) for _, r in parts])
    order = np.array_split(np.argsort(confidence.ravel(), kind="stable"), BINS)
    return Calibration(
        estimates.bootstrap(
            lambda some: calibration_error(confidence[some].ravel(), right[some].ravel()), count
        ),
        [float(confidence.ravel()[p].mean()) for p in order],
        [float(right.ravel()[p].mean()) for p in order],
    )
