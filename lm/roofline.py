"""What a compiled step takes at best on a chip: a roofline, so a bound and no forecast.

Four things take time: products at the peak, bytes through the HBM, bytes from other chips of the
slice, and bytes from other slices. Instructions run one after another, so each takes the longer of
its products and its bytes; what comes from other chips may come meanwhile. A step is at least the
longest of the three.
"""

from typing import NamedTuple

from lm.chips import Chip
from lm.program import Kernel, Program

# Matrix products of an attention kernel, by what its name has in it: forward q k^T and p v; dq
# repeats the first and adds two, dkv repeats it and adds three (Dao et al. 2022).
KERNEL_PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}


class Roofline(NamedTuple):
    """Of one chip's step; FLOPs, bytes and seconds."""

    flops: float  # computed: what remat repeats counts again
    hbm_traffic: float
    compute_seconds: float
    hbm_seconds: float
    core_seconds: float  # instruction by instruction, the longer of the two
    ici_seconds: float
    dcn_seconds: float | None  # None: the network's speed is not known

    @property
    def optimal_seconds(self) -> float:
        return max(self.core_seconds, self.ici_seconds, self.dcn_seconds or 0.0)


def roofline(program: Program, chip: Chip, causal: bool) -> Roofline:
    """The bound of a program on a chip."""
    kernels = {k.name: kernel_flops(k, causal) for k in program.kernels}
    work = [(w.times, w.flops + kernels.get(w.name, 0.0), w.bytes) for w in program.work]
    flops = sum(times * done for times, done, _ in work)
    core = sum(n * max(f / chip.flops, b / chip.hbm_bandwidth) for n, f, b in work)
    near = sum(c.received for c in program.collectives if "slice" not in c.axes.split("+"))
    far = sum(c.received for c in program.collectives if "slice" in c.axes.split("+"))
    return Roofline(
        flops,
        program.hbm_bytes,
        flops / chip.flops,
        program.hbm_bytes / chip.hbm_bandwidth,
        core,
        near / (chip.interconnect / 2),  # half of the bandwidth goes each way
        far / chip.network if chip.network else None if far else 0.0,
    )


def kernel_flops(kernel: Kernel, causal: bool) -> float:
    """Of one run of an attention kernel [B, H, L, K], which XLA counts as nothing."""
    products = next((n for key, n in KERNEL_PRODUCTS.items() if key in kernel.name), 0)
    if len(kernel.shape) != 4:
        return 0.0
    B, H, L, K = kernel.shape
    return products * 2 * B * H * L * L * K * (0.5 if causal else 1)
