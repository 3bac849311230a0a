"""MinHash against exact Jaccard similarity, clusters against datatrove's own step."""

import struct
from pathlib import Path

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets, MinhashDedupCluster
from hypothesis import given
from hypothesis import strategies as st

from data import source
from data.embed_labels import labels
from data.ledger import CLUSTER, Ledger
from data.minhash import Cluster, RemoveNearDuplicates, RensaSignature, minhash_config


def shingles(text: str) -> set[tuple[str, ...]]:
    found = "".join(c.lower() if c.isalnum() else " " for c in text).split()
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def near_pairs(count: int) -> list[tuple[str, str, float]]:
    """Pairs of texts and their exact Jaccard similarity: labelled ones, and edited documents."""
    pairs = [(row["a"], row["b"]) for row in labels("near_duplicates")]
    rng = np.random.default_rng(0)
    texts = [d.text for d in source.read() if d.kind in ("web", "papers") and len(d.text) < 5000]
    for i, text in enumerate(texts[:count]):
        parts = text.split(" ")
        for place in rng.integers(0, len(parts), 1 + len(parts) * (i % 6) // 140):
            parts[place] = f"edited{place}"
        pairs.append((text, " ".join(parts)))
    scored = []
    for a, b in pairs:
        left, right = shingles(a), shingles(b)
        if left | right:
            scored.append((a, b, len(left & right) / len(left | right)))
    return scored


def bands(step: RensaSignature, text: str) -> list[tuple[int, ...]]:
    return [tuple(band) for band in step.get_signature(step.get_shingles(text))]


def test_recall_against_exact_similarity(tmp_path) -> None:
    """Above 0.75 at least 97% of pairs meet; what theory says of b bands of r rows holds."""
    step = RensaSignature(tmp_path, 20, 6)
    rows = [
        (s, any(x == y for x, y in zip(bands(step, a), bands(step, b), strict=True)))
        for a, b, s in near_pairs(500)
    ]
    similarity, met = np.array([s for s, _ in rows]), np.array([m for _, m in rows])
    assert (similarity >= 0.75).sum() > 300
    assert met[similarity >= 0.75].mean() >= 0.97
    assert not met[similarity < 0.2].any()
    theory = 1 - (1 - similarity**6) ** 20
    assert abs(met.mean() - theory.mean()) < 0.03


def test_the_four_stages_leave_one_of_each_cluster(tmp_path) -> None:
    texts = [d.text for d in source.read() if d.kind == "papers"][:60]
    copies = [f"{text} Printed copy {i}." for i, text in enumerate(texts[:10])]
    shares = [[Document(t, str(i)) for i, t in enumerate(part)] for part in (texts, copies)]
    config = minhash_config(20, 6)
    signed, matches, clusters = (tmp_path / n for n in ("signed", "matches", "clusters"))
    for rank, share in enumerate(shares):
        RensaSignature(signed, 20, 6).run(iter(share), rank, 2)
    for band in range(20):
        step = MinhashDedupBuckets(str(signed), str(matches), config=config, lines_to_buffer=100)
        step.run(None, band, 20)
    MinhashDedupCluster(str(matches), str(clusters), config=config, save_cluster_size=True).run(
        None
    )
    ledger = Ledger()
    left = []
    for rank, share in enumerate(shares):
        left += [d.text for d in RemoveNearDuplicates(clusters, ledger).run(iter(share), rank, 2)]
    assert len(left) == 60
    stage = ledger.stage("minhash")
    assert stage.reasons["near duplicate"] == 10
    assert stage.tally == {f"{CLUSTER}2": 20}


node = st.tuples(st.integers(0, 3), st.integers(0, 6))  # task, document


@given(found=st.lists(st.lists(st.tuples(node, node).filter(lambda p: p[0] != p[1])), max_size=3))
def test_clusters_are_those_of_datatrove(found: list[list], tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("clusters")
    (folder / "matches").mkdir()
    for band, pairs in enumerate(found):
        rows = [struct.pack("<4I", *a, *b) for a, b in pairs]
        (folder / "matches" / f"{band:05d}_00.dups").write_bytes(b"".join(rows))
    Cluster(folder / "matches", folder / "ours").run()
    config = minhash_config(max(1, len(found)))
    theirs = MinhashDedupCluster(
        str(folder / "matches"), str(folder / "theirs"), config=config, save_cluster_size=True
    )
    theirs.run()

    def written(out: Path) -> dict[str, bytes]:
        """What a folder's files hold; datatrove writes none where there is nothing."""
        return {f.name: f.read_bytes() for f in out.glob("*.*") if f.stat().st_size}

    assert written(folder / "ours") == written(folder / "theirs")
