"""Documents from sources of every kind, one reader each, behind one function.

    from data.documents import Skips
    from data.readers import read
    skips = Skips()
    for document in read("crawl/", licence="CC0-1.0", skips=skips): ...

`data.source` reads prepared text for training and stops at the first fault. Readers here take
what the world has: they go on, and say what they left out.
"""

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from data import books, code, conversations, latex, mail, records, warc, wikitext
from data.charset import decode
from data.documents import Document, Skip, Skipped, Skips
from data.errors import UserError, suggest
from data.source import is_tfds
from data.source import read as read_prepared
from data.streams import contents, stem

Reader = Callable[[Path, str, Skip], Iterator[Document]]  # (file, its name in the source, skip)


def read(
    path: str | os.PathLike[str],
    kind: str = "",
    *,
    source: str = "",
    licence: str = "",
    licences: Collection[str] = (),
    skips: Skip | None = None,
) -> Iterator[Document]:
    """Yield the documents of a file or folder, files in the order of their names.

    Args:
      path: a file or a folder, searched in its subfolders, or 'tfds:NAME[:DIR]'.
      kind: how to read it, a name in READERS; '' chooses by each file's suffix.
      source, licence: what documents get that do not say so themselves; the source is by
        default the file's name within `path`.
      licences: if given, documents under any other go to `skips`.
      skips: gets every record that gives no document; by default they are counted nowhere.

    Raises UserError where the path or kind does not exist.
    """
    skip = Skips() if skips is None else skips
    if kind and kind not in READERS:
        raise UserError(
            f'kind "{kind}" is not one of: {", ".join(READERS)}{suggest(kind, READERS)}'
        )
    if is_tfds(str(path)):
        yield from (
            d._replace(source=source or d.source, licence=d.licence or licence)
            for d in read_prepared(str(path))
        )
        return
    for file, name in files(path, skip):
        reader = READERS[kind] if kind else _by_suffix(file)
        if reader is None:
            skip(Skipped("unknown type", str(file)))
            continue
        for document in reader(file, name, skip):
            document = document._replace(
                source=source or document.source or name, licence=document.licence or licence
            )
            if licences and not set(document.licence.split(" OR ")) & set(licences):
                skip(Skipped("licence", f"{file}, {document.id}", document.licence or "none"))
            else:
                yield document


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


def html_files(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield a saved page; its text is the HTML, for an extractor."""
    data = contents(file, skip)
    if data is not None:
        text, charset = decode(data)
        metadata = {"media_type": "text/html", "charset": charset}
        yield Document(text, name, kind="web", url=name, metadata=metadata)


READERS: dict[str, Reader] = {
    "warc": warc.documents,
    "html": html_files,
    "books": books.texts,
    "encyclopedia": wikitext.dump,
    "code": code.sources,
    "papers": latex.tex,
    "irc": conversations.irc,
    "mbox": mail.mbox,
    "jsonl": records.jsonl,
    "parquet": records.parquet,
}
SUFFIXES: dict[str, Reader] = {
    ".warc": warc.documents,
    ".wet": warc.documents,
    ".html": html_files,
    ".htm": html_files,
    ".xhtml": html_files,
    ".txt": books.texts,
    ".xml": wikitext.dump,
    ".tex": latex.tex,
    ".log": conversations.irc,
    ".mbox": mail.mbox,
    ".jsonl": records.jsonl,
    ".ndjson": records.jsonl,
    ".parquet": records.parquet,
}
