"""Parameters and FLOPs: against the published sizes, the model itself and compiled programs."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bert, t5
from configs.gpt import get_config
from lm import ops
from lm import params as P
from lm.config import model_config, resolve
from lm.flops import Lengths, flops_per_sequence, flops_per_token, parameters
from lm.loss import loss_sums
from tests.lm.batches import ARCHITECTURES, random_batch

PUBLISHED = {
    "124m": 124_439_808,  # GPT-2 small
    "7b": 6_738_415_616,  # Llama 2 7B
    "70b": 68_976_648_192,  # Llama 2 70B
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.1-70b": 70_553_706_496,
}


# Counts of the released checkpoints as Hugging Face loads them, with the head that predicts tokens.
PUBLISHED_BERT = {
    "base": 109_514_298,
    "large": 335_174_458,
    "modern-base": 149_655_232,
    "modern-large": 395_881_664,
}
PUBLISHED_T5 = {
    "small": 60_506_624,
    "base": 222_903_552,
    "large": 737_668_096,
    "3b": 2_851_598_336,
    "11b": 11_307_321_344,
    "v1.1-small": 76_961_152,
    "v1.1-base": 247_577_856,
    "v1.1-large": 783_150_080,
    "v1.1-xl": 2_849_757_184,
    "v1.1-xxl": 11_135_332_352,
}
SIZES = [
    (config, name, count)
    for config, published in [(get_config, PUBLISHED), (bert.get_config, PUBLISHED_BERT)]
    + [(t5.get_config, PUBLISHED_T5)]
    for name, count in published.items()
]


def preset(name: str, **changes):
    return dataclasses.replace(model_config(resolve(get_config(name))), **changes)


@pytest.mark.parametrize(("config", "name", "count"), SIZES, ids=[s[1] for s in SIZES])
def test_published_parameter_counts(config, name, count):
    c = model_config(resolve(config(name)))
    assert parameters(c).total == count
    assert P.count(P.abstract(P.build(c))) == count


VARIANTS = [
    {},
    {"gated": False, "activation": "gelu"},
    {"norm": "layer", "bias": True, "position": "learned"},
    {"norm": "layer"},
    {"position": "relative"},
    {"position": "none", "tie_embeddings": True},
    {"kv_heads": 2, "qk_norm": True},
    {"head_dim": 24, "bias": True},
    {"scan": True},
    *ARCHITECTURES,
]


@pytest.mark.parametrize("changes", VARIANTS)
def test_counts_equal_the_initialised_model(changes):
    c = preset("tiny", **changes)
    params = P.init(P.build(c), seed=0)
    counted = parameters(c)
    assert P.count(params) == counted.total
    tables = ("embed", "head", "positions", "types", "head_bias")
    embedding = [params.get(name) for name in tables]
    assert sum(x.size for x in embedding if x is not None) == counted.embedding


def dot_flops(jaxpr) -> int:
    """FLOPs of every dot_general in a jaxpr, inner jaxprs included (scans times their length)."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contract, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(eqn.invars[0].aval.shape[i] for i in contract)
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * depth
        times = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += times * dot_flops(inner)
    return total


@pytest.mark.parametrize(
    "changes", [{}, {"gated": False}, {"kv_heads": 2}, {"scan": True}, *ARCHITECTURES]
)
@pytest.mark.parametrize("scored", [None, 5])
def test_flops_equal_every_product_of_the_traced_step(changes, scored):
    c = preset("tiny", **changes)
    model = P.build(c)
    batch = random_batch(2, 32, 64, encoder=12 if c.arch == "encoder-decoder" else 0)
    lengths = Lengths(32, 12 if c.arch == "encoder-decoder" else 0, scored)

    def loss(params):
        return loss_sums(model, params, batch, scored).loss

    with ops.plain():  # the tuned forms may add a product by the identity
        jaxpr = jax.make_jaxpr(jax.grad(loss))(P.abstract(model))
    assert dot_flops(jaxpr.jaxpr) == flops_per_sequence(c, lengths) * 2


def test_flops_match_the_compiled_unrolled_step():
    """XLA also counts element-wise work, so its figure is a little above ours."""
    c = preset("tiny", width=256, heads=4, head_dim=64, mlp=704)
    model, length = P.build(c), 128
    ids = jnp.zeros((2, length), jnp.int32)

    def loss(params):
        return jax.nn.logsumexp(model(params, ids, ids, ids), axis=-1).sum()

    step = jax.jit(jax.grad(loss))
    analysis = step.lower(P.abstract(model)).compile().cost_analysis()
    ratio = analysis["flops"] / (flops_per_token(c, length) * ids.size)
    assert 1.0 < ratio < 1.06


def test_visible_attention_counts_what_the_masks_let_through():
    def square(attention, **changes):
        c = preset("tiny", **changes)
        at = [flops_per_token(c, n, attention) for n in (512, 1)]
        return at[0] - at[1]

    np.testing.assert_allclose(square("visible"), square("full") / 2)
    np.testing.assert_allclose(square("visible", arch="encoder"), square("full"))


@pytest.mark.parametrize("length", [5, 40])
def test_a_local_layer_counts_the_pairs_in_its_window(length):
    c = preset("tiny", arch="encoder", layers=3, global_every=3, window=7)
    near = sum(abs(i - j) <= 7 for i in range(length) for j in range(length))
    less = flops_per_sequence(c, Lengths(length)) - flops_per_sequence(
        c, Lengths(length), "visible"
    )
    assert less == 6 * 2 * c.heads * c.head_dim * 2 * (length**2 - near)
