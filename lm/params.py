"""Parameters as a plain tree: declared by the model, initialised by path, stacked or per layer.

A model is split once into a graph (its structure) and a nested dict of arrays. Layers are either a
list ('layers', 3, 'attention', 'q') or one stacked array ('layers', 'attention', 'q') with a
leading axis (`scan`); the stacked form is the one on disk. Every number is drawn from a key folded
with the parameter's path and layer, so both forms, and any mesh, start from identical values.
"""

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from lm.config import ModelConfig
from lm.model import Transformer

Tree = Any  # a nested dict of arrays, or of whatever stands for them


class Declared(NamedTuple):
    """One parameter: its shape, logical axes and distribution at the start."""

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    std: float
    mean: float


class Model(NamedTuple):
    """A transformer without values: `nnx.merge(graph, params)` inside jit gives it some."""

    config: ModelConfig
    graph: Any
    declared: Tree

    def __call__(self, params: Tree, *args: Any, **kwargs: Any) -> jax.Array:
        """Logits [B, L, V]; arguments as `lm.model.Transformer.hidden`."""
        return self.with_values(params)(*args, **kwargs)

    def with_values(self, params: Tree) -> Transformer:
        """The module itself, for its other methods."""
        return nnx.merge(self.graph, params)


def build(c: ModelConfig) -> Model:
    """Splits the model of a config into its graph and declarations; no array is made."""
    graph, state = nnx.split(Transformer(c))
    variables = {path: variable for path, variable in nnx.to_flat_state(state)}
    declared: dict = {}
    for path, variable in variables.items():
        node = declared
        for key in path[:-1]:
            node = node.setdefault(key, {})
        meta = variable.get_metadata()
        shape = variable.get_value().shape
        node[path[-1]] = Declared(shape, meta["axes"], meta["std"], meta["mean"])
    return Model(c, graph, declared)


def is_declared(x: Any) -> bool:
    return isinstance(x, Declared)


def abstract(model: Model) -> Tree:
    """The tree with jax.ShapeDtypeStruct leaves, float32."""
    return map_declared(lambda d: jax.ShapeDtypeStruct(d.shape, jnp.float32), model)


def map_declared(f: Any, model: Model, *trees: Tree) -> Tree:
    """tree_map over declarations (and further trees of the same structure)."""
    return jax.tree.map(f, model.declared, *trees, is_leaf=is_declared)


def init(model: Model, seed: int) -> Tree:
    """Initial parameters; the same numbers whatever the layout, mesh or platform."""
    key = jax.random.key(seed)

    def draw(path: tuple, d: Declared) -> jax.Array:
        names = [entry.key for entry in path]
        layer = next((n for n in names if isinstance(n, int)), 0)
        text = "/".join(n for n in names if isinstance(n, str))
        leaf = jax.random.fold_in(key, zlib.crc32(text.encode()))
        if not d.std:
            return jnp.full(d.shape, d.mean, jnp.float32)
        if d.axes[0] != "layers":
            return _normal(jax.random.fold_in(leaf, layer), d.shape, d.std)
        keys = jax.vmap(lambda i: jax.random.fold_in(leaf, i))(jnp.arange(d.shape[0]))
        return jax.vmap(lambda k: _normal(k, d.shape[1:], d.std))(keys)

    return jax.tree_util.tree_map_with_path(draw, model.declared, is_leaf=is_declared)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _normal(key: jax.Array, shape: tuple[int, ...], std: float) -> jax.Array:
    """Normal(0, std) to within six deviations, the same bits from every compiler.

    Twelve 16-bit uniforms are added as integers and multiplied once: the logarithm and square root
    of an exact normal are rounded differently by program, shape and platform.
    """

    def add_two(i: jax.Array, total: jax.Array) -> jax.Array:
        bits = jax.random.bits(jax.random.fold_in(key, i), shape, jnp.uint32)
        return total + (bits & 0xFFFF) + (bits >> 16)

    total = jax.lax.fori_loop(0, 6, add_two, jnp.zeros(shape, jnp.uint32))
    centred = total.astype(jnp.int32) - 6 * 0xFFFF
    return centred.astype(jnp.float32) * np.float32(std / np.sqrt(2.0**32 - 1))


def count(tree: Tree) -> int:
    """Number of elements in a tree of arrays."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def map_dicts(f: Callable, tree: Tree, other: Callable = lambda x: x) -> Tree:
    """Applies f to every outermost dict of a state, `other` to its other leaves.

    The dicts of an optimizer's state are the parameters' moments, shaped as the parameters.
    """

    def is_dict(x: Any) -> bool:
        return isinstance(x, dict)

    return jax.tree.map(lambda x: f(x) if is_dict(x) else other(x), tree, is_leaf=is_dict)


def stack_layers(tree: Tree) -> Tree:
    """{'layers': {0: .., 1: ..}} -> {'layers': stacked}, the layout on disk."""
    return _map_layers(tree, _stack)


def unstack_layers(tree: Tree) -> Tree:
    """The inverse of `stack_layers`."""
    return _map_layers(tree, _unstack)


def _map_layers(tree: Tree, f: Any) -> Tree:
    if not isinstance(tree, dict):
        return tree
    return {k: f(v) if k == "layers" else _map_layers(v, f) for k, v in tree.items()}


def _stack(layers: dict) -> Tree:
    if 0 not in layers:
        return layers
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(layers[i] for i in range(len(layers))))


def _unstack(stacked: Tree) -> dict:
    if 0 in stacked:
        return stacked
    layers = jax.tree.leaves(stacked)[0].shape[0]
    return {i: jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(layers)}
