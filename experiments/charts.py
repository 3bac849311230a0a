"""Charts of a report: a Plotly figure as plain data, its caption, and its numbers as table and CSV.

Traces and layout are what plotly.js reads. A colour written "var:ink" is a variable of the page's
style and follows its theme. All text of runs, models and files goes through `text`: plotly.js takes
<b> and <a> in its labels for markup.
"""

import base64
import csv
import io
import json
import math
from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from data import page as html
from data.files import human_count
from experiments.style import tick_values

SHOWN = 60  # rows of a chart's table; the CSV has all
HEIGHT = 420  # pixels
LINE, ACCENT, SOFT, INK = "var:line-a", "var:accent", "var:soft", "var:ink"


class Chart(NamedTuple):
    """A figure that a reader can point at."""

    name: str  # of its CSV file; letters, digits and dashes
    title: str
    caption: str
    traces: list[dict[str, Any]]
    layout: dict[str, Any]
    rows: list[list[Any]]  # its numbers, header first


Part = str | Chart  # of a chapter: HTML by data.page, or a chart


def text(value: object) -> str:
    """Any text as a label that plotly.js shows as it is."""
    return escape(str(value))


def axis(title: str, log: bool = False, **more: Any) -> dict[str, Any]:
    """An axis; `COUNTS` labels a logarithmic one as 1k, 1M, 1B."""
    found: dict[str, Any] = {"title": {"text": title}}
    if log:
        found |= {"type": "log", "exponentformat": "power", "dtick": 1}
    return found | more


COUNTS = {"exponentformat": "B", "minexponent": 3}  # 1k, 1M, 1B, 1T


def few_ticks(low: float, high: float) -> dict[str, Any]:
    """Ticks of a logarithmic axis of a decade or two."""
    values = tick_values(low, high)
    return {"tickvals": values, "ticktext": [human_count(v).replace(".0", "") for v in values]}


def shades(count: int) -> list[str]:
    """Ordered colours that are legible on white and on dark grey."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(matplotlib.colormaps["viridis"](x)) for x in np.linspace(0.3, 0.85, count)]


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    """The area between two curves, as one closed line: a trace without hover."""
    return {
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "mode": "lines",
        "line": {"width": 0},
        "fillcolor": "var:band",
        "hoverinfo": "skip",
        "showlegend": False,
    }


def points(x: Sequence[float], y: Sequence[float], hover: Sequence[str], **more: Any) -> dict:
    """Markers with a text each, which the caller has made with `text`."""
    return {"x": list(x), "y": list(y), "mode": "markers", "hovertext": list(hover),
            "hoverinfo": "text"} | more  # fmt: skip


def csv_text(rows: list[list[Any]]) -> str:
    """Rows as CSV; a cell that a spreadsheet would run as a formula is kept as text by a quote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    for row in rows:
        writer.writerow([_inert(cell) for cell in row])
    return out.getvalue()


def _inert(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@") else cell


def data_json(value: Any) -> str:
    """JSON that may stand inside a script element: no <, and no number that JSON lacks."""
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).replace(
        "<", "\\u003c"
    )


def _finite(value: Any) -> Any:
    """Plain data with short floats, infinities and NaN as null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [_finite(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def render(chart: Chart, ident: str) -> str:
    """The chart as HTML: a place for the plot, its caption, its table and its CSV."""
    rows = chart.rows
    encoded = base64.b64encode(csv_text(rows).encode()).decode()
    more = f", the first {SHOWN} of {len(rows) - 1:,} rows" if len(rows) > SHOWN + 1 else ""
    cells = [[_cell(c) for c in row] for row in rows[: SHOWN + 1]]
    label = escape(f"{chart.title}. {chart.caption} Its numbers are in the table that follows.")
    height = chart.layout.get("height", HEIGHT)
    figure = data_json({"data": chart.traces, "layout": chart.layout})
    return (
        f'<figure class="chart"><h3>{escape(chart.title)}</h3>'
        f'<div class="plot" id="{ident}" style="height:{height}px" role="img" '
        f'aria-label="{label}"></div>'
        f'<script type="application/json" data-for="{ident}">{figure}</script>'
        f"<figcaption>{escape(chart.caption)}</figcaption>"
        f'<p class="data"><a download="{escape(chart.name)}.csv" '
        f'href="data:text/csv;charset=utf-8;base64,{encoded}">'
        f'Data as CSV<span class="hidden">: {escape(chart.title)}</span></a></p>'
        f"<details><summary>Data as a table{more}</summary>{html.table(cells)}</details></figure>"
    )


def _cell(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
