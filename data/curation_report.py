"""The report of a curation run: report.json, and one HTML page that opens offline.

The figures are sums over what each task counted (data/ledger.py), so they do not depend on
interruptions, workers or executor. Documents in = documents out + dropped holds for every stage and
for the whole; the report is not written where it does not.
"""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from data.documents import Skips
from data.files import human_count, write_atomic
from data.ledger import CLUSTER, Stage, gather
from data.page import bullets, heading, page, paragraph
from data.page import table as html_table

SAMPLES = 3
Record = dict[str, Any]


def write(out: Path, skips: Skips, stages: Sequence[str]) -> None:
    """Sum the counts under `out` and write both files."""
    report = summarise(gather(sorted((out / "work" / "counts").glob("*/*.json"))), skips, stages)
    write_atomic(out / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    write_atomic(out / "report.html", render(report))


def summarise(stages: dict[str, Stage], skips: Skips, names: Sequence[str]) -> Record:
    """Return the report as plain data. ValueError where documents went missing."""
    stages = {name: stages[name] for name in names}
    first, last = stages[names[0]], stages[names[-1]]
    for skipped in (s for samples in skips.samples.values() for s in samples):
        first.samples.setdefault(skipped.reason, []).append(
            {"where": skipped.where, "text": skipped.detail}
        )
    first.reasons.update(skips.counts)
    first.total[0] += skips.total
    rows = [_stage(name, stage) for name, stage in stages.items()]
    report = {
        "rows_in": first.total[0],
        "rows_out": last.total[2],
        "tokens_in": first.total[1],
        "tokens_out": last.total[3],
        "dropped": {name: dict(stage.reasons) for name, stage in stages.items() if stage.reasons},
        "stages": rows,
        "groups": _groups(first, last),
        "duplicate_clusters": _clusters(stages.get("minhash")),
        "pii": dict(sorted(stages["pii"].tally.items())) if "pii" in stages else {},
        "contamination": _tally(stages.get("decontaminate")),
        "languages": _tally(stages.get("language")),
    }
    _check(report)
    return report


def _stage(name: str, stage: Stage) -> Record:
    documents_in, tokens_in, documents_out, tokens_out = stage.total
    tally = {k: v for k, v in stage.tally.items() if not k.startswith(CLUSTER)}
    return {
        "stage": name,
        "documents_in": documents_in,
        "documents_out": documents_out,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "reasons": dict(stage.reasons.most_common()),
        "samples": {k: v[:SAMPLES] for k, v in sorted(stage.samples.items())},
        "tally": tally,
    }


def _tally(stage: Stage | None) -> dict[str, int]:
    return dict(sorted(stage.tally.items(), key=lambda kv: (-kv[1], kv[0]))) if stage else {}


def _groups(first: Stage, last: Stage) -> list[Record]:
    """Return documents and tokens in and out by source and licence, the largest first."""
    rows = []
    for source, licence in sorted(first.groups.keys() | last.groups.keys()):
        into = first.groups.get((source, licence), [0] * 4)
        out = last.groups.get((source, licence), [0] * 4)
        rows.append(
            {
                "source": source,
                "licence": licence,
                "documents_in": into[0],
                "tokens_in": into[1],
                "documents_out": out[2],
                "tokens_out": out[3],
            }
        )
    return sorted(rows, key=lambda row: -row["tokens_in"])


def _clusters(stage: Stage | None) -> Record:
    """Return how many clusters of near duplicates there are, by size."""
    tally = stage.tally.items() if stage else []
    documents = {int(k.removeprefix(CLUSTER)): n for k, n in tally if k.startswith(CLUSTER)}
    by_size = {str(size): n // size for size, n in sorted(documents.items())}
    total = sum(documents.values())
    return {"clusters": sum(by_size.values()), "documents": total, "by_size": by_size}


def _check(report: Record) -> None:
    dropped = sum(sum(reasons.values()) for reasons in report["dropped"].values())
    if report["rows_in"] != report["rows_out"] + dropped:
        raise ValueError(
            f"{report['rows_in']} documents in, {report['rows_out']} out, {dropped} dropped"
        )
    for before, after in zip(report["stages"], report["stages"][1:], strict=False):
        if before["documents_out"] != after["documents_in"]:
            raise ValueError(f"documents got lost between {before['stage']} and {after['stage']}")


# For people -----------------------------------------------------------------------------------


def stage_rows(report: Record) -> list[list[str]]:
    head = ["stage", "documents in", "dropped", "documents out", "tokens out", "main reasons"]
    rows = [head]
    for stage in report["stages"]:
        gone = stage["documents_in"] - stage["documents_out"]
        reasons = list(stage["reasons"].items())
        text = ", ".join(f"{name} {count:,}" for name, count in reasons[:3])
        more = f", {len(reasons) - 3} more" if len(reasons) > 3 else ""
        rows.append(
            [
                stage["stage"],
                f"{stage['documents_in']:,}",
                f"{gone:,}",
                f"{stage['documents_out']:,}",
                human_count(stage["tokens_out"]),
                text + more,
            ]
        )
    return rows


def table(report: Record) -> str:
    """Return the stages as a table for the terminal, and the totals."""
    rows = stage_rows(report)
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in range(1, 5)), row[5]]
        )
        for row in rows
    ]
    return "\n".join([*lines, "", totals(report)])


def totals(report: Record) -> str:
    kept = report["tokens_out"] / max(report["tokens_in"], 1)
    return (
        f"{report['rows_in']:,} records in = {report['rows_out']:,} documents out + "
        f"{report['rows_in'] - report['rows_out']:,} dropped; "
        f"{human_count(report['tokens_in'])} tokens in, {human_count(report['tokens_out'])} out "
        f"({kept:.0%})"
    )


def render(report: Record) -> str:
    """Return the page."""
    body = [
        heading("Curation", 1),
        paragraph(totals(report)),
        html_table([row[:-1] for row in stage_rows(report)]),  # reasons follow below, with samples
        *_section("By source and licence", _group_rows(report)),
        *_section("Languages found", _pairs(report["languages"], "language", "documents")),
        *_duplicates(report),
        *_section(
            "Personal data replaced", _pairs(report["pii"], "type", "replaced"),
            "Names, postal addresses and dates of birth are not looked for.",
        ),
        *_section(
            "Contamination", _pairs(report["contamination"], "benchmark", "documents dropped"),
            "A document that shares words with two benchmarks counts for both.",
        ),
        heading("What was dropped, with samples"),
        paragraph("Samples are as the stage saw them, so they may offend or hold personal data."),
        *(_samples(stage) for stage in report["stages"] if stage["reasons"]),
    ]  # fmt: skip
    return page("Curation report", body)


def _section(title: str, rows: list[list[str]], note: str = "") -> list[str]:
    if len(rows) < 2:
        return []
    return [heading(title), *([paragraph(note, "soft")] if note else []), html_table(rows)]


def _pairs(counts: dict[str, int], name: str, number: str) -> list[list[str]]:
    return [[name, number], *([key, f"{count:,}"] for key, count in counts.items())]


def _group_rows(report: Record) -> list[list[str]]:
    head = ["source", "licence", "documents in", "out", "tokens in", "out"]
    return [
        head,
        *(
            [
                row["source"],
                row["licence"] or "not stated",
                f"{row['documents_in']:,}",
                f"{row['documents_out']:,}",
                human_count(row["tokens_in"]),
                human_count(row["tokens_out"]),
            ]
            for row in report["groups"]
        ),
    ]


def _duplicates(report: Record) -> list[str]:
    found = report["duplicate_clusters"]
    if not found["clusters"]:
        return []
    text = f"{found['clusters']:,} clusters of {found['documents']:,} documents; one of each stays."
    rows = [["documents in the cluster", "clusters"]]
    rows += [[size, f"{count:,}"] for size, count in found["by_size"].items()]
    return [heading("Near duplicates"), paragraph(text), html_table(rows)]


def _samples(stage: Record) -> str:
    parts = [heading(stage["stage"], 3)]
    for reason, count in stage["reasons"].items():
        samples = stage["samples"].get(reason, [])
        items = [f"{s['where']}: {s['text']}" if s["text"] else s["where"] for s in samples]
        summary = f"<summary>{escape(reason)}: {count:,}</summary>"
        parts.append(f"<details>{summary}{bullets(items, 'soft')}</details>")
    return "\n".join(parts)
