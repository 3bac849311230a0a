"""What happened to every document of a curation run, stage by stage: counted, sampled, summed.

Each task writes one file of counts when it is done, whole or not at all. A report is the sum of
these files, so a run that was stopped and resumed reports what an uninterrupted one does.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data.files import write_atomic

SAMPLES = 3  # dropped documents kept of each stage and reason, per task
EXCERPT = 240  # characters of each
CLUSTER = "documents in a cluster of "  # and its size: how near duplicates are tallied
Record = dict[str, Any]


class Stage:
    """Counts of one stage. `groups` is (source, licence) to documents in, tokens in, both out."""

    def __init__(self) -> None:
        self.total = [0, 0, 0, 0]
        self.groups: dict[tuple[str, str], list[int]] = {}
        self.reasons: Counter[str] = Counter()
        self.samples: dict[str, list[Record]] = {}
        self.tally: Counter[str] = Counter()

    def enter(self, document: Any) -> None:
        self._add(document, 0)

    def leave(self, document: Any) -> None:
        self._add(document, 2)

    def drop(self, reason: str, document: Any) -> None:
        excerpt = " ".join(document.text[: 2 * EXCERPT].split())[:EXCERPT]
        where = document.metadata.get("url") or document.id
        self.skip(reason, where, excerpt)

    def skip(self, reason: str, where: str, detail: str) -> None:
        """Count a drop; of a record that became no document `detail` says what was found."""
        self.reasons[reason] += 1
        samples = self.samples.setdefault(reason, [])
        if len(samples) < SAMPLES:
            samples.append({"where": where, "text": detail})

    def _add(self, document: Any, at: int) -> None:
        key = (document.metadata.get("source", ""), document.metadata.get("licence", ""))
        tokens = document.metadata.get("tokens", 0)
        for counts in (self.total, self.groups.setdefault(key, [0, 0, 0, 0])):
            counts[at] += 1
            counts[at + 1] += tokens

    def record(self) -> Record:
        return {
            "total": self.total,
            "groups": [[*key, *counts] for key, counts in self.groups.items()],
            "reasons": self.reasons,
            "samples": self.samples,
            "tally": self.tally,
        }

    def add(self, record: Record) -> None:
        """Add another task's counts of the same stage."""
        self.total = [a + b for a, b in zip(self.total, record["total"], strict=True)]
        for source, licence, *counts in record["groups"]:
            mine = self.groups.get((source, licence), [0, 0, 0, 0])
            self.groups[source, licence] = [a + b for a, b in zip(mine, counts, strict=True)]
        self.reasons.update(record["reasons"])
        self.tally.update(record["tally"])
        for reason, samples in record["samples"].items():
            mine_samples = self.samples.setdefault(reason, [])
            mine_samples += samples[: SAMPLES - len(mine_samples)]


class Ledger:
    """The stages of one task, in order."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}

    def stage(self, name: str) -> Stage:
        return self.stages.setdefault(name, Stage())

    def clear(self, names: Iterable[str]) -> None:
        self.stages = {name: Stage() for name in names}

    def write(self, path: Path) -> None:
        record = {name: stage.record() for name, stage in self.stages.items()}
        write_atomic(path, json.dumps(record, ensure_ascii=True))


def gather(files: Iterable[Path]) -> dict[str, Stage]:
    """Return the stages, in order, summed over the tasks' files, which are in order of rank."""
    ledger = Ledger()
    for file in files:
        for name, record in json.loads(file.read_text("utf-8")).items():
            ledger.stage(name).add(record)
    return ledger.stages
