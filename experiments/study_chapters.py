"""Chapters of the report on what appears with scale, and on what pretraining does not do."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data import page as html
from data.files import human_count
from experiments.charts import ACCENT, Chart, Part, axis, shades, text

COLOURS = ("var:line-a", "#3a9d6e", "var:accent", "#b98a2f")


def bars(
    name: str, at: Iterable[Any], measured: Sequence[Sequence[float]], colour: str,
    across: bool = False, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Points with their intervals. measured: rows of value, low, high; across: values along x."""
    value = [m[0] for m in measured]
    x, y = (value, list(at)) if across else (list(at), value)
    error = {
        "type": "data", "symmetric": False, "color": colour, "thickness": 1,
        "array": [m[2] - m[0] for m in measured], "arrayminus": [m[0] - m[1] for m in measured],
    }  # fmt: skip
    return {
        "x": x, "y": y, "mode": "markers", "name": text(name), "hoverinfo": "text",
        "marker": {"color": colour, "size": 7}, "error_x" if across else "error_y": error,
        "hovertext": [f"{text(name)}: {m[0]:.3g} ({m[1]:.3g} to {m[2]:.3g})" for m in measured],
    } | more  # fmt: skip


# What appears with scale ------------------------------------------------------------------------


def emergence(folder: Path) -> list[Part]:
    """What `make emergence` leaves: verdicts, shares right against compute, measures compared."""
    from experiments.emergence_report import METRICS, read, verdict

    study = read(folder)
    found = json.loads((folder / "emergence.json").read_text("utf-8"))["cells"]
    cells = [cell for cell in study.cells if cell in found]
    parts: list[Part] = [html.paragraph(f"Missing: {m}.", "warn") for m in study.missing]
    rows = [["task, difficulty", "chance", "best share", "95%", "verdict"]]
    for cell in cells:
        best = found[cell]["best"]
        word = ("crossed" if found[cell]["crossed"] else "seen" if found[cell]["seen"]
                else "not seen at this scale")  # fmt: skip
        rows.append([cell, f"{found[cell]['chance']:.2g}", f"{best['share']:.2f}",
                     f"{best['low']:.2f} to {best['high']:.2f}", word])  # fmt: skip
    parts += [html.table(rows), html.bullets(verdict(c, found[c]) for c in cells)]
    parts += [abilities(study, tasks) for tasks in _by_task(cells).values()]
    rising = [cell for cell in cells if "sharpness" in found[cell]]
    parts += [measures(study, cell, METRICS) for cell in rising[:3]]
    return parts


def _by_task(cells: list[str]) -> dict[str, list[str]]:
    tasks: dict[str, list[str]] = {}
    for cell in cells:
        tasks.setdefault(cell.split()[0], []).append(cell)
    return tasks


def abilities(study: Any, cells: list[str]) -> Chart:
    """One task at its difficulties: share of right answers against compute."""
    from experiments.sharpness import wilson

    task = cells[0].split()[0]
    rows: list[list[Any]] = [["cell", "model", "seed", "N", "D", "C", "right", "asked", "chance",
                              "low", "high"]]  # fmt: skip
    traces, lines = [], []
    for cell, colour in zip(cells, shades(len(cells)), strict=True):
        right, asked = study.values(cell, "right"), study.values(cell, "asked")
        chance = study.values(cell, "chance")
        measured = [(r / n, *wilson(r, n)) for r, n in zip(right, asked, strict=True)]
        traces.append(bars(cell, study.column("C"), measured, colour))
        level = float(chance.mean())
        lines.append({
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level,
            "line": {"color": colour, "dash": "dot", "width": 1},
        })  # fmt: skip
        for r, ends, *counts in zip(study.records, measured, right, asked, chance, strict=True):
            known = [r["model"], r["seed"], r["N"], r["D"], r["C"]]
            rows.append([cell, *known, *map(float, (*counts, *ends[1:]))])
    layout = {
        "xaxis": axis("training compute C (FLOPs)", True),
        "yaxis": axis("share of answers right", range=[-0.03, 1.03]),
        "shapes": lines,
    }
    caption = (
        "Held-out instances answered exactly, with 95% intervals; dotted lines are chance. The "
        "number behind a name is its difficulty."
    )
    return Chart(f"ability-{task}", f"{task}: right answers against compute", caption, traces,
                 layout, rows)  # fmt: skip


def measures(study: Any, cell: str, metrics: Mapping[str, str]) -> Chart:
    """The same outputs under several measures, each brought to 0 to 1 over its own range."""
    rows: list[list[Any]] = [["measure", "C", "loss", "score", "standard error"]]
    traces = []
    for (metric, name), colour in zip(metrics.items(), COLOURS, strict=False):
        y, error = study.score(cell, metric)
        rows += [[name, *map(float, row)] for row in
                 zip(study.column("C"), study.column("loss"), y, error, strict=True)]  # fmt: skip
        base, span = float(y.min()), float(y.max() - y.min()) or 1.0
        ends = [(y + k * error - base) / span for k in (0, -1.96, 1.96)]
        traces.append(bars(name, study.column("loss"), np.stack(ends, 1).tolist(), colour))
    caption = (
        "Each measure is brought to 0 to 1 between its least and greatest value, so that shapes "
        "can be compared: what leaps under one measure alone is made by the measure (Schaeffer et "
        "al. 2023). Along the loss of text, better to the right (Du et al. 2024). 95% intervals."
    )
    layout = {
        "xaxis": axis("validation loss (nats/token)", autorange="reversed"),
        "yaxis": axis("score, of its own range"),
    }
    slug = cell.replace(" ", "-")
    return Chart(f"measures-{slug}", f"{cell}: the same outputs under four measures", caption,
                 traces, layout, rows)  # fmt: skip


# What pretraining does not do -------------------------------------------------------------------


def limits(folder: Path) -> list[Part]:
    """What `make limits` leaves: memorisation, requests, dialogue, toxic text, steadiness."""
    result = json.loads((folder / "limits.json").read_text("utf-8"))
    sizes = ", ".join(f"{human_count(n)} ({what})" for what, n in result["tokens"].items())
    parts: list[Part] = [
        html.paragraph(f"Asked: {result['model']}. Training tokens: {sizes}. 95% intervals."),
        html.bullets(result["verdict"]),
    ]
    memorised = result["memorised"]
    parts += [planted(memorised, what) for what in memorised["raw"]]
    if "base" in result:
        sides = {"base model": result["base"], "after fine-tune": result["tuned"]}
        parts += compared("behaviour", "The base model, and after a short fine-tune", sides)
    parts += compared("toxic", "Toxic continuations, by training text", result["toxic"])
    seen = result["classifier"]
    parts.append(html.paragraph(
        f"The classifier that counts them finds {seen['recall'][0]:.0%} of toxic texts "
        f"({seen['recall'][1]:.0%} to {seen['recall'][2]:.0%}) at "
        f"{seen['false_alarms'][0]:.1%} false alarms; area under its curve {seen['auc']:.2f}.",
        "soft",
    ))  # fmt: skip
    return parts


def planted(memorised: dict[str, Any], what: str) -> Chart:
    """One planted kind: what comes out against how often it stood in the text."""
    rows: list[list[Any]] = [["training text", "times", "value", "low", "high", "cases"]]
    traces = []
    for (name, found), colour in zip(memorised.items(), COLOURS, strict=False):
        x, values = list(found[what]), list(found[what].values())
        rows += [[name, int(times), *v[:4]] for times, v in zip(x, values, strict=True)]
        traces.append(bars(name, x, values, colour, mode="lines+markers"))
    bits = what == "exposure"
    layout = {
        "xaxis": axis("times in the training text", type="category"),
        "yaxis": axis("exposure (bits)" if bits else "share drawn out", rangemode="tozero"),
    }
    title = "Exposure of planted numbers" if bits else f"Drawn out verbatim: {what}"
    caption = "Against the number of times it stood in the text, by training text."
    slug = "".join(c if c.isalnum() else "-" for c in what)
    return Chart(f"planted-{slug}", title, caption, traces, layout, rows)


def compared(name: str, title: str, sides: Mapping[str, Mapping[str, Any]]) -> list[Part]:
    """Measurements of the same things on several sides, one below the other."""
    first = next(iter(sides.values()))
    everywhere = [k for k in first if all(k in side for side in sides.values())]
    things = [k for k in everywhere if isinstance(first[k], list)]
    rows: list[list[Any]] = [["what", "side", "value", "low", "high", "cases"]]
    rows += [[k, side, *found[k][:4]] for k in things for side, found in sides.items()]
    traces = []
    for (side, found), colour in zip(sides.items(), (COLOURS[0], ACCENT), strict=False):
        of = [found[k] for k in things]
        traces.append(bars(side, map(text, things), of, colour, across=True))
    layout = {
        "xaxis": axis("value, with its 95% interval"),
        "yaxis": {"autorange": "reversed", "automargin": True},
        "height": 160 + 26 * len(things),
    }
    caption = "Shares are from 0 to 1; what is counted otherwise has its unit in its name."
    return [Chart(name, title, caption, traces, layout, rows)]
