"""Choose the embedded corpus: openly licensed documents of every kind, in at most 12 MB.

    python -m data.embed_corpus --from=FOLDER

FOLDER holds *.jsonl.zst files of records {id, text, source, licence, path, kind, lang ...}. Only
the licences below are taken. Within a kind every source (of books: every work) gives the same
amount of text until it has no more, so that many are heard; its documents are taken in the order
of a hash. The same folder gives the same bytes.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zstandard

from data.errors import Parser, UserError, run
from data.files import human_bytes, write_atomic
from data.source import EMBEDDED, read_lines

Record = dict[str, Any]

# What a source says of itself -> the licence under which its text is used here. Whatever is not
# listed word for word is left out: share-alike, GPL, GFDL, PSF and Artistic among it.
LICENCES = {
    "Public domain": "Public domain",
    "Public domain / CC0-1.0": "CC0-1.0",
    "Public domain / CC0-1.0-Universal": "CC0-1.0",
    "Public domain (authors died before 1953)": "Public domain",
    "Public domain text; TEI encoding CC BY 4.0": "CC-BY-4.0",
    "Public domain text; Standard Ebooks edition CC0-1.0": "CC0-1.0",
    "Public domain poems; MIT compilation": "MIT",
    "US Government work, public domain; CC0-1.0 worldwide": "CC0-1.0",
    "CC0-1.0": "CC0-1.0",
    "CC BY 4.0": "CC-BY-4.0",
    "CC BY 4.0 (licence of that commit)": "CC-BY-4.0",
    "CC BY 4.0 (NIH text, US Government)": "CC-BY-4.0",
    "CC BY 4.0; Ubuntu channel logs public domain": "CC-BY-4.0",
    "CC BY 4.0 (text), BSD-3-Clause (code)": "CC-BY-4.0",
    "CC BY (article licence), annotations not used": "CC-BY",
    "MIT": "MIT",
    "MIT OR Apache-2.0": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "Ruby OR BSD-2-Clause": "BSD-2-Clause",
}

SPDX = ("CC0-1.0", "CC-BY-4.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0")

# Megabytes of text of each kind; 3.2 (multilingual) to 5.2 (code) of them compress to one.
SHARES = {
    "books": 7.6,
    "code": 7.6,
    "conversations": 7.0,
    "encyclopedia": 6.0,
    "multilingual": 2.5,
    "papers": 8.2,
    "web": 8.0,
}
RENAMED = {"wiki": "encyclopedia"}
LEFT_OUT = (
    "christos-c/bible-corpus",  # a verse a line, in languages with little other text
    "tldr-pages/tldr",  # a few templates over and over
    "monero-project/monero-site",  # lists of file hashes
)
KEPT = ("id", "text", "source", "licence", "kind", "lang", "path", "url", "title")
LIMIT = 12_000_000  # bytes of the compressed files together
LEVEL = 22


def records(folder: Path) -> Iterator[Record]:
    """Yield the records that may be used, each under the licence chosen for it."""
    files = sorted(folder.glob("*.jsonl.zst"))
    if not files:
        raise UserError(f"{folder}: no *.jsonl.zst files")
    for file in files:
        for line in read_lines(file):
            record = json.loads(line)
            licence = LICENCES.get(record["licence"])
            if licence and not record["source"].startswith(LEFT_OUT):
                record["kind"] = RENAMED.get(record["kind"], record["kind"])
                yield record | {"licence": licence}


def origin(record: Record) -> str:
    return record["source"] + (record.get("work", "") if record["kind"] == "books" else "")


def size(record: Record) -> int:
    return len(record["text"].encode())


def water_level(sizes: list[int], total: float) -> float:
    """Return the level at which sources, each giving at most that much, give `total` together."""
    left, level = total, 0.0
    for rank, amount in enumerate(sorted(sizes)):
        level = left / (len(sizes) - rank)
        if amount >= level:
            return level
        left -= amount
    return max(sizes)


def choose(candidates: list[Record], total: float) -> list[Record]:
    """Choose about `total` bytes of text of one kind, evenly over its sources."""
    sources: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(candidates, key=lambda r: hashlib.sha256(r["id"].encode()).digest()):
        sources[origin(record)].append(record)
    level = water_level([sum(map(size, source)) for source in sources.values()], total)
    chosen = []
    for source in sources.values():
        taken = 0
        for record in source:
            if taken + size(record) <= level:
                taken += size(record)
                chosen.append(record)
    return sorted(chosen, key=lambda r: (r["source"], r.get("path", ""), r["id"]))


def compress(chosen: list[Record]) -> bytes:
    kept = ({key: record[key] for key in KEPT if record.get(key)} for record in chosen)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept)
    return zstandard.ZstdCompressor(level=LEVEL).compress(lines.encode())


def sources_page(kinds: dict[str, list[Record]], sizes: dict[str, int]) -> str:
    """Return SOURCES.md: what the corpus holds, by kind and source, with licences."""
    documents = [record for chosen in kinds.values() for record in chosen]
    lines = [
        "# Sources of the embedded corpus",
        "",
        "Written by `python -m data.embed_corpus`. Every document is in the public domain or under",
        "CC0, CC BY, MIT, BSD or Apache-2.0; where its source offered a choice, the licence named",
        "is the one chosen. Each record carries its source, licence and path, and its URL where",
        "known. Markup and boilerplate were removed; e-mail and network addresses in conversations",
        "are masked. The licences' texts: "
        + ", ".join(f"[{name}](https://spdx.org/licenses/{name}.html)" for name in SPDX)
        + ";",
        "CC-BY is CC BY in the version that the article names.",
        "",
        "| kind | documents | text MB | compressed MB |",
        "|---|---:|---:|---:|",
    ]
    for kind, chosen in kinds.items():
        text = sum(map(size, chosen))
        lines.append(f"| {kind} | {len(chosen):,} | {text / 1e6:.2f} | {sizes[kind] / 1e6:.2f} |")
    text = sum(map(size, documents))
    total = sum(sizes.values()) / 1e6
    lines.append(f"| all | {len(documents):,} | {text / 1e6:.2f} | {total:.2f} |")
    for kind, chosen in kinds.items():
        lines += ["", f"## {kind}", "", "| source | licence | documents | text MB |"]
        lines.append("|---|---|---:|---:|")
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for record in chosen:
            groups[record["source"], record["licence"]].append(size(record))
        for (source, licence), amounts in sorted(groups.items()):
            lines.append(f"| {source} | {licence} | {len(amounts):,} | {sum(amounts) / 1e6:.2f} |")
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="python -m data.embed_corpus",
        description="Choose the embedded corpus from a folder of openly licensed text.",
        epilog="example: python -m data.embed_corpus --from=corpus/train --out=data/corpus",
    )
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="*.jsonl.zst")
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="default: %(default)s")
    options = parser.parse_args(argv)

    candidates: dict[str, list[Record]] = {kind: [] for kind in SHARES}
    for record in records(options.folder):
        candidates[record["kind"]].append(record)
    kinds = {kind: choose(candidates[kind], SHARES[kind] * 1e6) for kind in SHARES}
    packed = {kind: compress(chosen) for kind, chosen in kinds.items()}
    sizes = {kind: len(data) for kind, data in packed.items()}
    if sum(sizes.values()) > LIMIT:
        raise UserError(f"{human_bytes(sum(sizes.values()))} compressed, over the limit of 12 MB")
    for kind, data in packed.items():
        write_atomic(options.out / f"{kind}.jsonl.zst", data)
    page = sources_page(kinds, sizes)
    write_atomic(options.out / "SOURCES.md", page)
    print(page.partition("\n## ")[0])


if __name__ == "__main__":
    run(main)
