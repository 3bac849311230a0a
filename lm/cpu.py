"""The operations of `lm.ops` as XLA compiles them best for a CPU: each equals its plain form there.

XLA's CPU matrix products run at full speed on row-major operands only, and its loops over large
intermediate arrays cost as much as the products. So each form here brings its own backward pass,
which transposes the smaller operand, behind an optimization barrier so that the transpose is not
folded back into the product, and keeps normalisers out of the large arrays.

N tokens, D inputs, F outputs; B batch, H heads, L query length, S key length, K head size; V
vocabulary.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

Arrays = tuple[jax.Array, ...]


def _transposed(x: jax.Array, *axes: int) -> jax.Array:
    """The transpose as an array of its own."""
    return jax.lax.optimization_barrier(jnp.transpose(x, axes or None))


def _joined(parts: Sequence[jax.Array]) -> jax.Array:
    return parts[0] if len(parts) == 1 else jnp.concatenate(parts, 1)


@jax.custom_vjp
def linear(x: jax.Array, weights: Arrays) -> Arrays:
    """x [..., D] times each of the weights [D, ...]; gradients take one product for all of them."""
    return tuple(jnp.tensordot(x, w, 1) for w in weights)


def _linear_forward(x: jax.Array, weights: Arrays) -> tuple[Arrays, tuple]:
    return linear(x, weights), (x, weights)


def _linear_backward(saved: tuple, dys: Arrays) -> tuple[jax.Array, Arrays]:
    x, weights = saved
    D = x.shape[-1]
    x_ND = x.reshape(-1, D)
    w_DF = _joined([w.reshape(D, -1) for w in weights])
    dy_NF = _joined([dy.reshape(len(x_ND), -1) for dy in dys])
    dx_ND = dy_NF @ _transposed(w_DF)
    if w_DF.shape[1] < D:
        dw_DF = jax.lax.optimization_barrier(_transposed(dy_NF) @ x_ND).T
    else:
        dw_DF = _transposed(x_ND) @ dy_NF
    cuts = list(itertools.accumulate(w.size // D for w in weights))[:-1]
    parts = jnp.split(dw_DF, cuts, 1)
    return dx_ND.reshape(x.shape), tuple(
        dw.reshape(w.shape) for dw, w in zip(parts, weights, strict=True)
    )


linear.defvjp(_linear_forward, _linear_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def attention(
    q_BLHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, bias: jax.Array, scale: float
) -> jax.Array:
    """softmax(scale q k^T + bias) v; keeps exp(scores), normalised only where K wide."""
    return _attention_forward(q_BLHK, k_BSHK, v_BSHK, bias, scale)[0]


def _attention_forward(q_BLHK, k_BSHK, v_BSHK, bias, scale) -> tuple[jax.Array, tuple]:
    q_BHLK = _transposed(q_BLHK * scale, 0, 2, 1, 3)
    k_BHKS = _transposed(k_BSHK, 0, 2, 3, 1)
    v_BHSK = _transposed(v_BSHK, 0, 2, 1, 3)
    scores_BHLS = (q_BHLK @ k_BHKS).astype(jnp.float32) + bias
    exp_BHLS = jnp.exp(scores_BHLS - jnp.max(scores_BHLS, -1, keepdims=True))
    norm_BHL1 = 1 / jnp.sum(exp_BHLS, -1, keepdims=True)
    exp_BHLS = exp_BHLS.astype(q_BLHK.dtype)
    y_BHLK = ((exp_BHLS @ v_BHSK) * norm_BHL1).astype(q_BLHK.dtype)
    saved = (q_BHLK, k_BHKS, v_BHSK, bias, exp_BHLS, norm_BHL1, y_BHLK)
    return jnp.transpose(y_BHLK, (0, 2, 1, 3)), saved


def _attention_backward(scale: float, saved: tuple, dy_BLHK: jax.Array) -> Arrays:
    """With p = exp * norm: dv = p^T dy; dp = dy v^T; ds = p (dp - sum_S(p dp)), where the sum is
    sum_K(y dy) (Dao et al. 2022, appendix B). The norm goes into dy, K wide, once.
    """
    q_BHLK, k_BHKS, v_BHSK, bias, exp_BHLS, norm_BHL1, y_BHLK = saved
    dtype = dy_BLHK.dtype
    dy_BHLK = (jnp.transpose(dy_BLHK, (0, 2, 1, 3)) * norm_BHL1).astype(dtype)
    dy_BHLK = jax.lax.optimization_barrier(dy_BHLK)
    sum_BHL1 = jnp.sum((y_BHLK * dy_BHLK).astype(jnp.float32), -1, keepdims=True)
    dp_BHLS = dy_BHLK @ _transposed(v_BHSK, 0, 1, 3, 2)
    ds32_BHLS = exp_BHLS * (dp_BHLS - sum_BHL1)
    ds_BHLS = ds32_BHLS.astype(dtype)
    dq_BHLK = (ds_BHLS @ _transposed(k_BHKS, 0, 1, 3, 2)) * scale
    dk_BHKS = _transposed(q_BHLK, 0, 1, 3, 2) @ ds_BHLS
    dv_BHKS = _transposed(dy_BHLK, 0, 1, 3, 2) @ exp_BHLS
    return (
        jnp.transpose(dq_BHLK, (0, 2, 1, 3)),
        jnp.transpose(dk_BHKS, (0, 3, 1, 2)),
        jnp.transpose(dv_BHKS, (0, 3, 1, 2)),
        _sum_to(ds32_BHLS, bias.shape),
    )


def _sum_to(x: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Sums over the axes along which an array of this shape was broadcast to x."""
    axes = [i for i, size in enumerate(shape) if size == 1 and x.shape[i] > 1]
    return jnp.sum(x, axes, keepdims=True) if axes else x


attention.defvjp(_attention_forward, _attention_backward)


@jax.custom_vjp
def cross_entropy(logits_NV: jax.Array, targets_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """-log softmax(logits)[target] and log-sum-exp; keeps exp(logits) for the gradient."""
    return _cross_entropy_forward(logits_NV, targets_N)[0]


def _cross_entropy_forward(logits_NV: jax.Array, targets_N: jax.Array) -> tuple[tuple, tuple]:
    wide_NV = logits_NV.astype(jnp.float32)
    max_N1 = jnp.max(wide_NV, -1, keepdims=True)
    exp_NV = jnp.exp(wide_NV - max_N1)
    sum_N1 = jnp.sum(exp_NV, -1, keepdims=True)
    log_z_N = (max_N1 + jnp.log(sum_N1))[:, 0]
    picked_N = jnp.take_along_axis(wide_NV, targets_N[:, None], axis=-1)[:, 0]
    # An empty array carries the dtype of the logits to the backward pass.
    saved = (exp_NV, sum_N1, targets_N, jnp.zeros(0, logits_NV.dtype))
    return (log_z_N - picked_N, log_z_N), saved


def _cross_entropy_backward(saved: tuple, grads: tuple) -> tuple[jax.Array, None]:
    exp_NV, sum_N1, targets_N, like = saved
    nats_N1, log_z_N1 = (g[:, None] for g in grads)
    target_NV = targets_N[:, None] == jnp.arange(exp_NV.shape[1])
    d_NV = exp_NV * ((nats_N1 + log_z_N1) / sum_N1) - jnp.where(target_NV, nats_N1, 0.0)
    return d_NV.astype(like.dtype), None


cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


def once(x: jax.Array) -> jax.Array:
    """x times the identity: exactly x (finite), as an array of its own.

    XLA's CPU compiler drops optimization barriers before it fuses loops, and then computes x again
    in each loop that reads it; what it never fuses is the result of a matrix product.
    """
    return x @ jnp.eye(x.shape[-1], dtype=x.dtype)
