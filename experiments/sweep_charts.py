"""What a report shows of a sweep's runs: isoFLOP curves, residuals, training curves, rates."""

import math
from typing import Any

import numpy as np

from data.files import human_count
from experiments.charts import ACCENT, LINE, SOFT, Chart, axis, few_ticks, points, shades, text
from experiments.checks import RateCheck
from experiments.laws import Law
from experiments.records import Record
from experiments.sweep_figures import CURVES, ISOFLOP, RATES, grid_runs

POINTS = 150  # of a training curve that are drawn; its CSV has as many


def isoflop(records: list[Record], law: Law) -> Chart:
    """Loss against N at each budget, with the parabolas and the held-out run."""
    runs = grid_runs(records)
    budgets = sorted({r["budget"] for r in runs})
    minima = law.isoflop.minima if law.isoflop else ()
    traces: list[dict[str, Any]] = []
    for budget, colour in zip(budgets, shades(len(budgets)), strict=True):
        of = sorted((r for r in runs if r["budget"] == budget), key=lambda r: r["N"])
        group = {"legendgroup": f"{budget:g}"}
        traces.append(points(
            [r["N"] for r in of], [r["loss"] for r in of], [_hover(r) for r in of],
            name=f"{budget:.3g} FLOPs", marker={"color": colour, "size": 7}, **group,
        ))  # fmt: skip
        for m in (m for m in minima if abs(math.log(m.C / budget)) < 0.05):
            x = np.geomspace(of[0]["N"] * 0.93, of[-1]["N"] * 1.07, 40)
            dash = "dash" if m.problem else "solid"
            traces.append({
                "x": x, "y": np.polyval(m.coefficients, np.log(x)), "mode": "lines",
                "line": {"color": colour, "dash": dash, "width": 1.5}, "hoverinfo": "skip",
                "showlegend": False, **group,
            })  # fmt: skip
            if m.N is not None and m.loss is not None and not m.problem:
                traces.append(points(
                    [m.N], [m.loss], [f"minimum: N* {human_count(m.N)}, loss {m.loss:.4f}"],
                    marker={"color": colour, "size": 13, "symbol": "diamond",
                            "line": {"color": "var:card", "width": 1.5}},
                    showlegend=False, **group,
                ))  # fmt: skip
    for s in law.holdout:
        low, high = s["interval"]
        said = f"predicted {s['predicted']:.4f} ({low:.4f} to {high:.4f})"
        traces.append(points(
            [s["N"]], [s["predicted"]], [f"held out: {said}"], showlegend=False,
            marker={"color": ACCENT, "size": 4},
            error_y={"type": "data", "symmetric": False, "array": [high - s["predicted"]],
                     "arrayminus": [s["predicted"] - low], "color": ACCENT},
        ))  # fmt: skip
        traces.append(points(
            [s["N"]], [s["loss"]], [f"held out: loss {s['loss']:.4f}, {said}"], name="held out",
            marker={"color": ACCENT, "size": 13, "symbol": "star"},
        ))  # fmt: skip
    span = min(r["N"] for r in records) / 1.2, max(r["N"] for r in records) * 1.2
    names = ["model", "N", "D", "C", "budget", "seed", "held_out", "loss"]
    rows = [names, *([r[n] for n in names] for r in records if r["lr_factor"] == 1)]
    layout = {
        "xaxis": axis("parameters N (total)", True, **few_ticks(*span)),
        "yaxis": axis("validation loss (nats/token)"),
    }
    return Chart(
        "isoflop", "Loss against model size at fixed compute", ISOFLOP, traces, layout, rows
    )


def _hover(r: Record) -> str:
    return (
        f"<b>{text(r['model'])}</b>, seed {r['seed']}<br>N {human_count(r['N'])}, "
        f"D {human_count(r['D'])}, D/N {r['D'] / r['N']:.1f}<br>{r['C']:.2e} FLOPs<br>"
        f"loss {r['loss']:.4f}"
    )


def residuals(records: list[Record], law: Law) -> Chart:
    """How far runs lie from the law, against compute."""
    rows: list[list[Any]] = [["model", "C", "observed", "predicted", "percent", "held_out"]]
    for r in grid_runs(records):
        expected = law.predict(r["N"], r["D"]).value
        rows.append([r["model"], r["C"], r["loss"], expected, 100 * (r["loss"] / expected - 1), 0])
    traces = [points(
        [row[1] for row in rows[1:]], [row[4] for row in rows[1:]],
        [f"{text(row[0])}, {row[1]:.2e} FLOPs: observed {row[2]:.4f}, predicted {row[3]:.4f} "
         f"({row[4]:+.2f}%)" for row in rows[1:]],
        name="runs of the fit", marker={"color": LINE, "size": 7},
    )]  # fmt: skip
    for s in law.holdout:
        percent = 100 * (s["loss"] / s["predicted"] - 1)
        low, high = (100 * (v / s["predicted"] - 1) for v in s["interval"])
        rows.append([s["run_id"], s["C"], s["loss"], s["predicted"], percent, 1])
        traces.append(points(
            [s["C"]], [0], [f"{law.level:.0%} interval: {low:+.2f}% to {high:+.2f}%"],
            showlegend=False, marker={"color": ACCENT, "size": 4},
            error_y={"type": "data", "symmetric": False, "array": [high], "arrayminus": [-low],
                     "color": ACCENT},
        ))  # fmt: skip
        traces.append(points(
            [s["C"]], [percent], [f"held out: observed {s['loss']:.4f}, predicted "
            f"{s['predicted']:.4f} ({percent:+.2f}%)"], name="held out",
            marker={"color": ACCENT, "size": 13, "symbol": "star"},
        ))  # fmt: skip
    return Chart(
        "residuals",
        "How far the runs lie from the law",
        "Observed loss above the predicted one, in percent of it; the bar at a held-out run is "
        "its prediction interval.",
        traces,
        {
            "xaxis": axis("compute C (FLOPs)", True),
            "yaxis": axis("observed above predicted (%)", zeroline=True, zerolinecolor=SOFT),
        },
        rows,
    )


def curves(records: list[Record]) -> Chart:
    """Training curves of the first seed: a trunk for each model, its cooldowns, final losses."""
    own = [r for r in records if r["lr_factor"] == 1]
    first = min(r["seed"] for r in own)
    models = sorted({(r["N"], r["model"]) for r in own if r["seed"] == first})
    rows: list[list[Any]] = [["run_id", "model", "tokens", "training loss"]]
    traces: list[dict[str, Any]] = []
    for (N, name), colour in zip(models, shades(len(models)), strict=True):
        of = sorted(
            (r for r in own if r["model"] == name and r["seed"] == first), key=lambda r: r["D"]
        )
        x: list[float | None] = []
        y: list[float | None] = []
        for r in of:
            start = 0 if r is of[-1] else r["curve"]["decay_start"]
            tokens, loss = thinned(r, start)
            rows += [[r["run_id"], name, t, v] for t, v in zip(tokens, loss, strict=True)]
            x, y = [*x, *tokens, None], [*y, *loss, None]  # a gap between branches
        label = f"{text(name)}, {human_count(N)}"
        traces.append({
            "x": x, "y": y, "mode": "lines", "name": label, "legendgroup": text(name),
            "line": {"color": colour, "width": 1.3}, "hoverinfo": "skip",
        })  # fmt: skip
        traces.append(points(
            [r["D"] for r in of], [r["loss"] for r in of], [_hover(r) for r in of],
            marker={"color": colour, "size": 6}, showlegend=False, legendgroup=text(name),
        ))  # fmt: skip
    low, high = min(r["D"] for r in own) / 6, max(r["D"] for r in own) * 1.2
    late = [
        v for r in own for v in [*r["curve"]["loss"][len(r["curve"]["loss"]) // 8 :], r["loss"]]
    ]
    layout = {
        "xaxis": axis(
            "training tokens",
            True,
            range=[math.log10(low), math.log10(high)],
            **few_ticks(low, high),
        ),
        "yaxis": axis("loss (nats/token)", range=[min(late) - 0.05, max(late) + 0.05]),
    }
    return Chart("curves", "Trunks and their cooldowns", CURVES, traces, layout, rows)


def thinned(record: Record, start: int) -> tuple[list[float], list[float]]:
    """Tokens and training losses from a step on, a few of them, even in the logarithm."""
    step = np.array(record["curve"]["step"])
    loss = np.array(record["curve"]["loss"])
    step, loss = step[step >= start], loss[step >= start]
    if not len(step):
        return [], []
    even = np.geomspace(1, len(step), min(POINTS, len(step))).astype(int) - 1
    keep = np.unique(np.append(even, len(step) - 1))
    per_step = record["D"] / record["steps"]
    return (step[keep] * per_step).tolist(), loss[keep].tolist()


def learning_rates(checks: list[RateCheck]) -> Chart:
    """Loss at other learning rates, relative to the sweep's own."""
    noise = checks[0].noise.difference
    rows: list[list[Any]] = [["model", "D", "rate", "loss", "above the sweep's"]]
    traces = []
    for check, colour in zip(checks, shades(len(checks)), strict=True):
        own = [[check.model, check.D, f, v, v - check.losses[1.0]] for f, v in check.losses.items()]
        rows += own
        traces.append({
            "x": [row[2] for row in own], "y": [row[4] for row in own], "mode": "lines+markers",
            "name": f"{text(check.model)}, {human_count(check.D)} tokens",
            "line": {"color": colour},
        })  # fmt: skip
    factors = sorted({f for c in checks for f in c.losses})
    layout = {
        "xaxis": axis("learning rate, relative to the sweep's", True)
        | {"tickvals": factors, "ticktext": [f"{f:g}x" for f in factors]},
        "yaxis": axis("loss above the sweep's (nats/token)"),
        "shapes": [{"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": -noise, "y1": noise,
                    "fillcolor": "var:band", "line": {"width": 0}, "layer": "below"}],
    }  # fmt: skip
    return Chart("learning-rate", "Learning-rate check", RATES, traces, layout, rows)
