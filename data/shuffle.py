"""A shuffle without state or memory: a keyed permutation of [0, n), computed per index.

A Feistel network on a grid of about sqrt(n) by sqrt(n) cells, walked along its cycles until it
falls inside [0, n) (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").
"""

import math

import numpy as np

ROUNDS = 6
U = np.uint64
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, SplitMix64's increment


def mix(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit numbers; the finaliser of SplitMix64 (Steele et al. 2014)."""
    x = (x ^ (x >> U(30))) * U(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> U(27))) * U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


def random_bits(seed: int, examples: np.ndarray, count: int) -> np.ndarray:
    """Return uint64 [B, count]: random bits that hang on seed, example number and place alone.

    SplitMix64, started for each example from a hash of (seed, example).
    """
    of_seed = mix(np.array([(seed + GOLDEN) % (1 << 64)], np.uint64))
    starts = mix(of_seed + mix(examples.astype(np.uint64) + U(GOLDEN)))
    return mix(starts[:, None] + np.arange(1, count + 1, dtype=np.uint64) * U(GOLDEN))


def _round_keys(seed: int, epochs: np.ndarray) -> np.ndarray:
    """Return uint64 [ROUNDS, number of epochs]."""
    of_seed = mix(np.array([(seed + GOLDEN) % (1 << 64)], np.uint64))
    rounds = np.arange(ROUNDS, dtype=np.uint64)[:, None] * U(GOLDEN)
    return mix(mix(of_seed + epochs.astype(np.uint64)) + rounds)


def permute(index: np.ndarray, n: int, seed: int, epoch: np.ndarray | int = 0) -> np.ndarray:
    """Return int64 [...]: where each index of [0, n) goes, a bijection for each seed and epoch.

    `epoch` is one for all or one for each index. ValueError for an index outside [0, n).
    """
    index = np.asarray(index)
    if index.size and not (index.min() >= 0 and index.max() < n):
        raise ValueError(f"index outside [0, {n})")
    epochs, which = np.unique(np.broadcast_to(epoch, index.shape).ravel(), return_inverse=True)
    keys = _round_keys(seed, epochs)
    keys = keys if len(epochs) == 1 else keys[:, which]
    rows = U(max(1, math.isqrt(n)))
    columns = U(max(1, -(-n // int(rows))))

    def once(x: np.ndarray, keys: np.ndarray) -> np.ndarray:
        row, column = np.divmod(x, columns)
        for i in range(0, ROUNDS, 2):
            row = (row + mix(column + keys[i])) % rows
            column = (column + mix(row + keys[i + 1])) % columns
        return row * columns + column

    x = once(index.ravel().astype(np.uint64), keys)
    while (outside := np.flatnonzero(x >= U(n))).size:
        x[outside] = once(x[outside], keys if len(epochs) == 1 else keys[:, outside])
    return x.reshape(index.shape).astype(np.int64)
