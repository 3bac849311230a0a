"""The token store: documents tokenized once, in flat files that are memory-mapped.

tokens.bin     uint16 (uint32 for more than 65,536 ids): each document preceded by
               end-of-text, the stream closed by one
docs.idx       int64: where each document's end-of-text stands
weights.bin    uint8, one a token; only where some tokens weigh nothing
manifest.json  counts, hashes, the tokenizer's hash, documents by kind
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from data.documents import Document
from data.errors import UserError
from data.files import PathLike, write_atomic
from data.overlap import token_weights
from data.parallel import chunked, parallel_map
from data.split import text_bytes
from data.tokenizer import EOT, Tokenizer

TOKENS, OFFSETS, WEIGHTS, MANIFEST = "tokens.bin", "docs.idx", "weights.bin", "manifest.json"


def kind_of(document: Document) -> str:
    return document.kind or "text"


def token_dtype(vocab_size: int) -> np.dtype:
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


@dataclass(frozen=True)
class Store:
    """An open store; `tokens`, `offsets` and `weights` (or None) are read-only and on disk."""

    folder: Path
    manifest: dict[str, Any]
    tokens: np.ndarray
    offsets: np.ndarray
    weights: np.ndarray | None = None

    @classmethod
    def open(cls, folder: PathLike) -> "Store":
        """Memory-map a store; UserError where it is missing, truncated or not one."""
        folder = Path(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
            count, documents = manifest["tokens"], manifest["documents"]
            dtype = np.dtype(manifest["dtype"])
        except OSError as error:
            raise UserError(f"{folder}: not a token store ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{folder / MANIFEST}: damaged; delete {folder}") from error
        weighted = manifest["zero_weight_tokens"] > 0
        return cls(
            folder,
            manifest,
            _map(folder / TOKENS, dtype, count),
            _map(folder / OFFSETS, np.dtype(np.int64), documents),
            _map(folder / WEIGHTS, np.dtype(np.uint8), count) if weighted else None,
        )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the manifest, which holds that of every file."""
        return hashlib.sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        """Return the number of tokens, end-of-text included."""
        return len(self.tokens)

    def document(self, index: int) -> np.ndarray:
        """Return a document's tokens, without end-of-text."""
        start = self.offsets[index] + 1
        last = index + 1 == len(self.offsets)
        return self.tokens[start : len(self.tokens) - 1 if last else self.offsets[index + 1]]


def _map(path: Path, dtype: np.dtype, count: int) -> np.ndarray:
    size = path.stat().st_size if path.exists() else 0
    if size != count * dtype.itemsize:
        raise UserError(
            f"{path}: {size:,} bytes instead of {count * dtype.itemsize:,}; "
            f"the store is damaged, delete {path.parent} to build it again"
        )
    if not count:
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r"))  # plain: memmap's own indexing is slow


def write(
    folder: Path,
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    seen: np.ndarray | None = None,
    workers: int | None = None,
    by_kind: bool = False,
) -> None:
    """Write the store of `documents` into `folder`; the bytes do not depend on `workers`.

    Tokens inside a word n-gram of `seen` (hashes, from `data.overlap.shared`) get weight 0.
    `by_kind` says that the documents come sorted by kind, as mixtures need them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kinds: Counter[str] = Counter()
    bytes_read = 0
    lengths: list[np.ndarray] = []
    zeros = 0

    def counted() -> Iterator[str]:
        nonlocal bytes_read
        for document in documents:
            kinds[kind_of(document)] += 1
            bytes_read += text_bytes(document)
            yield document.text

    tokens_hash, weights_hash = hashlib.sha256(), hashlib.sha256()
    with open(folder / TOKENS, "wb") as tokens, open(folder / WEIGHTS, "wb") as weights:

        def append(some: np.ndarray, weigh: np.ndarray) -> None:
            tokens.write(some.data)
            tokens_hash.update(some.data)
            weights.write(weigh.data)
            weights_hash.update(weigh.data)

        encode = partial(encode_batch, tokenizer.model, seen)
        for encoded in parallel_map(encode, chunked(counted()), workers):
            append(encoded.tokens, encoded.weights)
            zeros += len(encoded.weights) - int(np.count_nonzero(encoded.weights))
            lengths.append(encoded.lengths)
        closing = np.array([EOT], token_dtype(tokenizer.vocab_size))
        append(closing, np.ones(1, np.uint8))
    ends = np.cumsum(np.concatenate(lengths)) if lengths else np.zeros(0, np.int64)
    offsets = np.concatenate([[0], ends[:-1]])[: len(ends)].astype(np.int64)
    (folder / OFFSETS).write_bytes(offsets.tobytes())
    manifest: dict[str, Any] = {
        "dtype": token_dtype(tokenizer.vocab_size).name,
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer.hash,
        "documents": len(offsets),
        "documents_by_kind": dict(sorted(kinds.items())),
        "text_bytes": bytes_read,
        "tokens": int(ends[-1] if len(ends) else 0) + 1,
        "zero_weight_tokens": zeros,
        "sha256": {
            TOKENS: tokens_hash.hexdigest(),
            OFFSETS: hashlib.sha256(offsets.tobytes()).hexdigest(),
        },
    }
    if by_kind:
        manifest["by_kind"] = True
    if zeros:
        manifest["sha256"][WEIGHTS] = weights_hash.hexdigest()
    else:
        (folder / WEIGHTS).unlink()
    write_atomic(folder / MANIFEST, json.dumps(manifest, indent=2) + "\n")


@dataclass(frozen=True)
class Encoded:
    """Documents as one stream of tokens, each preceded by end-of-text."""

    tokens: np.ndarray
    weights: np.ndarray
    lengths: np.ndarray  # tokens of each document, its end-of-text included


_tokenizer: Tokenizer | None = None


def _tokenizer_of(model: bytes) -> Tokenizer:
    """Return the tokenizer of a model; one serves all of a process's work."""
    global _tokenizer
    if _tokenizer is None or _tokenizer.model != model:
        _tokenizer = Tokenizer(model)
    return _tokenizer


def encode_batch(model: bytes, seen: np.ndarray | None, texts: list[str]) -> Encoded:
    """Tokenize some documents; what a worker does."""
    tokenizer = _tokenizer_of(model)
    rows = [
        np.array([EOT, *ids], token_dtype(tokenizer.vocab_size))
        for ids in tokenizer.encode_batch(texts)
    ]
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.concatenate(rows)
    weights = np.ones(len(tokens), np.uint8)
    if seen is not None and len(seen):
        byte_lengths = tokenizer.byte_lengths
        parts = [
            token_weights(text, byte_lengths[row], seen)
            for text, row in zip(texts, rows, strict=True)
        ]
        weights = np.concatenate(parts)
    return Encoded(tokens, weights, lengths)
