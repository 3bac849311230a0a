"""The filters that have no file of tests of their own."""

import json
from collections import Counter

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.formatters import FTFYFormatter
from hypothesis import given
from hypothesis import strategies as st

from data import source
from data.embed_labels import benchmarks, labels
from data.errors import UserError
from data.linear import train
from data.stages import Decontaminate, FixText, Language, Quality, Url, identify


def test_languages_of_the_declaration_of_human_rights() -> None:
    rows = labels("languages")
    found = [identify(row["text"])[0] for row in rows]
    right = [language == row["lang"] for language, row in zip(found, rows, strict=True)]
    assert len(Counter(row["lang"] for row in rows)) == 26
    assert np.mean(right) >= 0.97
    english = [language == "en" for language in found]
    truth = [row["lang"] == "en" for row in rows]
    assert english == truth


def test_language_keeps_and_labels() -> None:
    step = Language(("en",), 0.65)
    document = Document("The committee met on Tuesday to discuss the new budget in detail.", "")
    assert step.filter(document) is True
    assert document.metadata["lang"] == "en" and document.metadata["lang_probability"] > 0.9
    other = Document("Der Ausschuss beriet am Dienstag über den neuen Haushalt der Stadt.", "")
    assert step.filter(other) == (False, "other language")
    assert step.tally == {"en": 1, "de": 1}


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://sub.blocked.example/x", (False, "blocked domain")),
        ("https://notblocked.example/x", True),
        ("http://ok.example/free-casino-games", (False, "blocked word")),
        ("http://ok.example/casinos", True),
        ("http://[broken", (False, "malformed address")),
        ("", True),
    ],
)
def test_addresses(tmp_path, url: str, verdict) -> None:
    (tmp_path / "list").write_text("# a hosts file\n0.0.0.0 blocked.example\nother.example\n")
    step = Url(str(tmp_path / "list"), ("casino",))
    assert step.filter(Document("t", "", metadata={"url": url})) == verdict


@given(st.lists(st.text(max_size=30) | st.sampled_from(["schÃ¶n", "&lt;b&gt;", "\x1b[1m"])))
def test_text_is_fixed_as_ftfy_fixes_each_line(lines: list[str]) -> None:
    text = "\n".join(lines)
    document = Document(text, "")
    FixText().filter(document)
    stock = FTFYFormatter()
    assert document.text == "\n".join(stock.format(line) for line in text.split("\n"))


def test_mojibake_is_repaired() -> None:
    document = Document("schÃ¶n\nplain", "")
    FixText().filter(document)
    assert document.text == "schön\nplain"


def test_contaminated_documents_are_dropped_and_counted_by_benchmark(tmp_path) -> None:
    question = next(source.read(str(benchmarks()["gsm8k"]))).text
    step = Decontaminate(benchmarks(), 13, 1)
    page = f"Homework of the week, as set by the teacher: {question.upper()} Good luck!"
    assert step.filter(Document(page, "")) == (False, "in a benchmark")
    assert step.tally == {"gsm8k": 1}
    short = " ".join(question.split()[:11])
    assert step.filter(Document(f"Another text. {short}", "")) is True


def test_own_benchmarks(tmp_path) -> None:
    text = " ".join(f"word{i}" for i in range(20))
    for name in ("first", "second"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}) + "\n")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("first", "second")}
    step = Decontaminate(files, 13, 1)
    assert step.filter(Document(text, ""))[0] is False
    assert step.tally == {"first": 1, "second": 1}
    assert Decontaminate(files, 13, 9).filter(Document(text, "")) is True  # 8 runs of 13 words


def test_quality_keeps_what_scores_enough(tmp_path) -> None:
    texts = ["a fine text"] * 20 + ["spam spam"] * 20
    train(texts, np.arange(40) < 20).save(tmp_path / "q.npz")
    step = Quality(str(tmp_path / "q.npz"), 0.5)
    assert step.filter(Document("a fine text", "")) is True
    assert step.filter(Document("spam spam", "")) == (False, "low quality")
    with pytest.raises(UserError, match="not a classifier"):
        Quality("nowhere.npz", 0.5)
