"""What a report shows of a fitted law alone: surface, frontier, compute slider, inference."""

import math
from html import escape
from typing import Any

import numpy as np

from data import page as html
from data.errors import UserError
from data.files import human_count
from experiments.charts import (
    ACCENT,
    COUNTS,
    LINE,
    SOFT,
    Chart,
    Part,
    axis,
    band,
    data_json,
    points,
    text,
)
from experiments.frontier import cells, frontier
from experiments.inference import for_inference
from experiments.known_models import MODELS, KnownModel
from experiments.laws import Interval, Law, Optimum, mean_loss
from experiments.records import Record
from lm.chips import CHIPS

PER_DECADE = 10  # stops of the slider
FURTHEST = 27  # decades of FLOPs
STATE_BYTES = 16  # a parameter in training: weights, gradient and two moments in float32
LEVELS = 22
GOALS = (1e21, 1e22, 1e23, 1e24)  # FLOPs, a button each


def law_parts(law: Law, records: list[Record]) -> list[Part]:
    """Everything that follows from a law; `records` are the runs it was fitted on, if there."""
    optima = frontier(law, stops(law))
    return [
        html.heading("What a budget buys", 3),
        slider(law, optima),
        surface(law, optima, records),
        frontier_chart(law, optima, "N"),
        frontier_chart(law, optima, "D"),
        html.heading("Trained longer, because it will be used", 3),
        *inference_parts(law),
    ]


def stops(law: Law) -> list[float]:
    """Budgets from below the law's data to 1e27 FLOPs; 1e21 and the largest run's are exact."""
    first = math.floor(math.log10(law.data["C"][0]) * PER_DECADE)
    even = [
        float(f"1e{k // PER_DECADE}") if k % PER_DECADE == 0 else 10 ** (k / PER_DECADE)
        for k in range(first, FURTHEST * PER_DECADE + 1)
    ]
    return sorted({*even, law.data["C"][1]})


# The slider -----------------------------------------------------------------------------------

READINGS = ("N*", "D*", "D/N", "loss")


def slider(law: Law, optima: list[Optimum]) -> str:
    """A slider whose readings are those of experiments.frontier, and what a budget costs."""
    data = {
        "stops": [{"C": o.C, "cells": cells(o), "N": [*o.N]} for o in optima],
        "chips": {k: c._asdict() for k, c in CHIPS.items()},
        "stateBytes": STATE_BYTES,
    }
    largest = law.data["C"][1]
    start = next(i for i, o in enumerate(optima) if largest == o.C)
    goals = "".join(
        f'<button type="button" data-go="{C!r}">{C:.3g}</button>' for C in (largest, *GOALS)
    )
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td><output data-read="{name}"></output></td>'
        f'<td><output data-read="{name} interval"></output></td></tr>'
        for name in (*READINGS, "chips to hold it", "weeks", "dollars")
    )
    chips = "".join(f'<option value="{escape(c)}">{escape(c)}</option>' for c in CHIPS)
    return (
        '<div class="slider" role="group" aria-label="Compute slider">'
        f'<script type="application/json">{data_json(data)}</script>'
        '<p class="compute"><output data-read="C"></output> FLOPs</p>'
        '<label class="compute">Training compute'
        f'<input type="range" data-set="stop" min="0" max="{len(optima) - 1}" value="{start}" '
        'aria-valuetext=""></label>'
        f'<div class="goals">{goals}</div><div class="fields">'
        f'<label>chip<select data-set="chip">{chips}</select></label>'
        '<label>how many<input data-set="count" type="number" min="1" value="64"></label>'
        '<label>MFU, %<input data-set="mfu" type="number" min="1" max="100" value="40"></label>'
        '<label>$ a chip-hour<input data-set="price" type="number" min="0" step="0.01"></label>'
        '</div><div class="wide"><table><thead><tr><th scope="col">compute-optimal</th>'
        f'<th scope="col">value</th><th scope="col">{law.level:.0%} interval</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        '<p class="soft" data-read="beyond" aria-live="polite"></p>'
        f'<p class="soft">N* to loss are what experiments.frontier gives for this budget. Chips to '
        f"hold it: {STATE_BYTES} bytes a parameter (float32 weights, gradient, two moments) over "
        "the chip's memory, activations not counted; its interval is that of N*. Weeks and "
        "dollars follow from the budget, so the law adds no doubt to them: their interval is "
        "the MFU given, 10 points more or less.</p></div>"
    )


# Charts ---------------------------------------------------------------------------------------


def surface(law: Law, optima: list[Optimum], records: list[Record]) -> Chart:
    """Predicted loss over N and D, with runs, frontier and published models."""
    (n0, n1), (d0, d1) = law.data["N"], law.data["D"]
    N, D = np.geomspace(n0 / 3, 2e13, 70), np.geomspace(d0 / 3, 1e14, 70)
    loss = mean_loss(law.theta, np.log(N)[None, :], np.log(D)[:, None])  # [D, N]
    floor = law.params["E"]
    top = float(mean_loss(law.theta, np.log(n0), np.log(d0)))
    # Colours are even in the logarithm of what is above E: far from the data the surface is flat.
    height = np.log10(np.clip(loss, None, top) - floor)
    ticks = np.linspace(height.min(), height.max(), 6)
    contour = {
        "type": "contour", "x": N, "y": D, "z": height, "text": [[f"{v:.4g}" for v in row]
        for row in loss], "hovertemplate": "N %{x:.3s}, D %{y:.3s}: loss %{text}<extra></extra>",
        "colorscale": "YlGnBu", "reversescale": True, "ncontours": LEVELS, "line": {"width": 0.4},
        "showlegend": False, "colorbar": {
            "title": {"text": "loss"}, "tickvals": ticks, "thickness": 12,
            "ticktext": [f"{10**t + floor:.3g}" for t in ticks],
        },
    }  # fmt: skip
    models = sorted(MODELS, key=lambda m: m.N * m.D)
    expected = [law.predict(m.N, m.D) for m in models]
    known = points(
        [m.N for m in models], [m.D for m in models],
        [f"<b>{text(m.name)}</b><br>N {human_count(m.N)}, D {human_count(m.D)}, "
         f"D/N {m.D / m.N:.1f}<br>C {6 * m.N * m.D:.2e} FLOPs<br>loss by this law {_range(i)}<br>"
         f"{text(m.source)}" for m, i in zip(models, expected, strict=True)],
        mode="markers+text", text=[text(m.name) for m in models], name="published models",
        textposition=[_side(m) for m in models],
        textfont={"color": "#1c2330", "size": 11},
        marker={"color": "#d1495b", "size": 9, "line": {"color": "white", "width": 1.5}},
    )  # fmt: skip
    line = {
        "x": [o.N.value for o in optima], "y": [o.D.value for o in optima], "mode": "lines",
        "line": {"color": "#1c2330", "width": 2}, "name": "compute-optimal",
        "hovertext": [f"{o.C:.3g} FLOPs: N* {human_count(o.N.value)}, D* {human_count(o.D.value)}"
                      for o in optima], "hoverinfo": "text",
    }  # fmt: skip
    box = {"type": "rect", "x0": n0 / 1.3, "x1": n1 * 1.3, "y0": d0 / 1.3, "y1": d1 * 1.3,
           "line": {"color": "#1c2330", "width": 1}}  # fmt: skip
    runs = points(
        [r["N"] for r in records], [r["D"] for r in records],
        [f"{text(r['model'])}: loss {r['loss']:.4f}" for r in records], name="runs",
        marker={"color": "white", "size": 5, "line": {"color": "#1c2330", "width": 0.7}},
    )  # fmt: skip
    rows: list[list[Any]] = [
        ["name", "N", "D", "D/N", "C", "loss by this law", "low", "high", "source"]
    ]
    rows += [[m.name, m.N, m.D, m.D / m.N, 6 * m.N * m.D, *i, m.source]
             for m, i in zip(models, expected, strict=True)]  # fmt: skip
    rows += [["compute-optimal", o.N.value, o.D.value, o.ratio.value, o.C, *o.loss, ""]
             for o in optima[::PER_DECADE]]  # fmt: skip
    return Chart(
        "surface",
        "Loss surface of the fitted law",
        "The line is the compute-optimal frontier, red dots are published models. The runs of the "
        "fit lie in the box; all outside it is extrapolated from them, and the intervals in the "
        "hover texts and the table say how far that can be trusted.",
        [contour, line, *([runs] if records else []), known],
        {
            "xaxis": axis("parameters N", True, **COUNTS, range=[*np.log10(N[[0, -1]])]),
            "yaxis": axis("tokens D", True, **COUNTS, range=[*np.log10(D[[0, -1]])]),
            "shapes": [box],
            "height": 520,
            "showlegend": False,
        },
        rows,
    )


def _side(model: KnownModel) -> str:
    """Where a model's name stands, away from the neighbours' points."""
    near = [m for m in MODELS if m is not model and abs(math.log10(m.N / model.N)) < 0.3
            and abs(math.log10(m.D / model.D)) < 0.3]  # fmt: skip
    if any(m.N > model.N for m in near):
        return "middle left"
    if any(m.D > model.D for m in near):
        return "bottom center"
    return "top center" if any(m.D < model.D for m in near) else "middle right"


def _range(i: Interval) -> str:
    return f"{i.value:.4g} ({i.low:.4g} to {i.high:.4g})"


def frontier_chart(law: Law, optima: list[Optimum], key: str) -> Chart:
    """N* or D* against compute, with its band, isoFLOP minima and published models."""
    what = {"N": "parameters N*", "D": "tokens D*"}[key]
    of = [getattr(o, key) for o in optima]
    C = [o.C for o in optima]
    minima = [m for m in (law.isoflop.minima if law.isoflop else ()) if not m.problem]
    traces = [
        band(C, [i.low for i in of], [i.high for i in of]),
        {
            "x": C, "y": [i.value for i in of], "mode": "lines", "line": {"color": LINE},
            "name": f"{key}* with {law.level:.0%} band", "hoverinfo": "text", "hovertext": [
                f"{c:.3g} FLOPs: {human_count(i.value)} ({human_count(i.low)} to "
                f"{human_count(i.high)})" for c, i in zip(C, of, strict=True)],
        },
        points(
            [m.C for m in minima], [getattr(m, key) for m in minima],
            [f"minimum at {m.C:.3g} FLOPs: {human_count(getattr(m, key))}" for m in minima],
            name="isoFLOP minima", marker={"symbol": "diamond", "size": 9, "color": LINE},
        ),
        points(
            [6 * m.N * m.D for m in MODELS], [getattr(m, key) for m in MODELS],
            [f"{text(m.name)}: {human_count(getattr(m, key))}, {6 * m.N * m.D:.2e} FLOPs"
             for m in MODELS],
            name="published models", marker={"color": ACCENT, "size": 7},
        ),
    ]  # fmt: skip
    edge = law.data["C"][1]
    wide = [math.log10(v) for i in of for v in i if 0 < v < math.inf]
    low, high = law.intervals["a" if key == "N" else "b"]
    return Chart(
        f"frontier-{key}",
        f"{key}* grows as C to the {low:.2f} to {high:.2f} ({law.level:.0%})",
        f"Compute-optimal {what} against training compute; right of the dotted line, the largest "
        "run of the fit, the law is extrapolated.",
        traces,
        {
            "xaxis": axis("training compute C (FLOPs)", True, dtick=2),
            "yaxis": axis(what, True, **COUNTS, range=[min(wide), min(max(wide), 17)]),
            "shapes": [{"type": "line", "x0": edge, "x1": edge, "yref": "paper", "y0": 0, "y1": 1,
                        "line": {"color": SOFT, "dash": "dot", "width": 1}}],
        },
        [["C", f"{key}*", "low", "high"], *([c, *i] for c, i in zip(C, of, strict=True))],
    )  # fmt: skip


def inference_parts(law: Law) -> list[Part]:
    """How far beyond D* a model that is to serve tokens should be trained."""
    like = law.optimal(law.data["C"][1])
    N, D = like.N.value, like.D.value
    served = [D * 10 ** (k / 2) for k in range(-2, 9)]
    try:
        found = [for_inference(law, N, T) for T in served]
    except UserError as e:
        return [html.paragraph(f"Not known from this law: {e}", "warn")]
    rows: list[list[Any]] = [["served", "served/D*", "N", "N low", "N high", "D", "D/N",
                              "saving", "saving low", "saving high"]]  # fmt: skip
    rows += [[T, T / D, *f["N"], f["D"].value, f["D"].value / f["N"].value, *f["saving"]]
             for T, f in zip(served, found, strict=True)]  # fmt: skip
    x = [T / D for T in served]
    saving = [f["saving"] for f in found]
    traces = [
        band(x, [100 * s.low for s in saving], [100 * s.high for s in saving]),
        {
            "x": x, "y": [100 * s.value for s in saving], "mode": "lines+markers",
            "line": {"color": LINE}, "name": "saving", "hoverinfo": "text", "hovertext": [
                f"served {human_count(T)} tokens: N {human_count(f['N'].value)}, "
                f"D/N {f['D'].value / f['N'].value:.1f}, saves {f['saving'].value:.1%} "
                f"({f['saving'].low:.1%} to {f['saving'].high:.1%})"
                for T, f in zip(served, found, strict=True)],
        },
    ]  # fmt: skip
    chart = Chart(
        "inference",
        "What a smaller model, trained longer, saves",
        f"Models as good as the compute-optimal one of {human_count(N)} parameters and "
        f"{human_count(D)} tokens (the largest budget of the fit): training and serving FLOPs "
        "saved by the cheapest of them, against the tokens it will serve (Sardana et al. 2024).",
        traces,
        {
            "xaxis": axis("tokens served, as multiples of D*", True),
            "yaxis": axis("FLOPs saved (%)", rangemode="tozero"),
            "showlegend": False,
        },
        rows,
    )
    pick = [0, 2, 4, 6, 8]
    table = [["tokens served", "N", f"{law.level:.0%}", "D", "D/N", "FLOPs saved",
              f"{law.level:.0%}"]]  # fmt: skip
    for i in pick:
        n, d, s = (found[i][k] for k in ("N", "D", "saving"))
        table.append([
            f"{human_count(served[i])} ({x[i]:g} D*)", human_count(n.value),
            f"{human_count(n.low)}-{human_count(n.high)}", human_count(d.value),
            f"{d.value / n.value:.1f}", f"{s.value:.1%}", f"{s.low:.1%} to {s.high:.1%}",
        ])  # fmt: skip
    return [chart, html.table(table)]


def known_rows(law: Law) -> list[list[str]]:
    """Published models beside the law's optimum for their compute: header first."""
    rows = [["model", "N", "D", "D/N", "C", "N* by this law", f"{law.level:.0%}"]]
    for m in MODELS:
        C = 6 * m.N * m.D
        best = law.optimal(C).N
        rows.append(
            [
                m.name,
                human_count(m.N),
                human_count(m.D),
                f"{m.D / m.N:.1f}",
                f"{C:.2e}",
                human_count(best.value),
                f"{human_count(best.low)}-{human_count(best.high)}",
            ]
        )
    return rows
