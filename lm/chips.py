"""Accelerators: peak speed, memory and list price, and the peak of the CPU at hand.

Peaks are dense bfloat16, per chip, from the vendors' documentation; prices are on-demand list
prices (Google's US list; for GPUs the middle of a survey of clouds, May 2026) and only defaults:
every command that prices something takes `--price`. The network's are Google's too (TPU v5e, v5p,
v6e and TPU7x, system architecture); for v4 it states none.
"""

import time
from typing import NamedTuple


class Chip(NamedTuple):
    """Per-chip figures."""

    flops: float  # peak dense bfloat16 FLOP/s
    hbm_bytes: float
    hbm_bandwidth: float  # bytes/s
    interconnect: float  # bytes/s, both directions
    dollars_per_hour: float | None
    network: float | None = None  # bytes/s each way between slices, through the data centre


GB, GIB, T = 1e9, 2.0**30, 1e12

CHIPS = {
    "v4": Chip(275 * T, 32 * GIB, 1228 * GB, 300 * GB, 3.22),
    "v5e": Chip(197 * T, 16 * GB, 819 * GB, 400 * GB, 1.20, 3.125 * GB),
    "v5p": Chip(459 * T, 95 * GB, 2765 * GB, 1200 * GB, 4.20, 6.25 * GB),
    "v6e": Chip(918 * T, 32 * GB, 1640 * GB, 800 * GB, 2.70, 12.5 * GB),
    "tpu7x": Chip(2307 * T, 192 * GB, 7400 * GB, 1200 * GB, None, 12.5 * GB),
    "a100": Chip(312 * T, 80 * GB, 2039 * GB, 600 * GB, 1.50),
    "h100": Chip(989 * T, 80 * GB, 3350 * GB, 900 * GB, 3.00),
    "h200": Chip(989 * T, 141 * GB, 4800 * GB, 900 * GB, 4.00),
}

# How JAX names the devices above.
DEVICE_KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "TPU7x": "tpu7x",
    "NVIDIA A100": "a100",
    "NVIDIA H100": "h100",
    "NVIDIA H200": "h200",
}


class Peak(NamedTuple):
    """What an MFU is relative to."""

    flops: float  # FLOP/s of all the devices together
    name: str


def peak(devices: list) -> Peak | None:
    """The peak of JAX devices: from the table, or for CPUs measured; None where it is not known."""
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        flops = measured_matmul_flops() * len(devices)
        return Peak(flops, "this CPU's measured float32 matmul speed")
    known = [prefix for prefix in DEVICE_KINDS if kind.startswith(prefix)]
    if not known:
        return None
    # The longest prefix that matches: 'TPU v5 lite' is not a 'TPU v5'.
    chip = DEVICE_KINDS[max(known, key=len)]
    return Peak(CHIPS[chip].flops * len(devices), f"{len(devices)} x {chip} bfloat16 peak")


def measured_matmul_flops(size: int = 768, repeats: int = 3) -> float:
    """FLOP/s of the fastest of a few square float32 products, on the cores that XLA is given."""
    import jax
    import jax.numpy as jnp

    multiply = jax.jit(lambda a, b: a @ b)
    a = jnp.ones((size, size), jnp.float32)
    multiply(a, a).block_until_ready()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        multiply(a, a).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times)
