"""The steps of a curation pipeline, as datatrove runs them: read, apply a filter, write, settle.

Every step that can drop a document counts into the task's ledger. A fault in one document drops
that document, with the fault as its reason, and not the task.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import zstandard
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from data import readers
from data.documents import Document as Raw
from data.documents import Skipped
from data.files import naming
from data.html import extract
from data.ledger import Ledger
from data.tokenizer import Tokenizer

SUFFIX = ".jsonl.zst"
LEVEL = 3


class Source(NamedTuple):
    """A file or folder, how to read it (see data.readers; '' by suffix) and what it gives."""

    path: str
    kind: str = ""
    source: str = ""
    licence: str = ""


class TokenCounter:
    """Counts a text's tokens; the model is loaded where it is first used, in each process."""

    def __init__(self, path: Path):
        self.path = path
        self._tokenizer: Tokenizer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_tokenizer": None}

    def __call__(self, text: str) -> int:
        if self._tokenizer is None:
            self._tokenizer = Tokenizer.load(self.path)
        return len(self._tokenizer.encode(text))


class Read(PipelineStep):
    """Reads a task's share of the files of all sources; HTML becomes its main text.

    Files are shared out by size, so that tasks take about equally long; a file is one task's.
    """

    name, type = "read", "READ"

    def __init__(
        self, files: Sequence[tuple[str, Source]], extractor: str, ledger: Ledger, count: Any
    ):
        super().__init__()
        self.files, self.extractor, self.ledger, self.count = files, extractor, ledger, count

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        stage = self.ledger.stage("read")

        def skip(skipped: Skipped) -> None:
            stage.total[0] += 1
            stage.skip(skipped.reason, skipped.where, skipped.detail)

        for path, source in self.files[rank::world_size]:
            arguments: dict[str, Any] = {"licence": source.licence, "skips": skip}
            for raw in readers.read(path, source.kind, source=source.source, **arguments):
                document = self._document(raw)
                if not document.text.strip():
                    stage.enter(document)
                    stage.drop("no text", document)
                    continue
                document.metadata["tokens"] = self.count(document.text)
                stage.enter(document)
                stage.leave(document)
                yield document

    def _document(self, raw: Raw) -> Document:
        fields = raw._asdict()
        text, metadata = fields.pop("text"), {**fields.pop("metadata")}
        metadata |= {name: value for name, value in fields.items() if value and name != "id"}
        if metadata.get("media_type") == "text/html":
            page = extract(text, self.extractor)
            text = page.text
            metadata["title"] = page.title
            metadata["licence"] = page.licence or metadata.get("licence", "")
        # What has no UTF-8 (lone surrogates) cannot be stored, and NUL bytes are nobody's text.
        text = text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
        return Document(text, raw.id, metadata=metadata)


def share(files: Sequence[tuple[str, Source]], tasks: int) -> list[tuple[str, Source]]:
    """Return the files in an order in which every `tasks`-th are about as much as the others.

    Largest first to the emptiest task; ties by path, so that the same files give the same order.
    """
    loads = [0] * tasks
    piles: list[list[tuple[str, Source]]] = [[] for _ in range(tasks)]
    for file in sorted(files, key=lambda f: (-_size(f[0]), f[0])):
        emptiest = min(range(tasks), key=lambda i: (len(piles[i]), loads[i]))
        piles[emptiest].append(file)
        loads[emptiest] += _size(file[0])
    rounds = max(map(len, piles), default=0)
    return [pile[i] for i in range(rounds) for pile in piles if i < len(pile)]


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0  # the reader will say why


class ReadBack(PipelineStep):
    """Reads what `Write` wrote in the same rank of an earlier pipeline."""

    name, type = "read back", "READ"

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        with open(self.folder / f"{rank:05d}{SUFFIX}", "rb") as file:
            lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file), 1 << 20)
            for line in lines:
                record = orjson.loads(line)
                yield Document(record.pop("text"), record.pop("id"), metadata=record)


class Apply(PipelineStep):
    """Applies a filter: an object whose `filter(document)` gives True, or False and a reason.

    datatrove's own filters are such objects. One may change the document, and keep a Counter
    `tally`, which goes into the report. Documents of the kinds in `without` pass as they are.
    """

    type = "FILTER"

    def __init__(
        self, name: str, filter: Any, ledger: Ledger, count: Any, without: Sequence[str] = ()
    ):
        super().__init__()
        self.name, self.filter, self.ledger, self.count = name, filter, ledger, count
        self.without = frozenset(without)

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        stage = self.ledger.stage(self.name)
        tally = getattr(self.filter, "tally", None)
        if tally is not None:
            tally.clear()
        for document in data:
            stage.enter(document)
            reason = self._reason(document)
            if reason:
                stage.drop(reason, document)
                continue
            stage.leave(document)
            yield document
        if tally is not None:
            stage.tally.update(tally)

    def _reason(self, document: Any) -> str:
        if document.metadata.get("kind", "") in self.without:
            return ""
        before = document.text
        try:
            verdict = self.filter.filter(document)
        except (MemoryError, OSError):
            raise  # the machine's fault, not the document's
        except Exception as error:
            return f"fault: {type(error).__name__}"
        keep, reason = verdict if isinstance(verdict, tuple) else (verdict, self.name)
        if not keep:
            return reason
        if document.text is not before and document.text != before:
            document.metadata["tokens"] = self.count(document.text)
        return "" if document.text.strip() else "no text left"


class Write(PipelineStep):
    """Writes documents to a file of this rank, complete or absent, and passes them on."""

    name, type = "write", "WRITE"

    def __init__(self, folder: Path, final: Callable[[Document], dict[str, Any]] | None = None):
        super().__init__()
        self.folder, self.final = folder, final

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        path = self.folder / f"{rank:05d}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        for stale in path.parent.glob(f".{path.name}.*.tmp"):  # of a try that was killed
            stale.unlink()
        hidden = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with naming(path), open(hidden, "wb") as file:
                with zstandard.ZstdCompressor(LEVEL).stream_writer(file, closefd=False) as out:
                    for document in data:
                        out.write(orjson.dumps(self._record(document)) + b"\n")
                        yield document
                file.flush()
                os.fsync(file.fileno())
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)

    def _record(self, document: Document) -> dict[str, Any]:
        if self.final:
            return self.final(document)
        return {"text": document.text, "id": document.id, **document.metadata}


class Settle(PipelineStep):
    """Writes the task's counts once everything before it is done. The last step."""

    name, type = "settle", "WRITE"

    def __init__(self, ledger: Ledger, names: Sequence[str], folder: Path):
        super().__init__()
        self.ledger, self.names, self.folder = ledger, names, folder

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        # It is the last, so asked first: stages that drop nothing are listed too, and in order.
        self.ledger.clear(self.names)
        yield from data
        self.ledger.write(self.folder / f"{rank:05d}.json")
