"""Attention kernels: which one serves a mask on a platform, and how each is called.

| mask                                | TPU    | GPU   | CPU and elsewhere |
|-------------------------------------|--------|-------|-------------------|
| causal or both ways, window, packed | splash | cuDNN | XLA               |
| encoder-decoder (other lengths)     | splash | cuDNN | XLA               |
| prefix visible both ways            | XLA    | cuDNN | XLA               |
| learned bias by distance (T5)       | XLA    | cuDNN | XLA               |

Splash (Pallas) takes segments, causality and a window as a description and never makes the L x S
square; it has no additive bias, and a prefix that differs by row would be one. cuDNN takes any mask
as a dense bias, of 16-bit types and even lengths only (with a bias its backward pass refuses odd
ones). What does not fit a kernel's shapes goes to XLA.

B batch, L query length, S key length, H heads, G key-value heads, K head size.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import P
from jax.sharding import NamedSharding

from lm import mesh as meshes
from lm import ops

if TYPE_CHECKING:
    from lm.attention import Mask

BLOCK = 512  # splash's tiles; 128 is the least that a TPU's lanes take
LANES = 128
CALLS = {"splash": "tpu_custom_call", "cudnn": "__cudnn$fmha"}  # how a program names them
SAVED = "attention"  # the name that remat policies know attention's results by


@contextlib.contextmanager
def lowering_for(platform: str) -> Iterator[None]:
    """Programs traced inside are for a platform that need not be there: lowered, never run."""
    from unittest import mock

    from jax._src.cudnn import fused_attention_stablehlo as fused

    with (
        mock.patch.object(ops, "platform", lambda: platform),
        mock.patch.object(fused, "check_cudnn_version", lambda: 91000),
        mock.patch.object(fused, "check_compute_capability", lambda *_: True),
    ):
        yield


def choose(platform: str, q: jax.Array, k: jax.Array, mask: "Mask") -> str:
    """'splash', 'cudnn' or 'xla': the table above, where the shapes allow."""
    length, size = q.shape[1], k.shape[1]
    if platform == "tpu":
        described = mask.learned is None and mask.prefix is None
        tiled = length % LANES == 0 and size % LANES == 0
        return "splash" if described and tiled else "xla"
    if platform in ("gpu", "cuda"):
        narrow = q.dtype in (jnp.bfloat16, jnp.float16)
        heads = q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
        even = length % 2 == 0 and size % 2 == 0
        return "cudnn" if narrow and heads and even else "xla"
    return "xla"


def cudnn(q_BLHK, k_BSGK, v_BSGK, mask: "Mask", bias: jax.Array, scale: float) -> jax.Array:
    """cuDNN's fused attention; `bias` is the dense mask, and what is learned is in it."""
    return jax.nn.dot_product_attention(
        q_BLHK,
        k_BSGK,
        v_BSGK,
        bias.astype(q_BLHK.dtype) if mask.learned is not None else None,
        mask=None if mask.learned is not None else bias == 0,
        scale=scale,
        implementation="cudnn",
    )


def splash(
    q_BLHK: jax.Array,
    k_BSGK: jax.Array,
    v_BSGK: jax.Array,
    mask: "Mask",
    scale: float,
    interpret: bool = False,
) -> jax.Array:
    """Splash attention on each device's rows, heads and part of the queries -> [B, L, H, K].

    With the queries' length split over devices (sequence parallel), each part sees all keys, which
    are gathered, and has its own part of the mask.
    """
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as sk

    mesh = jax.sharding.get_abstract_mesh()
    one = mesh.empty or mesh.size == 1
    q_spec = meshes.spec(("batch", "length", "heads", "head_dim"))
    kv_spec = meshes.spec(("batch", None, "kv_heads", "head_dim"))
    heads, parts = (1, 1) if one else (_ways(mesh, "heads"), _ways(mesh, "length"))
    length, size = q_BLHK.shape[1], k_BSGK.shape[1]
    block_q, block_kv = _block(length // parts), _block(size)
    if not (mask.causal or mask.window):  # each part of the queries has the same mask
        length, parts = length // parts, 1
    blocks = sk.BlockSizes(
        block_q=block_q, block_kv=block_kv, block_kv_compute=block_kv,
        block_q_dkv=block_q, block_kv_dkv=block_kv, block_kv_dkv_compute=block_kv,
        block_q_dq=block_q, block_kv_dq=block_kv,
    )  # fmt: skip
    kernel = sk.make_splash_mha(
        _description(mask, q_BLHK.shape[2], length, size, parts),
        block_sizes=blocks, head_shards=heads, q_seq_shards=parts,
        residual_checkpoint_name=SAVED, interpret=interpret,
    )  # fmt: skip

    def local(kernel, q, k, v, segments, key_segments):
        q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q * scale, k, v))
        ids = sk.SegmentIds(segments, key_segments)
        return jnp.swapaxes(jax.vmap(kernel)(q, k, v, ids), 1, 2)

    arguments = (kernel, q_BLHK, k_BSGK, v_BSGK, mask.segments, mask.key_segments)
    if one:
        return local(*arguments)
    per_part = q_spec[1] if parts > 1 else None
    kernel_spec = kernel.manual_sharding_spec(NamedSharding(mesh, P(q_spec[2], per_part)))
    rows, keys = meshes.spec(("batch", "length")), meshes.spec(("batch", None))
    in_specs = (kernel_spec, q_spec, kv_spec, kv_spec, rows, keys)
    return jax.shard_map(local, in_specs=in_specs, out_specs=q_spec, check_vma=False)(*arguments)


def _ways(mesh: jax.sharding.AbstractMesh, axis: str) -> int:
    """Over how many devices an array's axis is split."""
    return int(np.prod([mesh.shape[a] for a in meshes.RULES[axis]]))


def _block(length: int) -> int:
    """The largest tile, a multiple of a TPU's lanes, that divides a length."""
    return next(b for b in range(min(BLOCK, length), 0, -LANES) if length % b == 0)


def _description(mask: "Mask", heads: int, length: int, size: int, parts: int):
    """The mask without segments, as splash takes it."""
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as sm

    shape = (length, size)
    one: Any = sm.FullMask(shape)
    if mask.causal:
        one = sm.CausalMask(shape, shard_count=parts)
    if mask.window:
        window = (mask.window, 0 if mask.causal else mask.window)
        one = sm.LocalMask(shape, window, offset=0, shard_count=parts)
    return sm.MultiHeadMask([one] * heads)
