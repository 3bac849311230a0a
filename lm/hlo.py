"""The text of a compiled program, as XLA writes it: instructions, shapes, and loops' turns."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2} | {
    "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8
}  # fmt: skip
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
ELSEWHERE = re.compile(r"S\(\d+\)")  # in a layout: memory other than the HBM


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    shape: str
    op: str
    rest: str  # operands and attributes


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
    bound = max((c for i in condition if (c := constant(i)) is not None), default=1)
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
        added = [c for i in given if (c := constant(i)) is not None]
        others = [i for i in given if constant(i) is None]
        if at.op == "get-tuple-element":
            return step if re.search(rf"index={index}\b", at.rest) else 0
        if at.op not in ("add", "copy", "convert", "bitcast") or len(others) != 1:
            return 0
        step, at = step + sum(added), others[0]
    return 0


def constant(i: Instruction) -> int | None:
    """The value of a whole constant, None of anything else."""
    return number(i.rest) if i.op == "constant" else None


def number(rest: str) -> int | None:
    """The number in brackets of a constant or parameter."""
    found = re.match(r"(\d+)\)", rest)
    return int(found[1]) if found else None


def dimensions(shape: str) -> tuple[int, ...]:
    """Of the first array in a shape."""
    found = SHAPE.search(shape)
    return tuple(int(d) for d in found[2].split(",") if d) if found else ()


def arrays(shape: str) -> Iterator[tuple[float, bool]]:
    """The bytes of each array in a shape, and whether it lies in the HBM."""
    for kind, dims, layout in SHAPE.findall(shape):
        size = math.prod(int(d) for d in dims.split(",") if d)
        yield size * ITEM_BYTES.get(kind, 1), not ELSEWHERE.search(layout)


def size_bytes(shape: str) -> float:
    """Of all arrays in a shape."""
    return sum(size for size, _ in arrays(shape))


def operands(rest: str) -> list[str]:
    """Names of an instruction's operands."""
    return re.findall(r"%([\w.-]+)", rest.partition("), ")[0])
