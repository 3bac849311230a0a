"""Parameters: the same numbers in every layout and on every mesh."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from lm import mesh as meshes
from lm import params as P
from lm.config import model_config, resolve
from lm.mesh import sharding

TINY = dataclasses.replace(
    model_config(resolve(get_config("tiny"))),
    layers=3,
    width=32,
    heads=4,
    kv_heads=2,
    head_dim=8,
    mlp=64,
)


def assert_identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_stacked_and_unrolled_layouts_start_identical():
    unrolled = P.init(P.build(TINY), seed=3)
    stacked = P.init(P.build(dataclasses.replace(TINY, scan=True)), seed=3)
    assert_identical(P.stack_layers(unrolled), stacked)
    assert_identical(P.unstack_layers(stacked), unrolled)


def test_converting_twice_changes_nothing():
    stacked = P.init(P.build(dataclasses.replace(TINY, scan=True)), seed=3)
    assert P.stack_layers(stacked) is not None
    assert_identical(P.stack_layers(stacked), stacked)


@pytest.mark.parametrize("text", ["data:8", "fsdp:8", "data:2,fsdp:2,tensor:2", "fsdp:4,tensor:2"])
def test_initialisation_is_bit_identical_on_every_mesh(text):
    model = P.build(TINY)
    mesh = meshes.make(meshes.parse(text, 8), jax.devices()[:8])
    placed = P.map_declared(lambda d: sharding(mesh, d.axes), model)
    assert_identical(
        jax.jit(lambda: P.init(model, 0), out_shardings=placed)(),
        jax.jit(lambda: P.init(model, 0))(),
    )


def test_initial_scales():
    params = P.init(P.build(dataclasses.replace(TINY, width=256, head_dim=64, vocab_size=4096)), 0)
    layer = params["decoder"]["layers"][1]
    assert float(jnp.std(params["embed"])) == pytest.approx(0.02, rel=0.02)
    assert float(jnp.std(layer["attention"]["q"])) == pytest.approx(256**-0.5, rel=0.02)
    assert float(jnp.std(layer["mlp"]["down"])) == pytest.approx((64 * 6) ** -0.5, rel=0.02)
    assert float(jnp.std(layer["mlp_norm"]["scale"])) == 0.0


def test_layers_and_parameters_differ():
    layers = P.init(P.build(TINY), 0)["decoder"]["layers"]
    assert not np.array_equal(layers[0]["attention"]["q"], layers[1]["attention"]["q"])
    assert not np.array_equal(layers[0]["attention"]["k"], layers[0]["attention"]["v"])


def test_initial_values_are_normal():
    from scipy import stats

    draws = np.asarray(P.init(P.build(dataclasses.replace(TINY, vocab_size=4096)), 0)["embed"])
    assert stats.kstest(draws.ravel() / 0.02, "norm").pvalue > 0.01
    assert abs(stats.skew(draws.ravel())) < 0.05
