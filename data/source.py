"""Documents from the embedded corpus, a file or folder of text, or a TFDS dataset.

A path is '' (the embedded corpus), a folder or file, or 'tfds:NAME[:DIR]'. Everything streams:
memory holds one document at a time.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

from data.documents import Document
from data.errors import UserError
from data.files import hash_file

EMBEDDED = Path(__file__).with_name("corpus")
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".jsonl.zst")
CURATION = "curation.json"  # in a folder of data.curate; its result is in documents/
CHUNK = 1 << 20
LONG = 1 << 17  # bytes from which a .txt file is read as several documents ...
PART = 1 << 16  # ... of about this size
FIELDS = ("id", "source", "licence", "kind", "lang", "split", "url")


def read(path: str = "") -> Iterator[Document]:
    """Yield the documents of `path` in a fixed order, those without text left out.

    Raises UserError for whatever keeps a document from being read, and where there is none.
    """
    found = False
    for document in _tfds_documents(path) if is_tfds(path) else _folder_documents(path):
        if document.text:
            found = True
            yield document
    if not found:
        raise UserError(f"{path}: no documents with text in it")


def fingerprint(path: str = "") -> str:
    """Return a SHA-256 over the names and contents of the files that `read` reads."""
    files, root = _tfds_files(path) if is_tfds(path) else text_files(path)
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root).as_posix()}\0{hash_file(file)}\n".encode())
    return digest.hexdigest()


def text_files(path: str = "") -> tuple[list[Path], Path]:
    """Return the text files of a file or folder, sorted by name, and the folder they are in."""
    root = Path(path) if path else EMBEDDED
    if root.is_file():
        if not root.name.endswith(SUFFIXES):
            raise UserError(f"{root}: text comes as {', '.join(SUFFIXES)}")
        return [root], root.parent
    if not root.exists():
        raise UserError(f"{root}: no such file or folder of text")
    if (root / CURATION).exists():  # what lies between the stages is beside the result
        if not (root / "report.json").exists():
            raise UserError(f"{root}: its curation is not finished; run the same command again")
        root = root / "documents"
    try:
        files = [Path(where) / name for where, _, names in _walk(root) for name in names]
    except OSError as error:
        raise _unreadable(Path(error.filename or root), error) from error
    files = [f for f in files if f.name.endswith(SUFFIXES) and not f.name.startswith(".")]
    if not files:
        raise UserError(f"{root}: no text files in it (looked for {', '.join(SUFFIXES)})")
    return sorted(files, key=lambda file: file.relative_to(root).as_posix()), root


def _walk(root: Path) -> Iterable[tuple[str, list[str], list[str]]]:
    def stop(error: OSError) -> None:
        raise error

    return os.walk(root, onerror=stop)


def _folder_documents(path: str) -> Iterator[Document]:
    files, root = text_files(path)
    for file in files:
        name = file.relative_to(root).as_posix()
        yield from _parts(file, name) if file.name.endswith(".txt") else _records(file, name)


def _parts(file: Path, name: str) -> Iterator[Document]:
    """Yield a .txt file as a document, or a long one as several, cut at line ends.

    A corpus is often one long file; it too needs documents for validation and for every worker.
    """
    offset = 0
    for part in _cut(file) if _size(file) > LONG else [b"".join(_chunks(file))]:
        text = _decode(part, file, offset)
        place = f"{name}:{offset}" if offset else name
        yield Document(text if offset else text.removeprefix("\ufeff"), id=place, source=name)
        offset += len(part)


def _cut(file: Path) -> Iterator[bytes]:
    """Yield the lines of a file in parts of at least PART bytes."""
    part: list[bytes] = []
    held = 0
    for line in read_lines(file):
        part.append(line + b"\n")
        held += len(line) + 1
        if held >= PART:
            yield b"".join(part)
            part, held = [], 0
    if part:
        yield b"".join(part)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise _unreadable(file, error) from error


def _records(file: Path, name: str) -> Iterator[Document]:
    """Yield the records of a .jsonl file, compressed or not; blank lines are passed over."""
    offset = 0
    for number, line in enumerate(read_lines(file), start=1):
        text = _decode(line, file, offset)
        offset += len(line) + 1
        if number == 1:
            text = text.removeprefix("\ufeff")
        if not text.strip():
            continue
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{file}, line {number}: not JSON ({error.msg})") from error
        yield _document(record, f"{file}, line {number}", f"{name}:{number}")


def _document(record: Any, where: str, default_id: str) -> Document:
    """Return the document of a JSON record; fields other than Document's are ignored."""
    text = record.get("text") if isinstance(record, dict) else None
    if not isinstance(text, str):
        raise UserError(f'{where}: the record has no field "text" that holds a string')
    known: dict[str, Any] = {key: str(record[key]) for key in FIELDS if record.get(key)}
    document = Document(text, **{"id": default_id} | known)
    if document.split == "valid":
        document = document._replace(split="validation")
    if document.split not in ("", "train", "validation"):
        raise UserError(f'{where}: split is "{document.split}", not "train" or "validation"')
    return document


def _decode(data: bytes, file: Path, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = f"byte {offset + error.start:,}"
        if file.suffix in (".gz", ".zst"):
            place += " once decompressed"
        raise UserError(f"{file}: not UTF-8 at {place} ({error.reason})") from error


def read_lines(file: Path) -> Iterator[bytes]:
    """Yield a file's lines, decompressed and without their newlines."""
    tail: list[bytes] = []
    for chunk in _chunks(file):
        first, *rest = chunk.split(b"\n")
        tail.append(first)
        if rest:
            yield b"".join(tail)
            yield from rest[:-1]
            tail = [rest[-1]]
    if last := b"".join(tail):
        yield last


def _chunks(file: Path) -> Iterator[bytes]:
    """Yield a file's bytes, decompressed; UserError if it is unreadable, damaged or truncated."""
    try:
        with open(file, "rb") as stream:
            if file.suffix == ".gz":
                yield from _decompress(stream, file, lambda: zlib.decompressobj(wbits=31))
            elif file.suffix == ".zst":
                decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
                yield from _decompress(stream, file, decompressor.decompressobj)
            else:
                yield from iter(lambda: stream.read(CHUNK), b"")
    except OSError as error:
        raise _unreadable(file, error) from error
    except (zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{file}: damaged, it does not decompress ({error})") from error


def _decompress(stream: IO[bytes], file: Path, start: Any) -> Iterator[bytes]:
    """Decompress a stream of one or more frames; the libraries' own readers miss a cut .zst."""
    frame = None
    for chunk in iter(lambda: stream.read(CHUNK), b""):
        while chunk:
            frame = frame or start()
            yield frame.decompress(chunk)
            chunk = frame.unused_data if frame.eof else b""
            if frame.eof:
                frame = None
    if frame is not None:
        raise UserError(f"{file}: truncated, it ends in the middle of the compressed data")


def _unreadable(file: Path, error: OSError) -> UserError:
    return UserError(f"{file}: cannot be read ({(error.strerror or str(error)).lower()})")


# TensorFlow Datasets, without TensorFlow ------------------------------------------------------


def is_tfds(path: str) -> bool:
    return path.startswith("tfds:")


def _tfds_builder(path: str) -> Any:
    """Return the builder of a prepared dataset; DIR is where TFDS keeps its datasets."""
    from data.errors import optional

    builders = optional("tensorflow_datasets", "requirements-data.txt")
    _, name, *rest = path.split(":", 2)
    where = rest[0] if rest else None
    try:
        if where and (Path(where) / "dataset_info.json").exists():
            return builders.builder_from_directory(where)
        # A dataset is read from what was prepared: its own code may need TensorFlow or be absent.
        return builders.core.read_only_builder.builder_from_files(name, data_dir=where)
    except Exception as error:
        raise UserError(
            f"{path}: no prepared dataset of that name ({_first_sentence(error)}); "
            "tfds:NAME:DIR names the folder, file_format='array_record' the form"
        ) from error


def _tfds_files(path: str) -> tuple[list[Path], Path]:
    root = Path(_tfds_builder(path).data_path)
    return sorted(file for file in root.iterdir() if file.is_file()), root


def _tfds_documents(path: str) -> Iterator[Document]:
    builder = _tfds_builder(path)
    features = builder.info.features
    field = _text_feature(features, path)
    texts = [name for name, feature in features.items() if type(feature).__name__ == "Text"]
    known = [name for name in FIELDS if name in texts and name not in (field, "split")]
    splits = [name for name in ("train", "validation") if name in builder.info.splits]
    if not splits:
        raise UserError(f'{path}: no split "train" or "validation"')
    for split in splits:
        try:
            examples = builder.as_data_source(split=split)
        except Exception as error:
            raise UserError(
                f"{path}: cannot be read without TensorFlow ({_first_sentence(error)}); "
                "prepare it with file_format='array_record'"
            ) from error
        # Without both splits in the data, ours is drawn by document.
        given = split if len(splits) == 2 else ""
        for number, example in enumerate(examples):
            name = f"{split}:{number}"
            try:
                text = example[field].decode("utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}, example {name}: not UTF-8 at byte {error.start:,} ({error.reason})"
                ) from error
            fields = {k: example[k].decode("utf-8", "replace") for k in known}
            own = {k: v for k, v in fields.items() if v}
            yield Document(text, **{"id": name, "source": path} | own, split=given)


def _first_sentence(error: Exception) -> str:
    """Return the start of an error's text; those of TFDS go on for many lines."""
    return re.split(r"[.:]?\s*\n|\.\s", str(error).strip())[0] or type(error).__name__


def _text_feature(features: Any, path: str) -> str:
    """Return the name of the feature that holds the text: 'text', or the only string one."""
    names = [name for name, feature in features.items() if type(feature).__name__ == "Text"]
    if "text" in features:
        return "text"
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise UserError(f'{path}: no feature "text", nor a single text feature (found: {found})')
    return names[0]
