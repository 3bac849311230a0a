"""Which mesh, remat and microbatches to train with: ranked by a model, then compiled.

A step's memory and time on a chip are sums of terms that follow from the shapes alone, each with a
coefficient of its own: what of it the compiler really keeps, computes and moves. The coefficients
are fitted, none below zero, to steps that were compiled (`compiled_cases.json`, reports of
`lm.aot`); `python -m lm.search` shows how far the model is off for each of them. It ranks;
what is reported in the end was compiled.
"""

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy.optimize import nnls

from data.errors import UserError
from lm import mesh as meshes
from lm import topology
from lm.chips import Chip
from lm.config import ModelConfig, model_config, resolve
from lm.flops import flops_per_token, layer_matmuls, parameters

CASES = Path(__file__).parent / "compiled_cases.json"
REMATS = ("none", "minimal", "attention", "full")
MOST_TENSOR = 8  # ways: beyond, the parts of a product are too narrow to be worth trying
STATE = 12.0  # bytes a parameter: itself and two moments, float32


class Candidate(NamedTuple):
    """One way to run a step."""

    mesh: str
    microbatches: int
    remat: str

    def flags(self) -> str:
        return (
            f"--config.mesh={self.mesh} --config.optim.microbatches={self.microbatches} "
            f"--config.model.remat={self.remat}"
        )


class Terms(NamedTuple):
    """What a chip's memory and time are sums of, by name; bytes, FLOPs."""

    fixed: float  # memory that is known: parameters and moments
    memory: dict[str, float]
    work: dict[str, float]  # seconds at the peaks of computing and memory
    moved: dict[str, float]  # seconds at the interconnect's peak


class Estimate(NamedTuple):
    """One chip's step, by the model."""

    hbm_bytes: float
    core_seconds: float
    ici_seconds: float

    @property
    def seconds(self) -> float:
        return max(self.core_seconds, self.ici_seconds)


def apply(config: ConfigDict, candidate: Candidate) -> ConfigDict:
    """The resolved config, run as the candidate says."""
    c = ConfigDict(config.to_dict())
    c.mesh, c.optim.microbatches = candidate.mesh, candidate.microbatches
    c.model.remat = candidate.remat
    return resolve(c)


def candidates(config: ConfigDict, where: topology.Slice) -> Iterator[Candidate]:
    """All that divide the slice, the model and the batch evenly; powers of two only."""
    c = model_config(config)
    within = where.chips * where.devices_per_chip
    head = f"slice:{where.slices}," if where.slices > 1 else ""
    tensors = [t for t in _powers(min(MOST_TENSOR, within)) if within % t == 0]
    for tensor in tensors:
        for data in _powers(within // tensor):
            mesh = f"{head}data:{data},fsdp:{within // tensor // data},tensor:{tensor}"
            sizes = meshes.parse(mesh, where.devices)
            for parts in _powers(config.batch_size):
                if config.batch_size % parts:
                    continue
                try:
                    meshes.check(sizes, c, config.batch_size // parts, config.seq_len)
                except UserError:
                    continue
                for remat in REMATS:
                    yield Candidate(mesh, parts, remat)


def _powers(most: int) -> list[int]:
    """1, 2, 4 ... up to `most`."""
    return [1 << i for i in range(most.bit_length())]


def terms(config: ConfigDict, sizes: dict[str, int], chip: Chip) -> Terms:
    """The terms of a resolved config on a mesh of these sizes."""
    c = model_config(config)
    tensor, shards = sizes["tensor"], sizes["fsdp"] * sizes["tensor"]
    ways = math.prod(sizes[a] for a in meshes.RULES["batch"]) * sizes["seq"]
    parts, layers = config.optim.microbatches, sum(c.stacks.values())
    tokens = config.batch_size * config.seq_len / ways  # a step
    at_once = tokens / parts
    N, item = parameters(c).total, 2 if c.dtype == "bfloat16" else 4
    layer = layer_matmuls(c) / tensor
    inside = _elements_inside(c) / tensor + c.width
    chunk = config.train.loss_chunk or config.seq_len
    logits = at_once * min(1.0, chunk / config.seq_len) * c.vocab_size / tensor
    kept = {
        "full": c.width,
        "offload": c.width,
        "attention": c.width + c.heads * c.head_dim / tensor,
        "minimal": inside + c.width,
        "none": 3 * inside + c.width,  # of norms, rotations and activations too
    }[c.remat]
    gather = (sizes["fsdp"] - 1) / sizes["fsdp"]
    reduce = 2 * (1 - 1 / sizes["data"])
    cross = (tensor - 1) / tensor
    one_way = chip.interconnect / 2
    return Terms(
        STATE * N / shards,
        memory={
            "copies and gradients": N / shards,
            "summed gradients": 4 * N / shards * (parts > 1),
            "kept": layers * at_once * kept * item,
            "one layer": item * (at_once * inside + layer),
            "one layer in a loop": item * at_once * inside * c.scan,
            "logits": 4 * logits,
        },
        work={
            "products": tokens * _computed(c, config.seq_len) / tensor / chip.flops,
            "activations": layers * tokens * inside * item / chip.hbm_bandwidth,
            "weights": parts * layers * layer * item / chip.hbm_bandwidth,
            "state": STATE * N / shards / chip.hbm_bandwidth,
        },
        moved={
            "weights gathered": parts * N / tensor * item * gather / one_way,
            "gradients summed": parts * N / shards * item * reduce / one_way,
            "activations": layers * tokens * c.width * item * cross / one_way,
        },
    )


def _elements_inside(c: ModelConfig) -> float:
    """Results of one layer's products and attention for one token."""
    heads = (2 * c.heads + 2 * c.kv_heads) * c.head_dim
    return heads + c.mlp * (2 if c.gated else 1) + 2 * c.width


def _computed(c: ModelConfig, seq_len: int) -> float:
    """FLOPs a token, what remat and the chunked loss compute again counted again."""
    layers = sum(c.stacks.values())
    attention = 2 * c.heads * c.head_dim * seq_len  # q k^T and p v under a causal mask
    dense = 2 * layer_matmuls(c)
    again = {
        "full": dense + attention,
        "offload": dense,
        "attention": dense,
        "minimal": 0.0,
        "none": 0.0,
    }[c.remat]
    if again:  # the last product's result is not needed again
        again -= 2 * c.width * c.mlp
    model = flops_per_token(c, seq_len, "visible") if len(c.stacks) == 1 else 0.0
    return model + layers * again + 2 * c.width * c.vocab_size


class Fit(NamedTuple):
    """Coefficients of the terms, by name."""

    memory: dict[str, float]
    work: dict[str, float]
    moved: dict[str, float]

    def estimate(self, t: Terms) -> Estimate:
        def total(part: str) -> float:
            values, weights = getattr(t, part), getattr(self, part)
            return sum(weights[name] * value for name, value in values.items())

        return Estimate(t.fixed + total("memory"), total("work"), total("moved"))


def fit(cases: list[dict[str, Any]]) -> Fit:
    """Coefficients from compiled cases: least squares of relative errors, none below zero."""
    found = [(case_terms(case), case["report"]) for case in cases]

    def solve(part: str, figure: str, fixed: bool = False) -> dict[str, float]:
        names = list(getattr(found[0][0], part))
        rows, targets = [], []
        for t, report in found:
            target = report[figure]
            scale = max(target, 1e-12)
            rows.append([getattr(t, part)[name] / scale for name in names])
            targets.append((target - (t.fixed if fixed else 0.0)) / scale)
        weights, _ = nnls(np.array(rows), np.array(targets))
        return dict(zip(names, weights.tolist(), strict=True))

    return Fit(
        solve("memory", "hbm_bytes", fixed=True),
        solve("work", "core_seconds"),
        solve("moved", "ici_seconds"),
    )


def case_terms(case: dict[str, Any]) -> Terms:
    """The terms of a case: {'config': resolved, 'topology': name, 'slices': n, 'report': ...}."""
    config = ConfigDict(case["config"])
    where = topology.parse(case["topology"], case["slices"])
    return terms(config, meshes.parse(config.mesh, where.devices), where.chip)


@functools.cache
def calibrated() -> Fit:
    """The fit to the compiled cases that come with the project."""
    return fit(json.loads(CASES.read_text()))


def rank(config: ConfigDict, where: topology.Slice) -> list[tuple[Candidate, Estimate]]:
    """Candidates that fit the chip by the model, the fastest first.

    Raises:
      UserError: none fits, or the model is of a kind that the terms do not describe.
    """
    if len(model_config(config).stacks) > 1:
        raise UserError("--search knows models of one stack; an encoder-decoder has two")
    found = []
    for candidate in candidates(config, where):
        c = apply(config, candidate)
        sizes = meshes.parse(c.mesh, where.devices)
        found.append((candidate, calibrated().estimate(terms(c, sizes, where.chip))))
    fits = [x for x in found if x[1].hbm_bytes <= where.chip.hbm_bytes]
    if not fits:
        least = min((e.hbm_bytes for _, e in found), default=0.0) / 2**30
        raise UserError(
            f"no mesh, remat or microbatches bring batch_size={config.batch_size} within "
            f"{where.chip.hbm_bytes / 2**30:.1f} GiB a chip of {where.name} (the least is about "
            f"{least:.1f}): take a larger slice or a smaller batch_size"
        )

    def order(x: tuple[Candidate, Estimate]) -> tuple[float, int, float]:
        """At the same speed to a thousandth: fewer parts, then more memory to spare."""
        return float(f"{x[1].seconds:.3g}"), x[0].microbatches, x[1].hbm_bytes

    return sorted(fits, key=order)


def main() -> None:
    """Shows the model beside the compiled cases."""
    for case in json.loads(CASES.read_text()):
        e, r = calibrated().estimate(case_terms(case)), case["report"]
        c = case["config"]
        print(
            f"{case['topology']:8} {c['mesh']:18} {c['model']['remat']:10} "
            f"{e.hbm_bytes / 2**30:6.2f} {r['hbm_bytes'] / 2**30:6.2f} GiB  "
            f"{e.core_seconds:.4f} {r['core_seconds']:.4f}  "
            f"{e.ici_seconds:.4f} {r['ici_seconds']:.4f} s"
        )
    print(json.dumps(calibrated()._asdict(), indent=1))


if __name__ == "__main__":
    main()
