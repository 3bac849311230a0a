"""The figure of a data ablation: held-out loss and memorised passages of each version."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from data.files import write_atomic
from experiments.style import ACCENT, FRONTIER, SOFT, STYLE

COLOURS = (FRONTIER, ACCENT)  # all text; equal unique tokens


def save(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw the rows of `ablation.summarise` into a PNG."""
    import io

    with plt.rc_context(STYLE):
        figure = draw(rows)
        image = io.BytesIO()
        figure.savefig(image, format="png", bbox_inches="tight")
        plt.close(figure)
    write_atomic(path, image.getvalue())


def draw(rows: list[dict[str, Any]]) -> plt.Figure:
    """Two panels: bits/byte of held-out pages, and of repeated and single passages."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    versions = list(dict.fromkeys(row["version"] for row in rows))
    for i, text in enumerate(dict.fromkeys(row["text"] for row in rows)):
        some = [row for row in rows if row["text"] == text]
        y = np.arange(len(versions)) + (i - 0.5) * 0.22
        held = [row["held_out"] for row in some]
        style = {"color": COLOURS[i], "capsize": 3, "ls": "none", "ms": 6}
        axes[0].errorbar(
            [m.mean for m in held], y, xerr=[m.half for m in held], fmt="o", label=text, **style
        )
        for name, marker, fill in (("repeated", "o", "full"), ("single", "s", "none")):
            found = [row[name] for row in some]
            axes[1].errorbar(
                [m.mean for m in found], y, xerr=[m.half for m in found], fmt=marker,
                fillstyle=fill, label=f"{name} passages, {text}", **style,
            )  # fmt: skip
    for ax in axes:
        ax.set(yticks=range(len(versions)), yticklabels=versions, xlabel="bits / byte")
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), labelcolor=SOFT)
    axes[0].set_title("Held-out pages")
    axes[1].set_title("Passages of the crawl itself")
    return figure
