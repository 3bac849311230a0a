"""Attention kernels: the reference's values and gradients, and really in the program."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.gpt import get_config
from lm import kernels, ops
from lm import mesh as meshes
from lm import params as P
from lm.attention import Mask, attend
from lm.config import model_config, resolve
from lm.loss import loss_and_gradients, loss_sums
from tests.lm.batches import random_batch

B, L, H, G, K = 4, 256, 4, 2, 32
TINY = dataclasses.replace(
    model_config(resolve(get_config("tiny"))),
    layers=2, width=32, heads=4, kv_heads=2, head_dim=8, mlp=64, vocab_size=64,
)  # fmt: skip


def inputs():
    rng = np.random.default_rng(0)
    shapes = (B, L, H, K), (B, L, G, K), (B, L, G, K)
    q, k, v = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes)
    segments = 1 + (np.arange(L)[None] > rng.integers(1, L, (B, 1))).astype(np.int32)
    return q, k, v, jnp.asarray(segments)


@pytest.mark.parametrize("kind", [{"causal": True}, {}, {"window": 40}], ids=str)
@pytest.mark.parametrize("mesh", ["", "data:2,seq:2,tensor:2"])
def test_splash_gives_the_references_values_and_gradients(kind, mesh, monkeypatch):
    """In Pallas' interpreter, in several tiles; with the length split it is sequence parallel."""
    monkeypatch.setattr(kernels, "BLOCK", 128)
    q, k, v, segments = inputs()
    mask = Mask(segments, segments, **kind)

    def reference(q, k, v):
        return jnp.sum(jnp.sin(attend(q, k, v, mask, 0.2)))

    def splash(q, k, v):
        return jnp.sum(jnp.sin(kernels.splash(q, k, v, mask, 0.2, interpret=True)))

    devices = int(np.prod([int(part[-1]) for part in mesh.split(",") if part]))
    expected = jax.jit(jax.value_and_grad(reference, (0, 1, 2)))(q, k, v)
    with jax.set_mesh(meshes.make(meshes.parse(mesh, devices), jax.devices()[:devices])):
        got = jax.jit(jax.value_and_grad(splash, (0, 1, 2)))(q, k, v)
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
    for a, b in zip(got[1], expected[1], strict=True):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def lowered(platform, model, batch):
    """The gradient step's program for a platform that is not here."""
    step = jax.jit(lambda p, b: loss_and_gradients(model, p, b, 1e-4))
    name = {"gpu": "cuda"}.get(platform, platform)
    with kernels.lowering_for(platform):
        return step.trace(P.abstract(model), batch).lower(lowering_platforms=(name,)).as_text()


CALLS = {"tpu": kernels.CALLS["splash"], "gpu": kernels.CALLS["cudnn"]}


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
@pytest.mark.parametrize("arch", ["decoder", "encoder"])
def test_the_program_for_a_platform_calls_its_kernel(platform, arch):
    """Forward and backward; on a TPU one for dq and one for dk, dv, and no product L x L."""
    c = dataclasses.replace(TINY, dtype="bfloat16", head_dim=64, arch=arch)
    text = lowered(platform, P.build(c), random_batch(2, 256, 64))
    assert text.count(CALLS[platform]) >= 3
    assert platform == "gpu" or not re.search(r"dot_general.*x4x256x256x(f32|bf16)>$", text, re.M)
    assert not any(call in text for name, call in CALLS.items() if name != platform)


@pytest.mark.parametrize(("remat", "host"), [("offload", True), ("attention", False)])
def test_offload_sends_attention_to_the_host_and_back(remat, host):
    """In the program lowered for a TPU: on a CPU both memories are one."""
    c = dataclasses.replace(TINY, dtype="bfloat16", head_dim=64, remat=remat)
    text = lowered("tpu", P.build(c), random_batch(2, 256, 64))
    assert bool(re.search(r'annotate_device_placement.*"pinned_host"', text)) is host
    assert bool(re.search(r'annotate_device_placement.*"device"', text)) is host


@pytest.mark.parametrize(("platform", "kernel"), [("tpu", "xla"), ("gpu", "cudnn")])
@pytest.mark.parametrize("extra", ["learned", "prefix"])
def test_what_splash_cannot_mask_goes_elsewhere(platform, kernel, extra):
    q, k, _, segments = inputs()
    mask = Mask(segments, segments, causal=True, **{extra: jnp.ones((B, L), bool)})
    assert kernels.choose(platform, q.astype(jnp.bfloat16), k, mask) == kernel


def test_shapes_that_a_kernel_does_not_take_go_to_xla():
    q, k, _, segments = inputs()
    mask = Mask(segments, segments)
    assert kernels.choose("tpu", q[:, :100], k[:, :100], mask) == "xla"
    assert kernels.choose("gpu", q, k, mask) == "xla"  # float32
    q, k = q.astype(jnp.bfloat16), k.astype(jnp.bfloat16)
    assert kernels.choose("gpu", q, k, mask) == "cudnn"
    assert kernels.choose("gpu", q[:, :101], k[:, :101], mask) == "xla"
    assert kernels.choose("cpu", q, k, mask) == "xla"


@pytest.mark.parametrize(
    ("remat", "scan"),
    [
        ("full", True),
        ("attention", True),
        ("offload", True),
        pytest.param("minimal", True, marks=pytest.mark.slow),
        pytest.param("minimal", False, marks=pytest.mark.slow),
    ],
)
def test_remat_changes_no_number(remat, scan):
    batch = random_batch(4, 16, 64)
    params = P.init(P.build(dataclasses.replace(TINY, scan=scan)), 0)

    def run(remat):
        model = P.build(dataclasses.replace(TINY, scan=scan, remat=remat))
        return jax.jit(lambda p: loss_and_gradients(model, p, batch, 1e-4))(params)

    a, b = run("none"), run(remat)
    np.testing.assert_allclose(a[0].loss, b[0].loss, rtol=2e-6)
    for x, y in zip(jax.tree.leaves(a[1]), jax.tree.leaves(b[1]), strict=True):
        assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(x)


def residuals(model, batch, params):
    """Elements that the forward pass keeps for the backward pass."""
    _, backward = jax.vjp(lambda p: loss_sums(model, p, batch).loss, params)
    return P.count(backward)


def test_remat_policies_keep_ever_less():
    batch, params = random_batch(4, 16, 64), P.init(P.build(TINY), 0)
    with ops.plain():
        kept = [
            residuals(P.build(dataclasses.replace(TINY, remat=remat)), batch, params)
            for remat in ("none", "minimal", "attention", "full")
        ]
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == 4


@pytest.mark.parametrize("plain", [False, True])
def test_logits_in_chunks_give_the_same_loss_and_gradients(plain):
    model, batch = P.build(TINY), random_batch(4, 16, 64)
    params = P.init(model, 0)

    def run(chunk):
        with ops.plain() if plain else jax.disable_jit(False):
            step = jax.jit(lambda p: loss_and_gradients(model, p, batch, 1e-4, chunk=chunk))
            return step(params)

    whole, parts = run(0), run(4)
    np.testing.assert_allclose(whole[0].loss, parts[0].loss, rtol=2e-6)
    for x, y in zip(jax.tree.leaves(whole[1]), jax.tree.leaves(parts[1]), strict=True):
        assert np.linalg.norm(x - y) <= 1e-5 * np.linalg.norm(x)


def test_chunks_never_hold_all_logits():
    model, batch = P.build(dataclasses.replace(TINY, vocab_size=4096)), random_batch(4, 64, 64)

    def largest(chunk):
        step = jax.jit(lambda p: loss_and_gradients(model, p, batch, 1e-4, chunk=chunk))
        return step.lower(P.abstract(model)).compile().memory_analysis().temp_size_in_bytes

    logits = 4 * 64 * 4096 * 4
    assert largest(0) > logits > largest(8) - P.count(P.abstract(model)) * 4
