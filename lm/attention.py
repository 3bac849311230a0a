"""Attention: who sees whom, where they stand, and the product itself.

B batch, L query length, S key length, H heads, G key-value heads, K head size.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from lm import kernels, ops
from lm import mesh as meshes
from lm.config import ModelConfig
from lm.flops import RELATIVE_BUCKETS

MASKED = -1e9  # finite: a row that sees nothing must not give NaN


class Mask(NamedTuple):
    """Who sees whom, as a description that a kernel can take; `dense` turns it into a bias.

    A query sees the keys of its own segment: nothing crosses documents. `causal` leaves out what
    comes after it, but for keys in `prefix`, and a `window` above 0 what is farther away, to either
    side, counted in places of the row.
    """

    segments: jax.Array  # [B, L] of the queries
    key_segments: jax.Array  # [B, S]
    causal: bool = False
    window: int = 0
    prefix: jax.Array | None = None  # [B, S] bool
    learned: jax.Array | None = None  # added to the scores, [B, H, L, S]
    bias: jax.Array | None = None  # all of the above, [B, 1 or H, L, S]; see `prepare`


def visible(mask: Mask) -> jax.Array:
    """[B, L, S] bool: whether a query sees a key."""
    sees = mask.segments[:, :, None] == mask.key_segments[:, None, :]
    place = jnp.arange(mask.segments.shape[1])[:, None]
    key_place = jnp.arange(mask.key_segments.shape[1])
    if mask.causal:
        earlier = key_place <= place
        sees &= earlier if mask.prefix is None else earlier | mask.prefix[:, None]
    if mask.window:
        sees &= abs(key_place - place) <= mask.window
    return sees


def dense(mask: Mask) -> jax.Array:
    """The additive bias [B, 1 or H, L, S]: MASKED where a query does not see a key."""
    bias = jnp.where(visible(mask), 0.0, MASKED)[:, None]
    return bias if mask.learned is None else bias + mask.learned


def prepare(mask: Mask) -> Mask:
    """The mask with what `attend` will need of it, computed once for all layers that share it."""
    heads = None if mask.learned is None else "heads"
    made = meshes.left_to_compiler(
        lambda a: dense(mask._replace(**a)), "batch", heads, "length", None
    )
    return mask._replace(bias=made(arrays(mask)))


def arrays(mask: Mask) -> dict[str, jax.Array]:
    """A mask's arrays by name; the rest of it is static."""
    return {k: v for k, v in mask._asdict().items() if isinstance(v, jax.Array)}


def relative_bucket(distance: jax.Array, causal: bool, max_distance: int = 128) -> jax.Array:
    """Bucket of a relative position key - query: exact near, logarithmic far (Raffel et al. 2020).

    Causal models give all buckets to the past; bidirectional ones half to each side.
    """
    buckets = RELATIVE_BUCKETS
    offset = jnp.zeros_like(distance)
    if causal:
        distance = jnp.maximum(-distance, 0)
    else:
        buckets //= 2
        offset = jnp.where(distance > 0, buckets, 0)
        distance = jnp.abs(distance)
    exact = buckets // 2
    ratio = jnp.log(jnp.maximum(distance, 1) / exact) / math.log(max_distance / exact)
    far = jnp.minimum(exact + (ratio * (buckets - exact)).astype(jnp.int32), buckets - 1)
    return offset + jnp.where(distance < exact, distance, far)


def relative_bias(table_RH: jax.Array, positions_BL: jax.Array, causal: bool) -> jax.Array:
    """T5's learned bias by relative position, [B, H, L, L], from a [RELATIVE_BUCKETS, H] table."""
    distance = positions_BL[:, None, :] - positions_BL[:, :, None]
    return jnp.transpose(table_RH[relative_bucket(distance, causal)], (0, 3, 1, 2))


def rotary_angles(
    c: ModelConfig, positions_BL: jax.Array, theta: float
) -> tuple[jax.Array, jax.Array]:
    """cos and sin [B, L, 1, K/2] of rotary position embeddings (Su et al. 2021)."""
    half = c.head_dim // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    if c.rope_factor != 1:
        frequencies = stretch(c, frequencies)
    angles = positions_BL[..., None, None].astype(jnp.float32) * frequencies
    return ops.once(jnp.cos(angles)), ops.once(jnp.sin(angles))


def stretch(c: ModelConfig, frequencies: jax.Array) -> jax.Array:
    """Llama 3.1's scaling: frequencies that turn seldom in the original context fall by a factor.

    Between rope_low_freq and rope_high_freq turns the two are mixed linearly (Grattafiori et al.
    2024; the values are in the released models' configuration).
    """
    turns = c.rope_original * frequencies / (2 * math.pi)
    keep = jnp.clip((turns - c.rope_low_freq) / (c.rope_high_freq - c.rope_low_freq), 0, 1)
    return frequencies * (keep + (1 - keep) / c.rope_factor)


def rotate(x_BLHK: jax.Array, angles: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Turns each pair (k, k + K/2) of a head by its position's angle."""
    cos, sin = (a.astype(x_BLHK.dtype) for a in angles)
    a, b = jnp.split(x_BLHK, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def attend(
    q_BLHK: jax.Array, k_BSGK: jax.Array, v_BSGK: jax.Array, mask: Mask, scale: float
) -> jax.Array:
    """softmax(scale q k^T + bias) v under a mask -> [B, L, H, K], the softmax in float32.

    A mask that several layers share is best prepared once. Query heads share key-value heads in
    groups of H / G. `lm.kernels` says which kernel computes it where.
    """
    kernel = "xla" if ops.is_plain() else kernels.choose(ops.platform(), q_BLHK, k_BSGK, mask)
    if kernel == "splash":
        return kernels.splash(q_BLHK, k_BSGK, v_BSGK, mask, scale)
    bias = dense(mask) if mask.bias is None else mask.bias
    if kernel == "cudnn":
        return checkpoint_name(
            kernels.cudnn(q_BLHK, k_BSGK, v_BSGK, mask, bias, scale), kernels.SAVED
        )
    groups = q_BLHK.shape[2] // k_BSGK.shape[2]
    if groups > 1:
        k_BSGK, v_BSGK = (jnp.repeat(x, groups, axis=2) for x in (k_BSGK, v_BSGK))
    y_BLHK = ops.attention(q_BLHK, k_BSGK, v_BSGK, bias, scale)
    return checkpoint_name(y_BLHK, kernels.SAVED)
