"""The same step under JAX's Explicit axes: equal numbers, and a wrong sharding is refused."""

import jax
import numpy as np
import pytest

from configs import bert, gpt, t5
from data.batch import Batch
from lm import aot
from lm import mesh as meshes
from lm.config import resolve
from lm.optim import make_schedule
from lm.train import Trainer
from tests.lm.batches import random_batch

FAMILIES = {"gpt": gpt, "bert": bert, "t5": t5}


def trainer(family: str, mesh: str, explicit: bool = True, **changes) -> Trainer:
    c = FAMILIES[family].get_config("tiny")
    c.update(mesh=mesh, batch_size=16, seq_len=32, **changes)
    c.optim.microbatches, c.train.steps_per_call, c.train.loss_chunk = 2, 1, 8
    c.model.update(layers=4, scan=family != "bert", remat="full")
    return Trainer(resolve(c), None, explicit=explicit)


@pytest.mark.parametrize(
    ("family", "mesh"),
    [
        ("gpt", "slice:2,data:2,fsdp:2"),
        ("gpt", "fsdp:2,seq:4"),
        ("bert", "data:2,fsdp:2,tensor:2"),
        ("t5", "data:2,fsdp:2,tensor:2"),
    ],
)
def test_every_sharding_of_a_step_is_sound(family, mesh):
    """Tracing checks them all: forward, backward, accumulation, clipping and update."""
    t = trainer(family, mesh)
    state, batch, schedule = aot.abstract_arguments(t)
    with jax.set_mesh(t.mesh):
        (new, _), *_ = [t._advance.eval_shape(state, batch, schedule, np.int32(1))]
    for old, made in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert made.sharding.spec == old.sharding.spec


def test_a_wrong_sharding_is_refused():
    t = trainer("gpt", "fsdp:4,tensor:2")
    state, batch, schedule = aot.abstract_arguments(t)

    def turned(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        spec = [("tensor" if p in ("fsdp", ("fsdp",)) else None) for p in x.sharding.spec]
        wrong = jax.NamedSharding(t.mesh, jax.P(*spec))
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=wrong)

    moments = jax.tree.map(turned, state.opt_state)
    with jax.set_mesh(t.mesh), pytest.raises(Exception, match="[Ss]harding"):
        t._advance.trace(state._replace(opt_state=moments), batch, schedule, np.int32(1))


def test_explicit_axes_change_no_number():
    """Two steps on eight devices: the loss and norm of the one are those of the other."""
    rows = random_batch(16, 32, 1024)
    metrics = []
    for explicit in (False, True):
        t = trainer("gpt", "data:2,fsdp:2,tensor:2", explicit, learning_rate=1e-2)
        state, schedule = t.init(), jax.tree.map(np.float32, make_schedule(t.config))
        batch: Batch = t._place(jax.tree.map(lambda x: np.asarray(x)[None], rows), stacked=True)
        with jax.set_mesh(t.mesh):
            for _ in range(2):
                state, row = t._advance(state, batch, schedule, np.int32(1))
        metrics.append([float(row.loss[0]), float(row.grad_norm[0])])
        assert meshes.is_explicit() is False
    np.testing.assert_allclose(metrics[0], metrics[1], rtol=2e-6)
