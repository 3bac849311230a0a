"""How likely a model finds tokens between others, whatever its family.

A decoder reads what stands before them, and predicts one token after another. An encoder sees both
sides: each token is masked, the ones after it too (the product is then a likelihood of all), or
alone (the pseudo-log-likelihood of Salazar et al. 2020). An encoder-decoder reads both sides with a
sentinel between them, and writes the tokens after it.

B batch, L length, S length of the encoder.
"""

import collections
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.tokenizer import EOT, MASK, PAD
from lm.load import Run

ROWS = 16  # in a batch
BUCKET = 32  # lengths are rounded up to multiples, so that few programs are compiled


class Request(NamedTuple):
    """Tokens to score, and those around them."""

    before: list[int]
    target: list[int]
    after: list[int] = []


class Score(NamedTuple):
    """Of a request's target."""

    nats: float  # log-likelihood: at most 0
    tokens: int
    greedy: bool  # each token is the likeliest, those before it given


class Row(NamedTuple):
    """One sequence for the model: `weights` is 1 where a target is scored."""

    inputs: list[int]
    targets: list[int]
    weights: list[int]
    encoder: list[int]


def score(run: Run, requests: Sequence[Request], pseudo: bool = False) -> list[Score]:
    """Score requests; `pseudo` has an encoder see all tokens but the one it predicts."""
    groups: dict[tuple[int, int], list[tuple[int, Row]]] = collections.defaultdict(list)
    for i, request in enumerate(requests):
        for row in rows(run, request, pseudo):
            size = _rounded(len(row.inputs)), _rounded(len(row.encoder))
            groups[size].append((i, row))
    nats, right = np.zeros(len(requests)), np.ones(len(requests), bool)
    for size, some in sorted(groups.items()):
        for first in range(0, len(some), ROWS):
            part = some[first : first + ROWS]
            found = _ask(run, [row for _, row in part], size)
            for (i, _), log_p, greedy in zip(part, *found, strict=False):
                nats[i] += log_p
                right[i] &= bool(greedy)
    lengths = [len(r.target) for r in requests]
    return [Score(*row) for row in zip(nats.tolist(), lengths, right.tolist(), strict=True)]


def _rounded(length: int) -> int:
    return -(-length // BUCKET) * BUCKET


def rows(run: Run, request: Request, pseudo: bool = False) -> Iterator[Row]:
    """Yield a request as the model's family takes it."""
    before, target, after = request
    n = len(target)
    if run.arch == "encoder-decoder":
        start = run.decoder_start(gap=bool(after))
        written = [*start, *target]
        weights = [0] * (len(start) - 1) + [1] * n
        encoder = run.encoder_prompt(before, after, gap=bool(after))
        yield Row(written[:-1], written[1:], weights, encoder)
        return
    before = [EOT, *before][-max(1, run.longest - n) :]
    whole = [*before, *target]
    first = len(before)
    if run.arch == "decoder":
        yield Row(whole[:-1], whole[1:], [0] * (first - 1) + [1] * n, [])
        return
    whole = (whole + after)[: max(run.longest, len(whole))]
    for i in range(n):
        until = i + 1 if pseudo else n
        masked = [*whole[: first + i], *[MASK] * (until - i), *whole[first + until :]]
        yield Row(masked, whole, [int(k == first + i) for k in range(len(whole))], [])


def _ask(run: Run, some: list[Row], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood of each row's scored targets, and whether all are the likeliest."""

    def table(name: str, length: int) -> np.ndarray:
        out = np.full((ROWS, length), PAD, np.int32)
        for i, row in enumerate(some):
            out[i, : len(getattr(row, name))] = getattr(row, name)
        return out

    length, encoder_length = size
    inputs, targets, weights = (table(n, length) for n in ("inputs", "targets", "weights"))
    encoder = table("encoder", encoder_length)
    sizes = np.array(
        [(len(r.inputs), len(r.encoder)) for r in some] + [(0, 0)] * (ROWS - len(some))
    )
    log_p, right = _log_likelihood(run.model, run.params, inputs, targets, weights, encoder, sizes)
    return np.asarray(log_p), np.asarray(right)


def _log_likelihood(model: Any, params: Any, *arrays: np.ndarray) -> Any:
    key = model.config
    if key not in _programs:
        _programs[key] = jax.jit(lambda params, *args: _scored(model, params, *args))
    return _programs[key](params, *arrays)


_programs: dict[Any, Any] = {}  # a compiled function for each shape of model


def _scored(
    model: Any,
    params: Any,
    inputs: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    encoder: jax.Array,
    sizes: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    places = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
    segments = (places < sizes[:, :1]).astype(jnp.int32)
    args: dict[str, jax.Array] = {}
    if encoder.shape[1]:
        enc_places = jnp.broadcast_to(jnp.arange(encoder.shape[1]), encoder.shape)
        args["enc_inputs"], args["enc_positions"] = encoder, enc_places
        args["enc_segments"] = (enc_places < sizes[:, 1:]).astype(jnp.int32)
    logits = model(params, inputs, places, segments, **args).astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits)
    picked = jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0]
    right = (jnp.argmax(logits, -1) == targets) | (weights == 0)
    return jnp.sum(picked * weights, 1), jnp.all(right, 1)
