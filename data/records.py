"""Records of JSON lines and Parquet files: a text, or a title with an abstract, or turns.

A record's `text` is its text. Without one, `title` and `abstract` make it, or `question` and
`answers`, or the turns of `messages`. Fields of Document keep their names (`license` is read as
`licence`); every other field goes into metadata, scores among it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.conversations import turns_of
from data.documents import Document, Skip, Skipped
from data.errors import optional
from data.streams import lines

FIELDS = ("id", "source", "licence", "kind", "lang", "split", "url")
SPLITS = {"valid": "validation", "dev": "validation", "val": "validation"}
USED = (
    "text",
    "title",
    "abstract",
    "question",
    "answer",
    "answers",
    "messages",
    "turns",
    "license",
)


def jsonl(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the records of a .jsonl file, one a line; blank lines are passed over."""
    for number, line in lines(file, skip):
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            skip(Skipped("not UTF-8", where, f"byte {error.start:,} of the line"))
        except (ValueError, RecursionError) as error:
            skip(Skipped("not JSON", where, getattr(error, "msg", str(error))))
        else:
            yield from document(record, where, f"{name}:{number}", skip)


def parquet(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the rows of a Parquet file, in batches of bounded size."""
    pq = optional("pyarrow.parquet", "requirements-data.txt")
    number = 0
    try:
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=256):
                for record in batch.to_pylist():
                    number += 1
                    yield from document(record, f"{file}, row {number}", f"{name}:{number}", skip)
    except OSError as error:  # pyarrow's own errors among them
        skip(Skipped("damaged", f"{file}, row {number + 1}", str(error).split("\n")[0]))
    except ValueError as error:
        skip(Skipped("damaged", f"{file}, row {number + 1}", str(error).split("\n")[0]))


def document(record: Any, where: str, default_id: str, skip: Skip) -> Iterator[Document]:
    """Yield the document of a record, or hand it to `skip`."""
    if not isinstance(record, dict):
        skip(Skipped("no text", where, f"a record of type {type(record).__name__}"))
        return
    text, extra = _text(record)
    if text is None:
        skip(Skipped("no text", where, f"fields: {', '.join(map(str, record))[:100]}"))
        return
    if not text.strip():
        skip(Skipped("empty", where))
        return
    if "license" in record:
        record = {"licence": record["license"]} | record
    known: dict[str, Any] = {"id": default_id}
    known |= {key: str(record[key]) for key in FIELDS if record.get(key) not in (None, "")}
    split = SPLITS.get(known.get("split", ""), known.get("split", ""))
    known["split"] = split if split in ("train", "validation") else ""
    taken = {*FIELDS, *USED}
    rest = {str(k): v for k, v in record.items() if k not in taken and v is not None}
    yield Document(text, **known, metadata=rest | extra)


def _text(record: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return the text of a record, None if it has none, and what metadata follow from it."""
    title = record.get("title")
    named = {"title": title} if isinstance(title, str) and title else {}
    if isinstance(record.get("text"), str):
        return record["text"], named
    if isinstance(record.get("abstract"), str):
        heading = [f"# {' '.join(title.split())}"] if named and title else []
        return "\n\n".join([*heading, record["abstract"].strip()]), named
    turns = turns_of(record)
    if turns is not None:
        return "\n\n".join(turns), named | {"turns": len(turns)}
    return None, {}
