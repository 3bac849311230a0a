"""Decoding with a cache gives what the whole model gives; sampling follows its distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base
from data.tokenizer import EOT, PAD
from lm import params as P
from lm.config import model_config, resolve
from lm.decode import Sampling, choose, extend, generate, start

FAMILIES = {
    "llama": {"kv_heads": 2, "qk_norm": True},
    "gpt2": {
        "position": "learned", "norm": "layer", "bias": True, "gated": False,
        "tie_embeddings": True,
    },
    "local": {"global_every": 2, "window": 3, "embed_norm": True},
    "t5": {
        "arch": "encoder-decoder", "position": "relative", "scale_attention": False,
        "tie_embeddings": True, "scale_logits": True,
    },
    "post-norm": {"arch": "encoder-decoder", "post_norm": True, "bias": True},
}  # fmt: skip


def build(**changes):
    c = base()
    c.seq_len = 32
    c.model.update(layers=2, width=16, heads=4, vocab_size=64, **changes)
    c.objective = "span" if changes.get("arch") else "causal"
    c.data.vocab_size = 64
    model = P.build(model_config(resolve(c)))
    params = P.init(model, 0)
    # Larger than at the start: attention then has something to choose.
    return model, jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, params)


def encoder_of(model, rows, rng):
    if model.config.arch == "decoder":
        return None
    lengths = rng.integers(3, 9, rows)
    inputs = rng.integers(3, 64, (rows, 9)).astype(np.int32)
    return inputs, (np.arange(9) < lengths[:, None]).astype(np.int32)


def whole(model):
    """The whole model without a cache, compiled: (params, tokens, encoder) -> logits."""

    def logits(params, tokens, encoder):
        places = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        args = {}
        if encoder is not None:
            inputs, segments = encoder
            enc_places = jnp.broadcast_to(jnp.arange(inputs.shape[1]), inputs.shape)
            args = {"enc_inputs": inputs, "enc_positions": enc_places, "enc_segments": segments}
        return model(params, tokens, places, jnp.ones_like(tokens), **args)

    return jax.jit(logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_logits_are_those_of_the_whole_model(family):
    model, params = build(**FAMILIES[family])
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 64, (3, 14)).astype(np.int32)
    encoder = encoder_of(model, 3, rng)
    begin = jax.jit(lambda params: start(model.with_values(params), 3, 20, encoder))

    @jax.jit
    def read(params, cache, some, places):
        module = model.with_values(params)
        x, cache = extend(module, cache, some, places)
        return module.logits(x), cache

    cache, parts = begin(params), []
    for first, last in ((0, 6), (6, 7), (7, 8), (8, 14)):
        places = np.broadcast_to(np.arange(first, last, dtype=np.int32), (3, last - first))
        logits, cache = read(params, cache, tokens[:, first:last], places)
        parts.append(logits)
    expected = whole(model)(params, tokens, encoder)
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(np.concatenate(parts, 1), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_unequal_prompts_are_continued_as_each_alone(family):
    model, params = build(**FAMILIES[family])
    rng = np.random.default_rng(1)
    lengths = np.array([1, 7, 4], np.int32)
    prompts = np.where(np.arange(8) < lengths[:, None], rng.integers(3, 64, (3, 8)), PAD)
    encoder = encoder_of(model, 3, rng)
    written = continued(model, params, prompts, lengths, 6, 60, encoder)
    logits = whole(model)
    for row, length in enumerate(lengths):
        tokens = np.full((1, 14), PAD, np.int32)  # one shape: what comes later is not seen
        tokens[0, :length] = prompts[row, :length]
        own = None if encoder is None else tuple(x[row : row + 1] for x in encoder)
        for place, token in enumerate(written[row], int(length)):
            assert token == np.argmax(logits(params, tokens, own)[0, place - 1, :60])
            if token == EOT:
                break
            tokens[0, place] = token


def continued(model, params, prompts, lengths, new, vocab, encoder=None):
    program = jax.jit(
        lambda params: generate(
            model.with_values(params), prompts, lengths, 0, new, Sampling(), vocab, encoder
        )
    )
    return np.asarray(program(params))


def test_writing_ends_at_end_of_text():
    """A head that wants EOT after token 5 and token 5 after all others."""
    model, params = build()
    params = jax.tree.map(jnp.zeros_like, params)
    params["embed"] = jnp.eye(64, 16)
    params["decoder"]["norm"]["scale"] = jnp.ones(16)
    params["head"] = jnp.zeros((16, 64)).at[:, 5].set(1.0).at[5, EOT].set(9.0)
    prompts = np.array([[3, 5], [3, 4]], np.int32)
    written = continued(model, params, prompts, np.array([2, 2], np.int32), 4, 64)
    assert written.tolist() == [[EOT, PAD, PAD, PAD], [5, EOT, PAD, PAD]]


def drawn(sampling, logits, count=4000):
    keys = jax.random.split(jax.random.key(0), count)
    rows = jnp.broadcast_to(jnp.asarray(logits, jnp.float32), (count, len(logits)))
    tokens = jax.jit(lambda rows, keys: choose(rows, keys, sampling))(rows, keys)
    return np.bincount(tokens, minlength=len(logits)) / count


def test_sampling_follows_the_distribution():
    p = np.array([0.5, 0.25, 0.15, 0.1])
    logits = np.log(p) + 3
    assert drawn(Sampling(), logits).tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(drawn(Sampling(1.0), logits), p, atol=0.03)
    hot = p**0.5 / (p**0.5).sum()
    np.testing.assert_allclose(drawn(Sampling(2.0), logits), hot, atol=0.03)
    np.testing.assert_allclose(drawn(Sampling(1.0, 2), logits), [2 / 3, 1 / 3, 0, 0], atol=0.03)
    # The likeliest that reach 0.7 together are two: 0.5 is short of it.
    np.testing.assert_allclose(
        drawn(Sampling(1.0, 0, 0.7), logits), [2 / 3, 1 / 3, 0, 0], atol=0.03
    )
    assert drawn(Sampling(1.0, 0, 0.4), logits)[0] == 1
    three = p[:3] / p[:3].sum()
    np.testing.assert_allclose(drawn(Sampling(1.0, 3, 0.99), logits), [*three, 0], atol=0.03)
