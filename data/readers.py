"""Documents from sources of every kind, one reader each, behind one function.

    from data.documents import Skips
    from data.readers import read
    skips = Skips()
    for document in read("crawl/", licence="CC0-1.0", skips=skips): ...

`data.source` reads prepared text for training and stops at the first fault. Readers here take
what the world has: they go on, and say what they left out.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from data import warc
from data.documents import Document, Skip, Skipped, Skips
from data.errors import UserError, suggest
from data.streams import blocks, stem

Reader = Callable[[Path, str, Skip], Iterator[Document]]  # (file, its name in the source, skip)


def read(
    path: str | os.PathLike[str],
    kind: str = "",
    *,
    source: str = "",
    licence: str = "",
    skips: Skip | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file or folder, files in the order of their names.

    Args:
      path: a file or a folder, searched in its subfolders.
      kind: how to read it, a name in READERS; '' chooses by each file's suffix.
      source, licence: what documents get that do not say so themselves; the source is by
        default the file's name within `path`.
      skips: gets every record that gives no document; by default they are counted nowhere.

    Raises UserError where the path or kind does not exist.
    """
    skip = Skips() if skips is None else skips
    if kind and kind not in READERS:
        raise UserError(
            f'kind "{kind}" is not one of: {", ".join(READERS)}{suggest(kind, READERS)}'
        )
    for file, name in files(path, skip):
        reader = READERS[kind] if kind else _by_suffix(file)
        if reader is None:
            skip(Skipped("unknown type", str(file)))
            continue
        for document in reader(file, name, skip):
            yield document._replace(
                source=source or document.source or name, licence=document.licence or licence
            )


def files(path: str | os.PathLike[str], skip: Skip) -> list[tuple[Path, str]]:
    """Return the files of a folder in order, each with its name relative to it.

    Hidden files are passed over; links that lead out of the folder go to `skip`.
    """
    root = Path(path)
    if not root.exists():
        raise UserError(f"{root}: no such file or folder")
    if root.is_file():
        return [(root, root.name)]

    def unreadable(error: OSError) -> None:
        skip(Skipped("unreadable", str(error.filename), (error.strerror or str(error)).lower()))

    found = []
    for where, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(where) / name
            if name.startswith("."):
                continue
            if file.is_symlink() and not file.resolve().is_relative_to(root.resolve()):
                skip(Skipped("link out of the folder", str(file)))
            else:
                found.append((file, file.relative_to(root).as_posix()))
    return sorted(found, key=lambda item: item[1])


def _by_suffix(file: Path) -> Reader | None:
    return SUFFIXES.get(Path(stem(file)).suffix)


def contents(file: Path, skip: Skip, limit: int = warc.MAX_RECORD) -> bytes | None:
    """Return the whole of a small file, None where it is damaged, empty or over `limit` bytes."""
    parts, held = [], 0
    for block in blocks(file, skip):
        if block is None:
            return None
        parts.append(block)
        held += len(block)
        if held > limit:
            skip(Skipped("too large", str(file), f"over {limit:,} bytes"))
            return None
    data = b"".join(parts)
    if not data.strip(b"\0 \t\r\n"):
        skip(Skipped("empty", str(file)))
        return None
    return data


def html_files(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield a saved page; its text is the HTML, for an extractor."""
    from data.charset import decode

    data = contents(file, skip)
    if data is not None:
        text, charset = decode(data)
        metadata = {"media_type": "text/html", "charset": charset}
        yield Document(text, name, kind="web", url=name, metadata=metadata)


READERS: dict[str, Reader] = {
    "warc": warc.documents,
    "html": html_files,
}
SUFFIXES: dict[str, Reader] = {
    ".warc": warc.documents,
    ".wet": warc.documents,
    ".html": html_files,
    ".htm": html_files,
    ".xhtml": html_files,
}
