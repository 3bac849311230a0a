"""Near duplicates by MinHash: datatrove's bands and matching, rensa's signatures, flat memory.

Signatures are over word 5-grams: with b bands of r rows two documents of Jaccard similarity s
meet with probability 1 - (1 - s**r)**b. Documents that met make a cluster, and one of it stays.
"""

import itertools
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig

from data import overlap
from data.dedup import whole_hash, word_hashes
from data.ledger import CLUSTER, Ledger

BLOCK = 1 << 16  # rows read at a time


def minhash_config(bands: int = 14, rows: int = 8) -> MinhashConfig:
    return MinhashConfig(
        num_buckets=bands, hashes_per_bucket=rows, hash_config=HashConfig(precision=32)
    )


class RensaSignature(MinhashDedupSignature):
    """datatrove's first stage with signatures by rensa, ten times as fast."""

    def __init__(self, folder: Path, bands: int, rows: int):
        from data.words import RegexTokenizer

        super().__init__(str(folder), minhash_config(bands, rows), language=RegexTokenizer())

    def get_shingles(self, text: str) -> np.ndarray:
        """Return the hashes of word 5-grams; of a shorter text the hash of all its words."""
        hashes, _, _ = word_hashes(text)
        runs = overlap.grams(hashes, self.config.n_grams)
        return runs if len(runs) or not len(hashes) else whole_hash(hashes)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        from rensa import RMinHash

        found = RMinHash(num_perm=self.num_hashes, seed=self.config.seed)
        found.update([h.to_bytes(8, "little") for h in shingles.tolist()])
        return np.array(found.digest(), np.uint32).reshape(self.config.num_buckets, -1).tolist()


class Cluster(PipelineStep):
    """Finds the clusters among the pairs of datatrove's second stage; the third.

    The largest part of a cluster gives the document that stays, as in datatrove's own step, whose
    results these are; but a document takes 12 bytes here, there several hundred.
    """

    name, type = "cluster near duplicates", "DEDUP"

    def __init__(self, matches: Path, out: Path):
        super().__init__()
        self.matches, self.out = matches, out

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        files = sorted(self.matches.glob("*.dups"))
        first = _places(files)
        root, size = _union(files, first)
        self.out.mkdir(parents=True, exist_ok=True)
        for task in range(len(first) - 1):
            mine = np.arange(first[task], first[task + 1])
            sizes = size[root[mine]]
            clustered = np.flatnonzero(sizes > 1)
            rows = np.stack([clustered, sizes[clustered]], axis=1)
            np.flatnonzero(root[mine] != mine).astype("<u4").tofile(self.out / f"{task:06d}.remove")
            rows.astype("<u4").tofile(self.out / f"{task:06d}.sizes")


def _places(files: list[Path]) -> np.ndarray:
    """Return where each task's documents begin if all are numbered through, and where they end."""
    counts = np.zeros(0, np.int64)
    for file in files:
        for pairs in _rows(file, 4):
            tasks, documents = pairs.reshape(-1, 2).astype(np.int64).T
            counts = np.pad(counts, (0, max(0, int(tasks.max()) + 1 - len(counts))))
            np.maximum.at(counts, tasks, documents + 1)
    return np.concatenate([[0], np.cumsum(counts)])


def _union(files: list[Path], first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each document the root of its cluster and, where it is one, the size."""
    parent = array("q", range(first[-1]))
    size = array("I", [1]) * int(first[-1])

    def find(x: int) -> int:
        while parent[x] != x:
            parent[x] = x = parent[parent[x]]
        return x

    for file in files:
        for pairs in _rows(file, 4):
            places = first[pairs[:, ::2]] + pairs[:, 1::2]
            for a, b in places.tolist():
                a, b = find(a), find(b)
                if a != b:
                    if size[a] < size[b]:
                        a, b = b, a
                    parent[b] = a
                    size[a] += size[b]
    root = np.frombuffer(parent, np.int64) if parent else np.zeros(0, np.int64)
    while (nearer := root[root]).tobytes() != root.tobytes():
        root = nearer
    return root, np.frombuffer(size, np.uint32) if size else np.zeros(0, np.uint32)


class RemoveNearDuplicates(PipelineStep):
    """Drops all but one document of each cluster that `Cluster` found."""

    name, type = "remove near duplicates", "DEDUP"

    def __init__(self, clusters: Path, ledger: Ledger):
        super().__init__()
        self.clusters, self.ledger = clusters, ledger

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        stage = self.ledger.stage("minhash")
        removed = _numbers(self.clusters / f"{rank:06d}.remove", 1)
        clusters = _numbers(self.clusters / f"{rank:06d}.sizes", 2)
        (gone,), (clustered, size) = next(removed), next(clusters)
        for number, document in enumerate(data):
            stage.enter(document)
            if number == clustered:
                stage.tally[f"{CLUSTER}{size}"] += 1
                clustered, size = next(clusters)
            if number == gone:
                (gone,) = next(removed)
                stage.drop("near duplicate", document)
            else:
                stage.leave(document)
                yield document


def _numbers(path: Path, width: int) -> Iterator[list[int]]:
    """Yield the rows of a file of `Cluster`, in the order of documents, then -1 for ever."""
    if path.exists():
        for rows in _rows(path, width):
            yield from rows.tolist()
    yield from itertools.repeat([-1] * width)


def _rows(path: Path, width: int) -> Iterator[np.ndarray]:
    """Yield a file's 32-bit numbers, `width` in a row, by blocks."""
    with open(path, "rb") as file:
        while len(numbers := np.fromfile(file, "<u4", BLOCK * width)):
            yield numbers.reshape(-1, width)
