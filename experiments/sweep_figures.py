"""The figures of a sweep's report: drawn from its run records and its fitted law alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np

from data.files import human_count
from experiments.checks import RateCheck
from experiments.known_models import MODELS
from experiments.laws import Law, mean_loss
from experiments.records import Record
from experiments.style import (
    ACCENT,
    FRONTIER,
    GRID,
    HALO,
    INK,
    SOFT,
    STYLE,
    Label,
    counts,
    few_ticks,
    flops,
    label_apart,
    shades,
)

FURTHEST = 1e26  # FLOPs up to which frontiers are drawn


class Figure(NamedTuple):
    """A file under figures/, and what it shows."""

    name: str
    caption: str


def draw(
    folder: Path, records: list[Record], law: Law | None, checks: list[RateCheck]
) -> list[Figure]:
    """Draws all figures that the records allow into folder/figures, and returns them in order."""
    target = folder / "figures"
    target.mkdir(parents=True, exist_ok=True)
    drawn: list[Figure] = []

    def save(name: str, caption: str, plot: Callable[..., Any], *args: Any) -> None:
        with plt.rc_context(STYLE):
            figure = plot(*args)
            figure.savefig(target / f"{name}.png", bbox_inches="tight")
            plt.close(figure)
        drawn.append(Figure(name, caption))

    if law:
        save("isoflop", ISOFLOP, isoflop, records, law)
        save("frontier", FRONTIERS, frontier, law)
        save("surface", SURFACE, surface, records, law)
        save("predicted", PREDICTED, predicted, records, law)
    save("curves", CURVES, curves, records)
    if checks:
        save("learning_rate", RATES, learning_rates, checks)
    return drawn


ISOFLOP = (
    "IsoFLOP curves: final validation loss against model size at fixed compute, with the parabola "
    "of each budget (dashed: no minimum among its models) and its minimum (diamond). The run "
    "held out of the fit (star) is shown with the law's 90% prediction interval."
)
FRONTIERS = (
    "Compute-optimal parameters N* and tokens D* against compute, with 90% bands; diamonds are the "
    "isoFLOP minima, dots are published models. Right of the dotted line the law is extrapolated."
)
SURFACE = (
    "Loss surface of the fitted law with the sweep's runs, the compute-optimal frontier and "
    "well-known models. All that is outside the box is extrapolated from very small models."
)
PREDICTED = (
    "Loss predicted by the law against the loss observed, and the residuals. The run held out of "
    "the fit (star) is shown with its 90% prediction interval."
)
CURVES = (
    "Training loss of each model: one trunk on the plateau of its learning rate, and a cooldown "
    "branched from it for every number of tokens."
)
RATES = (
    "Learning-rate check: loss at other rates, relative to the sweep's own, for the smallest and "
    "the largest model. Within the grey band a difference is no more than seed noise."
)


def grid_runs(records: list[Record]) -> list[Record]:
    """The runs of the fit: at the sweep's rate, not held out."""
    return [r for r in records if r["lr_factor"] == 1 and not r["held_out"]]


def isoflop(records: list[Record], law: Law) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(7.2, 4.8))
    runs = grid_runs(records)
    budgets = sorted({r["budget"] for r in runs})
    minima = law.isoflop.minima if law.isoflop else ()
    for budget, colour in zip(budgets, shades(len(budgets)), strict=True):
        of = sorted((r for r in runs if r["budget"] == budget), key=lambda r: r["N"])
        N, loss = np.array([r["N"] for r in of]), np.array([r["loss"] for r in of])
        ax.plot(N, loss, "o", color=colour, ms=5, zorder=3)
        near = [m for m in minima if abs(math.log(m.C / budget)) < 0.05]
        for m in near:
            x = np.geomspace(N.min() * 0.93, N.max() * 1.07, 80)
            y = np.polyval(m.coefficients, np.log(x))
            ax.plot(x, y, "--" if m.problem else "-", color=colour, lw=1.5)
            if not m.problem:
                ax.plot(m.N, m.loss, "D", color=colour, mec="white", mew=1.2, ms=9, zorder=4)
        ax.annotate(
            f"{flops(budget)} FLOPs", (N[0], loss[0]), (-8, 2), textcoords="offset points",
            ha="right", va="center", color=colour, fontsize=9,
        )  # fmt: skip
    for score in law.holdout:
        low, high = score["interval"]
        error = [[max(score["predicted"] - low, 0)], [max(high - score["predicted"], 0)]]
        ax.errorbar(
            score["N"], score["predicted"], error, color=ACCENT, capsize=4, lw=1.3, zorder=3
        )
        ax.plot(score["N"], score["loss"], "*", color=ACCENT, ms=13, mec="white", zorder=5)
        ax.annotate(
            f"held out: {flops(score['C'])} FLOPs", (score["N"], score["loss"]), (-10, 0),
            textcoords="offset points", color=ACCENT, fontsize=9, va="center", ha="right",
        )  # fmt: skip
    ax.set_xscale("log")
    low, high = min(r["N"] for r in records), max(r["N"] for r in records)
    ax.set_xlim(low / 2.1, high * 1.5)
    few_ticks(ax.xaxis, low / 2.1, high * 1.5)
    ax.set(xlabel="parameters N (total)", ylabel="validation loss (nats/token)")
    ax.set_title("Loss against model size at fixed compute")
    return figure


def frontier(law: Law) -> plt.Figure:
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.3), layout="constrained")
    start, end = law.data["C"]
    C = np.geomspace(start / 2, FURTHEST, 60)
    optima = [law.optimal(float(c)) for c in C]
    minima = [m for m in (law.isoflop.minima if law.isoflop else ()) if not m.problem]
    for ax, key, name in ((axes[0], "N", "parameters N*"), (axes[1], "D", "tokens D*")):
        of = [getattr(o, key) for o in optima]
        ax.fill_between(
            C, [i.low for i in of], [i.high for i in of], color=FRONTIER, alpha=0.18, lw=0
        )
        ax.plot(C, [i.value for i in of], color=FRONTIER, lw=1.8)
        ax.plot(
            [m.C for m in minima], [getattr(m, key) for m in minima], "D", color=FRONTIER,
            mec="white", ms=6,
        )  # fmt: skip
        ax.axvline(end, color=SOFT, ls=":", lw=1.2)
        for m in known():
            ax.plot(m.C, getattr(m, key), "o", color=ACCENT, ms=4)
        ax.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)", ylabel=name)
        ax.set_xlim(start / 2, FURTHEST)
        counts(ax.yaxis)
        most = max([getattr(m, key) for m in known()] + [of[-1].value])
        ax.set_ylim(of[0].value / 30, most * 3000)
        ax.annotate(
            "largest run\nof the fit", (end, ax.get_ylim()[1]), (4, -3),
            textcoords="offset points", va="top", fontsize=8, color=SOFT,
        )  # fmt: skip
        label_apart(ax, [Label(m.C, getattr(m, key), m.name) for m in known()], 0.7)
        low, high = law.intervals["a" if key == "N" else "b"]
        ax.set_title(f"{key}* grows as C to the {low:.2f}-{high:.2f} (90%)")
    return figure


class Known(NamedTuple):
    """A published model."""

    name: str
    N: float
    D: float
    C: float


SHOWN = ("GPT-3", "Chinchilla", "Llama 2 70B", "Llama 3 405B", "PaLM 540B", "Gopher")


def known() -> list[Known]:
    """The published models that figures show, from the smallest compute."""
    models = [Known(m.name, m.N, m.D, 6 * m.N * m.D) for m in MODELS if m.name in SHOWN]
    return sorted(models, key=lambda m: m.C)


def surface(records: list[Record], law: Law) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(7.6, 5.4), layout="constrained")
    runs = grid_runs(records)
    N = np.geomspace(min(r["N"] for r in runs) / 3, 3e12, 220)
    D = np.geomspace(min(r["D"] for r in runs) / 3, 1e14, 220)
    loss = mean_loss(law.theta, np.log(N)[None, :], np.log(D)[:, None])  # [D, N]
    top = float(np.quantile([r["loss"] for r in runs], 1.0))
    # Levels are even in the logarithm of what is above E: far from the data the surface is flat.
    floor = law.params["E"]
    levels = floor + np.geomspace(loss.min() - floor, top - floor, 22)
    filled = ax.contourf(N, D, loss, levels=levels, cmap="YlGnBu", extend="max")
    ax.contour(N, D, loss, levels=levels, colors="white", linewidths=0.5, alpha=0.8)
    bar = figure.colorbar(filled, ax=ax, pad=0.02, format="%.2f")
    bar.set_label("predicted loss (nats/token)")
    bar.outline.set_visible(False)
    C = np.geomspace(law.data["C"][0] / 3, 3e26, 60)
    optima = [law.optimal(float(c)) for c in C]
    line = [o.N.value for o in optima], [o.D.value for o in optima]
    ax.plot(*line, color=INK, lw=2)
    ax.plot(
        [r["N"] for r in runs], [r["D"] for r in runs], "o", color="white", ms=3, mec=INK, mew=0.5
    )
    box = [f(r[k] for r in runs) for k in ("N", "D") for f in (min, max)]
    x = [box[0] / 1.5, box[1] * 1.5]
    y = [box[2] / 1.5, box[3] * 1.5]
    ax.plot([x[0], x[1], x[1], x[0], x[0]], [y[0], y[0], y[1], y[1], y[0]], color=INK, lw=1)
    ax.annotate(
        "the sweep's runs", (x[1], y[0]), (5, 3), textcoords="offset points", fontsize=8.5,
        path_effects=HALO,
    )  # fmt: skip
    for m in known():
        ax.plot(m.N, m.D, "o", color=ACCENT, mec="white", ms=6)
    ax.set(xscale="log", yscale="log", xlabel="parameters N", ylabel="tokens D")
    ax.set_xlim(N[0], N[-1])
    ax.set_ylim(D[0], D[-1])
    label_apart(ax, [Label(m.N, m.D, m.name) for m in known()], 0.7)
    middle = len(C) // 2
    ax.annotate(
        "compute-optimal", (line[0][middle], line[1][middle]), (-10, 10),
        textcoords="offset points", color=INK, fontsize=9, ha="right", path_effects=HALO,
    )  # fmt: skip
    counts(ax.xaxis)
    counts(ax.yaxis)
    ax.grid(False)
    ax.set_title("Loss surface of the fitted law")
    return figure


def predicted(records: list[Record], law: Law) -> plt.Figure:
    figure, (ax, rest) = plt.subplots(
        1, 2, figsize=(10, 4.3), layout="constrained", width_ratios=(1, 1.15)
    )
    runs = grid_runs(records)
    observed = np.array([r["loss"] for r in runs])
    expected = np.array([law.predict(r["N"], r["D"]).value for r in runs])
    held = law.holdout
    everything = np.r_[observed, expected, [s["loss"] for s in held]]
    ends = np.array([everything.min() - 0.03, everything.max() + 0.03])
    ax.plot(ends, ends, color=SOFT, lw=1)
    ax.plot(expected, observed, "o", color=FRONTIER, ms=5, alpha=0.8)
    ax.set(xlabel="predicted loss (nats/token)", ylabel="observed loss (nats/token)")
    ax.set_aspect("equal")
    ax.set_title("Predicted against observed")
    size = np.array([r["C"] for r in runs])
    rest.axhline(0, color=SOFT, lw=1)
    rest.plot(size, 100 * (observed / expected - 1), "o", color=FRONTIER, ms=5, alpha=0.8)
    for s in held:
        low, high = (100 * (v / s["predicted"] - 1) for v in s["interval"])
        rest.errorbar(s["C"], 0, [[-low], [high]], color=ACCENT, capsize=4, lw=1.3)
        rest.plot(
            s["C"], 100 * (s["loss"] / s["predicted"] - 1), "*", color=ACCENT, ms=13, mec="white"
        )
        rest.annotate(
            "held out,\n90% interval", (s["C"], 0), (-8, 12), textcoords="offset points",
            ha="right", color=ACCENT, fontsize=9,
        )  # fmt: skip
        ax.plot(s["predicted"], s["loss"], "*", color=ACCENT, ms=13, mec="white")
        ax.annotate(
            "held out", (s["predicted"], s["loss"]), (10, -4), textcoords="offset points",
            color=ACCENT, fontsize=9, va="top",
        )  # fmt: skip
    rest.set(xscale="log", xlabel="compute C (FLOPs)", ylabel="observed above predicted (%)")
    rest.set_title("Residuals")
    return figure


def curves(records: list[Record]) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(7.6, 4.8))
    own = [r for r in records if r["lr_factor"] == 1]
    first = min(r["seed"] for r in own)
    names = sorted({(r["N"], r["model"]) for r in own if r["seed"] == first})
    labels = []
    for (_, name), colour in zip(names, shades(len(names), "plasma"), strict=True):
        of = sorted((r for r in own if r["model"] == name and r["seed"] == first), key=_D)
        longest = of[-1]
        per_step = longest["D"] / longest["steps"]
        x, y = _curve(longest, per_step)
        ax.plot(x, y, color=colour, lw=1.5)
        for r in of:
            cut = np.array(r["curve"]["step"]) >= r["curve"]["decay_start"]
            bx, by = _curve(r, per_step)
            ax.plot(bx[cut], by[cut], color=colour, lw=1.0)
            ax.plot(r["D"], r["loss"], "o", color=colour, ms=4, mec="white", mew=0.6, zorder=4)
        text = f"{name}, {human_count(longest['N'])}"
        labels.append(Label(longest["D"], longest["loss"], text, colour))
    ax.set(xscale="log", xlabel="training tokens", ylabel="loss (nats/token)")
    most = max(r["D"] for r in own)
    start = min(r["D"] for r in own) / 6
    ax.set_xlim(start, most * 1.2)
    few_ticks(ax.xaxis, start, most * 1.2)
    losses = [v for r in own for s, v in zip(r["curve"]["step"], r["curve"]["loss"], strict=True)
              if s * r["D"] / r["steps"] >= start]  # fmt: skip
    ax.set_ylim(min(*losses, *(r["loss"] for r in own)) - 0.05, max(losses) + 0.05)
    label_apart(ax, labels, 1.03, "left")
    ax.set_title("Trunks and their cooldowns (dots: validation loss)")
    return figure


def _D(record: Record) -> float:
    return record["D"]


def _curve(record: Record, per_step: float) -> tuple[np.ndarray, np.ndarray]:
    return np.array(record["curve"]["step"]) * per_step, np.array(record["curve"]["loss"])


def learning_rates(checks: list[RateCheck]) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    noise = checks[0].noise.difference
    ax.axhspan(-noise, noise, color=GRID, zorder=0)
    for check, colour in zip(checks, shades(len(checks)), strict=True):
        x = list(check.losses)
        y = [check.losses[f] - check.losses[1.0] for f in x]
        ax.plot(
            x, y, "o-", color=colour, ms=6, label=f"{check.model}, {human_count(check.D)} tokens"
        )
    factors = sorted({f for c in checks for f in c.losses})
    ax.set_xscale("log", base=2)
    ax.set_xticks(factors, [f"{f:g}x" for f in factors])
    ax.minorticks_off()
    ax.set(
        xlabel="learning rate, relative to the sweep's",
        ylabel="loss above the sweep's (nats/token)",
    )
    ax.legend()
    ax.set_title("Learning-rate check (grey: seed noise)")
    return figure
