"""Bytes that an instruction of a compiled program reads and writes in a chip's HBM.

An array counts once for each instruction that reads it and once for the one that writes it; what
lies in another memory (the layout says so) and what never leaves a fusion counts nothing. Of an
array that is read or written in part, as a scanned layer's weights are, the part counts.
"""

from collections.abc import Sequence

from lm.hlo import Instruction, arrays, computations_named, number, operands, size_bytes

Computations = dict[str, list[Instruction]]

# Instructions that move nothing: names for what is there, loops (their bodies count), and the
# ends of what was counted where it started.
NOTHING = (
    "parameter", "constant", "get-tuple-element", "tuple", "bitcast", "while", "call",
    "conditional", "after-all", "opt-barrier", "partition-id", "replica-id", "iota",
)  # fmt: skip
SLICES = ("dynamic-slice", "slice", "gather")


def hbm_bytes(
    instruction: Instruction, computations: Computations, shapes: dict[str, str]
) -> float:
    """The bytes of one run of a scheduled instruction."""
    op = instruction.op
    if op in NOTHING or op.endswith("-done") or op.endswith("-update"):
        return 0.0
    given = [shapes.get(name, "") for name in operands(instruction.rest)]
    if op in SLICES:
        return 2 * _held(instruction.shape)
    if op == "dynamic-update-slice":
        return 2 * _held(given[1])
    if op.endswith("-start"):  # its shape repeats the operands
        return _held(instruction.shape)
    called = computations_named(instruction.rest, "calls") if op == "fusion" else []
    if not called:
        return sum(map(_held, given)) + _held(instruction.shape)
    body = computations[called[0]]
    read = (_read(at, shape, body) for at, shape in enumerate(given))
    return sum(read) + _written(instruction.shape, body)


def _held(shape: str) -> float:
    """Bytes of a shape's arrays that lie in the HBM."""
    return sum(size for size, in_hbm in arrays(shape) if in_hbm)


def _read(argument: int, shape: str, body: Sequence[Instruction]) -> float:
    """Of an operand of a fusion: all of it, or the slices that are all its body takes of it."""
    whole = _held(shape)
    own = next((i for i in body if i.op == "parameter" and number(i.rest) == argument), None)
    if not whole or own is None:
        return whole
    users = _users(own.name, body)
    if not users or any(not _in_part(i, own.name, body) for i in users):
        return whole
    return min(whole, sum(size_bytes(i.shape) for i in users if i.op in SLICES))


def _users(name: str, body: Sequence[Instruction]) -> list[Instruction]:
    """Who reads a value, views of it followed."""
    found = []
    for i in body:
        if name in operands(i.rest):
            found += (_users(i.name, body) or [i]) if i.op == "bitcast" else [i]
    return found


def _in_part(user: Instruction, name: str, body: Sequence[Instruction]) -> bool:
    """Whether a user takes a slice of a value, or writes one into it."""
    by_name = {i.name: i for i in body}
    first = _behind(operands(user.rest)[0], by_name)
    return user.op in (*SLICES, "dynamic-update-slice") and first == name


def _behind(name: str, by_name: dict[str, Instruction]) -> str:
    """What a view is a view of."""
    while name in by_name and by_name[name].op == "bitcast":
        name = operands(by_name[name].rest)[0]
    return name


def _written(shape: str, body: Sequence[Instruction]) -> float:
    """Of a fusion's results: each whole, or what is written into an array that is there."""
    by_name = {i.name: i for i in body}
    root = body[-1]
    results = operands(root.rest) if root.op == "tuple" else [root.name]
    total = 0.0
    for (size, in_hbm), name in zip(arrays(shape), results, strict=False):
        source = by_name.get(_behind(name, by_name))
        if source is not None and source.op == "dynamic-update-slice":
            size = size_bytes(by_name[operands(source.rest)[1]].shape)
        total += size if in_hbm else 0.0
    return total
