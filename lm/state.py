"""The state of a run: what it is, where it lives on a mesh, and how it comes from a checkpoint."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from lm import mesh as meshes
from lm import params as parameters
from lm.checkpoint import Checkpoints
from lm.optim import make_optimizer

Tree = Any


class TrainState(NamedTuple):
    """All that a run carries from step to step (or, of the same shape, where each part lives)."""

    step: Any  # int32 scalar: steps done
    params: Tree
    opt_state: Tree


def restore_state(
    checkpoints: Checkpoints, config: ConfigDict, model: parameters.Model, mesh: jax.sharding.Mesh
) -> TrainState | None:
    """The newest state, placed on a mesh in the model's layout; None where there is none."""
    if checkpoints.latest() is None:
        return None
    stacked = parameters.build(dataclasses.replace(model.config, scan=True))
    optimizer = make_optimizer(config, stacked)
    abstract = jax.eval_shape(
        lambda: TrainState(jnp.int32(0), p := parameters.init(stacked, 0), optimizer.init(p))
    )
    placed = jax.tree.map(
        lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
        abstract,
        state_shardings(stacked, optimizer, mesh),
    )
    return checkpoints.restore(placed, scanned=model.config.scan)


def state_shardings(model: parameters.Model, optimizer: Any, mesh: jax.sharding.Mesh) -> TrainState:
    """Where each array of a state lives: moments beside their parameters, scalars everywhere."""
    params = parameters.map_declared(lambda d: meshes.sharding(mesh, d.axes), model)
    abstract = jax.eval_shape(optimizer.init, parameters.abstract(model))
    whole = NamedSharding(mesh, P())
    opt_state = parameters.map_dicts(lambda _: params, abstract, other=lambda _: whole)
    return TrainState(whole, params, opt_state)
