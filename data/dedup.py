"""Deduplication: exact, by sentences and by substrings, one mechanism for all three.

Exact, sentence and substring deduplication all say: of equal pieces the first stays. Each task
writes the 64-bit hashes of its pieces, `Sign`; a task for each range of hashes finds those that
came before, `Find`; and each task takes its own out again, `Remove`. `ranges` of hashes share all
pieces evenly, and each is searched by shards of about SHARD bytes, so that memory does not grow
with it. A false match among n pieces has a chance of about n**2 / 2**65.

Pieces are: a document (all its letters and digits, case folded), every run of 3 sentences or
lines as in C4 (Raffel et al. 2020), or every run of 50 words (Lee et al. 2022 take 50 tokens).
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datatrove.pipeline.base import PipelineStep

from data import overlap
from data.ledger import Ledger
from data.shuffle import mix
from data.words import SENTENCE_END

PIECE = np.dtype([("hash", "<u8"), ("document", "<u4"), ("start", "<u4"), ("end", "<u4")])
EMPTY = np.zeros(0, PIECE)
SENTENCES = 3
HALF = np.uint64(32)  # bits
LOW = np.uint64(2**32 - 1)
SHARD = 1 << 25  # bytes of pieces that are compared at a time
BLOCK = 1 << 16  # pieces read at a time
HELD = 1 << 23  # bytes that a task holds before it writes them, over all its files
WORDS = 50


class Pieces(Protocol):
    """A text's pieces: hashes, and where each starts and ends in characters."""

    def __call__(self, text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


def word_hashes(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return overlap.words(codes)


def whole_hash(hashes: np.ndarray) -> np.ndarray:
    """Return one hash of a sequence of hashes, uint64 [1]."""
    places = mix(np.arange(1, len(hashes) + 1, dtype=np.uint64))
    return mix(np.array([(hashes * places).sum(dtype=np.uint64)]))


def whole_text(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The text itself; equal are texts that differ in case, spaces and punctuation only.

    A text without letters or digits is compared as it stands.
    """
    hashes, _, _ = word_hashes(text)
    if not len(hashes):
        hashes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        hashes = hashes.astype(np.uint64)
    return whole_hash(hashes), np.zeros(1, np.int64), np.array([len(text)])


def sentence_runs(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every three sentences (lines count as sentences) in a row, without case and punctuation."""
    hashes, starts, _ = word_hashes(text)
    cuts = {m.end() for m in SENTENCE_END.finditer(text)} | {
        i + 1 for i, c in enumerate(text) if c == "\n"
    }
    ends = np.array(sorted(cuts | {len(text)}), np.int64)
    sentence = np.searchsorted(ends, starts, "right")  # of each word
    if not len(hashes):
        return np.zeros(0, np.uint64), np.zeros(0, np.int64), np.zeros(0, np.int64)
    firsts = np.flatnonzero(np.diff(sentence, prepend=-1))
    edges = np.append(firsts, len(hashes))
    ones = [whole_hash(hashes[a:b]) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    runs = overlap.grams(np.concatenate(ones), SENTENCES)
    numbers = sentence[firsts]
    begins = np.where(numbers > 0, ends[numbers - 1], 0)[: len(runs)]
    return runs, begins, ends[numbers[SENTENCES - 1 :]][: len(runs)]


def word_runs(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every fifty words in a row."""
    hashes, starts, ends = word_hashes(text)
    runs = overlap.grams(hashes, WORDS)
    return runs, starts[: len(runs)], ends[WORDS - 1 :][: len(runs)]


PIECES: dict[str, Pieces] = {
    "exact": whole_text,
    "sentence": sentence_runs,
    "substring": word_runs,
}


class Sign(PipelineStep):
    """Writes the pieces of a task's documents, a file for each range of hashes."""

    name, type = "pieces", "DEDUP"

    def __init__(self, folder: Path, kind: str, ranges: int):
        super().__init__()
        self.folder, self.kind, self.ranges = folder, kind, ranges

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        pieces = PIECES[self.kind]
        names = [self.folder / f"{i:04d}" / f"{rank:05d}.pieces" for i in range(self.ranges)]
        files = [Spill(name, HELD // self.ranges) for name in names]
        for number, document in enumerate(data):
            hashes, starts, ends = pieces(document.text)
            records = np.zeros(len(hashes), PIECE)
            records["hash"], records["document"] = hashes, number
            records["start"], records["end"] = starts, ends
            owner = (((hashes >> HALF) * np.uint64(self.ranges)) >> HALF).astype(np.int64)
            for i in np.unique(owner):
                files[i].add(records[owner == i])
            yield document
        for file in files:
            file.close()


class Spill:
    """An array that grows on disk: held up to a size, then appended; complete once closed."""

    def __init__(self, path: Path, limit: int = 1 << 20):
        self.path, self.limit, self.size = path, limit, 0
        self.held: list[np.ndarray] = []
        self.hidden = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.hidden.unlink(missing_ok=True)  # of a task that was killed

    def add(self, records: np.ndarray) -> None:
        self.held.append(records)
        self.size += records.nbytes
        if self.size > self.limit:
            self._flush()

    def _flush(self) -> None:
        with open(self.hidden, "ab") as file:
            file.write(b"".join(records.tobytes() for records in self.held))
        self.held, self.size = [], 0

    def close(self) -> None:
        self._flush()
        self.hidden.replace(self.path)


class Find(PipelineStep):
    """Finds, in one range of hashes, the pieces that an earlier one equals.

    Earlier is: in a task of lower rank, an earlier document, or earlier in the same document.
    """

    name, type = "find pieces", "DEDUP"

    def __init__(self, folder: Path, out: Path):
        super().__init__()
        self.folder, self.out = folder, out

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        files = sorted((self.folder / f"{rank:04d}").glob("*.pieces"))
        shards = 1 + sum(file.stat().st_size for file in files) // SHARD
        outs = [
            Spill(self.out / f"{rank:04d}" / f"{file.stem}.repeated", HELD // len(files))
            for file in files
        ]
        for shard in range(shards):
            seen = np.zeros(0, np.uint64)
            for file, out in zip(files, outs, strict=True):
                for pieces in _of_shard(file, shard, shards, world_size):
                    seen, repeated = _repeated(seen, pieces)
                    out.add(repeated)
        for out in outs:
            out.close()


def _blocks(file: Any) -> Iterator[np.ndarray]:
    while len(pieces := np.fromfile(file, PIECE, BLOCK)):
        yield pieces


def _of_shard(path: Path, shard: int, shards: int, ranges: int) -> Iterator[np.ndarray]:
    """Yield a file's pieces in one of the shards that a range of hashes is cut into, by blocks."""
    kept, size = list[np.ndarray](), 0
    with open(path, "rb") as file:
        for pieces in _blocks(file):
            within = ((pieces["hash"] >> HALF) * np.uint64(ranges)) & LOW  # its range, 0 to 2**32
            kept.append(pieces[(within * np.uint64(shards)) >> HALF == shard])
            size += len(kept[-1])
            if size >= BLOCK:
                yield np.concatenate(kept)
                kept, size = [], 0
    yield np.concatenate([*kept, np.zeros(0, PIECE)])


def _repeated(seen: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all hashes seen, sorted and each once, and the pieces that had been seen before.

    Only what is new is kept, so a shard stays small however often one piece is repeated.
    """
    new, first = np.unique(pieces["hash"], return_index=True)  # the first of equal ones
    fresh = ~overlap.contains(seen, new)
    repeated = np.ones(len(pieces), bool)
    repeated[first[fresh]] = False
    return np.sort(np.concatenate([seen, new[fresh]])), pieces[repeated]


class Remove(PipelineStep):
    """Takes out what `Find` found: whole documents, or spans of their text.

    A document that loses text is dropped where less than `min_words` words of it are left.
    """

    name, type = "remove pieces", "DEDUP"

    def __init__(self, found: Path, kind: str, ledger: Ledger, count: Any, min_words: int = 20):
        super().__init__()
        self.found, self.kind, self.ledger, self.count = found, kind, ledger, count
        self.min_words = min_words

    def run(self, data: Iterator[Any], rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        stage = self.ledger.stage(self.kind)
        with Sorted(sorted(self.found.glob(f"*/{rank:05d}.repeated"))) as found:
            for number, document in enumerate(data):
                stage.enter(document)
                pieces = found.of(number)
                reason = self._remove(document, pieces, stage) if len(pieces) else ""
                if reason:
                    stage.drop(reason, document)
                    continue
                stage.leave(document)
                yield document

    def _remove(self, document: Any, pieces: np.ndarray, stage: Any) -> str:
        if self.kind == "exact":
            return "duplicate"
        text = without(document.text, pieces["start"], pieces["end"])
        stage.tally["characters removed"] += len(document.text) - len(text)
        stage.tally["documents changed"] += 1
        if len(text.split()) < self.min_words:
            return "little left"
        document.text = text
        document.metadata["tokens"] = self.count(text)
        return ""


class Sorted:
    """The pieces in some files by document, in order, on disk: an external merge sort.

    They are sorted by parts of SHARD bytes into a file without a name, which ends with the task;
    of each part no more is held than its share of HELD bytes, and what one document has.
    """

    def __init__(self, paths: Sequence[Path]):
        folder = paths[0].parent if paths else None
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        lengths = [self._write(part) for part in _parts(paths)]
        count = max(1, HELD // PIECE.itemsize // max(1, len(lengths)))
        stops = np.cumsum([0, *lengths]).tolist()
        self.runs = [self._run(a, b, count) for a, b in zip(stops[:-1], stops[1:], strict=True)]
        self.held = [np.zeros(0, PIECE)] * len(self.runs)

    def __enter__(self) -> "Sorted":
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()

    def _write(self, part: np.ndarray) -> int:
        self.file.write(part[np.argsort(part["document"], kind="stable")].tobytes())
        return len(part)

    def _run(self, start: int, stop: int, count: int) -> Iterator[np.ndarray]:
        """Yield one sorted part, `count` pieces at a time."""
        for at in range(start, stop, count):
            self.file.seek(at * PIECE.itemsize)
            size = (min(at + count, stop) - at) * PIECE.itemsize
            yield np.frombuffer(self.file.read(size), PIECE)

    def of(self, document: int) -> np.ndarray:
        """Return a document's pieces; documents are asked for in order."""
        return np.concatenate([self._take(i, document) for i in range(len(self.runs))] or [EMPTY])

    def _take(self, i: int, document: int) -> np.ndarray:
        taken = []
        while True:
            stop = int(np.searchsorted(self.held[i]["document"], document, "right"))
            taken.append(self.held[i][:stop])
            self.held[i] = self.held[i][stop:]
            more = None if len(self.held[i]) else next(self.runs[i], None)
            if more is None:
                return taken[0] if len(taken) == 1 else np.concatenate(taken)
            self.held[i] = more


def _parts(paths: Sequence[Path]) -> Iterator[np.ndarray]:
    """Yield the pieces of some files in parts of about SHARD bytes."""
    kept, size = list[np.ndarray](), 0
    for path in paths:
        with open(path, "rb") as file:
            for pieces in _blocks(file):
                kept.append(pieces)
                size += pieces.nbytes
                if size >= SHARD:
                    yield np.concatenate(kept)
                    kept, size = [], 0
    if kept:
        yield np.concatenate(kept)


def without(text: str, starts: np.ndarray, ends: np.ndarray) -> str:
    """Return a text without the given spans, which may overlap."""
    order = np.argsort(starts, kind="stable")
    parts, at = [], 0
    for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True):
        if start > at:
            parts.append(text[at:start])
        at = max(at, end)
    return "".join([*parts, text[at:]]).strip()
