"""Which documents validate, and which make up a smaller corpus: both by a hash of the text.

A document's place depends on its text alone, so it is the same however much of the corpus is
read and in whatever order, and two copies of a text are never on both sides.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from data.documents import Document

SCALE = 1 << 64


class Draw(NamedTuple):
    """Two independent numbers, uniform on [0, 2**64), that a text determines."""

    split: int
    subset: int


def draw(text: str) -> Draw:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return Draw(int.from_bytes(digest[:8]), int.from_bytes(digest[8:16]))


def validation_cut(documents: Iterable[Document], share: float) -> int:
    """Return the draw below which a document validates: `share` of them, and one at least."""
    wanted, lowest = int(share * SCALE), SCALE
    for document in documents:
        number = draw(document.text).split
        if document.split == "validation" or (not document.split and number < wanted):
            return wanted
        if not document.split:
            lowest = min(lowest, number)
    return lowest + 1 if share else 0


def is_validation(document: Document, cut: int) -> bool:
    """Tell whether a document validates: as the data say, else by its draw."""
    if document.split:
        return document.split == "validation"
    return draw(document.text).split < cut


def text_bytes(document: Document) -> int:
    return len(document.text.encode("utf-8", "surrogatepass"))


def cuts(documents: Iterable[Document], limit_bytes: float) -> dict[str, int]:
    """Return for each kind the draw below which documents are in a subset of `limit_bytes`.

    Every kind keeps the same share of its text. A smaller subset is inside a larger one.
    """
    sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for document in documents:
        sizes[document.kind].append((draw(document.text).subset, text_bytes(document)))
    total = sum(size for kind in sizes.values() for _, size in kind)
    if total <= limit_bytes:
        return dict.fromkeys(sizes, SCALE)
    return {kind: _cut(sorted(pairs), limit_bytes / total) for kind, pairs in sizes.items()}


def _cut(pairs: list[tuple[int, int]], share: float) -> int:
    """Return the draw just after the documents that first reach `share` of the bytes."""
    wanted = share * sum(size for _, size in pairs)
    for number, size in pairs:
        wanted -= size
        if wanted <= 0:
            return number + 1
    return SCALE


def subset(documents: Iterable[Document], cut: dict[str, int]) -> Iterator[Document]:
    """Yield the documents that `cuts` keeps."""
    return (d for d in documents if draw(d.text).subset < cut[d.kind])
