"""Slices by the cloud's names, as XLA's compiler for TPUs describes them.

v4-N and v5p-N count TensorCores, two a chip; v5e-N (also v5litepod-N) and v6e-N count chips;
tpu7x-N counts devices, two a chip, each with half of its memory and speed.
"""

import importlib.util
import os
from typing import Any, NamedTuple

from data.errors import UserError, suggest
from lm.chips import CHIPS, Chip

FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
LARGEST = {"v4": 8192, "v5p": 12288, "tpu7x": 9216}


class Slice(NamedTuple):
    """One slice of TPU chips, or several alike."""

    name: str  # the cloud's: v5p-32
    kind: str  # in lm.chips.CHIPS
    grid: str  # of its chips: 2x2x4
    chips: int  # in one slice
    slices: int
    devices_per_chip: int

    @property
    def devices(self) -> int:
        return self.chips * self.slices * self.devices_per_chip

    @property
    def chip(self) -> Chip:
        """Figures of one device: of a chip, or of its half."""
        c, parts = CHIPS[self.kind], self.devices_per_chip
        price = None if c.dollars_per_hour is None else c.dollars_per_hour / parts
        return Chip(
            c.flops / parts,
            c.hbm_bytes / parts,
            c.hbm_bandwidth / parts,
            c.interconnect / parts,
            price,
            None if c.network is None else c.network / parts,
        )


def parse(name: str, slices: int = 1) -> Slice:
    """'v5p-32' -> what it is.

    Raises:
      UserError: no such kind of TPU, or no slice of that size.
    """
    kind, _, number = name.replace("v5litepod", "v5e").partition("-")
    known = [k for k in CHIPS if k.startswith(("v", "tpu"))]
    if kind not in known or not number.isdigit():
        raise UserError(
            f"--topology={name} is not a slice such as v5p-32; kinds are {', '.join(known)}"
            f"{suggest(kind, known)}"
        )
    count = int(number)
    if kind in ("v5e", "v6e"):
        if count not in FLAT:
            sizes = ", ".join(f"{kind}-{n}" for n in FLAT)
            raise UserError(f"--topology={name}: there is no such slice; there are {sizes}")
        return Slice(name, kind, FLAT[count], count, slices, 1)
    chips = count // 2
    if count % 8 or count > LARGEST[kind] or (chips & (chips - 1)):
        raise UserError(
            f"--topology={name}: {kind} slices are named by powers of two from {kind}-8 "
            f"(4 chips) on, up to {kind}-{LARGEST[kind]}"
        )
    return Slice(name, kind, cube(chips), chips, slices, 2 if kind == "tpu7x" else 1)


def cube(chips: int) -> str:
    """The most cubic grid of a power of two of chips, the way slices are made: 16 -> 2x2x4."""
    if chips == 4:
        return "2x2x1"
    power = chips.bit_length() - 1
    sides = sorted(2 ** ((power + i) // 3) for i in range(3))
    return "x".join(map(str, sides))


def devices(s: Slice) -> list[Any]:
    """Devices to compile for, none of them here.

    Raises:
      UserError: libtpu is not installed, or cannot describe the slice.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "compiling for TPUs needs the libtpu package, no TPU: "
            "pip install -r requirements-tpu.txt"
        )
    # So that the library neither asks the network what machine this is nor takes it for itself.
    for key, value in {
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5p-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
    }.items():
        os.environ.setdefault(key, value)
    from jax.experimental import topologies

    options: dict[str, Any] = {"chip_config_name": "megacore"} if s.kind == "v4" else {}
    if s.slices > 1:
        options["num_slices"] = s.slices
    try:
        return list(topologies.get_topology_desc(f"{s.kind}:{s.grid}", "tpu", **options).devices)
    except Exception as e:  # the library's own kinds
        raise UserError(f"libtpu does not know {s.name}: {' '.join(str(e).split())[:160]}") from e
