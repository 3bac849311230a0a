"""The split and subsets: by document, stable, and the same share of every kind."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.documents import Document
from data.split import SCALE, cuts, draw, is_validation, subset, text_bytes, validation_cuts

WORDS = [Document(f"document {i} " * (1 + i % 7), kind="ab"[i % 3 == 0]) for i in range(4000)]


@pytest.mark.parametrize("share", [0.005, 0.025, 0.3])
def test_every_kind_gives_the_same_share_of_its_text(share):
    cut = validation_cuts(WORDS, share)
    for kind in "ab":
        documents = [d for d in WORDS if d.kind == kind]
        part = sum(text_bytes(d) for d in documents if is_validation(d, cut))
        wanted = share * sum(map(text_bytes, documents))
        assert abs(part - wanted) <= 130 / 2  # half of the longest document
    assert abs(sum(draw(d.text).split for d in WORDS) / len(WORDS) / SCALE - 0.5) < 0.02


def test_a_documents_side_depends_on_its_text_and_kind_alone():
    cut = validation_cuts(WORDS, 0.1)
    assert cut == validation_cuts(reversed(WORDS), 0.1)
    for document in WORDS[:200]:
        other = document._replace(id="other", source="other", licence="other")
        assert is_validation(document, cut) == is_validation(other, cut)


def test_the_data_may_say():
    document = WORDS[0]
    assert is_validation(document._replace(split="validation"), {document.kind: 0})
    assert not is_validation(document._replace(split="train"), {document.kind: SCALE})
    named = [d._replace(split="train") for d in WORDS[:9]] + [document._replace(split="validation")]
    assert validation_cuts(named, 0.5) == {}


@given(st.lists(st.text(min_size=1), min_size=1, max_size=20), st.floats(1e-6, 0.99))
def test_at_least_one_document_validates(texts, share):
    documents = [Document(text, kind="ab"[len(text) % 2]) for text in texts]
    cut = validation_cuts(documents, share)
    assert any(is_validation(document, cut) for document in documents)


def test_a_kind_of_one_document_trains():
    alone = Document("the only one of its kind " * 50, kind="c")
    assert not is_validation(alone, validation_cuts([alone, *WORDS], 0.4))


def test_no_share_no_validation():
    assert not any(validation_cuts(WORDS, 0).values())


@pytest.mark.parametrize("limit", [500, 5_000, 50_000])
def test_a_subset_has_the_same_share_of_each_kind(limit):
    chosen = list(subset(WORDS, cuts(WORDS, limit)))
    total = sum(map(text_bytes, WORDS))
    for kind in "ab":
        whole = sum(text_bytes(d) for d in WORDS if d.kind == kind)
        part = sum(text_bytes(d) for d in chosen if d.kind == kind)
        assert 0 <= part - limit * whole / total < 130  # at most one document more


def test_subsets_are_nested_and_independent_of_order():
    def chosen(documents, limit):
        return {d.text for d in subset(documents, cuts(documents, limit))}

    shuffled = random.Random(0).sample(WORDS, len(WORDS))
    assert chosen(WORDS, 5_000) < chosen(WORDS, 20_000)
    assert chosen(WORDS, 5_000) == chosen(shuffled, 5_000)
    assert chosen(WORDS, 10**9) == {d.text for d in WORDS}
