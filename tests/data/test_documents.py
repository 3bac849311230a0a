"""Documents keep what they came with; skipped records are counted by reason."""

import pytest

from data.documents import SAMPLES, Document, Skipped, Skips, refuse
from data.errors import UserError


def test_a_record_has_every_field_given_and_the_hash():
    document = Document("text", id="a:1", url="http://a.example/", metadata={"quality": 0.5})
    scored = document.with_metadata(toxicity=0.1)
    assert document.metadata == {"quality": 0.5}
    assert scored.record() == {
        "text": "text",
        "id": "a:1",
        "url": "http://a.example/",
        # printf text | sha256sum
        "hash": "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1",
        "quality": 0.5,
        "toxicity": 0.1,
    }
    assert Document("\ud800").hash != Document("\ud801").hash
    assert Document("").metadata == {}


def test_skips_count_all_and_keep_some():
    logged = []
    skips = Skips(logged.append)
    for number in range(SAMPLES + 5):
        skips(Skipped("not JSON", f"a.jsonl, line {number}"))
    skips(Skipped("redirect", "b.warc", "301"))
    assert skips.total == len(logged) == SAMPLES + 6
    summary = skips.summary()
    assert list(summary) == ["not JSON", "redirect"]
    assert summary["not JSON"]["count"] == SAMPLES + 5
    assert len(summary["not JSON"]["samples"]) == SAMPLES
    assert summary["redirect"]["samples"] == [{"where": "b.warc", "detail": "301"}]


def test_refuse_is_one_line_with_place_and_reason():
    with pytest.raises(UserError, match=r"^a.jsonl, line 3: not JSON \(Expecting value\)$"):
        refuse(Skipped("not JSON", "a.jsonl, line 3", "Expecting value"))
