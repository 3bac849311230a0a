"""Books, encyclopedias, code, papers, conversations, records: what becomes of each."""

import bz2
import gzip
import json
import random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from data import books, latex, wikitext
from data.code import identify
from data.documents import Skips
from data.readers import READERS, read
from data.streams import lines

GUTENBERG = """The Project Gutenberg eBook of Bees

Title: Bees
Author: A. Keeper
Language: English

*** START OF THE PROJECT GUTENBERG EBOOK BEES ***

Produced by Volunteers
and others

CHAPTER I.

It was a hive.

*** END OF THE PROJECT GUTENBERG EBOOK BEES ***

Updated editions will replace the previous one. You may use this eBook.
"""


def collect(path, *args, **kwargs):
    skips = Skips()
    return list(read(path, *args, skips=skips, **kwargs)), dict(skips.counts)


def test_a_book_without_what_gutenberg_adds(tmp_path):
    (tmp_path / "bees.txt").write_text(GUTENBERG.replace("\n", "\r\n"), newline="")
    (book,), skipped = collect(tmp_path, licence="Public domain")
    assert book.text == "CHAPTER I.\n\nIt was a hive." and not skipped
    assert book.metadata["title"] == "Bees" and book.metadata["author"] == "A. Keeper"
    assert book.kind == "books" and book.licence == "Public domain"


def test_a_long_text_is_cut_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(books, "PART", 10_000)
    text = "".join(f"line {i} of prose\n" + "\n" * (i % 9 == 0) for i in range(5000))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode(), 1))
    found, _ = collect(tmp_path)
    assert len(found) > 5
    assert "".join(d.text for d in found).replace("\n", "") == text.replace("\n", "")
    assert len({d.id for d in found}) == len(found)


def test_empty_and_binary_texts_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_bytes(b"\x7fELF" + bytes(1000))
    (tmp_path / "c.txt").write_bytes(b"nul\0s in prose " * 20)
    found, skipped = collect(tmp_path)
    assert [d.text for d in found] == ["nuls in prose " * 20]
    assert skipped == {"empty": 1, "binary": 1}


WIKI = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">
<siteinfo><sitename>Wikipedia</sitename></siteinfo>
{pages}
</mediawiki>
"""
BEE = """{{Infobox|name={{lang|la|Apis}}|x=y}}
'''Bees''' are [[insect|insects]] with ''wings''.&lt;ref name="a"&gt;Keeper, 1900&lt;/ref&gt;
[[File:Bee.jpg|thumb|A bee on a [[flower]].]]
== Honey ==
* sweet
* see [https://a.example/honey the honey page]
{| class="wikitable"
|-
| cell || {{cn}}
|}
&lt;!-- hidden --&gt;Much &amp;amp; more.
== References ==
{{reflist}}
[[Category:Bees]]"""


def wiki_page(title, text, ns=0, extra=""):
    return (
        f"<page>\n<title>{title}</title><ns>{ns}</ns><id>7</id>{extra}\n"
        f"<revision><id>9</id><text>{text}</text></revision></page>"
    )


def test_articles_of_a_dump(tmp_path):
    pages = [
        wiki_page("Bee", BEE),
        wiki_page("Talk:Bee", "chat", 1),
        wiki_page("Bees", "#REDIRECT [[Bee]]", extra='<redirect title="Bee" />'),
        wiki_page("Broken", "a &nosuch; <b>"),
        wiki_page("Last", "A last article."),
    ]
    dump = WIKI.format(pages="\n".join(pages)).encode()
    (tmp_path / "wiki.xml.bz2").write_bytes(bz2.compress(dump))
    found, skipped = collect(tmp_path, licence="CC-BY-SA-4.0")
    assert found[0].text == (
        "# Bee\n\nBees are insects with wings.\n\n## Honey\n- sweet\n- see the honey page\n\n"
        "Much & more."
    )
    assert [d.metadata["title"] for d in found] == ["Bee", "Last"]
    assert skipped == {"other namespace": 1, "redirect": 1, "not XML": 1}


def test_entity_bombs_cost_one_page(tmp_path):
    bomb = '<page><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><t>&b;</t></page>'
    (tmp_path / "a.xml").write_text(WIKI.format(pages=bomb + wiki_page("Bee", "A bee.")))
    found, skipped = collect(tmp_path)
    assert [d.text for d in found] == ["# Bee\n\nA bee."] and skipped == {"not XML": 1}


def test_wikitext_with_marks_left_open_ends():
    rng = random.Random(0)
    marks = [
        "{{",
        "}}",
        "[[",
        "]]",
        "{|",
        "|}",
        "\n",
        "|",
        "=",
        "==",
        "a b",
        "<ref>",
        "[[File:",
        "'",
    ]
    for _ in range(300):
        assert isinstance(wikitext.to_text("".join(rng.choices(marks, k=60))), str)


PAPER = r"""\documentclass{article}
\usepackage{amsmath}
\title{On \emph{bees} and $n$ hives}
\newcommand{\x}{y}
\begin{document}
\maketitle
\begin{abstract}
We study bees. % really
\end{abstract}
\section{Introduction}\label{sec:a}
The K\"onig--Schr\"oder bound~\cite{koenig} is \textbf{sharp}: it costs 5\% in $\sum_{i} x_i^{2}$.
\begin{figure}\includegraphics{bee.png}\caption{A bee}\end{figure}
\begin{equation}\label{eq:b} a_{n} = \frac{1}{2} \end{equation}
\begin{theorem}[Keeper] Every hive has a queen; see \ref{eq:b}. \end{theorem}
\begin{itemize}\item one \item two\end{itemize}
There are many more words about bees here so that this counts as prose and not as macros.
\end{document}
ignored
"""


def test_a_paper(tmp_path):
    (tmp_path / "a.tex").write_text(PAPER)
    (tmp_path / "macros.tex").write_text(r"\newcommand{\a}{b} % nothing else")
    (paper,), skipped = collect(tmp_path)
    assert paper.text.startswith("# On bees and $n$ hives\n\n## Abstract\n\nWe study bees.")
    assert "## Introduction" in paper.text
    assert "The König–Schröder bound is sharp: it costs 5% in $\\sum_{i} x_i^{2}$." in paper.text
    assert r"\begin{equation} a_{n} = \frac{1}{2} \end{equation}" in paper.text
    assert "Theorem (Keeper).  Every hive has a queen" in paper.text
    assert "- one - two" in paper.text
    for gone in ("really", "bee.png", "A bee", "koenig", "ignored", "newcommand", "label"):
        assert gone not in paper.text
    assert skipped == {"no prose": 1}


def test_latex_with_braces_left_open_ends():
    rng = random.Random(0)
    marks = [
        "{",
        "}",
        "$",
        "\\",
        "\\section{",
        "\\emph{",
        "%",
        "\n",
        "a b",
        r"\begin{figure}",
        "$$",
    ]
    for _ in range(300):
        assert isinstance(latex.to_text("".join(rng.choices(marks, k=60))), str)


MIT = 'Permission is hereby granted, free of charge, ... THE SOFTWARE IS PROVIDED "AS IS"'
BSD = "Redistribution and use in source and binary forms ... Neither the name of"


def test_code_has_a_language_and_the_licence_that_covers_it(tmp_path):
    files = {
        "mit/LICENSE": MIT,
        "mit/src/deep/a.py": "print('a')",
        "mit/vendored/COPYING": "GNU GENERAL PUBLIC LICENSE Version 3",
        "mit/vendored/b.c": "int b;",
        "mit/tagged.rs": "// SPDX-License-Identifier: BSD-2-Clause\nfn main() {}",
        "dual/LICENSE-MIT": MIT,
        "dual/LICENSE-APACHE": "Apache License\n Version 2.0",
        "dual/c.go": "package c",
        "none/d.js": "var d;",
        "mit/e.bin": "x",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "mit/f.py").write_bytes(b"\0\1\2")
    found, skipped = collect(tmp_path, "code")
    assert {d.id: (d.metadata["language"], d.licence) for d in found} == {
        "mit/src/deep/a.py": ("Python", "MIT"),
        "mit/vendored/b.c": ("C", "GPL-3.0"),
        "mit/tagged.rs": ("Rust", "BSD-2-Clause"),
        "dual/c.go": ("Go", "Apache-2.0 OR MIT"),
        "none/d.js": ("JavaScript", ""),
    }
    assert skipped == {"licence file": 4, "unknown type": 1, "binary": 1}
    found, skipped = collect(tmp_path, "code", licences={"MIT"})
    assert sorted(d.id for d in found) == ["dual/c.go", "mit/src/deep/a.py"]
    assert skipped["licence"] == 3
    assert identify(BSD) == "BSD-3-Clause" and identify("All rights reserved") == "unknown"


def test_irc_logs_are_cut_where_all_are_silent(tmp_path):
    log = """[10:30] <ann> hello
[10:31] -!- bob joined
10:32 <@bob> hi ann
10:33 * ann waves
[23:59] <cy> late
[00:10] <ann> later
"""
    (tmp_path / "a.log").write_text(log)
    (tmp_path / "b.log").write_text("no talk\n")
    found, skipped = collect(tmp_path)
    assert [d.text for d in found] == [
        "ann: hello\n\nbob: hi ann\n\nann: waves",
        "cy: late\n\nann: later",
    ]
    assert [d.metadata["turns"] for d in found] == [3, 2]
    assert skipped == {"no conversation": 1}


RECORDS = [
    {"text": "plain", "id": "x", "license": "MIT", "score": 0.5, "url": "http://a.example"},
    {"title": "On bees", "abstract": " We study bees. "},
    {"question": "Why?", "title": "Bees", "answers": [{"text": "Because."}, "So."]},
    {
        "messages": [
            {"role": "user", "content": "Hi", "replies": [{"author": "ann", "body": "Hello"}]},
            {"from": "gpt", "value": "Yes?"},
        ]
    },
]
TEXTS = [
    "plain",
    "# On bees\n\nWe study bees.",
    "Question: Bees\n\nWhy?\n\nAnswer: Because.\n\nAnswer: So.",
    "User: Hi\n\nAnn: Hello\n\nAssistant: Yes?",
]


def test_records_of_every_shape(tmp_path):
    bad = ["{broken", "[1]", '{"body": 3}', '{"text": " "}', "[" * 100_000, '{"text": NaN}', ""]
    body = "\n".join([*map(json.dumps, RECORDS), *bad]).encode() + b'\n{"text": "\xff"}'
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(body))
    found, skipped = collect(tmp_path)
    assert [d.text for d in found] == TEXTS
    assert found[0].licence == "MIT" and found[0].metadata == {"score": 0.5}
    assert found[0].url == "http://a.example" and found[0].id == "x"
    assert skipped == {"not JSON": 2, "no text": 3, "empty": 1, "not UTF-8": 1}


def test_parquet_rows(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [{"text": f"row {i}" if i % 10 else None, "score": i / 2} for i in range(1000)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet", row_group_size=100)
    found, skipped = collect(tmp_path)
    assert [d.text for d in found] == [row["text"] for row in rows if row["text"]]
    assert found[0].metadata == {"score": 0.5} and skipped == {"no text": 100}
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    assert collect(tmp_path) == ([], {"damaged": 1})


def test_a_line_without_end_is_counted_and_not_held(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "a"}\n' + b"x" * 5000 + b'\n{"text": "b"}')
    skips = Skips()
    found = list(lines(tmp_path / "a.jsonl", skips, limit=100))
    assert [(n, data) for n, data in found] == [(1, b'{"text": "a"}'), (3, b'{"text": "b"}')]
    assert skips.counts == {"line too long": 1}


GOOD = {
    "books": GUTENBERG.encode(),
    "encyclopedia": WIKI.format(pages=wiki_page("Bee", BEE)).encode(),
    "papers": PAPER.encode(),
    "irc": b"[10:30] <ann> hello\n[10:31] <bob> hi\n",
    "jsonl": "\n".join(map(json.dumps, RECORDS)).encode(),
    "code": b"print('a')\n",
    "html": b"<html><p>a</p></html>",
    "parquet": b"PAR1",
    "mbox": b"From a@b Mon Jan  1 00:00:00 2024\nFrom: Ann <a@b.c>\nSubject: Bees\n\nHello.\n",
}
NAMES = {"code": "a.py", "parquet": "a.parquet", "mbox": "a.mbox"}


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_bytes_are_read_to_the_end(tmp_path_factory, data):
    """Fuzz: good files with bytes changed, cut or inserted, and packed and damaged again."""
    pytest.importorskip("resiliparse")
    pytest.importorskip("pyarrow")
    kind = data.draw(st.sampled_from(sorted(GOOD)))
    assert set(GOOD) | {"warc"} == set(READERS)
    whole = bytearray(GOOD[kind])

    def damage():
        at = data.draw(st.integers(0, len(whole)))
        junk = data.draw(st.binary(max_size=30))
        whole[at : at + data.draw(st.integers(0, 30))] = junk

    damage()
    name = NAMES.get(kind, "a.txt")
    pack = data.draw(st.sampled_from([None, gzip.compress, zstandard.compress, bz2.compress]))
    if pack and kind not in NAMES:
        whole[:] = pack(bytes(whole))
        name += {gzip.compress: ".gz", zstandard.compress: ".zst"}.get(pack, ".bz2")
        if data.draw(st.booleans()):
            damage()
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / name).write_bytes(whole)
    found, skipped = collect(folder / name, kind)
    assert all(
        isinstance(d.text, str) and d.text and "\0" not in d.text or kind == "jsonl" for d in found
    )
