"""Figures that compare the three objectives: curves, masks, probes and frontiers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from experiments.laws import Law
from experiments.records import read_records
from experiments.style import SOFT, STYLE

if TYPE_CHECKING:
    from experiments.objectives import Probe

COLOURS = {"causal": "#1d4e89", "masked": "#d1495b", "span": "#2e8b57"}
FAMILY = {
    "causal": "causal (GPT)",
    "masked": "masked (BERT)",
    "span": "span corruption (T5)",
}
SEEN = 12  # positions in the pictures of masks


def save(
    folder: Path,
    curves: dict[str, list[tuple[int, float]]],
    steps: dict[str, int],
    compute: float,
    probes: "dict[str, dict[str, Probe]]",
    laws: dict[str, Law],
    sweeps: Path,
) -> None:
    """Draws all into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "curves": lambda: loss_curves(curves, steps, compute),
        "masks": masks,
        "probes": lambda: bars(probes),
    }
    if laws:
        drawn["frontiers"] = lambda: frontiers(laws, sweeps)
    with plt.rc_context(STYLE):
        for name, plot in drawn.items():
            figure = plot()
            figure.savefig(folder / f"{name}.png", bbox_inches="tight")
            plt.close(figure)


def loss_curves(
    curves: dict[str, list[tuple[int, float]]], steps: dict[str, int], compute: float
) -> plt.Figure:
    """Training loss against compute, each of its own predictions."""
    figure, ax = plt.subplots(figsize=(7.2, 4.4))
    for name, points in curves.items():
        at, loss = np.array(points, float).T
        ax.plot(at / steps[name] * compute, loss, color=COLOURS[name], lw=1.6, label=FAMILY[name])
    ax.set(xlabel="training FLOPs", ylabel="training loss (nats / predicted token)")
    ax.set_title("Equal compute, three objectives")
    ax.legend(title="heights are not comparable:\neach predicts other tokens", title_fontsize=8)
    return figure


def masks() -> plt.Figure:
    """Who sees whom, from the masks that the model applies."""
    import jax.numpy as jnp

    from lm.attention import Mask, visible

    one = jnp.ones((1, SEEN), jnp.int32)
    packed = jnp.where(jnp.arange(SEEN) < 7, 1, 2)[None]
    prefix = jnp.arange(SEEN)[None] < 5
    panels = {
        "causal": Mask(one, one, causal=True),
        "causal, two documents": Mask(packed, packed, causal=True),
        "masked: both ways": Mask(one, one),
        "prefix of 5": Mask(one, one, causal=True, prefix=prefix),
        "decoder to encoder, two": Mask(packed[:, 4:10], packed),
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(12, 2.9), layout="constrained")
    for ax, (title, mask) in zip(axes, panels.items(), strict=True):
        ax.imshow(np.asarray(visible(mask))[0], cmap="Blues", vmin=0, vmax=1.4)
        ax.set_title(title, fontsize=9)
        ax.set(xticks=[], yticks=[], xlabel="sees (key)")
        ax.grid(False)
    axes[0].set_ylabel("token (query)")
    return figure


def bars(probes: "dict[str, dict[str, Probe]]") -> plt.Figure:
    """Nats of the same tokens for all three: lower is better."""
    from experiments.objectives import ASKED

    figure, ax = plt.subplots(figsize=(7.2, 4.2))
    width = 0.26
    for i, (name, found) in enumerate(probes.items()):
        at = np.arange(len(ASKED)) + (i - 1) * width
        nats = [found[k].nats for k in ASKED]
        error = [found[k].error for k in ASKED]
        style = {"color": COLOURS[name], "label": FAMILY[name], "capsize": 3}
        ax.bar(at, nats, width * 0.94, yerr=error, **style)
    names = [f"{k}\n{v[3].replace(' between', chr(10) + 'between')}" for k, v in ASKED.items()]
    ax.set_xticks(np.arange(len(ASKED)), names)
    ax.set_ylabel("nats for each token (lower is better)")
    ax.set_title("The same tokens, asked of all three", pad=24)
    ax.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    ax.grid(axis="x", visible=False)
    return figure


def frontiers(laws: dict[str, Law], sweeps: Path) -> plt.Figure:
    """Predicted loss and size of compute-optimal models, one law for each objective."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), layout="constrained")
    sizes: list[float] = []  # those trained and those predicted
    for name, law in laws.items():
        records: list[dict[str, Any]] = read_records(sweeps / name)
        low, high = law.data["C"]
        C = np.geomspace(low, high * 10, 40)
        optima = [law.optimal(float(c)) for c in C]
        colour = COLOURS[name]
        axes[0].plot([r["C"] for r in records], [r["loss"] for r in records], ".", color=colour)
        for ax, key in ((axes[0], "loss"), (axes[1], "N")):
            of = [getattr(o, key) for o in optima]
            ax.plot(C, [i.value for i in of], color=colour, lw=1.8, label=FAMILY[name])
            ax.fill_between(C, [i.low for i in of], [i.high for i in of], color=colour, alpha=0.15)
        sizes += [r["N"] for r in records] + [o.N.value for o in optima]
    if sizes:  # a law that leaves a bound open would stretch the axis over twenty decades
        axes[1].set_ylim(min(sizes) / 10, max(sizes) * 10)
    axes[0].set(xscale="log", xlabel="training FLOPs", ylabel="validation loss (nats / token)")
    axes[0].set_title("Loss: compare slopes, not heights")
    axes[1].set(xscale="log", yscale="log", xlabel="training FLOPs", ylabel="parameters N*")
    axes[1].set_title("Compute-optimal size: comparable")
    axes[1].legend(fontsize=8)
    figure.supxlabel(
        "Each loss is a mean over its own predictions: every token from the left, hidden tokens "
        "between visible ones,\nor spans and sentinels. Bands: 90%. Dots: runs.",
        fontsize=8, color=SOFT,
    )  # fmt: skip
    return figure
