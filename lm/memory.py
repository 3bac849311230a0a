"""What takes a device's memory in a training step, and what to change where it does not suffice.

Parameters, gradients and optimizer are exact, by their shapes and the mesh. Activations are an
estimate: what the forward pass keeps for the backward pass, as JAX traces it, one layer's share of
what it would keep without remat (that layer is computed again), and the logits that exist at a
time; what the compiler keeps besides is not in it.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data.errors import UserError
from lm import mesh as meshes
from lm import params as parameters
from lm.config import resolve
from lm.state import state_shardings

GIB = 2.0**30
EXHAUSTED = "RESOURCE_EXHAUSTED"
CHEAPEST = 3
NEXT_REMAT = {"none": "minimal", "minimal": "attention", "attention": "full"}
FLOAT32 = 4


class Memory(NamedTuple):
    """Bytes on each device."""

    parameters: float
    gradients: float
    optimizer: float
    activations: float  # an estimate

    @property
    def total(self) -> float:
        return sum(self)


class Remedy(NamedTuple):
    """A change of the config, what it costs, and the bytes that it saves on each device."""

    change: str
    cost: str
    saves: float


def step_memory(trainer: Any) -> Memory:
    """The memory of a `lm.train.Trainer`'s step."""
    from lm.aot import abstract_arguments  # imports lm.train, which imports this

    state, batches, _ = abstract_arguments(trainer)
    shardings = state_shardings(trainer.model, trainer.optimizer, trainer.mesh)
    params = _bytes(state.params, shardings.params)
    rows = trainer.config.batch_size // trainer.config.optim.microbatches

    def one(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *x.shape[2:]), x.dtype)

    ways = np.prod([trainer.mesh.shape[a] for a in (*meshes.RULES["batch"], "seq")])
    kept = float(_kept(trainer, state.params, jax.tree.map(one, batches)) / ways)
    return Memory(params, params, _bytes(state.opt_state, shardings.opt_state), kept)


def _bytes(tree: Any, shardings: Any) -> float:
    """On one device."""
    sizes = jax.tree.map(
        lambda x, s: np.prod(s.shard_shape(x.shape), dtype=float) * x.dtype.itemsize,
        tree, shardings,
    )  # fmt: skip
    return float(sum(jax.tree.leaves(sizes)))


def _kept(trainer: Any, params: Any, batch: Any) -> float:
    """Bytes over all devices that the backward pass of one microbatch finds."""
    from lm.loss import loss_sums

    c, chunk = trainer.model.config, trainer.config.train.loss_chunk
    scored = trainer.objective.scored

    def whole(tree: Any) -> float:
        return float(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)))

    def residuals(remat: str) -> float:
        model = parameters.build(dataclasses.replace(c, remat=remat))

        def backward(params: Any, batch: Any) -> Any:
            return jax.vjp(lambda p: loss_sums(model, p, batch, scored, chunk).loss, params)[1]

        with jax.set_mesh(trainer.mesh):
            return whole(jax.eval_shape(backward, params, batch))

    found = residuals(c.remat)
    if c.remat != "none":
        found += max(residuals("none") - found, 0.0) / sum(c.stacks.values())
    rows, length = batch.targets.shape
    logits = rows * min(chunk or length, scored or length) * c.vocab_size * FLOAT32
    # What is kept has the parameters in it, which are no copies; logits have a gradient.
    return max(found - whole(params), 0.0) + logits


def remedies(trainer: Any, now: Memory) -> list[Remedy]:
    """Up to three changes that save memory, those first that cost least."""
    from lm.train import Trainer

    found: list[Remedy] = []
    for changes, cost in candidates(trainer.config, len(trainer.devices)):
        c = ConfigDict(trainer.config.to_dict())
        c.update_from_flattened_dict(changes)
        with contextlib.suppress(UserError):  # it does not divide, or is not possible here
            saves = now.total - step_memory(Trainer(resolve(c), None, trainer.devices)).total
            text = " ".join(f"--config.{k}={v}" for k, v in changes.items())
            if saves > 0:
                found.append(Remedy(text, cost, saves))
        if len(found) == CHEAPEST:
            break
    return found


def candidates(c: ConfigDict, devices: int) -> Iterator[tuple[dict[str, Any], str]]:
    """Changes in the order of what they cost, and that in words."""
    chunk = c.train.loss_chunk or c.seq_len
    if chunk > 128 and chunk % 2 == 0:
        yield {"train.loss_chunk": chunk // 2}, "same numbers, hardly slower"
    if devices > 1 and "fsdp" not in c.mesh:
        yield {"mesh": "fsdp:-1"}, "same numbers, parameters travel each step"
    yield {"optim.microbatches": 2 * c.optim.microbatches}, "same numbers, a little slower"
    remat = c.model.remat
    while remat := NEXT_REMAT.get(remat):
        yield {"model.remat": remat}, "same numbers, computes more again (full: a third more)"
    yield {"batch_size": c.batch_size // 2}, "another run: half the tokens a step"


def table(memory: Memory, limit: float | None) -> str:
    """The memory of a step for people."""
    lines = [f"  {name:<12}{size / GIB:>9.3f} GiB" for name, size in memory._asdict().items()]
    lines.append(f"  {'together':<12}{memory.total / GIB:>9.3f} GiB")
    if limit:
        lines.append(f"  {'device':<12}{limit / GIB:>9.3f} GiB")
    return "\n".join(["memory of a step on each device (activations estimated):", *lines])


@contextlib.contextmanager
def explaining(trainer: Any) -> Iterator[None]:
    """Says what takes the memory, and what to change, where a device has not enough of it.

    Raises:
      UserError: the block ran out of memory; the table was printed on stderr.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        if EXHAUSTED not in str(e):
            raise
        now = step_memory(trainer)
        stats = trainer.devices[0].memory_stats() or {}
        print(table(now, stats.get("bytes_limit")), file=sys.stderr)
        ways = "; ".join(
            f"{r.change} (saves about {r.saves / GIB:.3f} GiB; {r.cost})"
            for r in remedies(trainer, now)
        )
        raise UserError(f"out of device memory; the cheapest remedies: {ways}") from e
