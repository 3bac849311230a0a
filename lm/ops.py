"""The operations where a step spends its time, in their plain form.

On a CPU their tuned form in `lm.cpu` takes over; the plain one is its oracle, and what all other
platforms run.
"""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from lm import cpu
from lm import mesh as meshes

_plain_only = False


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Programs traced inside take the plain forms everywhere."""
    global _plain_only
    before, _plain_only = _plain_only, True
    try:
        yield
    finally:
        _plain_only = before


def is_plain() -> bool:
    """True inside `plain`."""
    return _plain_only


def platform() -> str:
    """What the program being traced is for: the mesh's platform, which may be a remote one's."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device.platform if device else jax.default_backend()


def _tuned() -> bool:
    return platform() == "cpu" and not _plain_only


def linear(x: jax.Array, *weights: jax.Array) -> tuple[jax.Array, ...]:
    """x [..., D] times sibling weights [D, ...] -> one [..., ...] each."""
    if meshes.is_explicit():
        return tuple(meshes.product(x, w) for w in weights)
    if _tuned():
        return cpu.linear(x, weights)
    return tuple(jnp.tensordot(x, w, 1) for w in weights)


def attention(
    q_BLHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, bias: jax.Array, scale: float
) -> jax.Array:
    """softmax(scale q k^T + bias) v, the softmax in float32."""
    if _tuned():
        return cpu.attention(q_BLHK, k_BSHK, v_BSHK, bias, scale)
    scores_BHLS = jnp.einsum("blhk,bshk->bhls", q_BLHK * scale, k_BSHK)
    probs_BHLS = jax.nn.softmax(scores_BHLS.astype(jnp.float32) + bias).astype(q_BLHK.dtype)
    return jnp.einsum("bhls,bshk->blhk", probs_BHLS, v_BSHK)


def cross_entropy(logits_NV: jax.Array, targets_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log softmax(logits)[target] and log-sum-exp, each [N], in float32."""
    if _tuned():
        return cpu.cross_entropy(logits_NV, targets_N)
    logits_NV = logits_NV.astype(jnp.float32)
    log_z_N = jax.nn.logsumexp(logits_NV, axis=-1)
    picked_N = jnp.take_along_axis(logits_NV, targets_N[:, None], axis=-1)[:, 0]
    return log_z_N - picked_N, log_z_N


def once(x: jax.Array) -> jax.Array:
    """x, where the compiler must not compute it again for each use."""
    return cpu.once(x) if _tuned() else x
