"""The texts of a data ablation: versions of the embedded crawl, held-out pages, passages.

Every version has the same tokenizer and the same held-out text, which is none of the chain's: the
main text that the crawl's truth gives for some articles. These, and all their copies, are in no
version; tokens in 13-grams of the raw crawl weigh nothing.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from data import curation, overlap, source, store
from data.documents import Document
from data.files import hash_bytes
from data.prepare import MODEL, SAMPLE_BYTES, sample
from data.store import Store
from data.tokenizer import EOT, Tokenizer, train

TRUTH = curation.CRAWL / "truth.jsonl.zst"
CHARACTERS = 250  # of a passage
READ, ASKED = 32, 16  # tokens of a passage: given, and to be found


class Passage(NamedTuple):
    """A piece of text that every version has, and how many raw documents hold it."""

    ids: list[int]
    copies: int


class Texts(NamedTuple):
    """What all runs share."""

    tokenizer: Tokenizer
    versions: dict[str, list[np.ndarray]]  # ids of each document, end-of-text before
    valid: Store
    repeated: list[Passage]  # held by several raw documents, by one of the deduplicated
    single: list[Passage]  # held by one document of each version


def truth() -> list[dict[str, Any]]:
    """What is known of each page of the crawl."""
    return [json.loads(line) for line in source.read_lines(TRUTH)]


def draw(text: str) -> float:
    """A number in [0, 1) that a text decides."""
    return int(hash_bytes(text.encode())[:13], 16) / 16**13


def held_out(pages: list[dict[str, Any]], share: float) -> tuple[list[Document], set[str]]:
    """Articles to validate on, and the URLs of them and of all their copies."""
    chosen = {
        page["url"]: Document(page["main_text"], page["url"])
        for page in pages
        if page["role"] == "article" and page.get("main_text") and draw(page["url"]) < share
    }
    copies = {page["url"] for page in pages if page.get("dup_of") in chosen}
    return list(chosen.values()), copies | set(chosen)


def curate_versions(c: ConfigDict, folder: Path) -> dict[str, list[Document]]:
    """The documents of each version, its curation run where it was not."""
    versions = {}
    for name in c.versions:
        one = c.curate.copy_and_resolve_references()
        one.stages = tuple(c.stages[name])
        curation.curate(one, folder / name)
        versions[name] = list(source.read(str(folder / name / "documents")))
    return versions


def prepare(c: ConfigDict, folder: Path) -> Texts:
    """All texts, from the crawl or what an earlier call left in a folder."""
    validation, barred = held_out(truth(), c.held_out)
    documents = {
        name: [d for d in found if d.url not in barred]
        for name, found in curate_versions(c, folder / "versions").items()
    }
    raw = [d.text for d in next(iter(documents.values()))]
    if not (folder / MODEL).exists():
        train(sample(raw, SAMPLE_BYTES), c.base.data.vocab_size).save(folder / MODEL)
    tokenizer = Tokenizer.load(folder / MODEL)
    seen = overlap.shared((d.text for d in validation), raw)
    store.write(folder / "valid", validation, tokenizer, seen=seen, workers=1)
    ids = {
        name: [np.array([EOT, *row], np.uint16) for row in tokenizer.encode_batch(texts_of(some))]
        for name, some in documents.items()
    }
    repeated, single = passages(documents, tokenizer, c.passages)
    return Texts(tokenizer, ids, Store.open(folder / "valid"), repeated, single)


def texts_of(documents: list[Document]) -> list[str]:
    return [document.text for document in documents]


def passages(
    versions: dict[str, list[Document]], tokenizer: Tokenizer, most: int
) -> tuple[list[Passage], list[Passage]]:
    """Passages that several raw documents hold and one deduplicated one, and those of one each.

    The first version is the raw one, the last the fully curated one, in which they are looked for.
    """
    whole = {name: "\0".join(texts_of(some)) for name, some in versions.items()}
    raw, *_, last = versions
    repeated, single = [], []
    for text in candidates(versions[last]):
        ids = tokenizer.encode(text)[: READ + ASKED]
        counts = {name: held.count(text) for name, held in whole.items()}
        if len(ids) < READ + ASKED or min(counts.values()) < 1 or counts[last] > 1:
            continue
        if counts[raw] > 1 == counts.get("deduplicated", 1):
            repeated.append(Passage(ids, counts[raw]))
        elif max(counts.values()) == 1:
            single.append(Passage(ids, 1))
    return repeated[:most], single[:most]


def candidates(documents: list[Document]) -> Iterator[str]:
    """A piece out of each document, from a third of it on, in an order that the texts decide."""
    for text in sorted(texts_of(documents), key=draw):
        start = text.find(" ", len(text) // 3) + 1
        if start and len(text) - start >= CHARACTERS:
            yield text[start : start + CHARACTERS]


def training_store(documents: list[np.ndarray], tokens: int = 0, seed: int = 0) -> Store:
    """A store in memory of all documents, or of about so many tokens of them, drawn by a seed."""
    order = np.random.default_rng(seed).permutation(len(documents)) if tokens else None
    chosen = documents if order is None else [documents[i] for i in order]
    lengths = np.cumsum([len(row) for row in chosen])
    if tokens:
        chosen = chosen[: int(np.searchsorted(lengths, tokens)) + 1]
    stream = np.concatenate([*chosen, [np.uint16(EOT)]])
    if tokens:
        stream = stream[: tokens + 1]
    return Store(Path(), {}, stream, np.flatnonzero(stream[:-1] == EOT))
