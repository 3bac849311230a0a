"""The model: what each position can see, and that layouts and recomputation change nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from lm import params as P
from lm.attention import Mask, attend, prepare, relative_bucket, rotary_angles, visible
from lm.config import model_config, resolve
from tests.lm.batches import ARCHITECTURES, BERT, MODERN, T5

TINY = dataclasses.replace(
    model_config(resolve(get_config("tiny"))),
    layers=2, width=32, heads=4, kv_heads=4, head_dim=8, mlp=48, vocab_size=64,
)  # fmt: skip
VARIANTS = [
    {},
    {"kv_heads": 2, "qk_norm": True},
    {
        "norm": "layer",
        "bias": True,
        "position": "learned",
        "gated": False,
        "activation": "gelu_tanh",
    },
    {"position": "relative", "tie_embeddings": True, "activation": "relu"},
    {"position": "none"},
]
FAMILIES = [*VARIANTS, *ARCHITECTURES]


def packed_inputs(length: int = 12, cut: int = 5):
    """One row with two documents: ids, positions and segments."""
    ids = jax.random.randint(jax.random.key(1), (1, length), 0, 64)
    segments = jnp.where(jnp.arange(length) < cut, 1, 2)[None]
    positions = jnp.where(segments == 1, jnp.arange(length), jnp.arange(length) - cut)
    return ids, positions, segments


def sees(query: int, key: int, segments, causal=False, window=0, prefix=None) -> bool:
    """The rule of the masks, one pair at a time."""
    if segments[query] != segments[key]:
        return False
    if causal and key > query and not (prefix is not None and prefix[key]):
        return False
    return not window or abs(query - key) <= window


@pytest.mark.parametrize("window", [0, 3])
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("with_prefix", [True, False])
def test_masks_follow_the_rule(window, causal, with_prefix):
    segments = np.array([1, 1, 1, 2, 2, 2, 2, 0, 0])
    prefix = np.array([1, 1, 0, 1, 1, 0, 0, 0, 0], bool) if with_prefix else None
    given = None if prefix is None else jnp.asarray(prefix)[None]
    mask = Mask(jnp.asarray(segments)[None], jnp.asarray(segments)[None], causal, window, given)
    n = range(len(segments))
    expected = [[sees(i, j, segments, causal, window, prefix) for j in n] for i in n]
    np.testing.assert_array_equal(visible(mask)[0], expected)
    np.testing.assert_array_equal(prepare(mask).bias[0, 0] == 0, expected)


def dependencies(c, params, length: int, **batch) -> np.ndarray:
    """[L, L] bool: which input embedding moves which output, by the model's own gradient."""
    model = P.build(dataclasses.replace(c, tie_embeddings=False))
    params = dict(params, head=jax.random.normal(jax.random.key(3), (c.width, c.vocab_size)))

    def outputs(table_LD):
        logits = model(dict(params, embed=table_LD), jnp.arange(length)[None], **batch)
        return logits[0].sum(-1)

    table = jax.random.normal(jax.random.key(2), (length, c.width))
    return np.abs(jax.jacobian(outputs)(table)).sum(-1) > 0


@pytest.mark.parametrize("changes", [*VARIANTS, BERT, MODERN, {"arch": "encoder"}])
def test_a_position_sees_what_the_mask_lets_through_and_nothing_else(changes):
    """The gradient of each output with respect to each input embedding shows the mask itself."""
    c = dataclasses.replace(TINY, **changes)
    # Symmetric starting points (zero-variance biases) would hide dependencies: shake them.
    params = jax.tree.map(lambda x: x + 0.1, P.init(P.build(c), 0))
    _, positions, segments = packed_inputs()
    found = dependencies(c, params, 12, positions=positions, segments=segments)
    n, causal = range(12), c.arch == "decoder"
    allowed = [[sees(i, j, np.asarray(segments[0]), causal) for j in n] for i in n]
    np.testing.assert_array_equal(found, allowed)


def test_local_layers_see_their_window_only():
    """One global layer among them would show everything; these reach one window a layer."""
    c = dataclasses.replace(TINY, **MODERN | {"layers": 3, "global_every": 9, "window": 2})
    params = P.init(P.build(c), 0)
    layers = params["encoder"]["layers"]
    params["encoder"]["first"]["attention"]["o"] *= 0  # the global one, layer 0
    ids = jnp.arange(12)[None]
    found = dependencies(c, params, 12, positions=ids, segments=jnp.ones_like(ids))
    assert len(layers) == 2
    n = np.arange(12)
    np.testing.assert_array_equal(found, abs(n[:, None] - n) <= 4)


def test_a_prefix_is_seen_from_both_sides():
    _, positions, segments = packed_inputs()
    prefix = jnp.asarray([[1, 1, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0]], bool)
    params = P.init(P.build(TINY), 0)
    found = dependencies(TINY, params, 12, positions=positions, segments=segments, prefix=prefix)
    rows = np.asarray(segments[0]), np.asarray(prefix[0])
    n = range(12)
    allowed = [[sees(i, j, rows[0], causal=True, prefix=rows[1]) for j in n] for i in n]
    np.testing.assert_array_equal(found, allowed)


@pytest.mark.parametrize("changes", [T5, {"arch": "encoder-decoder", "enc_layers": 1}])
def test_a_decoder_sees_the_encoders_segment_of_its_number(changes):
    c = dataclasses.replace(TINY, **changes)
    model = P.build(c)
    params = P.init(model, 0)
    ids, positions, segments = packed_inputs()
    enc_segments = jnp.asarray([[1, 1, 1, 2, 2, 2, 2, 0]])
    enc_positions = jnp.asarray([[0, 1, 2, 0, 1, 2, 3, 0]])

    def outputs(shifts_SD):
        module = model.with_values(params)
        embedded = module.embedded
        module.embedded = lambda ids, *rest: (
            embedded(ids, *rest) + (shifts_SD if ids.shape[1] == 8 else 0)
        )
        zeros = jnp.zeros((1, 8), int)
        logits = module(ids, positions, segments, None, zeros, enc_positions, enc_segments)
        return (logits[0] ** 2).sum(-1)

    found = np.abs(jax.jacobian(outputs)(jnp.zeros((8, c.width)))).sum(-1) > 0
    np.testing.assert_array_equal(found, segments[0][:, None] == enc_segments[0][None])


def family_inputs(c, start: int = 0):
    """Arguments of a model for two packed documents; `start` leaves out so many positions."""
    ids, positions, segments = (x[:, start:] for x in packed_inputs())
    if c.arch != "encoder-decoder":
        return ids, positions, segments
    enc_segments = jnp.asarray([[1, 1, 1, 2, 2, 2, 2]])[:, 3 if start else 0 :]
    enc_positions = jnp.asarray([[0, 1, 2, 0, 1, 2, 3]])[:, 3 if start else 0 :]
    return ids, positions, segments, None, enc_positions + 9, enc_positions, enc_segments


@pytest.mark.parametrize("changes", FAMILIES)
def test_a_packed_document_gives_what_it_gives_alone(changes):
    c = dataclasses.replace(TINY, **changes)
    model = P.build(c)
    params = P.init(model, 0)
    packed = model(params, *family_inputs(c))[:, 5:]
    alone = model(params, *family_inputs(c, start=5))
    np.testing.assert_allclose(packed, alone, atol=2e-6)


LAYOUTS = [({}, {"scan": True}), ({}, {"remat": "full"})]
LAYOUTS += [(changes, {"scan": True, "remat": "full"}) for changes in [*VARIANTS, MODERN, T5]]


@pytest.mark.parametrize(("changes", "layout"), LAYOUTS)
def test_scan_and_remat_change_nothing(changes, layout):
    c = dataclasses.replace(TINY, **changes)
    inputs = family_inputs(c)

    def value_and_grad(c):
        model = P.build(c)
        objective = jax.value_and_grad(lambda p: (model(p, *inputs) ** 2).mean())
        # Twice the initial values: attention is far from uniform, so queries have a real gradient.
        params = jax.tree.map(lambda p: 2 * p, P.init(model, 0))
        value, grads = jax.jit(objective)(params)
        return value, P.stack_layers(grads)

    value, grads = value_and_grad(c)
    value2, grads2 = value_and_grad(dataclasses.replace(c, **layout))
    np.testing.assert_allclose(value, value2, rtol=2e-6)
    whole = np.linalg.norm([np.linalg.norm(g) for g in jax.tree.leaves(grads)])
    pairs = zip(jax.tree.leaves_with_path(grads), jax.tree.leaves(grads2), strict=True)
    for (path, a), b in pairs:
        if path[-1].key == "k_bias":  # softmax ignores a shift: zero but for rounding
            assert max(np.linalg.norm(a), np.linalg.norm(b)) <= 1e-6 * whole
        else:
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(a)


def test_bfloat16_computes_close_to_float32():
    inputs = packed_inputs()
    params = P.init(P.build(TINY), 0)
    exact = P.build(TINY)(params, *inputs)
    low = P.build(dataclasses.replace(TINY, dtype="bfloat16"))(params, *inputs)
    assert low.dtype == jnp.bfloat16
    # bfloat16 keeps 8 bits: each rounding is off by up to 0.4%, a logit by a few of them.
    assert jnp.std(low.astype(jnp.float32) - exact) < 0.025 * jnp.std(exact)


def test_grouped_heads_equal_repeated_heads():
    q = jax.random.normal(jax.random.key(0), (2, 6, 4, 8))
    k, v = jax.random.normal(jax.random.key(1), (2, 2, 6, 2, 8))
    ones = jnp.ones((2, 6), int)
    mask = prepare(Mask(ones, ones, causal=True))
    whole = attend(q, jnp.repeat(k, 2, 2), jnp.repeat(v, 2, 2), mask, 0.5)
    np.testing.assert_allclose(attend(q, k, v, mask, 0.5), whole, atol=1e-6)


def test_relative_buckets_follow_the_published_rule():
    """Exact below 16 (causal), then logarithmic to 128, then the last bucket."""
    distance = -jnp.arange(200)
    buckets = np.asarray(relative_bucket(distance, causal=True))
    np.testing.assert_array_equal(buckets[:16], np.arange(16))
    assert buckets[16] == 16 and buckets[128] == 31 and buckets[199] == 31
    assert (np.diff(buckets) >= 0).all()
    assert int(relative_bucket(jnp.int32(5), causal=True)) == 0  # the future is never seen
    both = np.asarray(relative_bucket(jnp.arange(-3, 4), causal=False))
    np.testing.assert_array_equal(both, [3, 2, 1, 0, 17, 18, 19])


def test_rotary_scores_depend_on_distance_only():
    c = dataclasses.replace(TINY, layers=1)
    model = P.build(c)
    params = P.init(model, 0)
    ids, _, segments = packed_inputs(cut=0)
    positions = jnp.arange(ids.shape[1])[None]
    here = model(params, ids, positions, segments)
    moved = model(params, ids, positions + 37, segments)
    np.testing.assert_allclose(here, moved, atol=1e-5)


def test_initial_loss_is_that_of_a_uniform_guess():
    model = P.build(dataclasses.replace(TINY, vocab_size=512, tie_embeddings=True))
    logits = model(P.init(model, 0), *packed_inputs())
    loss = jax.nn.logsumexp(logits, -1).mean()
    assert float(loss) == pytest.approx(np.log(512), abs=0.05)


def test_kinds_of_segment_are_told_apart():
    c = dataclasses.replace(TINY, **BERT)
    model = P.build(c)
    params, inputs = P.init(model, 0), packed_inputs()
    zeros = jnp.zeros_like(inputs[0])
    first = model(params, *inputs)
    np.testing.assert_array_equal(first, model(params, *inputs, types=zeros))
    assert np.abs(first - model(params, *inputs, types=zeros + 1)).min(axis=-1).max() > 1e-3


def test_scaled_rotary_frequencies_follow_the_published_rule():
    """Llama 3.1's values; wavelengths in positions, one frequency at a time."""
    c = dataclasses.replace(
        TINY, head_dim=128, rope_factor=8.0, rope_low_freq=1.0, rope_high_freq=4.0
    )
    cos, _ = rotary_angles(c, jnp.ones((1, 1), int), 500_000.0)
    for i, got in enumerate(np.arccos(np.asarray(cos, np.float64)).ravel()):
        frequency = 500_000.0 ** (-i / 64)
        wavelength = 2 * np.pi / frequency
        if wavelength > 8192 / 1.0:
            wanted = frequency / 8
        elif wavelength < 8192 / 4.0:
            wanted = frequency
        else:
            smooth = (8192 / wavelength - 1.0) / (4.0 - 1.0)
            wanted = (1 - smooth) * frequency / 8 + smooth * frequency
        assert got == pytest.approx(wanted, rel=1e-3, abs=5e-4)
