"""The chain of a curation config: its phases, what decides its result, and how it runs.

A chain is a series of datatrove pipelines. Stages that look at one document run in one pipeline; a
deduplication stage ends it, finds its duplicates, and starts the next.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashDedupBuckets

from data import curation_report, executors, readers
from data.dedup import PIECES, Find, Remove, Sign
from data.documents import Skips
from data.errors import UserError, suggest
from data.files import hash_bytes, hash_file, write_atomic
from data.html import EXTRACTORS
from data.ledger import Ledger
from data.minhash import Cluster, RemoveNearDuplicates, RensaSignature, minhash_config
from data.source import CURATION
from data.stages import FILTERS
from data.steps import Apply, Read, ReadBack, Settle, Source, TokenCounter, Write, share

CRAWL = Path(__file__).with_name("crawl")
TOKENIZER = Path(__file__).with_name("labels") / "tokenizer.model"
DEDUP = (*PIECES, "minhash")
# Not part of what decides the result.
RUN_ONLY = ("executor", "workers", "memory_gb", "partition", "qos", "time")


class Phase(NamedTuple):
    """One pipeline, its number of tasks and the folder of its logs and counts."""

    name: str
    steps: list[PipelineStep]
    tasks: int


class Plan:
    """Builds the phases of a config; every phase is a function of the config alone."""

    def __init__(self, c: Any, out: Path, files: Sequence[tuple[str, Source]]):
        self.c, self.out, self.files = c, out, files
        self.tasks = max(1, min(c.run.tasks, len(files)))
        self.count = TokenCounter(Path(c.tokenizer) if c.tokenizer else TOKENIZER)
        self.work = out / "work"
        self.phases: list[Phase] = []
        self._open([], ["read"])
        self.steps.append(Read(share(files, self.tasks), c.extractor, self.ledger, self.count))
        for stage in c.stages:
            if stage == "quality" and not c.quality.model:
                continue
            if stage in DEDUP:
                self._deduplicate(stage)
            else:
                self._apply(stage)
        self._close(out / "documents", final=final_record)

    def _open(self, steps: list[PipelineStep], names: list[str]) -> None:
        self.ledger, self.steps, self.names = Ledger(), steps, names

    def _close(self, folder: Path, **arguments: Any) -> None:
        """End the pipeline: its documents go to a folder, its counts beside the others'."""
        name = f"{len(self.phases):02d}-{'-'.join(self.names)[:60]}"
        counts = self.work / "counts" / name
        self.steps += [Write(folder, **arguments), Settle(self.ledger, self.names, counts)]
        self.phases.append(Phase(name, self.steps, self.tasks))

    def _apply(self, stage: str) -> None:
        spared = [kind for kind, stages in self.c.spared.items() if stage in stages]
        self.steps.append(
            Apply(stage, FILTERS[stage](self.c), self.ledger, self.count, without=spared)
        )
        self.names.append(stage)

    def _deduplicate(self, stage: str) -> None:
        folder = self.work / f"{len(self.phases):02d}-{stage}"
        documents = folder / "documents"
        if stage == "minhash":
            self._close(documents)
            remove = self._minhash(folder, documents)
        else:
            self.steps.append(Sign(folder / "pieces", stage, self.tasks))
            self._close(documents)
            self._phase(f"{stage}-find", [Find(folder / "pieces", folder / "found")], self.tasks)
            self._open([], [stage])
            remove = Remove(folder / "found", stage, self.ledger, self.count)
        self.steps += [ReadBack(documents), remove]

    def _minhash(self, folder: Path, documents: Path) -> PipelineStep:
        bands, rows = self.c.minhash.bands, self.c.minhash.rows
        config = minhash_config(bands, rows)
        signed, matched, clusters = (folder / x for x in ("signatures", "matches", "clusters"))
        self._phase(
            "minhash-sign",
            [ReadBack(documents), RensaSignature(signed, bands, rows)],
            self.tasks,
        )
        # Larger reads than datatrove's default of five signatures.
        buckets = MinhashDedupBuckets(
            str(signed), str(matched), config=config, lines_to_buffer=5000
        )
        self._phase("minhash-match", [buckets], bands)
        self._phase("minhash-cluster", [Cluster(matched, clusters)], 1)
        self._open([], ["minhash"])
        return RemoveNearDuplicates(clusters, self.ledger)

    def _phase(self, name: str, steps: list[PipelineStep], tasks: int) -> None:
        self.phases.append(Phase(f"{len(self.phases):02d}-{name}", steps, tasks))


def final_record(document: Document) -> dict[str, Any]:
    """Return a document as it is published: its fields, the hash of its text, its scores."""
    text_hash = hash_bytes(document.text.encode("utf-8"))
    return {"text": document.text, "id": document.id, **document.metadata, "hash": text_hash}


def check(c: Any) -> None:
    """Raise UserError for values that no field may have."""
    known = (*FILTERS, *DEDUP)
    for stage in c.stages:
        if stage not in known:
            raise UserError(
                f'stage "{stage}" is not one of: {", ".join(known)}{suggest(stage, known)}'
            )
    if len(set(c.stages)) < len(c.stages):
        raise UserError("a stage is listed twice in --config.stages")
    for name, value, choices in (
        ("extractor", c.extractor, EXTRACTORS),
        ("run.executor", c.run.executor, tuple(executors.EXECUTORS)),
    ):
        if value not in choices:
            raise UserError(f'{name}: "{value}" is not one of {", ".join(choices)}')
    if c.run.tasks < 1:
        raise UserError("run.tasks must be at least 1")


def sources(c: Any) -> tuple[list[tuple[str, Source]], Skips]:
    """Return the files to read and what was passed over on the way to them."""
    source = Source(c.path or str(CRAWL), c.kind, "", c.licence)
    skips = Skips()
    found = readers.files(source.path, skips)
    if not c.path:  # beside the embedded archives lies what is known about them
        found = [(file, name) for file, name in found if name.endswith(".warc.gz")]
    files = [(str(file), source._replace(source=name)) for file, name in found]
    if not files:
        raise UserError(f"{source.path}: no files in it")
    return files, skips


def fingerprint(c: Any, files: Sequence[tuple[str, Source]]) -> dict[str, Any]:
    """Return all that decides the result: config, names and sizes of the files, tokenizer."""
    settings = c.to_dict()
    settings["run"] = {k: v for k, v in settings["run"].items() if k not in RUN_ONLY}
    sizes = [[name, Path(path).stat().st_size] for path, (_, _, name, _) in files]
    return {
        "config": json.loads(json.dumps(settings)),
        "files": sizes,
        "tokenizer": hash_file(c.tokenizer or TOKENIZER),
    }


def claim(out: Path, decides: dict[str, Any]) -> None:
    """Take the output folder for this run; UserError where it holds another one."""
    file = out / CURATION
    if file.exists():
        if json.loads(file.read_text("utf-8")) != decides:
            raise UserError(
                f"{out}: holds a run of another config or other files; give another --out"
            )
    elif out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty and holds no curation; give another --out")
    else:
        write_atomic(file, json.dumps(decides, indent=2) + "\n")


class Report(PipelineStep):
    """The last phase: sums the counts of all tasks into report.json and report.html."""

    name, type = "report", "REPORT"

    def __init__(self, out: Path, skips: Skips, stages: Sequence[str]):
        super().__init__()
        self.out, self.skips, self.stages = out, skips, tuple(stages)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        curation_report.write(self.out, self.skips, self.stages)


def curate(c: Any, out: Path) -> dict[str, Any] | None:
    """Run the chain of a config into a folder and return its report; None where Slurm has it."""
    check(c)
    files, skips = sources(c)
    claim(out, fingerprint(c, files))
    plan = Plan(c, out, files)
    stages = [name for phase in plan.phases for step in phase.steps for name in names_of(step)]
    report = Phase("report", [Report(out, skips, stages)], 1)
    before = None
    for phase in [*plan.phases, report]:
        logs = out / "work" / "logs" / phase.name
        if phase is report:
            shutil.rmtree(logs, ignore_errors=True)  # made anew, from counts that are complete
        make = executors.EXECUTORS[c.run.executor]
        before = make(phase.steps, phase.tasks, logs, c.run, before)
        before.run()
        left = [] if c.run.executor == "slurm" else executors.missing(before)
        if left:
            raise UserError(
                f"{phase.name}: {len(left)} of {phase.tasks} tasks failed, the others are done; "
                f"see {logs}/logs/task_{left[0]:05d}.log; the same command goes on from here"
            )
        print(f"{phase.name}: {phase.tasks} tasks done", file=sys.stderr)
    if c.run.executor == "slurm":
        print(f"submitted; the last job writes {out}/report.html")
        return None
    return json.loads((out / "report.json").read_text("utf-8"))


def names_of(step: PipelineStep) -> list[str]:
    return list(step.names) if isinstance(step, Settle) else []
