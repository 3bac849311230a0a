"""Figures of what appears with scale: shares against compute, measures, steps, loss by position."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from data.files import human_count
from experiments.abilities import REPEATED, TASKS
from experiments.sharpness import fit, wilson
from experiments.style import ACCENT, FRONTIER, INK, SOFT, STYLE, shades

if TYPE_CHECKING:
    from experiments.emergence_report import Study

DASHES = {"C": "training FLOPs", "loss": "loss of text (nats / token), falling"}


def save(folder: Path, study: "Study", results: dict[str, dict[str, Any]]) -> None:
    """Draws whatever the answers allow."""
    drawn: dict[str, Callable[[], plt.Figure]] = {"abilities": lambda: abilities(study, results)}
    rising = [cell for cell, found in results.items() if "sharpness" in found]
    if rising:
        cell = max(rising, key=lambda c: results[c]["best"]["share"])
        drawn["measures"] = lambda: measures(study, cell, results[cell])
    drawn["steps"] = lambda: steps(study, results)
    if any(c.startswith("induction") for c in results):
        drawn["positions"] = lambda: positions(study)
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        for name, plot in drawn.items():
            figure = plot()
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
            plt.close(figure)


def abilities(study: "Study", results: dict[str, dict[str, Any]]) -> plt.Figure:
    """Each task at its middle difficulty: share right against compute, a colour a size."""
    of_task = {n: [c for c in results if c.split()[0] == n] for n in TASKS}
    cells = [some[len(some) // 2] for some in of_task.values() if some]
    columns = min(3, len(cells))
    figure, axes = plt.subplots(
        -(-len(cells) // columns), columns, figsize=(3.5 * columns, 5.6), sharex=True, sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    sizes = np.unique(study.column("N"))
    for ax, cell in zip(axes.flat, cells, strict=False):
        for N, colour in zip(sizes, shades(len(sizes)), strict=True):
            own = study.column("N") == N
            _shares(ax, study, cell, own, colour)
        found = results[cell]
        ax.axhline(found["chance"], color=ACCENT, lw=1, ls=":")
        word = "crossed" if found["crossed"] else "seen" if found["seen"] else "not seen"
        ax.set_title(f"{cell}: {word}", fontsize=10)
        ax.set(xscale="log", ylim=(-0.04, 1.06))
    for ax in axes.flat[len(cells) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("share right")
    for ax in axes[-1]:
        ax.set_xlabel("training FLOPs")
    handles = [
        plt.Line2D([], [], color=c, marker="o", ls="", label=f"{human_count(N)} parameters")
        for N, c in zip(sizes, shades(len(sizes)), strict=True)
    ]
    handles.append(plt.Line2D([], [], color=ACCENT, ls=":", label="chance"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    return figure


def _shares(ax: Any, study: "Study", cell: str, own: np.ndarray, colour: Any) -> None:
    right, asked = study.values(cell, "right")[own], study.values(cell, "asked")[own]
    ends = np.array([wilson(r, n) for r, n in zip(right, asked, strict=True)]).T
    y = right / asked
    C = study.column("C")[own]
    bars = np.maximum([y - ends[0], ends[1] - y], 0)
    ax.errorbar(C, y, bars, fmt="o", ms=4, color=colour, elinewidth=1, alpha=0.85)
    means = [(c, y[c == C].mean()) for c in np.unique(C)]
    ax.plot(*zip(*means, strict=True), color=colour, lw=1.1)


def measures(study: "Study", cell: str, found: dict[str, Any]) -> plt.Figure:
    """The same outputs under four measures, along compute and along loss, with fitted sigmoids."""
    from experiments.emergence_report import BLIND, METRICS, floor

    rows = [axis for axis in DASHES if axis in found["sharpness"]]
    figure, axes = plt.subplots(
        len(rows), len(METRICS), figsize=(12, 2.7 * len(rows) + 0.4), layout="constrained",
        squeeze=False,
    )  # fmt: skip
    for row, axis in zip(axes, rows, strict=True):
        for ax, (metric, name) in zip(row, METRICS.items(), strict=True):
            p = study.points(cell, metric, axis)
            ceiling = 0.0 if metric == "nats" else 1.0
            curve = fit(p.x, p.y[None], floor(study, cell, metric), ceiling)
            x = np.linspace(p.x.min(), p.x.max(), 200)
            real, fine = (-p.x, -x) if axis == "loss" else (10**p.x, 10**x)
            ax.errorbar(real, p.y, 1.96 * p.error, fmt="o", ms=3.5, color=FRONTIER, elinewidth=0.8)
            ax.plot(fine, curve.at(x)[0], color=ACCENT, lw=1.3)
            s = found["sharpness"][axis][metric]
            told = "sudden" if s["sudden"] else "smooth" if s["null_high"] < BLIND else "not told"
            numbers = f"{s['value']:.1f}, smooth to {s['null_high']:.1f}: {told}"
            ax.set_title(f"{name}\n{numbers}", fontsize=8.5)
            ax.set_xlabel(DASHES[axis], fontsize=8)
            if axis == "loss":
                ax.invert_xaxis()
            else:
                ax.set_xscale("log")
    figure.suptitle(
        f"{cell}: the same outputs under four measures (sharpness in each title)", fontsize=11
    )
    return figure


def steps(study: "Study", results: dict[str, dict[str, Any]]) -> plt.Figure:
    """Success rates of the steps multiplied, against the whole: a point a model and difficulty."""
    figure, ax = plt.subplots(figsize=(5.2, 4.8))
    ax.plot([0, 1], [0, 1], color=SOFT, lw=1, ls=":")
    names = [n for n in TASKS if any(c.split()[0] == n for c in results)]
    for name, colour in zip(names, shades(len(names), "plasma"), strict=True):
        x, y = [], []
        for cell, found in results.items():
            if cell.split()[0] == name and found["accumulation"]["steps"] > 1:
                x += found["accumulation"]["product"]
                y += (study.values(cell, "right") / study.values(cell, "asked")).tolist()
        ax.plot(x, y, "o", ms=4, alpha=0.7, color=colour, label=name)
    ax.set(xlabel="success rates of the steps, multiplied", ylabel="share of whole answers right")
    ax.set_title("Do steps add up to answers?")
    ax.legend(fontsize=8)
    return figure


def positions(study: "Study") -> plt.Figure:
    """Loss at each letter of repeated text when it comes again: learning in context."""
    cell = [c for c in study.cells if c.split()[0] == "induction"][-1]
    figure, ax = plt.subplots(figsize=(6.4, 4.2))
    order = np.argsort(study.column("loss"))
    last = {study.records[i]["N"]: i for i in order[::-1]}  # the best of each size
    chosen = [order[-1], *(last[N] for N in sorted(last))]
    for i, colour in zip(chosen, [SOFT, *shades(len(last))], strict=True):
        nats = -np.array(study.answers[i]["cells"][cell]["by_token"])[:-1]
        record = study.records[i]
        label = f"{human_count(record['N'])} parameters, {human_count(record['D'])} tokens"
        ax.plot(np.arange(1, len(nats) + 1), nats, "o-", ms=3.5, color=colour, label=label)
    ax.axhline(np.log(len(REPEATED)), color=INK, lw=1, ls=":", label="of random letters")
    ax.set(xlabel="letter of the second copy", ylabel="nats", ylim=(0, None))
    ax.set_title("Loss by position when random text comes again")
    ax.legend(fontsize=8)
    return figure
