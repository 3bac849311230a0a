"""Writing one token after another with what was computed for the earlier ones kept.

A decoder's keys and values stay in a cache with a place for every position of a row. Rows have
prompts of unequal lengths: what a shorter one has behind its end is overwritten before any token
sees it, since a token sees the places up to its own.

B batch, L length, S places in the cache, M length of the encoder, G key-value heads, K head size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from data.tokenizer import EOT, PAD
from lm import ops
from lm.attention import MASKED, relative_bucket, rotary_angles, rotate
from lm.model import Block, Stack, Transformer

KeysValues = tuple[jax.Array, jax.Array]


class Cache(NamedTuple):
    """Keys and values of a decoder, layer by layer."""

    own: tuple[KeysValues, ...]  # [B, S, G, K]
    memory: tuple[KeysValues, ...]  # [B, M, G, K] of an encoder's text; () where there is none
    memory_bias: jax.Array | None  # [B, 1, 1, M]


class Sampling(NamedTuple):
    """How the next token is chosen from the model's distribution."""

    temperature: float = 0.0  # 0: the likeliest token
    top_k: int = 0  # only among so many likeliest; 0: among all
    top_p: float = 1.0  # only among the likeliest that together have this probability


def layers_of(stack: Stack) -> list[Block]:
    """A stack's blocks in order; its layers must be unrolled."""
    layers: Any = stack.layers
    return [stack.first, *layers] if stack.c.bare_first else [*layers]


def start(
    module: Transformer, rows: int, size: int, encoder: tuple[jax.Array, jax.Array] | None = None
) -> Cache:
    """A cache of `size` places; `encoder` is the inputs and segments [B, M] that it reads."""
    c = module.c
    shape = (rows, size, c.kv_heads, c.head_dim)
    layers = layers_of(module.decoder)
    own = tuple((jnp.zeros(shape, c.dtype), jnp.zeros(shape, c.dtype)) for _ in layers)
    if encoder is None:
        return Cache(own, (), None)
    inputs, segments = encoder
    places = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
    memory = module.encode(inputs, places, segments)
    pairs = (b.cross_attention.project(memory, "k", "v") for b in layers)
    crossed = tuple((k, v) for k, v in pairs)
    bias = jnp.where(segments > 0, 0.0, MASKED)[:, None, None]
    return Cache(own, crossed, bias)


def extend(
    module: Transformer, cache: Cache, tokens_BL: jax.Array, places_BL: jax.Array
) -> tuple[jax.Array, Cache]:
    """Read tokens at their places; returns the stream [B, L, D] and the cache with them."""
    c, stack = module.c, module.decoder
    key_places = jnp.arange(cache.own[0][0].shape[1])
    distance = key_places - places_BL[:, None, :, None]
    bias = jnp.where(distance <= 0, 0.0, MASKED)
    if c.position == "relative":
        bucket = relative_bucket(distance[:, 0], causal=True)
        bias = bias + jnp.transpose(stack.relative[...][bucket], (0, 3, 1, 2))
    near = jnp.where(distance >= -c.window, bias, MASKED) if c.global_every else bias
    x_BLD = module.embedded(tokens_BL, places_BL)
    own = []
    for i, layer in enumerate(layers_of(stack)):
        local = c.is_local(i)
        angles = None
        if c.position == "rotary":
            angles = rotary_angles(c, places_BL, c.local_rope_theta if local else c.rope_theta)
        memory = cache.memory[i] if cache.memory else None
        attention = partial(
            _attention, layer.attention, cache.own[i], places_BL, near if local else bias, angles
        )
        x_BLD, kept = _through(layer, x_BLD, attention, memory, cache.memory_bias)
        own.append(kept)
    x_BLD = x_BLD if c.post_norm else stack.norm(x_BLD)
    return x_BLD, cache._replace(own=tuple(own))


def _through(
    layer: Block,
    x_BLD: jax.Array,
    attention: Callable[[jax.Array], tuple[jax.Array, KeysValues]],
    memory: KeysValues | None,
    memory_bias: jax.Array | None,
) -> tuple[jax.Array, KeysValues]:
    """One layer, and the keys and values of it to keep."""
    kept: list[KeysValues] = []

    def to_itself(x: jax.Array) -> jax.Array:
        y, keys_values = attention(x)
        kept.append(keys_values)
        return y

    def to_memory(x: jax.Array) -> jax.Array:
        (q,) = layer.cross_attention.project(x, "q")
        return _attended(layer.cross_attention, q, memory, memory_bias)

    x_BLD = layer.add(x_BLD, to_itself, getattr(layer, "attention_norm", lambda x: x))
    if memory is not None:
        x_BLD = layer.add(x_BLD, to_memory, layer.cross_norm)
    return layer.add(x_BLD, layer.mlp, layer.mlp_norm), kept[0]


def _attention(
    module: Any, kept: KeysValues, places_BL: jax.Array, bias: jax.Array, angles: Any, x: jax.Array
) -> tuple[jax.Array, KeysValues]:
    q, k, v = module.project(x, "q", "k", "v")
    if angles is not None:
        q, k = rotate(q, angles), rotate(k, angles)
    rows = jnp.arange(x.shape[0])[:, None]
    keys, values = (old.at[rows, places_BL].set(new) for old, new in zip(kept, (k, v), strict=True))
    return _attended(module, q, (keys, values), bias), (keys, values)


def _attended(module: Any, q: jax.Array, keys_values: Any, bias: Any) -> jax.Array:
    """Attention over all places of a cache; few queries, so the plain product serves."""
    groups = q.shape[2] // keys_values[0].shape[2]
    keys, values = (jnp.repeat(x, groups, axis=2) for x in keys_values)
    return module.output(ops.attention(q, keys, values, bias, module.scale))


def choose(logits_BV: jax.Array, keys_B: jax.Array, s: Sampling) -> jax.Array:
    """The next token of each row, int32 [B], with a random key for each."""
    if not s.temperature:
        return jnp.argmax(logits_BV, -1).astype(jnp.int32)
    logits_BV = logits_BV.astype(jnp.float32) / s.temperature
    ordered = jnp.sort(logits_BV, -1, descending=True)
    if 0 < s.top_k < logits_BV.shape[1]:
        logits_BV = jnp.where(logits_BV < ordered[:, s.top_k - 1, None], -jnp.inf, logits_BV)
        ordered = jnp.where(ordered < ordered[:, s.top_k - 1, None], -jnp.inf, ordered)
    if s.top_p < 1:
        probs = jax.nn.softmax(ordered)
        before = jnp.cumsum(probs, -1) - probs
        least = jnp.min(jnp.where(before < s.top_p, ordered, jnp.inf), -1, keepdims=True)
        logits_BV = jnp.where(logits_BV < least, -jnp.inf, logits_BV)
    return jax.vmap(jax.random.categorical)(keys_B, logits_BV).astype(jnp.int32)


def generate(
    module: Transformer,
    prompts_BL: jax.Array,
    lengths_B: jax.Array,
    seed: jax.Array,
    new: int,
    sampling: Sampling,
    vocab: int,
    encoder: tuple[jax.Array, jax.Array] | None = None,
) -> jax.Array:
    """Up to `new` tokens after each prompt, int32 [B, new]: from end-of-text on there is padding.

    Prompts are filled up on the right, at least one token long. Only ids below `vocab` are chosen.
    """
    B, L = prompts_BL.shape
    cache = start(module, B, L + new, encoder)
    places = jnp.broadcast_to(jnp.arange(L), (B, L))
    x_BLD, cache = extend(module, cache, prompts_BL, places)
    last = jnp.take_along_axis(x_BLD, (lengths_B - 1)[:, None, None], 1)
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(jnp.arange(B))
    written = jnp.full((B, new), PAD, jnp.int32)

    def turn(carry: tuple) -> tuple:
        i, cache, x_B1D, done, written = carry
        logits = module.logits(x_B1D)[:, 0, :vocab]
        token = choose(logits, jax.vmap(partial(jax.random.fold_in, data=i))(keys), sampling)
        token = jnp.where(done, PAD, token)
        written = written.at[:, i].set(token)
        x_B1D, cache = extend(module, cache, token[:, None], (lengths_B + i)[:, None])
        return i + 1, cache, x_B1D, done | (token == EOT), written

    def going(carry: tuple) -> jax.Array:
        return (carry[0] < new) & ~jnp.all(carry[3])

    begin = (jnp.int32(0), cache, last, jnp.zeros(B, bool), written)
    return jax.lax.while_loop(going, turn, begin)[4]
