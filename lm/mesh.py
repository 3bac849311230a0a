"""The device mesh and the one table from logical array axes to mesh axes.

A mesh is written `slice:2,data:4,fsdp:8,seq:2,tensor:2`: axes left out are 1, one may be -1 (what
is left). Arrays name their axes logically ('batch', 'embed', 'heads', ...); `RULES` says which mesh
axes each is split over, so a new way to shard is a new row here and nothing else.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from data.errors import UserError, suggest
from lm.config import ModelConfig

AXES = ("slice", "data", "fsdp", "seq", "tensor")

RULES: dict[str | None, tuple[str, ...]] = {
    None: (),
    "batch": ("slice", "data", "fsdp"),
    "length": ("seq",),
    "embed": ("fsdp",),  # the width of parameters
    "act_embed": (),  # the width of activations
    "heads": ("tensor",),
    "kv_heads": ("tensor",),
    "head_dim": (),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
    "layers": (),
}


def parse(text: str, devices: int) -> dict[str, int]:
    """'data:-1,tensor:2' -> sizes of all the axes, their product equal to the number of devices.

    Raises:
      UserError: an unknown axis, a bad size, or a product that is not the number of devices.
    """
    sizes = dict.fromkeys(AXES, 1)
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, size = part.partition(":")
        if name not in AXES:
            raise UserError(
                f"mesh={text!r}: no axis {name!r}; axes are {', '.join(AXES)}{suggest(name, AXES)}"
            )
        if not size.lstrip("-").isdigit() or int(size) == 0 or int(size) < -1:
            raise UserError(
                f"mesh={text!r}: axis {name} needs a size of at least 1, or -1, not {size!r}"
            )
        sizes[name] = int(size)
    free = [name for name, size in sizes.items() if size == -1]
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if len(free) > 1:
        raise UserError(f"mesh={text!r}: only one axis may be -1, not {' and '.join(free)}")
    if free:
        if devices % fixed:
            raise UserError(f"mesh={text!r}: {devices} devices are not divisible by {fixed}")
        sizes[free[0]] = devices // fixed
    elif fixed != devices:
        raise UserError(f"mesh={text!r} needs {fixed} devices, there are {devices}")
    return sizes


def check(
    sizes: dict[str, int], c: ModelConfig, batch_size: int, seq_len: int, targets: int = 0
) -> None:
    """Raises UserError where an array's axis is not divisible by the mesh axes it is split over.

    `targets` is the length of the targets where that is another than `seq_len`.
    """
    extents = {
        "batch": (batch_size, "batch_size / optim.microbatches"),
        "length": (seq_len, "seq_len"),
        "targets": (targets, "length of the targets"),
        "embed": (c.width, "model.width"),
        "heads": (c.heads, "model.heads"),
        "kv_heads": (c.kv_heads, "model.kv_heads"),
        "mlp": (c.mlp, "model.mlp"),
        "vocab": (c.vocab_size, "model.vocab_size"),
    }
    for logical, (extent, field) in extents.items():
        axes = RULES["length" if logical == "targets" else logical]
        split = math.prod(sizes[a] for a in axes)
        if extent % split:
            named = " x ".join(f"{a}:{sizes[a]}" for a in axes if sizes[a] > 1)
            raise UserError(f"{field}={extent} is not divisible by mesh axes {named} = {split}")


def make(
    sizes: dict[str, int], devices: Sequence[jax.Device] | None = None, explicit: bool = False
) -> Mesh:
    """The mesh over `devices` (all by default); slices, joined by DCN, are outermost.

    With `explicit` axes every array's sharding is part of its type: tracing a step checks it.
    """
    from jax.experimental import mesh_utils

    devices = jax.devices() if devices is None else list(devices)
    shape = [sizes[a] for a in AXES]
    if sizes["slice"] > 1 and hasattr(devices[0], "slice_index"):
        within, across = [1, *shape[1:]], [shape[0]] + [1] * (len(shape) - 1)
        grid = mesh_utils.create_hybrid_device_mesh(within, across, devices)
    elif devices[0].platform == "cpu":
        grid = np.array(devices).reshape(shape)
    else:
        grid = mesh_utils.create_device_mesh(shape, devices)
    kind = AxisType.Explicit if explicit else AxisType.Auto
    return Mesh(grid, AXES, axis_types=(kind,) * len(AXES))


def spec(axes: Sequence[str | None]) -> P:
    """Logical axes -> PartitionSpec, by RULES; a mesh axis serves the first that wants it."""
    used: set[str] = set()
    parts: list[tuple[str, ...] | None] = []
    for axis in axes:
        names = tuple(a for a in RULES[axis] if a not in used)
        used.update(names)
        parts.append(names or None)
    return P(*parts)


def sharding(mesh: Mesh, axes: Sequence[str | None]) -> NamedSharding:
    """The NamedSharding of an array with these logical axes."""
    return NamedSharding(mesh, spec(axes))


def is_explicit() -> bool:
    """Whether shardings are part of the types in the program being traced."""
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and AxisType.Explicit in mesh.axis_types


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pins an activation's sharding; does nothing on one device or outside a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    if is_explicit():
        return jax.sharding.reshard(x, spec(axes))
    return jax.lax.with_sharding_constraint(x, spec(axes))


def left_to_compiler(f: Callable, *axes: str | None) -> Callable:
    """f, its inside partitioned by the compiler even under explicit axes.

    There its results have the sharding of `axes`; elsewhere it is f itself.
    """

    def call(*args: Any) -> Any:
        if not is_explicit():
            return f(*args)
        return jax.sharding.auto_axes(f, out_sharding=spec(axes))(*args)

    return call


def product(x: jax.Array, w: jax.Array) -> jax.Array:
    """x [..., D] times w [D, ...] under explicit axes, as the rules for parallel training want it.

    A mesh axis over which x's rows are split is gathered in w (fully sharded parameters); one over
    which both split D is summed over (tensor parallel).
    """
    rows, (*_, inner) = jax.typeof(x).sharding.spec[:-1], jax.typeof(x).sharding.spec
    taken = {a for part in rows for a in _names(part)}
    outer = [
        tuple(a for a in _names(part) if a not in taken) or None
        for part in jax.typeof(w).sharding.spec[1:]
    ]
    w = jax.sharding.reshard(w, P(inner, *outer))
    dims = (((x.ndim - 1,), (0,)), ((), ()))
    return jax.lax.dot_general(x, w, dims, out_sharding=P(*rows, *outer))


def _names(part: Any) -> tuple[str, ...]:
    """The mesh axes of one part of a PartitionSpec."""
    return (part,) if isinstance(part, str) else tuple(part or ())
