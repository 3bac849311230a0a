"""The same numbers as transformers: from golden files, and where PyTorch is, from it.

Everything in float32 and to 1e-4; padding, odd lengths, packed segments, gradients, AdamW.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from configs.gpt import get_config
from data.objectives import Batch
from lm import hf, hf_weights
from lm import params as P
from lm.config import resolve
from lm.loss import loss_and_gradients
from lm.optim import make_optimizer
from tests.lm import hf_tiny

NAMES = list(hf_tiny.MODELS)
TOLERANCE = 1e-4


def load(folder):
    """(model type, model, parameters) of a folder."""
    kind, fields, params = hf.read_model(folder)
    tree = jax.tree.map(jnp.asarray, hf_weights.nested(params))
    return kind, P.build(hf.shape(fields)), tree


def batch_of(x: hf_tiny.Inputs) -> Batch:
    batch = Batch(x.ids, x.targets, x.weights, hf_tiny.places(x.ids), x.mask)
    if x.enc_ids is None:
        return batch
    return batch._replace(
        enc_inputs=x.enc_ids, enc_positions=hf_tiny.places(x.enc_ids), enc_segments=x.enc_mask
    )


class Computed(NamedTuple):
    """What our model makes of a batch."""

    logits: np.ndarray
    loss: float
    gradients: dict[str, np.ndarray]  # by their names
    losses: list[float]  # before each AdamW step and after the last, as `hf_tiny.train`
    trained: dict[str, np.ndarray]  # the parameters after them


def compute(kind, model, params, x: hf_tiny.Inputs) -> Computed:
    """All of it from one compiled program."""
    config = get_config("tiny")
    config.optim.weight_decay, config.optim.clip = hf_tiny.DECAY, 1.0
    optimizer = make_optimizer(resolve(config), model)
    b = batch_of(x)

    @jax.jit
    def step(params, state):
        module = model.with_values(params)
        encoder = (b.enc_inputs, b.enc_positions, b.enc_segments)
        logits = module(b.inputs, b.positions, b.segments, None, *encoder)
        sums, grads = loss_and_gradients(model, params, b, 0.0)
        updates, state = optimizer.update(grads, state, params)
        params = jax.tree.map(lambda p, u: p - hf_tiny.RATE * u, params, updates)
        return params, state, sums.loss / sums.weight, grads, logits

    state = optimizer.init(params)
    states = []
    for _ in range(hf_tiny.STEPS + 1):
        states.append((params, *step(params, state)))
        params, state = states[-1][1:3]
    _, _, _, loss, grads, logits = states[0]
    losses = [float(s[3]) for s in states]
    trained = as_theirs(kind, model, states[-1][0])
    gradients = as_theirs(kind, model, grads)
    return Computed(np.asarray(logits), float(loss), gradients, losses, trained)


def as_theirs(kind, model, tree) -> dict[str, np.ndarray]:
    flat = {k: np.asarray(v) for k, v in hf_weights.flat(tree).items()}
    return hf_weights.to_theirs(kind, model, flat)


def assert_same_gradients(got: dict, want: dict) -> None:
    assert set(want) <= set(got)
    for name, g in want.items():
        np.testing.assert_allclose(got[name], g, atol=TOLERANCE, err_msg=name)
    norm = np.sqrt(sum((g**2).sum() for g in want.values()))
    apart = np.sqrt(sum(((got[n] - g) ** 2).sum() for n, g in want.items()))
    assert apart <= TOLERANCE * norm


def assert_same_parameters(kind, model, start, got: dict, want: dict) -> None:
    """Each parameter after ten steps; and all have moved."""
    got, want = (hf_weights.to_ours(kind, model, tensors) for tensors in (got, want))
    assert set(got) == set(want) == set(start)
    for path, p in want.items():
        if path.endswith("k_bias"):  # no softmax depends on it: Adam makes steps of its rounding
            continue
        assert np.abs(p - start[path]).max() > hf_tiny.RATE
        np.testing.assert_allclose(got[path], p, atol=TOLERANCE, err_msg=path)


def check(folder, name: str, x: hf_tiny.Inputs, expected: dict) -> None:
    """A folder's model computes what is expected of a batch."""
    kind, model, params = load(folder)
    got, real = compute(kind, model, params, x), x.mask > 0
    np.testing.assert_allclose(got.logits[real], expected["logits"][real], atol=TOLERANCE)
    np.testing.assert_allclose(got.loss, expected["loss"], atol=TOLERANCE)
    gradients, trained = (
        {n.removeprefix(kind): x for n, x in expected.items() if n.startswith(kind)}
        for kind in ("gradient.", "trained.")
    )
    assert_same_gradients(got.gradients, gradients)
    start = {path: np.asarray(x) for path, x in hf_weights.flat(params).items()}
    assert_same_parameters(kind, model, start, got.trained, trained)
    np.testing.assert_allclose(got.losses, expected["losses"], atol=TOLERANCE)
    assert expected["losses"][0] - expected["losses"][-1] > 0.1  # it did learn something
    if "logits of types" in expected:
        types = hf_tiny.types(x)
        logits = model(params, x.ids, hf_tiny.places(x.ids), x.mask, types=types)
        np.testing.assert_allclose(logits[real], expected["logits of types"][real], atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_golden(name):
    folder = hf_tiny.GOLDEN / name
    check(folder, name, hf_tiny.inputs(name), load_file(folder / "expected.safetensors"))


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_transformers(name, tmp_path):
    """Other weights and another batch, computed now."""
    model, x = hf_tiny.build(name, seed=7), hf_tiny.inputs(name, seed=7)
    model.save_pretrained(tmp_path)
    check(tmp_path, name, x, hf_tiny.expectations(model, name, x))


@pytest.mark.parity
@pytest.mark.parametrize("name", NAMES)
def test_packed_documents_give_what_transformers_gives_each_alone(name, tmp_path):
    import torch

    theirs = hf_tiny.build(name)
    theirs.save_pretrained(tmp_path)
    _, model, params = load(tmp_path)
    x, cut, enc_cut = hf_tiny.inputs(name), 5, 4
    ids, length = x.ids[:1], x.ids.shape[1]
    at = np.arange(length)[None]
    segments, positions = np.where(at < cut, 1, 2), np.where(at < cut, at, at - cut)
    encoder = (None, None, None)
    if x.enc_ids is not None:
        at = np.arange(x.enc_ids.shape[1])[None]
        encoder = (x.enc_ids[:1], np.where(at < enc_cut, at, at - enc_cut))
        encoder = (*encoder, np.where(at < enc_cut, 1, 2))
    packed = np.asarray(model(params, ids, positions, segments, None, *encoder))
    for mine, enc in [(slice(0, cut), slice(0, enc_cut)), (slice(cut, None), slice(enc_cut, None))]:
        alone = ids[:, mine]
        given = x._replace(ids=alone, mask=np.ones_like(alone), targets=alone)
        given = given._replace(weights=np.ones(alone.shape, np.float32))
        if x.enc_ids is not None:
            enc_ids = x.enc_ids[:1, enc]
            given = given._replace(enc_ids=enc_ids, enc_mask=np.ones_like(enc_ids))
        with torch.no_grad():
            logits, _ = hf_tiny.forward(theirs, given)
        np.testing.assert_allclose(packed[:, mine], logits.numpy(), atol=TOLERANCE)
