"""Know before you pay: the training step compiled for a TPU slice, here, without a TPU.

    python -m lm.aot --config=configs/gpt.py:7b --topology=v5p-32 --config.mesh=fsdp:-1
    python -m lm.aot --config=configs/gpt.py:7b --topology=v5e-256 --slices=2 \
        --config.mesh=slice:2,fsdp:-1 --json=out/aot.json
    python -m lm.aot --config=configs/gpt.py:7b --topology=v5p-32 --search=3

Prints memory per chip by kind against the chip's, collectives by type and mesh axis, and what the
step takes at best (lm/roofline.py): a bound and no forecast. Exits with 3 where it does not fit.
With `--search=N` mesh, microbatches and remat are chosen: ranked by a model (lm/search.py), the
best N compiled.
Needs the libtpu package (requirements-tpu.txt).
"""

if __name__ == "__main__":
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import math
import re
import sys
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from data.batch import Batch
from data.errors import UserError, run
from data.files import human_count, write_atomic
from data.windows import Windows
from lm import mesh as meshes
from lm import program, search, topology
from lm.config import ModelConfig, load, resolve
from lm.flops import flops_per_token
from lm.optim import Schedule, make_schedule
from lm.roofline import roofline
from lm.state import TrainState, state_shardings
from lm.train import Trainer

DOES_NOT_FIT = 3
GIB = 2.0**30
MOST_SECONDS = 15 * 60  # for a search
# What the compiler says: all that was used, or the temporaries without the arguments.
OUT_OF_MEMORY = re.compile(r"[Uu]sed ([\d.]+)([KMGT]) of")
TEMPORARIES = re.compile(r"temporaries \(([\d.]+)([KMGT])\) exceeds")


class Report(NamedTuple):
    """One chip's share of a step; bytes, seconds, FLOPs. None where compiling ended before."""

    topology: str
    hbm_bytes: float  # arguments + temporaries + outputs - what shares memory
    hbm_limit_bytes: float
    fits: bool
    memory: dict[str, float] | None = None  # by kind
    dtypes: dict[str, str] | None = None
    flops_per_chip: float | None = None  # computed: what remat repeats counts again
    model_flops_per_chip: float | None = None  # of the model, repeats left out
    hbm_traffic_per_chip: float | None = None  # bytes read and written
    collectives: list[dict] | None = None
    optimal_seconds: float | None = None  # the roofline: the longest of core, ici and dcn
    compute_seconds: float | None = None  # products at the peak
    hbm_seconds: float | None = None
    core_seconds: float | None = None  # instruction by instruction, the longer of those two
    ici_seconds: float | None = None  # from other chips of the slice
    dcn_seconds: float | None = None  # from other slices; None: no published speed
    xla_optimal_seconds: float | None = None  # XLA's own, loops counted once
    tokens_per_second: float | None = None  # of all chips, at best
    mfu_bound: float | None = None
    dollars_per_billion_tokens: float | None = None
    compile_seconds: float | None = None


def compile_step(config: ConfigDict, where: topology.Slice) -> Report:
    """Compiles the training step of a resolved config for a slice.

    Raises:
      UserError: the mesh does not fit the slice, the model or the batch; libtpu is missing.
    """
    trainer = Trainer(config, None, topology.devices(where))
    state, batch, schedule = abstract_arguments(trainer)
    began = time.perf_counter()
    with jax.set_mesh(trainer.mesh):
        lowered = trainer._advance.lower(state, batch, schedule, np.int32(1))
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as e:
            return too_large(where, str(e), e, held(state))
    seconds = time.perf_counter() - began
    memory = memory_by_kind(compiled, state)
    used = memory["arguments"] + memory["activations"] + memory["outputs"] - memory["shared"]
    limit = where.chip.hbm_bytes
    sizes = dict(zip(trainer.mesh.axis_names, trainer.mesh.devices.shape, strict=True))
    parsed = program.read(compiled.as_text() or "", sizes)
    return Report(
        name_of(where),
        used,
        limit,
        used + memory["code"] <= limit,
        memory,
        {"parameters": "float32", "optimizer": "float32", "computation": config.model.dtype},
        collectives=[c._asdict() for c in parsed.collectives],
        xla_optimal_seconds=(compiled.cost_analysis() or {}).get("optimal_seconds"),
        compile_seconds=seconds,
        **bound(parsed, trainer, where),
    )


def name_of(where: topology.Slice) -> str:
    return where.name + (f" x {where.slices}" if where.slices > 1 else "")


def abstract_arguments(trainer: Trainer) -> tuple[TrainState, Batch, Schedule]:
    """The step's arguments as shapes with shardings."""
    shardings = state_shardings(trainer.model, trainer.optimizer, trainer.mesh)

    def place(x: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    state = jax.tree.map(place, jax.eval_shape(trainer._initial_state), shardings)
    one = trainer.objective.transform(
        Windows(
            np.full((1, trainer.objective.raw_length), trainer.config.data.vocab_size - 1),
            None,
            np.zeros(1, np.int64),
            0,
        )
    )
    rows = NamedSharding(trainer.mesh, P(None, *meshes.spec(("batch", "length"))))
    lead = trainer.config.train.steps_per_call, trainer.config.batch_size

    def stacked(x: np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*lead, *x.shape[1:]), x.dtype, sharding=rows)

    schedule = jax.tree.map(np.float32, make_schedule(trainer.config))
    return state, jax.tree.map(stacked, one), schedule


def held(tree: Any) -> float:
    """Bytes a chip of arrays' shards."""
    return sum(
        math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree)
    )


def memory_by_kind(compiled: Any, state: TrainState) -> dict[str, float]:
    """Bytes a chip: what the state's arrays take, and XLA's own account."""
    m = compiled.memory_analysis()
    return {
        "parameters": held(state.params),
        "optimizer": held(state.opt_state),
        "arguments": m.argument_size_in_bytes,
        "activations": m.temp_size_in_bytes,
        "outputs": m.output_size_in_bytes,
        "shared": m.alias_size_in_bytes,
        "code": m.generated_code_size_in_bytes,
    }


def bound(parsed: program.Program, trainer: Trainer, where: topology.Slice) -> dict[str, Any]:
    """What a step takes at best, and what follows from it."""
    chip, config = where.chip, trainer.config
    c: ModelConfig = trainer.model.config
    r = roofline(parsed, chip, c.arch == "decoder")
    tokens = trainer.tokens_per_step / r.optimal_seconds
    model = flops_per_token(c, config.seq_len, "visible") if c.arch != "encoder-decoder" else None
    model_flops = model * trainer.tokens_per_step / where.devices if model else None
    price = chip.dollars_per_hour
    cost = price * where.devices / 3600 / tokens * 1e9 if price else None
    return {
        "flops_per_chip": r.flops,
        "model_flops_per_chip": model_flops,
        "hbm_traffic_per_chip": r.hbm_traffic,
        "optimal_seconds": r.optimal_seconds,
        "compute_seconds": r.compute_seconds,
        "hbm_seconds": r.hbm_seconds,
        "core_seconds": r.core_seconds,
        "ici_seconds": r.ici_seconds,
        "dcn_seconds": r.dcn_seconds,
        "tokens_per_second": tokens,
        "mfu_bound": model_flops / r.optimal_seconds / chip.flops if model_flops else None,
        "dollars_per_billion_tokens": cost,
    }


def too_large(where: topology.Slice, text: str, error: Exception, state: float) -> Report:
    """The report of a program that the compiler refused for its memory; `state` is its bytes."""
    whole, part = OUT_OF_MEMORY.search(text), TEMPORARIES.search(text)
    found = whole or part
    if not found:
        raise error
    used = float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1) + (0 if whole else state)
    return Report(name_of(where), used, where.chip.hbm_bytes, False)


def show(r: Report, config: ConfigDict) -> str:
    """The report for a person."""
    lines = [f"{r.topology}, mesh {config.mesh}, batch {config.batch_size} x {config.seq_len}"]
    share, limit = r.hbm_bytes / r.hbm_limit_bytes, r.hbm_limit_bytes / GIB
    lines.append(f"memory  {r.hbm_bytes / GIB:8.2f} GiB a chip of {limit:.2f} ({share:.0%})")
    for name, size in (r.memory or {}).items():
        lines.append(f"        {size / GIB:8.2f} {name}")
    for c in r.collectives or ():
        lines.append(
            f"moves   {c['bytes'] / GIB:8.2f} GiB in {c['times']:,} {c['kind']} over {c['axes']}"
        )
    if r.optimal_seconds is not None:
        lines.append(
            f"at best {r.optimal_seconds:8.4f} s a step, "
            f"{human_count(r.tokens_per_second or 0)} tokens/s: the longest of"
        )
        lines.append(f"        {r.core_seconds:8.4f} computing, one instruction after another")
        lines.append(f"                 ({r.compute_seconds:.4f} products at the chip's peak,")
        lines.append(f"                  {r.hbm_seconds:.4f} bytes through its memory)")
        lines.append(f"        {r.ici_seconds:8.4f} moving within the slice")
        far = "unknown: no published speed" if r.dcn_seconds is None else f"{r.dcn_seconds:8.4f}"
        lines.append(f"        {far} moving between slices")
    if r.mfu_bound:
        lines.append(f"        {r.mfu_bound:8.0%} MFU at most, attention counted under its mask")
    if r.dollars_per_billion_tokens:
        lines.append(
            f"        {r.dollars_per_billion_tokens:8.2f} dollars a billion tokens at least"
        )
    if not r.fits:
        lines.append("does not fit: " + "; ".join(remedies(config)))
    return "\n".join(lines)


def remedies(config: ConfigDict) -> list[str]:
    """What makes a step smaller, the cheapest first."""
    found = []
    if config.train.loss_chunk == 0:
        found.append("--config.train.loss_chunk=512 (logits in parts)")
    if config.model.remat != "full":
        found.append("--config.model.remat=full")
    found.append(f"--config.optim.microbatches={2 * config.optim.microbatches}")
    if "fsdp" not in config.mesh:
        found.append("--config.mesh=fsdp:-1 (parameters split over all chips)")
    found.append(f"--config.batch_size={config.batch_size // 2}, or more chips")
    return found[:3]


def find(config: ConfigDict, where: topology.Slice, best: int) -> tuple[ConfigDict, Report]:
    """Compiles the best candidates of the search; returns the fastest that fits, and its report.

    No further one is compiled once half of the time is gone, or of those that fit `best` are
    there; one that does not fit after all costs its compile and no place.
    """
    ranked, began = search.rank(config, where), time.monotonic()
    print(f"{len(ranked)} ways fit by the model; compiled:")
    done: list[tuple[ConfigDict, Report]] = []
    for candidate, e in ranked:
        if done and time.monotonic() - began > MOST_SECONDS / 2:
            break
        c = search.apply(config, candidate)
        report = compile_step(c, where)
        says = f"{report.optimal_seconds:.4f} s" if report.optimal_seconds else "does not fit"
        print(
            f"  {candidate.flags()}: {report.hbm_bytes / GIB:.2f} GiB (model "
            f"{e.hbm_bytes / GIB:.2f}), {says} (model {e.seconds:.4f})",
            flush=True,
        )
        done.append((c, report))
        if sum(r.fits for _, r in done) == best:
            break
    return min(done, key=lambda x: (not x[1].fits, x[1].optimal_seconds or math.inf))


def main() -> int:
    """The command."""
    config, flags = load(
        sys.argv,
        __doc__ or "",
        topology=("", "a slice by its name in the cloud: v5p-32, v5e-256, v6e-8, tpu7x-8"),
        slices=("1", "how many of them, joined by the data centre's network"),
        json=("", "file for the report as JSON"),
        search=("0", "compile so many of the best meshes, microbatches and remats"),
    )
    if not flags.topology:
        raise UserError("--topology=NAME is missing, e.g. --topology=v5p-32")
    if not flags.slices.isdigit() or int(flags.slices) < 1:
        raise UserError(f"--slices={flags.slices} is not a number of slices")
    if not flags.search.isdigit():
        raise UserError(f"--search={flags.search} is not a number of steps to compile")
    config = resolve(config)
    where = topology.parse(flags.topology, int(flags.slices))
    if int(flags.search):
        config, report = find(config, where, int(flags.search))
    else:
        report = compile_step(config, where)
    if flags.json:
        write_atomic(flags.json, json.dumps(report._asdict(), indent=2) + "\n")
    print(show(report, config))
    return 0 if report.fits else DOES_NOT_FIT


if __name__ == "__main__":
    run(main)
