"""The loss: exact under unequal weights, whatever the number of microbatches."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from lm import params as P
from lm.config import model_config, resolve
from lm.loss import loss_and_gradients, loss_sums
from tests.lm.batches import random_batch

TINY = dataclasses.replace(
    model_config(resolve(get_config("tiny"))),
    layers=2, width=32, heads=4, kv_heads=4, head_dim=8, mlp=64, vocab_size=64,
)  # fmt: skip


def test_the_loss_is_the_weighted_mean_of_log_softmax():
    model = P.build(TINY)
    params, batch = P.init(model, 0), random_batch(4, 12, 64)
    sums = loss_sums(model, params, batch)
    logits = np.asarray(model(params, batch.inputs, batch.positions, batch.segments), np.float64)
    log_z = np.log(np.exp(logits).sum(-1))
    nats = log_z - np.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(sums.loss, (nats * batch.weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(sums.z_loss, (log_z**2 * batch.weights).sum(), rtol=1e-5)
    assert float(sums.weight) == batch.weights.sum()


@pytest.mark.parametrize("parts", [2, 4, 8])
def test_accumulated_gradients_equal_the_whole_batch(parts):
    model = P.build(TINY)
    params, batch = P.init(model, 0), random_batch(8, 12, 64)
    step = jax.jit(lambda p, b, m: loss_and_gradients(model, p, b, 1e-3, m), static_argnums=2)
    whole, accumulated = step(params, batch, 1), step(params, batch, parts)
    np.testing.assert_allclose(whole[0].loss, accumulated[0].loss, rtol=2e-6)
    for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(accumulated[1]), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_an_average_of_averages_would_be_wrong():
    """The weights of the test above do differ: averaging the halves' means gives another loss."""
    model = P.build(TINY)
    params, batch = P.init(model, 0), random_batch(8, 12, 64)
    halves = [jax.tree.map(lambda x, i=i: x[4 * i : 4 * i + 4], batch) for i in (0, 1)]
    sums = [loss_sums(model, params, half) for half in halves]
    naive = np.mean([s.loss / s.weight for s in sums])
    whole = loss_sums(model, params, batch)
    assert abs(naive - float(whole.loss / whole.weight)) > 1e-3


def test_a_batch_without_weight_gives_no_gradient():
    model = P.build(TINY)
    batch = random_batch(4, 12, 64)
    batch = batch._replace(weights=np.zeros_like(batch.weights))
    sums, grads = loss_and_gradients(model, P.init(model, 0), batch, 1e-3)
    assert float(sums.weight) == 0
    assert all(not jnp.any(g) for g in jax.tree.leaves(grads))


def test_scoring_only_the_positions_that_weigh_changes_nothing():
    """As under masking: few positions of each row count, at most `scored`."""
    model = P.build(dataclasses.replace(TINY, arch="encoder"))
    params, batch = P.init(model, 0), random_batch(4, 12, 64)
    weights = np.zeros((4, 12), np.float32)
    for row, places in enumerate([(0, 3, 11), (5,), (), (1, 2, 7)]):
        weights[row, list(places)] = 1.0 + row
    batch = batch._replace(weights=weights)
    whole = loss_and_gradients(model, params, batch, 1e-3)
    few = loss_and_gradients(model, params, batch, 1e-3, scored=3)
    np.testing.assert_allclose(whole[0], few[0], rtol=2e-6)
    for a, b in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(few[1]), strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)
