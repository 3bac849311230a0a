"""The embedded crawl is what its ground truth says, and its licences are permissive."""

import json
import random
import re
from collections import Counter

import pytest

from data import mess
from data.documents import Skips
from data.embed_crawl import OUT
from data.readers import read
from data.source import read_lines

PERMISSIVE = {"Apache-2.0", "MIT", "CC0-1.0", "CC-BY-4.0", "Public domain", "OGL-UK-3.0"}
SKIPPED = {"redirect": "redirect", "error": "HTTP error", "empty": "empty", "non_html": "not HTML"}


@pytest.fixture(scope="module")
def truth():
    rows = list(map(json.loads, read_lines(OUT / "truth.jsonl.zst")))
    assert len({row["url"] for row in rows}) == len(rows)
    return rows


def test_every_record_is_read_or_counted(truth):
    skips = Skips()
    documents = [d for file in sorted(OUT.glob("*.warc.gz")) for d in read(file, skips=skips)]
    cut = [row for row in truth if row.get("cut")]
    assert len(cut) == 1 and skips.counts.pop("truncated") == 1
    roles = Counter(SKIPPED.get(row["role"], "page") for row in truth if not row.get("cut"))
    assert roles.pop("page") == len(documents)
    assert skips.counts == roles
    pages = {r["url"] for r in truth if r["role"] not in SKIPPED and not r.get("cut")}
    assert {d.url for d in documents} == pages


def test_licences_and_size(truth):
    assert {row["licence"] for row in truth} <= PERMISSIVE
    assert sum(file.stat().st_size for file in OUT.iterdir()) < 6e6


def test_extraction_finds_the_main_text(truth):
    """Word F1 against the main text that is known; the layouts include tables and bare divs."""
    html = pytest.importorskip("data.html")
    pytest.importorskip("resiliparse")
    gold = {row["url"]: row["main_text"] for row in truth if "main_text" in row}
    scores = []
    for document in read(OUT / "crawl-0.warc.gz"):
        if document.url in gold:
            found, known = (
                Counter(re.findall(r"\w+", text))
                for text in (html.main_text(document.text), gold[document.url])
            )
            scores.append(2 * (found & known).total() / (found.total() + known.total()))
    assert len(scores) > 50 and sum(scores) / len(scores) > 0.9


def test_exact_duplicates_are_exact(truth):
    texts = {d.url: d.text for file in OUT.glob("*.gz") for d in read(file)}
    made = (r for r in truth if r["url"].endswith(".html") and ".example/" in r["url"])
    pairs = [row for row in made if row["role"] == "exact_duplicate"]
    checked = 0
    for row in pairs:
        if row["url"] in texts and row["dup_of"] in texts:
            assert texts[row["url"]] == texts[row["dup_of"]]
            checked += 1
    assert checked > 50


def test_planted_numbers_are_valid():
    rng = random.Random(1)
    for piece in [p for _ in range(50) for p in mess.personal(rng)]:
        if piece.type == "card":  # Luhn, written the other way round
            doubled = [int(c) * (1 + i % 2) for i, c in enumerate(reversed(piece.value))]
            assert sum(sum(divmod(n, 10)) for n in doubled) % 10 == 0
        if piece.type == "iban":
            moved = piece.value[4:] + piece.value[:4]
            assert int("".join(str(int(c, 36)) for c in moved)) % 97 == 1
    assert mess.iban("GB", "WEST12345698765432") == "GB82WEST12345698765432"  # ISO 13616's example
