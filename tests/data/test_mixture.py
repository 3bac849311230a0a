"""Mixtures: shares of tokens, caps, and batches that hang on nothing but the step."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import mixture
from data.batch import Batches
from data.documents import Document
from data.errors import UserError
from data.mixture import BLOCK, Mixture, Source, block_counts, pattern
from data.objectives import causal
from data.prepare import prepare
from data.store import Store

LENGTH = 8


@pytest.fixture
def store(tmp_path):
    """Kinds of 40,000, 8,000 and 2,000 tokens; the token's value tells the kind."""
    tokens = np.repeat(np.array([10, 20, 30], np.uint16), [40_000, 8000, 2000])
    tokens[::100] = 1
    tokens = np.append(tokens, np.uint16(1))
    manifest = {"by_kind": True, "documents_by_kind": {"a": 400, "b": 80, "c": 20}}
    return Store(tmp_path, manifest, tokens, np.flatnonzero(tokens[:-1] == 1))


def batches(store, weights, max_epochs=float("inf"), temperature=1.0, batch=32, rows=None):
    found = mixture.sources(store, weights, temperature)
    return Batches(store, batch, causal(LENGTH), 0, rows=rows, max_epochs=max_epochs, mixture=found)


def kinds(batch) -> Counter:
    return Counter((batch.inputs.max(axis=-1) // 10).ravel().tolist())


@pytest.mark.parametrize(
    ("weights", "temperature", "shares"),
    [
        ("all", 1.0, [0.8, 0.16, 0.04]),
        ("a:1,b:1,c:2", 1.0, [0.25, 0.25, 0.5]),
        ("all", 1e9, [1 / 3, 1 / 3, 1 / 3]),
        ("all", 2.0, np.sqrt([0.8, 0.16, 0.04]) / np.sqrt([0.8, 0.16, 0.04]).sum()),
        ("c:3,a:1", 1.0, [0.25, 0, 0.75]),
    ],
)
def test_tokens_come_in_the_shares_asked_for(store, weights, temperature, shares):
    found = kinds(batches(store, weights, temperature=temperature).stack(0, 2 * BLOCK // 32))
    share = [found[kind] / (2 * BLOCK) for kind in (1, 2, 3)]
    np.testing.assert_allclose(share, shares, atol=1 / BLOCK)


@pytest.mark.parametrize("hosts", [1, 2, 4, 8])
def test_any_number_of_hosts_makes_the_same_global_batch(store, hosts):
    whole = batches(store, "a:1,b:2,c:1", max_epochs=9)
    for step in (0, 7, 40):
        rows = np.arange(32).reshape(hosts, -1)
        parts = [batches(store, "a:1,b:2,c:1", max_epochs=9, rows=r)(step) for r in rows]
        for field in ("inputs", "targets", "weights", "positions", "segments"):
            joined = np.concatenate([getattr(part, field) for part in parts])
            np.testing.assert_array_equal(joined, getattr(whole(step), field))


def test_each_epoch_of_a_source_reads_every_window_once(store):
    found = mixture.sources(store, "a:1,c:1")
    mixed = Mixture(found, causal(LENGTH))
    which, starts = mixed.places(np.arange(8 * BLOCK), seed=3)
    windows = mixed.sizes[1]
    of_c = starts[which == 1]
    for epoch in range(len(of_c) // windows):
        one = of_c[epoch * windows : (epoch + 1) * windows]
        np.testing.assert_array_equal(np.sort(one), found[1].start + LENGTH * np.arange(windows))
    assert list(of_c[:windows]) != list(of_c[windows : 2 * windows])  # another order each time


def test_a_source_drops_out_at_its_cap_and_the_others_take_its_share(store):
    capped = batches(store, "a:2,b:1,c:1", max_epochs=2)
    mixed = capped.mixture
    steps = int(mixed.capacity) // 32
    which, _ = mixed.places(np.arange(int(mixed.capacity)), 0)
    read = np.bincount(which)
    np.testing.assert_array_equal(read, 2 * mixed.sizes)
    last_c = np.flatnonzero(which == 2).max()
    after = which[last_c + 1 : last_c + 1 + BLOCK]
    np.testing.assert_allclose(np.bincount(after) / BLOCK, [2 / 3, 1 / 3], atol=1 / BLOCK)
    usage = capped.usage(steps)
    assert [u.tokens // LENGTH for u in usage] == list(np.bincount(which[: steps * 32]))
    with pytest.raises(UserError, match="exhausts every source.*data.max_epochs=2"):
        capped.check_budget(steps + 1)
    with pytest.raises(UserError, match="exhausts every source"):
        capped(steps)


def test_a_longer_run_begins_with_the_same_batches(store):
    """Where a source drops out does not hang on how long the run is, nor on earlier calls."""
    one, other = (batches(store, "a:2,b:1,c:1", max_epochs=3) for _ in range(2))
    other(90)
    for step in (0, 33, 90):
        np.testing.assert_array_equal(one(step).inputs, other(step).inputs)
        np.testing.assert_array_equal(one.stack(step, 3).inputs[0], other(step).inputs)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12),
    st.integers(1, 3),
    st.integers(0, 5000),
)
def test_placing_equals_counting_one_by_one(weights, epochs, examples):
    """The naive reading: walk the blocks, count what each source gave, drop it at its cap."""
    found = [Source(f"s{i}", i * 900, i * 900 + 881, w) for i, w in enumerate(weights)]
    mixed = Mixture(found, causal(LENGTH), epochs)
    examples = min(examples, int(mixed.capacity))
    np.testing.assert_array_equal(mixed.read(int(mixed.capacity)), epochs * mixed.sizes)
    which, starts = mixed.places(np.arange(examples), 0)
    np.testing.assert_array_equal(np.bincount(which, minlength=len(found)), mixed.read(examples))
    seen: dict[int, Counter] = {}
    for source, start in zip(which.tolist(), starts.tolist(), strict=True):
        seen.setdefault(source, Counter())[start] += 1
    for source, counts in seen.items():
        assert max(counts.values()) <= epochs
        assert max(counts.values()) - min(counts.values()) <= 1
        assert all(found[source].start <= s < found[source].stop - LENGTH for s in counts)


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=50).filter(any))
def test_blocks_are_full_and_even(weights):
    counts = block_counts(np.array(weights))
    assert counts.sum() == BLOCK and ((counts > 0) == (np.array(weights) > 0)).all()
    order, rank = pattern(counts)
    for source in np.flatnonzero(counts):
        place = np.flatnonzero(order == source)
        assert list(rank[place]) == list(range(counts[source]))
        ideal = (np.arange(len(place)) + 0.5) * BLOCK / counts[source]
        assert np.abs(place - ideal).max() <= len(weights)


@pytest.mark.parametrize(
    ("weights", "problem"),
    [
        ("a:1,bb:2", '"bb" is not one of a, b, c .did you mean "b"'),
        ("a=1", "not NAME:WEIGHT"),
        ("a:1,a:2", "each name once"),
        ("a:-1", "not NAME:WEIGHT"),
        ("a:0", "no weight is above 0"),
    ],
)
def test_wrong_mixtures_are_one_line(store, weights, problem):
    with pytest.raises(UserError, match=problem):
        mixture.sources(store, weights)


def test_sources_that_cannot_be_used(store, tmp_path):
    with pytest.raises(UserError, match="temperature=0"):
        mixture.sources(store, "all", 0)
    plain = Store(tmp_path, {"documents_by_kind": {}}, store.tokens, store.offsets)
    with pytest.raises(UserError, match="not written by kind"):
        mixture.sources(plain, "all")
    with pytest.raises(UserError, match='of "c" are less than a window'):
        Mixture(mixture.sources(store, "all"), causal(4000))


def test_a_store_by_kind_has_each_kind_in_one_range(tmp_path):
    import json

    words = {"x": "alpha beta", "y": "gamma delta", "": "no kind"}
    rows = [{"text": f"{words[k]} {i} " * 9, "kind": k} for i in range(200) for k in words]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def made(by_kind):
        path = str(tmp_path / "a.jsonl")
        return prepare(
            path, vocab_size=400, cache=tmp_path / "c", by_kind=by_kind, workers=1, log=str
        )

    mixed, plain = made(True), made(False)
    assert len(mixed.train) == len(plain.train) and mixed.hash != plain.hash
    ranges = mixture.kind_ranges(mixed.train)
    assert list(ranges) == ["text", "x", "y"]
    for kind, (start, stop) in ranges.items():
        text = mixed.tokenizer.decode(mixed.train.tokens[start:stop])
        assert words["" if kind == "text" else kind] in text
        assert not any(w in text for k, w in words.items() if (k or "text") != kind)


def test_documents_keep_their_order_within_a_kind():
    from data.prepare import sorted_by_kind

    some = [Document(str(i), kind="ab"[i % 2]) for i in range(9)]
    assert "".join(d.text for d in sorted_by_kind(lambda: some)) == "024681357"


def test_the_table_and_the_record_say_what_was_read(store):
    usage = batches(store, "a:1,c:1", max_epochs=5).usage(BLOCK // 32 * 2)
    assert [(u.name, u.share, u.tokens) for u in usage] == [("a", 0.5, 8192), ("c", 0.5, 8192)]
    c = mixture.as_record(usage)["c"]
    assert c["epochs"] == pytest.approx(BLOCK / (c["unique_tokens"] / LENGTH))
    assert mixture.table(usage).count("\n") == 2 and " 4.1" in mixture.table(usage)
