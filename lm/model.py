"""The transformer: one core for every objective.

Modules declare their parameters (shape, logical axes, scale at initialisation) without values;
training splits a model once into a graph and a plain tree of arrays and merges them inside
`jax.jit`.

B batch, L length, D model width, H heads, G key-value heads, K head size, F mlp, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from lm import ops
from lm.attention import attend, causal_bias, relative_bias, rotary_angles, rotate
from lm.config import ModelConfig
from lm.flops import RELATIVE_BUCKETS
from lm.mesh import constrain

ACTIVATIONS: dict[str, Callable] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}
Tree = Any  # a nested dict or tuple of arrays
EMBED_STD = 0.02  # GPT-2's (Radford et al. 2019)


def weight(*shape: int, axes: tuple, std: float = 0.0, mean: float = 0.0) -> nnx.Param:
    """Declares a float32 parameter: normal(0, std) at the start, `mean` where std is 0."""
    return nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32), axes=axes, std=std, mean=mean)


class Norm(nnx.Module):
    """Layer norm or RMS norm over the last axis, computed in float32."""

    def __init__(self, c: ModelConfig, width: int | None = None, axis: str | None = None):
        size = width or c.width
        self.eps, self.centre = c.norm_eps, c.norm == "layer"
        self.scale = weight(size, axes=(axis,), mean=1.0)
        if c.norm == "layer" and c.bias and width is None:
            self.bias = weight(size, axes=(axis,))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        if self.centre:
            y -= jnp.mean(y, -1, keepdims=True)
        y *= jax.lax.rsqrt(jnp.mean(y * y, -1, keepdims=True) + self.eps)
        y = (y * self.scale[...]).astype(x.dtype)
        return y + self.bias[...].astype(x.dtype) if hasattr(self, "bias") else y


class Attention(nnx.Module):
    """Self-attention with grouped key-value heads."""

    def __init__(self, c: ModelConfig):
        self.c = c
        D, H, G, K = c.width, c.heads, c.kv_heads, c.head_dim
        std = D**-0.5
        self.q = weight(D, H, K, axes=("embed", "heads", "head_dim"), std=std)
        self.k = weight(D, G, K, axes=("embed", "kv_heads", "head_dim"), std=std)
        self.v = weight(D, G, K, axes=("embed", "kv_heads", "head_dim"), std=std)
        self.o = weight(H, K, D, axes=("heads", "head_dim", "embed"), std=_residual_std(c, H * K))
        if c.bias:
            self.q_bias = weight(H, K, axes=("heads", "head_dim"))
            self.k_bias = weight(G, K, axes=("kv_heads", "head_dim"))
            self.v_bias = weight(G, K, axes=("kv_heads", "head_dim"))
            self.o_bias = weight(D, axes=("embed",))
        if c.qk_norm:
            self.q_norm = Norm(c, K)
            self.k_norm = Norm(c, K)

    def __call__(self, x_BLD: jax.Array, bias: jax.Array, angles: tuple | None) -> jax.Array:
        dtype = x_BLD.dtype
        weights = (self.q, self.k, self.v)
        q, k, v = ops.linear(x_BLD, *(w[...].astype(dtype) for w in weights))
        if self.c.bias:
            biases = (self.q_bias, self.k_bias, self.v_bias)
            q, k, v = (y + b[...].astype(dtype) for y, b in zip((q, k, v), biases, strict=True))
        if self.c.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        if angles is not None:
            q, k = rotate(q, angles), rotate(k, angles)
        q = constrain(q, "batch", "length", "heads", "head_dim")
        y_BLHK = attend(q, k, v, bias)
        y = y_BLHK.reshape(*y_BLHK.shape[:2], -1)
        (y,) = ops.linear(y, self.o[...].astype(dtype).reshape(-1, x_BLD.shape[-1]))
        return y + self.o_bias[...].astype(dtype) if self.c.bias else y


class Mlp(nnx.Module):
    """Two-layer perceptron, optionally gated (Shazeer 2020): gate and up are one weight."""

    def __init__(self, c: ModelConfig):
        self.c = c
        D, F, parts = c.width, c.mlp, 2 if c.gated else 1
        self.up = weight(D, parts, F, axes=("embed", None, "mlp"), std=D**-0.5)
        self.down = weight(F, D, axes=("mlp", "embed"), std=_residual_std(c, F))
        if c.bias:
            self.up_bias = weight(parts, F, axes=(None, "mlp"))
            self.down_bias = weight(D, axes=("embed",))

    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        dtype = x_BLD.dtype
        (h,) = ops.linear(x_BLD, self.up[...].astype(dtype))
        if self.c.bias:
            h += self.up_bias[...].astype(dtype)
        act = ACTIVATIONS[self.c.activation]
        h_BLF = act(h[:, :, 0]) * h[:, :, 1] if self.c.gated else act(h[:, :, 0])
        h_BLF = constrain(h_BLF, "batch", "length", "mlp")
        (y,) = ops.linear(h_BLF, self.down[...].astype(dtype))
        return y + self.down_bias[...].astype(dtype) if self.c.bias else y


class Block(nnx.Module):
    """A pre-norm layer: attention, then perceptron, each added to the stream."""

    def __init__(self, c: ModelConfig):
        self.attention_norm = Norm(c)
        self.attention = Attention(c)
        self.mlp_norm = Norm(c)
        self.mlp = Mlp(c)

    def __call__(self, x_BLD: jax.Array, bias: jax.Array, angles: tuple | None) -> jax.Array:
        x_BLD = x_BLD + self.attention(self.attention_norm(x_BLD), bias, angles)
        x_BLD = x_BLD + self.mlp(self.mlp_norm(x_BLD))
        return constrain(x_BLD, "batch", "length", "act_embed")


class Stack(nnx.Module):
    """Layers one after another, unrolled or scanned, and the norm that closes them."""

    def __init__(self, c: ModelConfig):
        self.c = c
        self.layers = (
            _stacked(Block(c), c.layers)
            if c.scan
            else nnx.List([Block(c) for _ in range(c.layers)])
        )
        self.norm = Norm(c)
        if c.position == "relative":
            self.relative = weight(
                RELATIVE_BUCKETS, c.heads, axes=(None, "heads"), std=c.width**-0.5
            )

    def __call__(
        self, x_BLD: jax.Array, segments_BL: jax.Array, positions_BL: jax.Array
    ) -> jax.Array:
        bias = causal_bias(segments_BL)
        if self.c.position == "relative":
            bias = bias + relative_bias(self.relative[...], positions_BL, causal=True)
        angles = rotary_angles(self.c, positions_BL) if self.c.position == "rotary" else None

        def run(state: Tree, graph: Any, x: jax.Array) -> jax.Array:
            return nnx.merge(graph, state)(x, bias, angles)

        if self.c.remat == "full":
            run = jax.checkpoint(run, static_argnums=(1,))
        if self.c.scan:
            graph, states = nnx.split(self.layers)
            x_BLD, _ = jax.lax.scan(lambda x, s: (run(s, graph, x), None), x_BLD, states)
        else:
            for layer in self.layers:  # type: ignore[attr-defined]
                graph, state = nnx.split(layer)
                x_BLD = run(state, graph, x_BLD)
        return self.norm(x_BLD)


class Transformer(nnx.Module):
    """Token ids -> logits over the vocabulary."""

    def __init__(self, c: ModelConfig):
        self.c = c
        V, D = c.vocab_size, c.width
        self.embed = weight(V, D, axes=("vocab", "embed"), std=EMBED_STD)
        if c.position == "learned":
            self.positions = weight(c.max_positions, D, axes=(None, "embed"), std=EMBED_STD)
        self.decoder = Stack(c)
        if not c.tie_embeddings:
            self.head = weight(D, V, axes=("embed", "vocab"), std=D**-0.5)

    def __call__(
        self, inputs_BL: jax.Array, positions_BL: jax.Array, segments_BL: jax.Array
    ) -> jax.Array:
        """[B, L] ids, positions within each segment, and segments -> logits [B, L, V]."""
        dtype = jnp.dtype(self.c.dtype)
        x_BLD = self.embed[...][inputs_BL].astype(dtype)
        if self.c.position == "learned":
            x_BLD = x_BLD + self.positions[...][positions_BL].astype(dtype)
        x_BLD = constrain(x_BLD, "batch", "length", "act_embed")
        x_BLD = self.decoder(x_BLD, segments_BL, positions_BL)
        return constrain(self.logits(x_BLD), "batch", "length", "vocab")

    def logits(self, x_BLD: jax.Array) -> jax.Array:
        """The output head: its own, or the embedding table transposed."""
        head = self.embed[...].T if self.c.tie_embeddings else self.head[...]
        if self.c.tie_embeddings:
            x_BLD = x_BLD * (self.c.base_width / self.c.width)  # the rule for width, lm/optim.py
        (logits_BLV,) = ops.linear(x_BLD, head.astype(x_BLD.dtype))
        return logits_BLV


def _residual_std(c: ModelConfig, fan_in: int) -> float:
    """Projections into the stream start smaller, so that it does not grow with depth."""
    return (fan_in * 2 * c.layers) ** -0.5


def _stacked(block: nnx.Module, layers: int) -> nnx.Module:
    """The same module with a leading axis over layers on every parameter."""
    graph, state = nnx.split(block)

    def lead(variable: nnx.Variable) -> nnx.Variable:
        shape = jax.ShapeDtypeStruct((layers, *variable.get_value().shape), jnp.float32)
        return variable.replace(shape, axes=("layers", *variable.get_metadata("axes")))

    lifted = jax.tree.map(lead, state, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return nnx.merge(graph, lifted)
