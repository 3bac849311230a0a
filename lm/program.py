"""What one chip does in a step, read from the compiled program's text.

XLA's own figures count the body of a loop once and a custom kernel as nothing. Here every
instruction counts as often as the loops around it turn: what it multiplies, what it reads and
writes in the HBM, and what it sends to other chips.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lm import traffic
from lm.hlo import (
    Instruction,
    arrays,
    computations_named,
    dimensions,
    executions,
    operands,
    size_bytes,
    split,
)

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")


# What the runtime does between slices: the program sends its array to the host and receives
# the result.
BETWEEN_SLICES = re.compile(r'_xla_megascale_transfer_type="(\w+)"')


class Collective(NamedTuple):
    """Collectives of one kind over the same mesh axes."""

    kind: str
    axes: str  # 'fsdp', 'data+fsdp'
    ways: int  # devices in a group
    times: int  # a step
    bytes: float  # on each chip in a step: the full array of each

    @property
    def received(self) -> float:
        """Bytes that come to a chip in a step, by the best algorithm known."""
        if self.kind == "collective-permute":
            return self.bytes
        return self.bytes * (self.ways - 1) / self.ways * (2 if self.kind == "all-reduce" else 1)


class Kernel(NamedTuple):
    """A custom kernel: where it stands, its first result's shape, and how often it runs a step."""

    name: str
    shape: tuple[int, ...]
    times: int


class Work(NamedTuple):
    """One instruction, as it is scheduled; what is fused runs as one."""

    name: str
    flops: float  # of products, each time
    bytes: float  # to and from the HBM, each time
    times: int  # a step


class Program(NamedTuple):
    """What one chip does in a step."""

    work: list[Work]
    collectives: list[Collective]
    kernels: list[Kernel]

    @property
    def product_flops(self) -> float:
        return sum(w.times * w.flops for w in self.work)

    @property
    def hbm_bytes(self) -> float:
        return sum(w.times * w.bytes for w in self.work)


def read(text: str, mesh: dict[str, int]) -> Program:
    """Reads a compiled program's text.

    Args:
      text: of the optimised module, as `compiled.as_text()` gives it.
      mesh: sizes of the mesh's axes, in the order in which its devices are numbered.
    """
    computations, entry = split(text)
    shapes = {i.name: i.shape for body in computations.values() for i in body}
    turns = executions(computations, entry)
    fused = {
        called
        for body in computations.values()
        for i in body
        if i.op == "fusion"
        for called in computations_named(i.rest, "calls")
    }
    work, kernels = [], []
    moved: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0, 0.0])
    started = {c for body in computations.values() if starts(body) for c in map(channel, body) if c}

    def flops(instruction: Instruction) -> float:
        """Of an instruction's products, and of those fused into it."""
        if instruction.op in ("dot", "convolution"):
            return product_flops(instruction, shapes)
        if instruction.op != "fusion":
            return 0.0
        inside = computations_named(instruction.rest, "calls")
        return sum(flops(i) for name in inside for i in computations[name])

    for name, body in computations.items():
        for instruction in body if turns[name] else ():
            times, op = turns[name], instruction.op.removesuffix("-start")
            if name not in fused:
                size = traffic.hbm_bytes(instruction, computations, shapes)
                done = flops(instruction)
                if size or done:
                    work.append(Work(instruction.name, done, size, times))
            if op in COLLECTIVES:
                if channel(instruction) in started and not starts(body):
                    continue  # the part of one that runs beside a product, or its end
                # The TPU's form of a reduce-scatter is an all-reduce fused with the slice of it.
                kind = "reduce-scatter" if "all-reduce-scatter" in name else op
                group = first_group(instruction.rest, math.prod(mesh.values()))
                key = kind, group_axes(group, mesh), len(group)
                moved[key][0] += times
                moved[key][1] += times * payload(instruction, shapes)
            elif op == "send" and (found := BETWEEN_SLICES.search(instruction.rest)):
                key = found[1].lower().replace("_", "-"), "slice", mesh.get("slice", 1)
                moved[key][0] += times
                moved[key][1] += times * next(arrays(instruction.shape))[0]
            elif op == "custom-call" and "tpu_custom_call" in instruction.rest:
                kernels.append(Kernel(instruction.name, dimensions(instruction.shape), times))
    collectives = [Collective(*k, int(n), size) for k, (n, size) in sorted(moved.items())]
    return Program(work, collectives, kernels)


def starts(body: Sequence[Instruction]) -> bool:
    """True for the computation in which a TPU's asynchronous collective begins."""
    return any("AsyncCollectiveStart" in i.rest for i in body)


def channel(instruction: Instruction) -> str:
    """What the parts of one collective have in common, or ''."""
    found = re.search(r"channel_id=(\d+)", instruction.rest)
    return found[1] if found else ""


def payload(instruction: Instruction, shapes: dict[str, str]) -> float:
    """The bytes of the full array: an all-gather's result, a reduce-scatter's operand."""
    given = sum(size_bytes(shapes.get(name, "")) for name in operands(instruction.rest))
    if instruction.op.endswith("-start"):  # its shape has operand and result
        return max(given, size_bytes(instruction.shape) - given)
    return max(given, size_bytes(instruction.shape))


def product_flops(instruction: Instruction, shapes: dict[str, str]) -> float:
    """Two operations a multiply-add of a dot or convolution; padding is not counted."""
    result = dimensions(instruction.shape)
    left, right = (dimensions(shapes.get(n, "")) for n in operands(instruction.rest)[:2])
    if instruction.op == "dot":
        found = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
        contracted = [int(d) for d in found[1].split(",")] if found and found[1] else []
        return 2.0 * math.prod(result) * math.prod(left[d] for d in contracted)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.rest)
    assert labels, instruction.rest[:200]
    lhs, rhs, out = labels.groups()
    window = re.search(r"window=\{([^}]*)\}", instruction.rest)
    settings = dict(part.split("=") for part in window[1].split()) if window else {}
    pairs = result[out.index("b")] * result[out.index("f")] * right[rhs.index("i")]
    for at, dimension in enumerate(sorted(d for d in lhs if d.isdigit())):
        sizes = (
            left[lhs.index(dimension)],
            right[rhs.index(dimension)],
            result[out.index(dimension)],
        )
        pairs *= valid_pairs(*sizes, settings, at)
    return 2.0 * pairs


def valid_pairs(size: int, taps: int, results: int, settings: dict[str, str], at: int) -> int:
    """Pairs of result and tap of one window dimension that meet an element, not padding."""

    def setting(name: str, default: str) -> str:
        return settings[name].split("x")[at] if name in settings else default

    low = int(setting("pad", "0_0").split("_")[0])
    stride, spread = int(setting("stride", "1")), int(setting("rhs_dilate", "1"))
    gap = int(setting("lhs_dilate", "1"))
    place = np.arange(results)[:, None] * stride + np.arange(taps)[None] * spread - low
    return int(((place >= 0) & (place <= (size - 1) * gap) & (place % gap == 0)).sum())


def group_axes(group: np.ndarray, mesh: dict[str, int]) -> str:
    """The mesh axes along which the devices of a group differ: 'data+fsdp'."""
    places = np.array(np.unravel_index(group, tuple(mesh.values())))
    axes = [axis for axis, row in zip(mesh, places, strict=True) if len(set(row.tolist())) > 1]
    return "+".join(axes) or "one"


def first_group(rest: str, devices: int) -> np.ndarray:
    """Device numbers of a collective's first group, in any of the forms that XLA writes."""
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", rest):
        return np.array([int(d) for d in found[1].split(",")])
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", rest):
        groups, order, turned = (
            [int(d) for d in text.split(",")] if text else None for text in found.groups()
        )
        numbers = np.arange(math.prod(order or ())).reshape(order or ())
        return (numbers.transpose(turned) if turned else numbers).reshape(groups or ())[0]
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", rest):
        names = re.findall(r"'([^']+)'=(\d+)", found[1])
        varied = re.findall(r"'([^']+)'", found[2])
        grid = np.arange(math.prod(int(n) for _, n in names)).reshape([int(n) for _, n in names])
        return grid[tuple(slice(None) if name in varied else 0 for name, _ in names)].ravel()
    if found := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", rest):
        return np.array([int(found[1]), int(found[2])])
    return np.arange(devices)
