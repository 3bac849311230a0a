"""What training minimises: weighted cross-entropy, its sum and its weight kept apart.

Sums are divided only after they have been added over microbatches and devices: an average of
averages is wrong wherever token weights differ.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lm import mesh as meshes
from lm import ops
from lm.params import Model

Tree = Any


class LossSums(NamedTuple):
    """Sums over a batch, float32 scalars."""

    loss: jax.Array  # nats
    z_loss: jax.Array  # squared log-sum-exp
    weight: jax.Array  # target positions that count


def loss_sums(
    model: Model, params: Tree, batch: Any, scored: int | None = None, chunk: int = 0
) -> LossSums:
    """Sums of weight x cross-entropy and weight x log(Z)^2 over a batch of arrays [B, L].

    `scored` computes the output head for so many positions of each row only, those that weigh
    most: exact where no row has more that weigh at all, as under masking. With `chunk` the logits
    of so many positions of each row exist at a time, in the backward pass too.
    """
    module = model.with_values(params)
    targets, weights = batch.targets, batch.weights
    x_BLD = module.hidden(
        batch.inputs,
        batch.positions,
        batch.segments,
        batch.prefix,
        batch.enc_inputs,
        batch.enc_positions,
        batch.enc_segments,
    )
    if scored is not None and scored < targets.shape[1]:
        best = meshes.left_to_compiler(lambda w: jax.lax.top_k(w, scored)[1], "batch", "length")
        chosen = best(weights)
        rows = ("batch", "length", "act_embed")
        x_BLD = meshes.left_to_compiler(_take, *rows)(x_BLD, chosen[..., None])
        take = meshes.left_to_compiler(_take, *rows[:2])
        targets, weights = take(targets, chosen), take(weights, chosen)

    def sums(x_BLD: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
        logits_BLV = module.logits(x_BLD)

        def add_up(logits_BLV: jax.Array, targets: jax.Array, weights: jax.Array) -> LossSums:
            vocab = logits_BLV.shape[-1]
            nats, log_z = ops.cross_entropy(logits_BLV.reshape(-1, vocab), targets.reshape(-1))
            w = weights.reshape(-1)
            return LossSums(jnp.sum(nats * w), jnp.sum(log_z**2 * w), jnp.sum(w))

        return meshes.left_to_compiler(add_up)(logits_BLV, targets, weights)

    length = targets.shape[1]
    if not chunk or length <= chunk or length % chunk:
        return sums(x_BLD, targets, weights)

    def add(total: LossSums, part: tuple) -> tuple[LossSums, None]:
        return jax.tree.map(jnp.add, total, jax.checkpoint(sums)(*part)), None

    parts = tuple(_cut(x, chunk) for x in (x_BLD, targets, weights))
    return jax.lax.scan(add, LossSums(*[jnp.float32(0)] * 3), parts)[0]


def _take(x: jax.Array, places: jax.Array) -> jax.Array:
    """The places of each row."""
    return jnp.take_along_axis(x, places, 1)


def _cut(x: jax.Array, chunk: int) -> jax.Array:
    """[B, L, ...] -> [L / chunk, B, chunk, ...]."""

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(x.shape[0], -1, chunk, *x.shape[2:]), 1, 0)

    rest = (None,) * (x.ndim - 2)
    return meshes.left_to_compiler(cut, None, "batch", "length", *rest)(x)


def loss_and_gradients(
    model: Model,
    params: Tree,
    batch: Any,
    z_loss: float,
    microbatches: int = 1,
    scored: int | None = None,
    chunk: int = 0,
) -> tuple[LossSums, Tree]:
    """Sums over the batch, and the gradient of mean loss + z_loss x mean log(Z)^2.

    With microbatches the batch is cut along B and the parts run one after another; the gradient is
    that of the whole batch whatever the weights.
    """

    def objective(params: Tree, part: Any) -> tuple[jax.Array, LossSums]:
        sums = loss_sums(model, params, part, scored, chunk)
        return sums.loss + z_loss * sums.z_loss, sums

    value_and_grad = jax.value_and_grad(objective, has_aux=True)
    if microbatches == 1:
        (_, sums), grads = value_and_grad(params, batch)
    else:
        parts = jax.tree.map(lambda x: _interleaved(x, microbatches), batch)

        def add(total: tuple, part: Any) -> tuple:
            (_, sums), grads = value_and_grad(params, part)
            return jax.tree.map(jnp.add, total, (sums, grads)), None

        zeros = jax.tree.map(jnp.zeros_like, (LossSums(*[jnp.float32(0)] * 3), params))
        (sums, grads), _ = jax.lax.scan(add, zeros, parts)
    weight = jnp.maximum(sums.weight, 1.0)
    return sums, jax.tree.map(lambda g: g / weight, grads)


def _interleaved(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] -> [parts, B / parts, ...]: rows that follow one another go to different parts, so
    that each device has as many rows of every part, and none moves.
    """

    def cut(x: jax.Array) -> jax.Array:
        return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)

    return meshes.left_to_compiler(cut, None, "batch", "length")(x)
