"""The transformer: one core for decoders, encoders and encoder-decoders, chosen by config.

Modules declare their parameters (shape, logical axes, scale at initialisation) without values;
training splits a model once into a graph and a plain tree of arrays and merges them inside
`jax.jit`. The families differ in fields of the config only; docs/objectives.md shows each.

B batch, L length, S length of the encoder, D model width, H heads, G key-value heads, K head size,
F mlp, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from lm import ops
from lm.attention import Mask, arrays, attend, prepare, relative_bias, rotary_angles, rotate
from lm.config import ModelConfig
from lm.flops import RELATIVE_BUCKETS
from lm.mesh import constrain, left_to_compiler
from lm.remat import policy

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


class View(NamedTuple):
    """What a layer's attention knows of places: its prepared mask, and its rotary angles."""

    mask: Mask
    angles: tuple | None = None


class Attention(nnx.Module):
    """Attention with grouped key-value heads, to the stream itself or to an encoder's memory."""

    def __init__(self, c: ModelConfig, branches: int):
        self.c = c
        D, H, G, K = c.width, c.heads, c.kv_heads, c.head_dim
        std = D**-0.5
        self.scale = K**-0.5 if c.scale_attention else 1.0
        # Scores start at the same size: without a scale the queries' weights are smaller.
        q_std = std if c.scale_attention else std * K**-0.5
        self.q = weight(D, H, K, axes=("embed", "heads", "head_dim"), std=q_std)
        self.k = weight(D, G, K, axes=("embed", "kv_heads", "head_dim"), std=std)
        self.v = weight(D, G, K, axes=("embed", "kv_heads", "head_dim"), std=std)
        o_std = _residual_std(H * K, branches)
        self.o = weight(H, K, D, axes=("heads", "head_dim", "embed"), std=o_std)
        if c.bias:
            self.q_bias = weight(H, K, axes=("heads", "head_dim"))
            self.k_bias = weight(G, K, axes=("kv_heads", "head_dim"))
            self.v_bias = weight(G, K, axes=("kv_heads", "head_dim"))
            self.o_bias = weight(D, axes=("embed",))
        if c.qk_norm:
            self.q_norm = Norm(c, K)
            self.k_norm = Norm(c, K)

    def __call__(
        self, x_BLD: jax.Array, view: View, memory_BSD: jax.Array | None = None
    ) -> jax.Array:
        if memory_BSD is None:
            q, k, v = self.project(x_BLD, "q", "k", "v")
        else:
            (q,), (k, v) = self.project(x_BLD, "q"), self.project(memory_BSD, "k", "v")
        if view.angles is not None:
            q, k = rotate(q, view.angles), rotate(k, view.angles)
        q = constrain(q, "batch", "length", "heads", "head_dim")

        def seen(q: jax.Array, k: jax.Array, v: jax.Array, a: dict) -> jax.Array:
            return attend(q, k, v, view.mask._replace(**a), self.scale)

        seen = left_to_compiler(seen, "batch", "length", "heads", "head_dim")
        return self.output(seen(q, k, v, arrays(view.mask)))

    def project(self, x_BLD: jax.Array, *names: str) -> list[jax.Array]:
        """Those of "q", "k", "v" that are asked for, [B, L, heads, K], without positions."""
        weights = (getattr(self, name)[...].astype(x_BLD.dtype) for name in names)
        heads = list(ops.linear(x_BLD, *weights))
        for i, name in enumerate(names):
            if self.c.bias:
                heads[i] += getattr(self, f"{name}_bias")[...].astype(x_BLD.dtype)
            if self.c.qk_norm and name != "v":
                heads[i] = getattr(self, f"{name}_norm")(heads[i])
        return heads

    def output(self, y_BLHK: jax.Array) -> jax.Array:
        """What attention adds to the stream: the heads' results [B, L, H, K] -> [B, L, D]."""
        dtype, width = y_BLHK.dtype, self.o.shape[-1]
        rows = y_BLHK.shape[:2]
        flat = left_to_compiler(lambda y: y.reshape(*rows, -1), "batch", "length", "heads")
        flat_o = left_to_compiler(lambda o: o.reshape(-1, width), "heads", "embed")
        (y_BLD,) = ops.linear(flat(y_BLHK), flat_o(self.o[...].astype(dtype)))
        return y_BLD + self.o_bias[...].astype(dtype) if self.c.bias else y_BLD


class Mlp(nnx.Module):
    """Two-layer perceptron, optionally gated (Shazeer 2020): gate and up are one weight."""

    def __init__(self, c: ModelConfig, branches: int):
        self.c = c
        D, F, parts = c.width, c.mlp, 2 if c.gated else 1
        self.up = weight(D, parts, F, axes=("embed", None, "mlp"), std=D**-0.5)
        self.down = weight(F, D, axes=("mlp", "embed"), std=_residual_std(F, branches))
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
    """A layer: attention, in a decoder beside an encoder attention to that, and perceptron.

    Each is added to the stream; the norm stands before it, or after the sum (`post_norm`).
    """

    def __init__(self, c: ModelConfig, branches: int, cross: bool, bare: bool = False):
        self.c, self.cross = c, cross
        if not bare:
            self.attention_norm = Norm(c)
        self.attention = Attention(c, branches)
        if cross:
            self.cross_norm = Norm(c)
            self.cross_attention = Attention(c, branches)
        self.mlp_norm = Norm(c)
        self.mlp = Mlp(c, branches)

    def __call__(self, x_BLD: jax.Array, view: View, memory: tuple | None) -> jax.Array:
        def attention(x: jax.Array) -> jax.Array:
            return self.attention(x, view)

        def cross_attention(x: jax.Array) -> jax.Array:
            assert memory is not None
            memory_BSD, mask = memory
            return self.cross_attention(x, View(mask), memory_BSD)

        x_BLD = self.add(x_BLD, attention, getattr(self, "attention_norm", lambda x: x))
        if self.cross:
            x_BLD = self.add(x_BLD, cross_attention, self.cross_norm)
        x_BLD = self.add(x_BLD, self.mlp, self.mlp_norm)
        return constrain(x_BLD, "batch", "length", "act_embed")

    def add(self, x_BLD: jax.Array, part: Callable, norm: Callable) -> jax.Array:
        return norm(x_BLD + part(x_BLD)) if self.c.post_norm else x_BLD + part(norm(x_BLD))


class Stack(nnx.Module):
    """Layers one after another, unrolled or scanned, and the norm that closes them.

    A first layer without its first norm (`bare_first`) stands apart: those that are scanned are
    alike.
    """

    def __init__(self, c: ModelConfig, name: str):
        self.c, self.causal = c, name == "decoder"
        layers, cross = c.stacks[name], name == "decoder" and "encoder" in c.stacks
        branches = layers * (3 if cross else 2)
        if c.bare_first:
            self.first = Block(c, branches, cross, bare=True)
        rest = layers - c.bare_first
        self.layers = (
            _stacked(Block(c, branches, cross), rest)
            if c.scan
            else nnx.List([Block(c, branches, cross) for _ in range(rest)])
        )
        if not c.post_norm:
            self.norm = Norm(c)
        if c.position == "relative":
            self.relative = weight(
                RELATIVE_BUCKETS, c.heads, axes=(None, "heads"), std=c.width**-0.5
            )

    def __call__(
        self, x_BLD: jax.Array, positions_BL: jax.Array, mask: Mask, memory: tuple | None = None
    ) -> jax.Array:
        """The stream after all layers; `memory` is an encoder's [B, S, D] and the mask towards it.

        `positions_BL` count within segments.
        """
        c = self.c
        mask = mask._replace(causal=self.causal)
        if c.position == "relative":
            made = functools.partial(relative_bias, causal=self.causal)
            bias = left_to_compiler(made, "batch", "heads", "length", None)
            learned = bias(self.relative[...], positions_BL)
            mask = mask._replace(learned=learned)
        views = [self.view(positions_BL, mask, c.rope_theta)]
        if c.global_every:
            local = mask._replace(window=c.window)
            views.append(self.view(positions_BL, local, c.local_rope_theta))

        def run(state: Tree, graph: Any, layer: int, x: jax.Array) -> jax.Array:
            return nnx.merge(graph, state)(x, views[c.is_local(layer)], memory)

        if c.remat != "none":
            run = jax.checkpoint(run, static_argnums=(1, 2), policy=policy(c.remat))
        if c.bare_first:
            graph, state = nnx.split(self.first)
            x_BLD = run(state, graph, 0, x_BLD)
        if c.scan:
            x_BLD = self.scan(run, x_BLD)
        else:
            layers: Any = self.layers
            for i, layer in enumerate(layers, int(c.bare_first)):
                graph, state = nnx.split(layer)
                x_BLD = run(state, graph, i, x_BLD)
        return x_BLD if c.post_norm else self.norm(x_BLD)

    def view(self, positions_BL: jax.Array, mask: Mask, theta: float) -> View:
        rotary = self.c.position == "rotary"
        angles = rotary_angles(self.c, positions_BL, theta) if rotary else None
        return View(prepare(mask), angles)

    def scan(self, run: Callable, x_BLD: jax.Array) -> jax.Array:
        """The layers in one loop; a turn of it is a group of global and local ones."""
        graph, states = nnx.split(self.layers)
        first, period = int(self.c.bare_first), self.c.global_every or 1
        groups = states
        if period > 1:
            groups = jax.tree.map(lambda x: x.reshape(-1, period, *x.shape[1:]), states)

        def turn(x: jax.Array, group: Tree) -> tuple[jax.Array, None]:
            if period == 1:  # the loop's own slice: one cut out of it would be kept a second time
                return run(group, graph, first, x), None
            for i in range(period):
                x = run(jax.tree.map(lambda s, i=i: s[i], group), graph, first + i, x)
            return x, None

        return jax.lax.scan(turn, x_BLD, groups)[0]


class Transform(nnx.Module):
    """What BERT has before its output head: dense layer, activation, norm."""

    def __init__(self, c: ModelConfig):
        self.c = c
        self.dense = weight(c.width, c.width, axes=("embed", None), std=c.width**-0.5)
        if c.bias:
            self.bias = weight(c.width, axes=(None,))
        self.norm = Norm(c)

    def __call__(self, x_BLD: jax.Array) -> jax.Array:
        (x_BLD,) = ops.linear(x_BLD, self.dense[...].astype(x_BLD.dtype))
        if self.c.bias:
            x_BLD = x_BLD + self.bias[...].astype(x_BLD.dtype)
        return self.norm(ACTIVATIONS[self.c.activation](x_BLD))


class Transformer(nnx.Module):
    """Token ids -> logits over the vocabulary."""

    def __init__(self, c: ModelConfig):
        self.c = c
        V, D = c.vocab_size, c.width
        self.embed = weight(V, D, axes=("vocab", "embed"), std=EMBED_STD)
        if c.position == "learned":
            self.positions = weight(c.max_positions, D, axes=(None, "embed"), std=EMBED_STD)
        if c.types:
            self.types = weight(c.types, D, axes=(None, "embed"), std=EMBED_STD)
        if c.embed_norm:
            self.embed_norm = Norm(c)
        if "encoder" in c.stacks:
            self.encoder = Stack(c, "encoder")
        if "decoder" in c.stacks:
            self.decoder = Stack(c, "decoder")
        if c.mlm_head:
            self.transform = Transform(c)
            self.head_bias = weight(V, axes=("vocab",))
        if not c.tie_embeddings:
            self.head = weight(D, V, axes=("embed", "vocab"), std=D**-0.5)

    def __call__(self, *args: Any, **kwargs: Any) -> jax.Array:
        """Logits [B, L, V]; arguments as `hidden`."""
        return self.logits(self.hidden(*args, **kwargs))

    def hidden(
        self,
        inputs: jax.Array,
        positions: jax.Array,
        segments: jax.Array,
        prefix: jax.Array | None = None,
        enc_inputs: jax.Array | None = None,
        enc_positions: jax.Array | None = None,
        enc_segments: jax.Array | None = None,
        types: jax.Array | None = None,
    ) -> jax.Array:
        """The stream [B, L, D] that the head reads; arguments as in `data.objectives.Batch`.

        All are [B, L], the encoder's [B, S]. An encoder alone reads `inputs`. A decoder beside an
        encoder sees of that the segment of the same number. `types` are kinds of segment (BERT),
        0 by default.
        """
        x_BLD = self.embedded(inputs, positions, types)
        mask = Mask(segments, segments, prefix=prefix)
        if self.c.arch == "encoder":
            return self.encoder(x_BLD, positions, mask)
        if self.c.arch == "decoder":
            return self.decoder(x_BLD, positions, mask)
        assert enc_inputs is not None and enc_positions is not None and enc_segments is not None
        memory_BSD = self.encode(enc_inputs, enc_positions, enc_segments)
        memory = (memory_BSD, prepare(Mask(segments, enc_segments)))
        return self.decoder(x_BLD, positions, mask, memory)

    def encode(self, inputs: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
        """The encoder's side of an encoder-decoder: [B, S] -> [B, S, D]."""
        x_BSD = self.embedded(inputs, positions)
        return self.encoder(x_BSD, positions, Mask(segments, segments))

    def embedded(
        self, inputs: jax.Array, positions: jax.Array, types: jax.Array | None = None
    ) -> jax.Array:
        """Embeddings of tokens, learned positions and kinds of segment, normalised if so asked."""
        dtype = jnp.dtype(self.c.dtype)
        look_up = left_to_compiler(lambda t, i: t[i], "batch", "length", "act_embed")
        x_BLD = look_up(self.embed[...], inputs).astype(dtype)
        if self.c.position == "learned":
            x_BLD = x_BLD + look_up(self.positions[...], positions).astype(dtype)
        if self.c.types:
            table = self.types[...].astype(dtype)
            x_BLD = x_BLD + (table[0] if types is None else table[types])
        if self.c.embed_norm:
            x_BLD = self.embed_norm(x_BLD)
        return constrain(x_BLD, "batch", "length", "act_embed")

    def logits(self, x_BLD: jax.Array) -> jax.Array:
        """The output head: its own, or the embedding table transposed."""
        c = self.c
        if c.mlm_head:
            x_BLD = self.transform(x_BLD)
        head = self.embed[...].T if c.tie_embeddings else self.head[...]
        if c.tie_embeddings:
            x_BLD = x_BLD * (c.base_width / c.width)  # the rule for width, lm/optim.py
        if c.scale_logits:
            x_BLD = x_BLD * c.width**-0.5
        (logits_BLV,) = ops.linear(x_BLD, head.astype(x_BLD.dtype))
        if c.mlm_head:
            logits_BLV = logits_BLV + self.head_bias[...].astype(x_BLD.dtype)
        return constrain(logits_BLV, "batch", "length", "vocab")


def _residual_std(fan_in: int, branches: int) -> float:
    """Projections into the stream start smaller, so that it does not grow with depth."""
    return (fan_in * branches) ** -0.5


def _stacked(block: nnx.Module, layers: int) -> nnx.Module:
    """The same module with a leading axis over layers on every parameter."""
    graph, state = nnx.split(block)

    def lead(variable: nnx.Variable) -> nnx.Variable:
        shape = jax.ShapeDtypeStruct((layers, *variable.get_value().shape), jnp.float32)
        return variable.replace(shape, axes=("layers", *variable.get_metadata("axes")))

    lifted = jax.tree.map(lead, state, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return nnx.merge(graph, lifted)
