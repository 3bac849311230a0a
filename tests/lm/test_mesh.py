"""Meshes: parsing, refusals that name the axis, and equal numbers on all of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from data.errors import UserError
from lm import mesh as meshes
from lm import params as P
from lm.config import model_config, resolve
from lm.loss import loss_and_gradients
from tests.lm.batches import random_batch

TINY = dataclasses.replace(
    model_config(resolve(get_config("tiny"))),
    layers=2, width=32, heads=4, kv_heads=4, head_dim=8, mlp=64, vocab_size=64,
)  # fmt: skip


def test_parse():
    assert meshes.parse("", 1) == dict.fromkeys(meshes.AXES, 1)
    sizes = meshes.parse("data:-1,tensor:2", 8)
    assert sizes["data"] == 4 and sizes["tensor"] == 2 and sizes["fsdp"] == 1


@pytest.mark.parametrize(
    ("text", "devices", "says"),
    [
        ("dat:2", 2, "no axis 'dat'.*did you mean .data"),
        ("data:x", 2, "axis data needs a size"),
        ("data:0", 2, "axis data needs a size"),
        ("data:3", 8, "needs 3 devices, there are 8"),
        ("data:-1,fsdp:-1", 8, "only one axis may be -1, not data and fsdp"),
        ("data:-1,fsdp:3", 8, "8 devices are not divisible by 3"),
    ],
)
def test_wrong_meshes_are_refused(text, devices, says):
    with pytest.raises(UserError, match=says):
        meshes.parse(text, devices)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data:8", "batch_size.*=4 is not divisible by mesh axes data:8"),
        ("tensor:8", "model.heads=4 is not divisible by mesh axes tensor:8"),
        ("seq:8", "seq_len=12 is not divisible by mesh axes seq:8"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(text, says):
    with pytest.raises(UserError, match=says):
        meshes.check(meshes.parse(text, 8), TINY, batch_size=4, seq_len=12)


@pytest.mark.parametrize(
    "text",
    ["data:8", "data:2,fsdp:4", "data:2,fsdp:2,tensor:2", "fsdp:2,seq:4", "slice:2,fsdp:4"],
)
@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_mesh_gives_the_numbers_of_one_device(text, scan):
    """Loss within 2e-6 relative, each gradient leaf within 1e-5 of its norm, in float32."""
    model = P.build(dataclasses.replace(TINY, scan=scan))
    batch = random_batch(8, 16, 64)

    def run(mesh):
        placed = P.map_declared(lambda d: meshes.sharding(mesh, d.axes), model)
        rows = meshes.sharding(mesh, ("batch", "length"))
        with jax.set_mesh(mesh):
            params = jax.jit(lambda: P.init(model, 0), out_shardings=placed)()
            step = jax.jit(lambda p, b: loss_and_gradients(model, p, b, 1e-4))
            return step(params, jax.device_put(batch, rows))

    one = run(meshes.make(meshes.parse("", 1), jax.devices()[:1]))
    many = run(meshes.make(meshes.parse(text, 8), jax.devices()[:8]))
    np.testing.assert_allclose(one[0].loss, many[0].loss, rtol=2e-6)
    np.testing.assert_allclose(one[0].weight, many[0].weight)
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(many[1]), strict=True):
        assert np.linalg.norm(a - np.asarray(b)) <= 1e-5 * np.linalg.norm(a)


def test_a_mesh_axis_serves_one_array_axis_only():
    assert meshes.spec(("embed", "embed")) == jax.sharding.PartitionSpec(("fsdp",), None)


def test_constrain_is_free_on_one_device():
    x = jnp.ones((2, 3))
    assert meshes.constrain(x, "batch", "length") is x
