"""Which documents validate, and which make up a smaller corpus: both by a hash of the text.

A document's draw depends on its text alone, so its place is the same in whatever order the corpus
is read, and two copies of a text, of one kind, are never on both sides.
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


def validation_cuts(documents: Iterable[Document], share: float) -> dict[str, int]:
    """Return for each kind the draw below which documents validate.

    Every kind gives as nearly as whole documents can the same share of its text: a share of the
    documents of all kinds together gave one kind three times another's, and validation then
    weighs kinds otherwise than training does. Documents of which the data say where they belong
    are left alone. One document validates at least.
    """
    draws: list[tuple[str, int, int]] = []
    named = False
    for document in documents:
        named |= document.split == "validation"
        if not document.split:
            draws.append((document.kind, draw(document.text).split, text_bytes(document)))
    sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for kind, number, size in draws:
        sizes[kind].append((number, size))
    found = {kind: _nearest_cut(sorted(pairs), share) for kind, pairs in sizes.items()}
    if share and draws and not named and not any(found.values()):
        number, kind = min((number, kind) for kind, number, _ in draws)
        found[kind] = number + 1
    return found


def is_validation(document: Document, cut: dict[str, int]) -> bool:
    """Tell whether a document validates: as the data say, else by its draw."""
    if document.split:
        return document.split == "validation"
    return draw(document.text).split < cut[document.kind]


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
    return {
        kind: _reaching_cut(sorted(pairs), limit_bytes / total) for kind, pairs in sizes.items()
    }


def _nearest_cut(pairs: list[tuple[int, int]], share: float) -> int:
    """Return the draw just after the documents that come nearest to `share` of the bytes; or 0."""
    left = share * sum(size for _, size in pairs)
    cut = 0
    for number, size in pairs:
        if size > 2 * left:  # without it we are nearer
            break
        left -= size
        cut = number + 1
    return cut


def _reaching_cut(pairs: list[tuple[int, int]], share: float) -> int:
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
