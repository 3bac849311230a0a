"""Books and other plain text; what Project Gutenberg puts around a book is cut off."""

import re
from collections.abc import Iterator
from pathlib import Path

from data.charset import decode
from data.documents import Document, Skip, Skipped
from data.streams import lines

PART = 1 << 22  # bytes from which a text is cut, at an empty line where there is one ...
LONGEST = 1 << 23  # ... and in any case here
START = re.compile(r"^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK[^\n]*$", re.M | re.I)
END = re.compile(
    r"^(?:\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG|End of (?:the )?Project Gutenberg)[^\n]*$",
    re.M | re.I,
)
SMALL_PRINT = re.compile(r"^\*END\*? ?THE SMALL PRINT[^\n]*\n", re.M | re.I)  # before 2003
PRODUCED = re.compile(r"\A\s*(?:Produced by|E-text prepared by)[^\n]*(?:\n[^\n]+)*\n", re.I)
FIELD = re.compile(r"^(Title|Author|Language|Release Date): *([^\n]+)$", re.M)


def texts(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield a text file as a document, or a very long one as several."""
    over = False  # after the end mark of a Gutenberg book
    metadata: dict[str, str] = {}
    for offset, data in _parts(file, skip):
        text, charset = decode(data)
        if data.count(b"\0") > len(data) // 10 and not charset.startswith("utf-16"):
            skip(Skipped("binary", str(file), f"from byte {offset:,}"))
            return
        text = text.replace("\r\n", "\n")
        if not offset:
            text, metadata = body(text)
        if end := END.search(text):
            text, over = text[: end.start()], True
        if text.strip():
            place = f"{name}:{offset}" if offset else name
            given = {"charset": charset} | metadata
            yield Document(text.strip("\n"), place, kind="books", url=name, metadata=given)
        elif not offset:
            skip(Skipped("empty", str(file)))
        if over:
            return


def body(text: str) -> tuple[str, dict[str, str]]:
    """Return a text without Gutenberg's header, and what the header says of the book."""
    mark = START.search(text) or SMALL_PRINT.search(text)
    if not mark:
        return text, {}
    header = {key.lower(): value.strip() for key, value in FIELD.findall(text[: mark.start()])}
    return PRODUCED.sub("", text[mark.end() :]).lstrip("\n"), header


def _parts(file: Path, skip: Skip) -> Iterator[tuple[int, bytes]]:
    """Yield a file in parts with their offsets; one that is empty as an empty part."""
    part: list[bytes] = []
    held, offset, any_part = 0, 0, False
    damaged = False

    def watch(skipped: Skipped) -> None:
        nonlocal damaged
        damaged = True
        skip(skipped)

    for _, line in lines(file, watch):
        part.append(line + b"\n")
        held += len(line) + 1
        if held >= LONGEST or (held >= PART and not line.strip()):
            yield offset, b"".join(part)
            part, held, offset, any_part = [], 0, offset + held, True
    if part or not (any_part or damaged):
        yield offset, b"".join(part)
