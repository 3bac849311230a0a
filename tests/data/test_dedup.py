"""Exact, sentence and substring deduplication against naive versions, in bounded memory."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from data import dedup, source
from data.dedup import (
    PIECES,
    SENTENCES,
    WORDS,
    Find,
    Remove,
    Sign,
    sentence_runs,
    whole_text,
    without,
    word_runs,
)
from data.ledger import Ledger
from data.words import SENTENCE_END

TASKS = 3


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, one by one."""
    return "".join(c.lower() if c.isalnum() else " " for c in text).split()


def remove(texts: list[str], kind: str, folder, ranges: int = 2) -> list[list[str]]:
    """What is left of the texts, by task; text i belongs to task i % TASKS."""
    shares = [[Document(t, str(i)) for i, t in enumerate(texts)][r::TASKS] for r in range(TASKS)]
    for rank, share in enumerate(shares):
        list(Sign(folder / "pieces", kind, ranges).run(iter(share), rank, TASKS))
    for i in range(ranges):
        Find(folder / "pieces", folder / "found").run(None, i, ranges)
    left = []
    for rank, share in enumerate(shares):
        step = Remove(folder / "found", kind, Ledger(), len, min_words=1)
        left.append([d.text for d in step.run(iter(share), rank, TASKS)])
    return left


def test_shards_of_any_size_find_the_same(tmp_path, monkeypatch) -> None:
    texts = [d.text[:3000] for d in source.read() if d.kind == "papers"][:30] * 2

    def found(folder: Path) -> tuple[list[list[str]], dict[str, list[bytes]]]:
        left = remove(texts, "substring", folder)
        files = {str(f.relative_to(folder)): f for f in folder.rglob("*.repeated")}
        pieces = {name: np.fromfile(file, dedup.PIECE) for name, file in files.items()}
        return left, {name: sorted(map(bytes, found)) for name, found in pieces.items()}

    whole = found(tmp_path / "whole")
    assert sum(map(len, whole[1].values())) > 5000
    monkeypatch.setattr(dedup, "SHARD", 1 << 14)
    monkeypatch.setattr(dedup, "BLOCK", 100)
    monkeypatch.setattr(dedup, "HELD", 1 << 10)
    assert found(tmp_path / "shards") == whole


@pytest.mark.parametrize("step", ["sign", "find", "remove"])
def test_memory_stays_as_the_input_grows(step: str, tmp_path, monkeypatch) -> None:
    """Half of the documents are new, the others the same twenty again and again."""
    monkeypatch.setattr(dedup, "SHARD", 1 << 15)
    monkeypatch.setattr(dedup, "BLOCK", 1 << 10)
    monkeypatch.setattr(dedup, "HELD", 1 << 14)

    def documents(count: int) -> Iterator[Document]:
        for i in range(count):
            numbers = np.random.default_rng(i if i % 2 else i % 40).integers(0, 10**6, 250)
            yield Document(" ".join(map(str, numbers)), str(i))

    def peak(count: int) -> int:
        """Return the largest memory of the step, in bytes."""
        pieces, found = tmp_path / f"{count}" / "pieces", tmp_path / f"{count}" / "found"
        remover = Remove(found, "substring", Ledger(), len)
        steps = {
            "sign": lambda: sum(1 for _ in Sign(pieces, "substring", 1).run(documents(count))),
            "find": lambda: Find(pieces, found).run(None, 0, 1),
            "remove": lambda: sum(1 for _ in remover.run(documents(count))),
        }
        for name in list(steps)[: list(steps).index(step)]:
            steps[name]()
        tracemalloc.start()
        left = steps[step]()
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert left == {"sign": count, "find": None, "remove": count // 2 + 20}[step]
        return largest

    word_runs("fills tables that stay")
    small, large = peak(100), peak(600)
    assert large < 1.5 * small


few = st.lists(st.text("ab .", max_size=8), max_size=12)


@given(texts=few)
def test_exact_keeps_the_first_of_equal_texts(texts: list[str], tmp_path_factory) -> None:
    left = remove(texts, "exact", tmp_path_factory.mktemp("exact"))
    seen: set[str] = set()
    for rank in range(TASKS):
        expected = []
        for text in texts[rank::TASKS]:
            key = " ".join(words_of(text)) or f"={text}"
            if key not in seen:
                expected.append(text)
            seen.add(key)
        assert left[rank] == expected


@pytest.mark.parametrize("ranges", [1, 2, 5])
def test_exact_does_not_depend_on_the_ranges(tmp_path, ranges: int) -> None:
    texts = [f"text number {i % 40}" for i in range(120)]
    left = remove(texts, "exact", tmp_path, ranges)
    assert sum(map(len, left)) == 40


def test_a_long_span_stays_in_its_first_place_only(tmp_path) -> None:
    rng = np.random.default_rng(0)

    def prose(n: int) -> str:
        return " ".join(f"w{i}" for i in rng.integers(0, 10**6, n))

    span = prose(WORDS + 10)
    texts = [prose(80), f"{prose(30)} {span} {prose(30)}", f"{span} {prose(25)}", prose(90)]
    texts += [f"{prose(20)} {span.upper().replace(' ', ', ')} {prose(20)}"]
    (zero, *_), (one, *_), (two, *_) = left = remove(texts, "substring", tmp_path)
    assert zero == texts[0] and left[0][1] == texts[3]
    # Task 1 has texts 1 and 4, task 2 has text 2: the span stays in text 1.
    assert one == texts[1]
    assert (
        words_of(left[1][1])
        == words_of(texts[4].split(span.split()[0].upper())[0]) + words_of(texts[4])[-20:]
    )
    assert words_of(two) == words_of(texts[2])[-25:]


@given(st.lists(st.sampled_from(["a", "bb", "c.", "d!", "\n", "é", ","]), max_size=90))
def test_word_runs_are_all_runs(parts: list[str]) -> None:
    text = " ".join(parts)
    hashes, starts, ends = word_runs(text)
    naive = words_of(text)
    runs = [tuple(naive[i : i + WORDS]) for i in range(len(naive) - WORDS + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes.tolist())) == len(set(runs))
    for run, start, end in zip(runs, starts, ends, strict=True):
        assert words_of(text[start:end]) == list(run)


@given(st.lists(st.sampled_from(["a", "bb.", "c d?", "\n", "e!", " ", "f"]), max_size=40))
def test_sentence_runs_are_three_sentences_with_words(parts: list[str]) -> None:
    text = " ".join(parts)
    hashes, starts, ends = sentence_runs(text)
    pieces, at = [], 0
    for end in sorted(
        {m.end() for m in SENTENCE_END.finditer(text)}
        | {i + 1 for i, c in enumerate(text) if c == "\n"}
        | {len(text)}
    ):
        pieces.append(words_of(text[at:end]))
        at = end
    pieces = [piece for piece in pieces if piece]
    runs = [str(pieces[i : i + SENTENCES]) for i in range(len(pieces) - SENTENCES + 1)]
    assert len(hashes) == len(runs) and len(set(hashes.tolist())) == len(set(runs))
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        assert words_of(text[start:end]) == sum(pieces[i : i + SENTENCES], [])


def test_repeated_boilerplate_goes_by_sentences(tmp_path) -> None:
    footer = "All rights reserved. Read our terms. Contact the webmaster."
    texts = [f"Page {i} says {i * i} things. {footer}" for i in range(6)]
    left = sorted(text for share in remove(texts, "sentence", tmp_path) for text in share)
    assert sum(footer in text for text in left) == 1
    assert all(text.startswith("Page") for text in left)


@given(
    st.text("abc", max_size=20),
    st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=6),
)
def test_without_takes_out_the_union(text: str, spans: list[tuple[int, int]]) -> None:
    spans = [(a, b) for a, b in spans if a < b <= len(text)]
    gone = {i for a, b in spans for i in range(a, b)}
    starts, ends = (np.array([s[k] for s in spans], np.int64) for k in (0, 1))
    assert without(text, starts, ends) == "".join(c for i, c in enumerate(text) if i not in gone)


def test_equal_texts_have_equal_hashes_and_others_not() -> None:
    texts = ["a b", "b a", "A, b!", "ab", "a b c", "", "!", "!!", "a a", "a"]
    hashes = [int(whole_text(t)[0][0]) for t in texts]
    assert hashes[0] == hashes[2]
    assert len(set(hashes)) == len(texts) - 1
    assert set(PIECES) == {"exact", "sentence", "substring"}
