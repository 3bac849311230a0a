"""What readers give: documents, and the records that they could not make one of.

A reader is a generator `read(path, skips) -> Iterator[Document]`. What it cannot use it hands to
`skips`, and goes on; so records in = documents out + records skipped, always.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

from data.errors import UserError

SAMPLES = 20  # skipped records of each reason that Skips keeps


class Document(NamedTuple):
    """A text and where it comes from; fields that the data do not give are ''.

    `metadata` holds everything else by name, scores given to the document among it. Documents
    are never changed in place: `with_metadata` and `_replace` return new ones.
    """

    text: str
    id: str = ""
    source: str = ""
    licence: str = ""  # an SPDX identifier, or the source's own words
    kind: str = ""
    lang: str = ""
    split: str = ""  # 'train' or 'validation' where the data say so
    url: str = ""  # or the path inside the source
    metadata: dict[str, Any] = {}

    @property
    def hash(self) -> str:
        """SHA-256 of the text in hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def with_metadata(self, **values: Any) -> "Document":
        return self._replace(metadata={**self.metadata, **values})

    def record(self) -> dict[str, Any]:
        """Return the document as a JSON record: its fields, its hash, then its metadata."""
        fields = {name: value for name, value in self._asdict().items() if value}
        metadata = fields.pop("metadata", {})
        return {"text": "", **fields, "hash": self.hash, **metadata}


class Skipped(NamedTuple):
    """A record that gave no document."""

    reason: str  # one of a few words, to count by: 'not JSON', 'truncated', 'redirect' ...
    where: str  # file, and line, byte offset or member within it
    detail: str = ""  # what was found there


Skip = Callable[[Skipped], None]


class Skips:
    """Counts skipped records by reason and keeps the first of each; `log` gets every one."""

    def __init__(self, log: Skip | None = None):
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[Skipped]] = defaultdict(list)
        self._log = log

    def __call__(self, skipped: Skipped) -> None:
        self.counts[skipped.reason] += 1
        if len(self.samples[skipped.reason]) < SAMPLES:
            self.samples[skipped.reason].append(skipped)
        if self._log:
            self._log(skipped)

    @property
    def total(self) -> int:
        return self.counts.total()

    def summary(self) -> dict[str, Any]:
        """Return {reason: {count, samples: [{where, detail}]}}, the most frequent first."""
        return {
            reason: {
                "count": count,
                "samples": [{"where": s.where, "detail": s.detail} for s in self.samples[reason]],
            }
            for reason, count in self.counts.most_common()
        }


def refuse(skipped: Skipped) -> None:
    """Raise UserError for a skipped record: the `skips` of those who want all or nothing."""
    reason = f"{skipped.reason} ({skipped.detail})" if skipped.detail else skipped.reason
    raise UserError(f"{skipped.where}: {reason}")
