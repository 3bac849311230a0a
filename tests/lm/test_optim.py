"""Schedules, the rule for width, and AdamW against its published update."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from lm import params as P
from lm.config import model_config, resolve
from lm.optim import (
    Schedule,
    decayed,
    learning_rate,
    make_optimizer,
    make_schedule,
    rate_scales,
)


def rates(s, steps):
    return np.array([learning_rate(s, jnp.int32(i)) for i in range(steps)])


def test_warmup_stable_decay():
    c = get_config("tiny")
    c.steps, c.optim.warmup, c.learning_rate = 100, 10, 1.0
    r = rates(make_schedule(resolve(c)), 100)
    np.testing.assert_allclose(r[:10], np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(r[10:81], 1.0)
    np.testing.assert_allclose(r[81:], 1 - np.sqrt(np.arange(1, 20) / 20), rtol=1e-5)


def test_a_trunk_and_its_branches_agree_until_the_branch():
    c = resolve(get_config("tiny"))
    short, long = (rates(make_schedule(c, total), 80) for total in (100, 400))
    np.testing.assert_array_equal(short, long)


def test_a_falling_plateau_depends_on_the_tokens_read_alone():
    c = get_config("tiny")
    c.learning_rate, c.optim.warmup, c.optim.power, c.optim.power_tokens = 1.0, 1, 0.5, 32_768
    c.batch_size, c.seq_len = 16, 128  # 2,048 tokens a step: it falls from step 16 on
    r = rates(make_schedule(resolve(c), 100), 80)
    np.testing.assert_allclose(r[:16], 1.0)
    np.testing.assert_allclose(r[16:80], (np.arange(17, 81) / 16) ** -0.5, rtol=1e-5)
    short, long = (rates(make_schedule(resolve(c), total), 80) for total in (100, 400))
    np.testing.assert_array_equal(short, long)


def test_cosine_ends_at_its_final_share():
    r = rates(Schedule(2.0, 5, 50, 50, 0.1, 1.0, 0.0, 1.0), 51)
    assert r[4] == 2.0 and r[50] == pytest.approx(0.2)
    assert (np.diff(r[5:]) <= 0).all()


def test_hidden_matrices_get_less_in_wider_models():
    c = get_config("tiny")
    c.model.width, c.model.heads, c.model.tie_embeddings = 256, 4, False
    model = P.build(model_config(resolve(c)))
    scales = rate_scales(model)
    layer = scales["decoder"]["layers"][0]
    assert layer["attention"]["q"] == layer["mlp"]["down"] == scales["head"] == 64 / 256
    assert scales["embed"] == layer["mlp_norm"]["scale"] == 1.0


def test_norms_and_biases_do_not_decay():
    c = get_config("tiny")
    c.model.bias, c.model.norm = True, "layer"
    mask = decayed(P.build(model_config(resolve(c))))
    layer = mask["decoder"]["layers"][0]
    assert mask["embed"] and layer["attention"]["o"]
    assert not layer["mlp_norm"]["bias"] and not layer["attention"]["q_bias"]


def test_the_update_is_adamw():
    """Three steps against Loshchilov & Hutter's equations written out in float64."""
    c = get_config("tiny")
    c.optim.clip, c.optim.weight_decay = 0.0, 0.1
    c = resolve(c)
    model = P.build(model_config(c))
    params = P.init(model, 0)
    optimizer = make_optimizer(c, model)
    state = optimizer.init(params)
    o, w = c.optim, np.asarray(params["embed"], np.float64)
    m = v = np.zeros_like(w)
    for t in range(1, 4):
        grads = jax.tree.map(
            lambda p, t=t: jnp.sin(t * jnp.arange(p.size)).reshape(p.shape), params
        )
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(lambda p, u: p - 0.01 * u, params, updates)
        g = np.asarray(grads["embed"], np.float64)
        m, v = o.beta1 * m + (1 - o.beta1) * g, o.beta2 * v + (1 - o.beta2) * g**2
        adam = (m / (1 - o.beta1**t)) / (np.sqrt(v / (1 - o.beta2**t)) + o.eps)
        w = w - 0.01 * (adam + o.weight_decay * w)
    np.testing.assert_allclose(params["embed"], w, rtol=2e-4, atol=1e-6)
