"""Figures of what pretraining does not do: memory, behaviour before and after, toxic text."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from experiments import memorisation as memory
from experiments.estimates import Estimate
from experiments.style import ACCENT, FRONTIER, SOFT, STYLE, shades

COLOURS = {
    "raw": FRONTIER,
    "deduplicated": "#2e8b57",
    "scrubbed": ACCENT,
    "after fine-tune": "#b07d2b",
}
BASE, TUNED = FRONTIER, "#b07d2b"


def save(folder: Path, result: dict[str, Any]) -> list[str]:
    """Draws all into a folder; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"memorisation": lambda: memorisation(result["memorised"])}
    if "base" in result:
        drawn["behaviour"] = lambda: behaviour(result)
    drawn["toxic"] = lambda: toxic(result)
    with plt.rc_context(STYLE):
        for name, plot in drawn.items():
            figure = plot()
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
            plt.close(figure)
    return list(drawn)


def along_times(
    ax: Axes, by_times: dict[int, Estimate], colour: Any, label: str, shift: float = 0.0
) -> None:
    """Estimates with their intervals over the number of times, 0 a step left of 1."""
    at = np.array([np.log2(t) if t else -1.0 for t in by_times]) + shift
    value, low, high = np.array([e[:3] for e in by_times.values()]).T
    ax.errorbar(
        at, value, [value - low, high - value], color=colour, label=label, marker="o", ms=3.5,
        lw=1.4, elinewidth=0.8, capsize=0,
    )  # fmt: skip
    ax.set_xticks([np.log2(t) if t else -1.0 for t in by_times], [str(t) for t in by_times])
    ax.set_xlabel("times in the training text")


def memorisation(memorised: dict[str, Any]) -> plt.Figure:
    """Exposure and extraction against repetitions, by training text."""
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7), layout="constrained")
    exposed, extracted, passages, people = axes.flat
    for i, (text, found) in enumerate(memorised.items()):
        shift = (i - 1.5) * 0.06
        along_times(exposed, found["exposure"], COLOURS[text], text, shift)
        along_times(extracted, found["canary"], COLOURS[text], text, shift)
    chance = memory.by_chance(memory.CANDIDATES)
    exposed.axhline(chance, color=SOFT, lw=0.9, ls="--")
    exposed.text(
        1, chance - 0.1, "by chance", transform=exposed.get_yaxis_transform(), ha="right", va="top",
        fontsize=8, color=SOFT,
    )  # fmt: skip
    exposed.set(title="A planted number's exposure", ylabel="bits", ylim=(-0.3, 8.3))
    exposed.legend(fontsize=8, title="model of the text", title_fontsize=8)
    extracted.set(title="... and written out verbatim", ylabel="share")
    raw, scrubbed = memorised["raw"], memorised["scrubbed"]
    names = [n for n in raw if n.startswith("passage")]
    for i, (name, colour) in enumerate(zip(names, shades(len(names)), strict=True)):
        label = name.removeprefix("passage, ").removesuffix(" given")
        along_times(passages, raw[name], colour, label, (i - 1.5) * 0.06)
    passages.set(title="Passages: the next 16 tokens verbatim", ylabel="share")
    passages.legend(loc="upper left", fontsize=8, title="given before them", title_fontsize=8)
    for i, (kind, colour) in enumerate(
        zip(("e-mail", "phone", "address"), shades(3, "plasma"), strict=True)
    ):
        along_times(people, raw[kind], colour, kind, (i - 1) * 0.06)
        along_times(people, scrubbed[kind], colour, f"{kind}, scrubbed", (i - 1) * 0.06 + 0.03)
        people.lines[-1].set(ls=":", mfc="white")
    people.set(title="People's data verbatim", ylabel="share")
    people.legend(fontsize=8)
    for ax in (extracted, passages, people):
        ax.set_ylim(-0.04, 1.04)
    return figure


def bars(ax: Axes, names: list[str], sides: dict[str, dict[str, Estimate]], colours: Any) -> None:
    """Horizontal points with intervals, a row a name, the sides above one another."""
    at = np.arange(len(names))[::-1]
    for i, (label, found) in enumerate(sides.items()):
        value, low, high = np.array([found[name][:3] for name in names]).T
        ax.errorbar(
            value, at + (0.5 - i) * 0.26, xerr=[value - low, high - value], fmt="o", ms=4.5,
            color=colours[i], label=label, elinewidth=1.2,
        )  # fmt: skip
    ax.set_yticks(at, names, fontsize=8.5)
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlim(-0.03, 1.03)
    ax.grid(axis="y", visible=False)


def behaviour(result: dict[str, Any]) -> plt.Figure:
    """The base model beside the fine-tuned one; and whether each knows what it knows."""
    base, tuned = result["base"], result["tuned"]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 5.6), width_ratios=(1.5, 1), layout="constrained"
    )
    zero = [n for n in base if n.endswith("zero-shot")]
    names = [*zero, "requests answered, few-shot"]
    names += [n for n, v in base.items() if isinstance(v, Estimate) and v.unit == "share"
              and not n.endswith("-shot")]  # fmt: skip
    names = [n for n in names if not n.startswith("right after")]
    bars(left, names, {"base model": base, "after fine-tune": tuned}, (BASE, TUNED))
    left.set(title="What a fine-tune adds, and does not", xlabel="share, with 95% interval")
    handles = left.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", fontsize=8.5, ncols=2)
    right.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls="--")
    for label, found, colour in (("base model", base, BASE), ("after fine-tune", tuned, TUNED)):
        c = found["calibration"]
        text = f"{label}: error {found['calibration error'].value:.3f}"
        right.plot(c.confidence, c.accuracy, color=colour, marker="o", ms=4, label=text)
    right.set(title="Next token: sure and right", xlabel="probability of the first choice",
              ylabel="how often it is right", xlim=(0, 1), ylim=(0, 1), aspect="equal")  # fmt: skip
    right.legend(fontsize=8, loc="upper left")
    return figure


def toxic(result: dict[str, Any]) -> plt.Figure:
    """Toxicity by training text, and what the classifier's false alarms alone would give."""
    sides = {
        "unfiltered text": result["toxic"]["raw"],
        "filtered text": result["toxic"]["scrubbed"],
    }
    colours = [COLOURS["raw"], COLOURS["scrubbed"]]
    if "base" in result:
        sides["after fine-tune"] = result["tuned"]
        colours.append(TUNED)
    figure, ax = plt.subplots(figsize=(7.4, 3.6), layout="constrained")
    bars(ax, list(result["toxic"]["raw"]), sides, colours)
    alone, low, high = result["classifier"]["any false alarm"][:3]
    ax.axvline(alone, color=SOFT, lw=0.9, ls="--")
    ax.axvspan(low, high, color=SOFT, alpha=0.15, lw=0)
    ax.text(
        alone, 1, " at least one,\n by false alarms alone", transform=ax.get_xaxis_transform(),
        va="top", fontsize=8, color=SOFT,
    )  # fmt: skip
    ax.set(title="Toxic continuations", xlabel="probability or share, with 95% interval")
    figure.legend(loc="outside lower right", fontsize=8.5, ncols=3)
    return figure
