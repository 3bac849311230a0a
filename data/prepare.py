"""From text to a tokenizer and two token stores, cached by what determines them."""

import contextlib
import heapq
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from data import overlap, source, split, staging, store
from data.documents import Document
from data.errors import UserError
from data.files import atomic_dir, hash_bytes, human_bytes, human_count, write_atomic
from data.store import Store, kind_of
from data.tokenizer import Tokenizer, train

VERSION = 3  # of what this room writes; raise it when the same text would give other bytes
SAMPLE_BYTES = 8_000_000  # text that the tokenizer is trained on: more changes little
HELD_BYTES = 100_000_000  # text up to this size is read once, a larger one for every pass over it
MODEL = "tokenizer.model"


class Prepared(NamedTuple):
    """What training needs of a corpus."""

    tokenizer: Tokenizer
    train: Store
    valid: Store
    manifest: dict[str, Any]  # settings, fingerprint of the text, counts

    @property
    def hash(self) -> str:
        """What the token stores hold, as a SHA-256."""
        return hash_bytes(f"{self.train.hash} {self.valid.hash}".encode())

    def summary(self) -> str:
        """Return the corpus in one line."""
        stores = (self.train, self.valid)
        documents, size = (sum(s.manifest[k] for s in stores) for k in ("documents", "text_bytes"))
        tokens = len(self.train) + len(self.valid)
        zero = self.valid.manifest["zero_weight_tokens"] / len(self.valid)
        return (
            f"data: {documents:,} documents, {human_bytes(size)}, {human_count(tokens)} tokens "
            f"of {size / tokens:.2f} bytes; validation {human_count(len(self.valid))} tokens, "
            f"{zero:.1%} of them in 13-grams of the training text, weight 0"
        )


def prepare(
    path: str = "",
    *,
    vocab_size: int,
    model_type: str = "bpe",
    cache: str | os.PathLike[str] = "out/cache",
    limit_bytes: float | None = None,
    valid_share: float = 0.025,
    by_kind: bool = False,
    tokenizer: Tokenizer | None = None,
    workers: int | None = None,
    log: Callable[[str], None] = print,
) -> Prepared:
    """Return the tokenizer and token stores of a corpus, built where `cache` lacks them.

    Args:
      path: '' (the embedded corpus), a file or folder of text, also in cloud storage (gs://,
        copied to `cache`), or 'tfds:NAME[:DIR]'.
      vocab_size, model_type: of the tokenizer, trained on the training split.
      limit_bytes: keep a subset of about this much text, the same share of each kind.
      valid_share: of each kind's text, for validation, where the data name no split.
      by_kind: store the documents for training sorted by kind, as mixtures need them.
      tokenizer: to use instead of training one; vocab_size and model_type do not count then.
      workers: processes; by default one a CPU. They do not change the result.
      log: gets one line that sums up the corpus.

    Raises UserError for text that cannot be read or does not suffice.
    """
    if not 0 <= valid_share < 1:
        raise UserError(f"data.valid_share={valid_share} is not a share between 0 and 1")
    path = staging.local(path, cache)
    settings = {
        "text": source.fingerprint(path),
        "vocab_size": vocab_size,
        "model_type": model_type,
        "limit_bytes": limit_bytes,
        "valid_share": valid_share,
        "sentencepiece": sentencepiece.__version__,
        "version": VERSION,
    }
    # Left out where not asked for, so that they leave other stores' names alone.
    if by_kind:
        settings["by_kind"] = True
    if tokenizer:
        settings |= {"vocab_size": tokenizer.vocab_size, "model_type": ""}
        settings["tokenizer"] = hash_bytes(tokenizer.model)
    key = hash_bytes(json.dumps(settings, sort_keys=True).encode())[:16]
    folder = Path(cache) / f"corpus-{key}"
    if not folder.exists():
        with _alone(Path(cache)) as alone:
            if not folder.exists():
                if alone:
                    _drop_leftovers(folder)
                with atomic_dir(folder) as building:
                    _build(building, path, settings, tokenizer, workers)
    prepared = Prepared(
        Tokenizer.load(folder / MODEL),
        Store.open(folder / "train"),
        Store.open(folder / "valid"),
        json.loads((folder / "manifest.json").read_text("utf-8")),
    )
    log(prepared.summary())
    return prepared


def _build(
    folder: Path,
    path: str,
    settings: dict[str, Any],
    tokenizer: Tokenizer | None,
    workers: int | None,
) -> None:
    limit, share = settings["limit_bytes"], settings["valid_share"]
    cuts = split.cuts(source.read(path), limit) if limit else None

    def read() -> Iterator[Document]:
        return split.subset(source.read(path), cuts) if cuts else source.read(path)

    held = hold(read(), HELD_BYTES)
    cut = split.validation_cuts(held or read(), share)

    def documents(validation: bool) -> Iterator[Document]:
        return (d for d in held or read() if split.is_validation(d, cut) == validation)

    def texts(validation: bool) -> Iterator[str]:
        return (document.text for document in documents(validation))

    if next(documents(False), None) is None:
        raise UserError(
            f"{path or 'the corpus'}: all of its documents validate, none trains; "
            "give more documents (a lone one cannot be split)"
        )
    tokenizer = tokenizer or train(
        sample(texts(False), SAMPLE_BYTES), settings["vocab_size"], settings["model_type"]
    )
    tokenizer.save(folder / MODEL)
    seen = overlap.shared(texts(True), texts(False), workers=workers)
    by_kind = settings.get("by_kind", False)
    chosen = sorted_by_kind(lambda: documents(False)) if by_kind else documents(False)
    store.write(folder / "train", chosen, tokenizer, workers=workers, by_kind=by_kind)
    store.write(folder / "valid", documents(True), tokenizer, seen=seen, workers=workers)
    write_atomic(folder / "manifest.json", json.dumps(settings, indent=2) + "\n")


def sorted_by_kind(read: Callable[[], Iterable[Document]]) -> Iterator[Document]:
    """Yield documents sorted by kind, reading them once for each kind; memory holds one."""
    for kind in sorted({kind_of(document) for document in read()}):
        yield from (document for document in read() if kind_of(document) == kind)


def hold(documents: Iterable[Document], size: float) -> list[Document] | None:
    """Return the documents where their text is not much over `size` bytes, else None."""
    held, total = [], 0
    for document in documents:
        held.append(document)
        total += len(document.text)
        if total > size:
            return None
    return held


def sample(texts: Iterable[str], size: float) -> list[str]:
    """Return whole texts of about `size` bytes, drawn evenly and in a fixed order.

    It is the texts of the smallest hashes, as many as reach `size`; memory holds no more.
    """
    kept: list[tuple[int, str]] = []
    held = 0
    for text in texts:
        heapq.heappush(kept, (-split.draw(text).subset, text))
        held += len(text)
        while held - len(kept[0][1]) >= size:
            held -= len(heapq.heappop(kept)[1])
    return [text for _, text in sorted(kept, reverse=True)]


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[bool]:
    """Hold the cache's lock, so that of several processes one builds and the others wait.

    Yields False where there are no such locks (Windows, some network file systems): there
    several may build the same, and the first to finish wins.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            import fcntl

            handle = os.open(cache, os.O_RDONLY)
            stack.callback(os.close, handle)
            fcntl.flock(handle, fcntl.LOCK_EX)
            locked = True
        except (ImportError, OSError):
            locked = False
        yield locked


def _drop_leftovers(folder: Path) -> None:
    """Delete what builds that were killed left of this folder."""
    for leftover in folder.parent.glob(f".{folder.name}.*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
