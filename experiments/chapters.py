"""The chapters of a report: what a folder holds, told by its files, as text, tables and charts.

A chapter is a function from a folder to parts: pieces of HTML made by data.page, and charts. To add
one, write the function and enter it in `KINDS` with a file that its folders have.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from data import curation_report, token_lab
from data import page as html
from data.errors import UserError
from experiments import outcome, study_chapters, sweep_charts
from experiments.charts import Chart, Part, axis, shades, text
from experiments.law_charts import known_rows, law_parts
from experiments.laws import FORMULA, Law
from experiments.sweep_figures import grid_runs


class Kind(NamedTuple):
    """What a folder may hold."""

    sign: str  # the folder holds it if this pattern finds a file
    title: str
    parts: Callable[[Path], list[Part]]


def chapters(folder: Path) -> list[tuple[str, list[Part]]]:
    """Titles and parts of all that a folder holds.

    Raises:
      UserError: it holds nothing that a report shows.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    found = [kind for kind in KINDS if next(iter(folder.glob(kind.sign)), None)]
    if any(kind.parts is sweep for kind in found):
        found = [kind for kind in found if kind.parts is not law_alone]
    if not found:
        signs = ", ".join(kind.sign for kind in KINDS)
        raise UserError(f"{folder} holds nothing that a report shows: it has none of {signs}")
    return [(kind.title, _safely(kind, folder)) for kind in found]


def _safely(kind: Kind, folder: Path) -> list[Part]:
    """The parts, or in their place why there are none: the rest of the report is shown."""
    try:
        return kind.parts(folder)
    except UserError as e:
        return [html.paragraph(f"Cannot be shown: {e}", "warn")]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as e:
        return [html.paragraph(f"{folder}: {kind.sign} is not what was expected ({e!r})", "warn")]


def sweep(folder: Path) -> list[Part]:
    """A sweep's folder: runs, law, curves."""
    found = outcome.find(folder)
    return sweep_parts(found)


def sweep_parts(found: outcome.Findings) -> list[Part]:
    """The parts of one sweep, finished or not."""
    records, law = found.records, found.law
    parts: list[Part] = [html.paragraph(outcome.cost_line(found))]
    parts += [html.paragraph(m, "warn") for m in outcome.gaps(found)]
    if found.missing:
        parts.append(html.bullets(outcome.missing_names(found), "warn"))
    if law:
        parts += [
            *law_table(law, found.optima),
            sweep_charts.isoflop(records, law),
            *law_parts(law, grid_runs(records)),
            sweep_charts.residuals(records, law),
        ]
    if any(r["lr_factor"] == 1 for r in records):
        parts.append(sweep_charts.curves(records))
    if found.checks:
        parts += [html.paragraph(str(c), "warn" if c.under_tuned else "") for c in found.checks]
        parts.append(sweep_charts.learning_rates(found.checks))
    parts += [html.heading("Runs", 3), html.table(outcome.run_rows(records))]
    if found.plan["text"]:
        parts += [html.heading("The plan", 3), html.preformatted(found.plan["text"])]
    return [
        *parts,
        html.heading("Tokenizer, data and how it was counted", 3),
        html.table(outcome.data_rows(records)),
        html.bullets(outcome.provenance(found), "soft"),
    ]


def law_table(law: Law, optima: list[Any]) -> list[Part]:
    """The law in figures: parameters, how it did beyond its data, warnings, optima."""
    from experiments.frontier import HEADER, cells
    from experiments.validation import findings

    parts: list[Part] = [html.heading("The law", 3), html.paragraph(FORMULA)]
    parts.append(html.table(outcome.law_rows(law)))
    parts += [html.paragraph(outcome.holdout_line(s)) for s in law.holdout]
    parts += [html.paragraph(line) for line in findings(law)]
    if law.warnings:
        parts.append(html.bullets([f"Warning: {w}" for w in law.warnings], "warn"))
    return [
        *parts,
        html.heading("Compute-optimal models", 3),
        html.table([HEADER, *map(cells, optima)]),
        html.paragraph(
            "'Beyond the data' is how many decades of compute a budget lies above the largest run "
            "of the fit. Far out, the intervals hold only as far as the law's form does.",
            "soft",
        ),
        html.heading("Published models beside it", 3),
        html.table(known_rows(law)),
    ]


def law_alone(folder: Path) -> list[Part]:
    """A law.json without its runs, as experiments.fit leaves it."""
    from experiments.frontier import frontier

    law = Law.load(folder / "law.json")
    optima = frontier(law, outcome.budgets_beyond(list(law.data["C"])))
    said = f"The runs are not here: law.json was fitted on {law.data['points']} of them."
    return [html.paragraph(said), *law_table(law, optima), *law_parts(law, [])]


def tokens(folder: Path) -> list[Part]:
    """What `data.tokenizer compare` leaves: tokens that tokenizers make of contents."""
    names = token_lab.Count._fields
    rows = json.loads((folder / "tokens.json").read_text("utf-8"))
    counts = [token_lab.Count(**{n: row[n] for n in names}) for row in rows]
    contents = list(dict.fromkeys(c.content for c in counts))
    tokenizers = list(dict.fromkeys(c.tokenizer for c in counts))
    traces = []
    for name, colour in zip(tokenizers, shades(len(tokenizers)), strict=True):
        of = {c.content: c.bytes_per_token for c in counts if c.tokenizer == name}
        traces.append({
            "type": "bar", "name": text(name), "x": [text(c) for c in contents],
            "y": [of.get(c) for c in contents], "marker": {"color": colour},
        })  # fmt: skip
    cells: list[list[Any]] = [[*names, "bytes_per_token"]]
    cells += [[*c, c.bytes_per_token] for c in counts]
    shown = [["tokenizer", "content", "tokens", "tokens/word", "bytes/token", "exact"]]
    shown += [
        [c.tokenizer, c.content, f"{c.tokens:,}", f"{c.tokens_per_word:.2f}",
         f"{c.bytes_per_token:.2f}", "yes" if c.exact else "no"] for c in counts
    ]  # fmt: skip
    layout = {"barmode": "group", "yaxis": axis("UTF-8 bytes per token (more is better)")}
    caption = "How much text a token holds: where the bar is higher, a text takes fewer tokens."
    chart = Chart("tokens", "Bytes per token by content", caption, traces, layout, cells)
    return [chart, html.table(shown)]


def curation(folder: Path) -> list[Part]:
    """What `make curate` leaves: how many documents each stage let through, and why."""
    report = json.loads((folder / "report.json").read_text("utf-8"))
    stages = report["stages"]
    rows: list[list[Any]] = [["stage", "documents in", "documents out", "tokens out"]]
    rows += [[s["stage"], s["documents_in"], s["documents_out"], s["tokens_out"]] for s in stages]
    bars = {
        "type": "bar", "orientation": "h", "y": [text(s["stage"]) for s in stages],
        "x": [s["documents_out"] for s in stages], "marker": {"color": "var:line-a"},
    }  # fmt: skip
    layout = {
        "xaxis": axis("documents left"),
        "yaxis": {"autorange": "reversed", "automargin": True},
        "showlegend": False,
        "height": 120 + 26 * len(stages),
    }
    said = (f"{report['rows_in']:,} documents in, {report['rows_out']:,} out; "
            f"{report['tokens_in']:,} tokens in, {report['tokens_out']:,} out.")  # fmt: skip
    chart = Chart("curation", "Documents left after each stage", said, [bars], layout, rows)
    return [html.paragraph(said), chart, html.table(curation_report.stage_rows(report))]


KINDS = (
    Kind("runs/*.json", "Sweep", sweep),
    Kind("law.json", "Law", law_alone),
    Kind("emergence.json", "What appears with scale", study_chapters.emergence),
    Kind("limits.json", "What pretraining does not do", study_chapters.limits),
    Kind("tokens.json", "Tokenizers", tokens),
    Kind("curation.json", "Data", curation),
)
