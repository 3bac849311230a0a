"""The tuned CPU forms against the plain ones: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from configs.gpt import get_config
from lm import ops
from lm.attention import MASKED, Mask, attend, rotary_angles, rotate
from lm.config import model_config, resolve

TOLERANCE = {"float32": 1e-6, "bfloat16": 2e-2}  # of the norm: a few units of the last place
quick = settings(max_examples=6, deadline=None, phases=[Phase.generate])  # each example compiles
dtypes = st.sampled_from(list(TOLERANCE))
small = st.integers(1, 5)


def arrays(seed: int, dtype: str, *shapes: tuple[int, ...]) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=s), dtype) for s in shapes)


def value_and_gradients(f, args):
    """f's outputs, and the gradients of their sum weighted by fixed random numbers."""

    def both(*args):
        out, pull = jax.vjp(f, *args)
        key = jax.random.key(0)
        return out, pull(jax.tree.map(lambda y: jax.random.normal(key, y.shape, y.dtype), out))

    return jax.jit(both)(*args)


def biased(q, k, v, bias):
    """Attention under a bias, by 0.3."""
    nothing = jnp.zeros((1, 1), int)
    return attend(q, k, v, Mask(nothing, nothing, bias=bias), 0.3)


def assert_same(f, args, dtype: str) -> None:
    """f traced with the tuned forms gives what it gives with the plain ones.

    The gradients are compared as the one vector that an optimizer sees: that of a query is 0 where
    there is a single key, and rounding is relative to what it was summed from.
    """
    tuned = value_and_gradients(lambda *a: f(*a), args)
    with ops.plain():
        plain = value_and_gradients(lambda *a: f(*a), args)
    for got, want in zip(tuned, plain, strict=True):
        assert jax.tree.map(lambda x: x.dtype, got) == jax.tree.map(lambda x: x.dtype, want)
        a, b = flat(got), flat(want)
        assert np.linalg.norm(a - b) <= TOLERANCE[dtype] * np.linalg.norm(b)


def flat(tree) -> np.ndarray:
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


@quick
@given(
    dtypes, small, st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=3), small
)
def test_linear(dtype, rows, inputs, outputs, seed):
    x, *ws = arrays(seed, dtype, (rows, 7, inputs), *[(inputs, n, 2) for n in outputs])
    assert_same(ops.linear, (x, *ws), dtype)


@pytest.mark.parametrize("outputs", [(3,), (48, 16, 16)])
def test_linear_gradients_take_the_narrower_transpose(outputs):
    x, *ws = arrays(0, "float32", (2, 9, 32), *[(32, n) for n in outputs])
    assert_same(ops.linear, (x, *ws), "float32")


@quick
@given(
    dtypes,
    st.integers(1, 3),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1)]),
    st.sampled_from(["one", "batch", "batch and heads"]),
    small,
)
def test_attention_with_a_learned_bias(dtype, batch, length, keys, heads, bias, seed):
    H, G = heads
    shape = {"one": (1, 1), "batch": (batch, 1), "batch and heads": (batch, H)}[bias]
    q, k, v = arrays(seed, dtype, (batch, length, H, 6), (batch, keys, G, 6), (batch, keys, G, 6))
    (bias,) = arrays(seed, "float32", (*shape, length, keys))
    assert_same(biased, (q, k, v, bias), dtype)


@pytest.mark.parametrize("heads", [1, 4])
def test_attention_under_a_mask(heads):
    q, k, v = arrays(0, "float32", *[(2, 16, 4, 8)] * 3)
    mask = jnp.where(jnp.tril(jnp.ones((16, 16), bool)), 0.0, MASKED)
    bias = jnp.broadcast_to(mask, (2, heads, 16, 16))
    assert_same(lambda q, k, v: biased(q, k, v, bias), (q, k, v), "float32")


def test_attention_of_a_row_that_sees_nothing_is_finite():
    q, k, v = arrays(0, "float32", *[(1, 4, 2, 8)] * 3)
    bias = jnp.full((1, 1, 4, 4), MASKED)
    for leaf in jax.tree.leaves(value_and_gradients(biased, (q, k, v, bias))):
        assert np.isfinite(leaf).all()


@quick
@given(dtypes, st.integers(1, 20), st.integers(1, 70), st.sampled_from([1.0, 100.0]), small)
def test_cross_entropy(dtype, rows, vocab, size, seed):
    (logits,) = arrays(seed, dtype, (rows, vocab))
    targets = jnp.asarray(np.random.default_rng(seed).integers(0, vocab, rows))
    assert_same(lambda x: ops.cross_entropy(x * size, targets), (logits,), dtype)


def test_a_cpu_takes_the_tuned_form_unless_told_otherwise():
    assert "custom_vjp" in traced_linear()
    with ops.plain():
        assert "custom_vjp" not in traced_linear()
    assert "custom_vjp" in traced_linear()


def test_a_mesh_of_another_platform_takes_the_plain_form():
    device = jax.sharding.AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = jax.sharding.AbstractMesh((4,), ("data",), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        assert "custom_vjp" not in traced_linear()


@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_once_changes_no_bit(dtype):
    (x,) = arrays(0, dtype, (3, 5, 1, 24))
    np.testing.assert_array_equal(jax.jit(ops.once)(x), x)


def test_rotary_angles_are_computed_once():
    """Cosine and sine each stand once in the compiled program, however many layers use them."""
    c = model_config(resolve(get_config("tiny")))
    positions = jnp.arange(16)[None]

    def layers(x):
        angles = rotary_angles(c, positions + jnp.int32(x[0, 0, 0, 0]), 1e4)
        for _ in range(3):
            x = jnp.transpose(rotate(x, angles), (0, 1, 3, 2)).reshape(x.shape)
        return x

    (x,) = arrays(0, "float32", (1, 16, c.heads, c.head_dim))
    text = jax.jit(layers).lower(x).compile().as_text()
    assert text.count(" cosine(") == 1
    assert text.count(" sine(") == 1


def traced_linear() -> str:
    x, w = arrays(0, "float32", (2, 3), (3, 4))
    return str(jax.make_jaxpr(lambda *a: ops.linear(*a))(x, w))
