"""What a compiled program does, read from its text: collectives, products and kernels.

XLA's own figures count the body of a loop once and a custom kernel as nothing. Here every
instruction counts as often as the loops around it turn.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2} | {
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8
}  # fmt: skip
COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    shape: str
    op: str
    rest: str  # operands and attributes


class Collective(NamedTuple):
    """Collectives of one kind over the same mesh axes."""

    kind: str
    axes: str  # 'fsdp', 'data+fsdp'
    times: int  # a step
    bytes: float  # on each chip in a step: the full array of each


class Kernel(NamedTuple):
    """A custom kernel: where it stands, its first result's shape, and how often it runs a step."""

    name: str
    shape: tuple[int, ...]
    times: int


class Program(NamedTuple):
    """What one chip does in a step."""

    product_flops: float
    collectives: list[Collective]
    kernels: list[Kernel]


def read(text: str, mesh: dict[str, int]) -> Program:
    """Reads a compiled program's text.

    Args:
      text: of the optimised module, as `compiled.as_text()` gives it.
      mesh: sizes of the mesh's axes, in the order in which its devices are numbered.
    """
    computations, entry = split(text)
    shapes = {i.name: i.shape for body in computations.values() for i in body}
    turns = executions(computations, entry)
    flops, kernels = 0.0, []
    moved: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    started = {c for body in computations.values() if starts(body) for c in map(channel, body) if c}
    for name, body in computations.items():
        for instruction in body if turns[name] else ():
            times, op = turns[name], instruction.op.removesuffix("-start")
            if op in ("dot", "convolution"):
                flops += times * product_flops(instruction, shapes)
            elif op in COLLECTIVES:
                if channel(instruction) in started and not starts(body):
                    continue  # the part of one that runs beside a product, or its end
                # The TPU's form of a reduce-scatter is an all-reduce fused with the slice of it.
                kind = "reduce-scatter" if "all-reduce-scatter" in name else op
                key = kind, group_axes(instruction.rest, mesh)
                moved[key][0] += times
                moved[key][1] += times * payload(instruction, shapes)
            elif op == "custom-call" and "tpu_custom_call" in instruction.rest:
                kernels.append(Kernel(instruction.name, dimensions(instruction.shape), times))
    collectives = [Collective(*k, int(n), size) for k, (n, size) in sorted(moved.items())]
    return Program(flops, collectives, kernels)


def starts(body: Sequence[Instruction]) -> bool:
    """True for the computation in which a TPU's asynchronous collective begins."""
    return any("AsyncCollectiveStart" in i.rest for i in body)


def channel(instruction: Instruction) -> str:
    """What the parts of one collective have in common, or ''."""
    found = re.search(r"channel_id=(\d+)", instruction.rest)
    return found[1] if found else ""


def split(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a module by name, and the name of the one it starts with."""
    computations: dict[str, list[Instruction]] = {}
    entry, body = "", []
    for line in text.splitlines():
        if head := COMPUTATION.match(line):
            body = computations[head[1]] = []
            entry = head[1] if line.startswith("ENTRY") else entry
        elif found := INSTRUCTION.match(line):
            body.append(Instruction(*found.groups()))
    return computations, entry


def executions(computations: dict[str, list[Instruction]], entry: str) -> dict[str, int]:
    """How often each computation runs: the trip counts of the loops around it, multiplied."""
    turns: dict[str, int] = defaultdict(int)

    def visit(name: str, times: int) -> None:
        turns[name] += times
        for instruction in computations.get(name, ()):
            rest = instruction.rest
            if instruction.op == "while":
                condition, body = (computations_named(rest, k)[0] for k in ("condition", "body"))
                turns_of_it = trip_count(rest, computations[condition], computations[body])
                visit(body, times * turns_of_it)
            elif instruction.op in ("fusion", "call", "async-start"):
                for called in computations_named(rest, "(?:calls|to_apply)"):
                    visit(called, times)
            elif instruction.op == "conditional":
                branches = re.search(r"branch_computations=\{([^}]*)\}", rest)
                names = re.findall(r"[\w.-]+", branches[1]) if branches else []
                names += computations_named(rest, "(?:true|false)_computation")
                for called in names:
                    visit(called, times)

    visit(entry, 1)
    return turns


def computations_named(rest: str, attribute: str) -> list[str]:
    """Names of the computations that an instruction's attribute gives."""
    return re.findall(rf"{attribute}=%?([\w.-]+)", rest)


def trip_count(rest: str, condition: Sequence[Instruction], body: Sequence[Instruction]) -> int:
    """Turns of a loop: as XLA notes it, or from its bound and the step of its counter from 0.

    The step is not always 1: a product whose operand is gathered part by part meanwhile takes two
    or more parts a turn.
    """
    if known := re.search(r"known_trip_count[^\d}]*(\d+)", rest):
        return int(known[1])
    constants = [int(m[1]) for i in condition if (m := constant(i))]
    bound = max(constants, default=1)
    counters = [
        int(m[1])
        for i in condition
        if i.op == "get-tuple-element" and (m := re.search(r"index=(\d+)", i.rest))
    ]
    steps = [counter_step(body, index) for index in counters]
    return -(-bound // max((s for s in steps if s), default=1))


def counter_step(body: Sequence[Instruction], index: int) -> int:
    """What a turn adds to an element of a loop's carry; 0 where it is no sum with constants."""
    by_name = {i.name: i for i in body}
    results = operands(body[-1].rest)
    at = by_name.get(results[index]) if index < len(results) else None
    step = 0
    while at is not None:
        given = [by_name[name] for name in operands(at.rest) if name in by_name]
        added = [int(m[1]) for i in given if (m := constant(i))]
        others = [i for i in given if not constant(i)]
        if at.op == "get-tuple-element":
            return step if re.search(rf"index={index}\b", at.rest) else 0
        if at.op not in ("add", "copy", "convert", "bitcast") or len(others) != 1:
            return 0
        step, at = step + sum(added), others[0]
    return 0


def constant(i: Instruction) -> re.Match[str] | None:
    """The match of a whole constant's value, if it is one."""
    return re.match(r"(\d+)\)", i.rest) if i.op == "constant" else None


def dimensions(shape: str) -> tuple[int, ...]:
    """Of the first array in a shape."""
    found = SHAPE.search(shape)
    return tuple(int(d) for d in found[2].split(",") if d) if found else ()


def size_bytes(shape: str) -> float:
    """Of all arrays in a shape."""
    return sum(
        ITEM_BYTES.get(kind, 1) * math.prod(int(d) for d in dims.split(",") if d)
        for kind, dims in SHAPE.findall(shape)
    )


def operands(rest: str) -> list[str]:
    """Names of an instruction's operands."""
    return re.findall(r"%([\w.-]+)", rest.partition("), ")[0])


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


def group_axes(rest: str, mesh: dict[str, int]) -> str:
    """The mesh axes along which the devices of a collective's groups differ: 'data+fsdp'."""
    sizes = tuple(mesh.values())
    group = first_group(rest, math.prod(sizes))
    places = np.array(np.unravel_index(group, sizes))
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
