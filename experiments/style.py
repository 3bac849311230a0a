"""How figures look, and what they share: colours, axes of counts, names set apart from points."""

import math
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, NullFormatter

from data.files import human_count

INK, SOFT, GRID = "#1c2330", "#68707d", "#e4e7eb"
ACCENT, FRONTIER = "#d1495b", "#1d4e89"  # the held-out run; the compute-optimal line
STYLE = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "text.color": INK,
    "legend.frameon": False,
}
HALO = [withStroke(linewidth=2.5, foreground="white")]  # text stays legible on colour


def shades(count: int, cmap: str = "viridis") -> list[Any]:
    """Ordered colours that stay legible on white."""
    colours: Colormap = matplotlib.colormaps[cmap]
    return [colours(x) for x in np.linspace(0.05, 0.78, max(count, 1))]


def counts(axis: Any) -> None:
    """Labels a logarithmic axis as 10k, 1M, 1B."""
    axis.set_major_formatter(FuncFormatter(lambda x, _: human_count(x).replace(".0", "")))
    axis.set_minor_formatter(NullFormatter())


def tick_values(low: float, high: float) -> list[float]:
    """Ticks at 1, 2, 5 x 10^k: a range of about a decade would otherwise show one."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [m * 10.0**k for k in decades for m in steps if low <= m * 10.0**k <= high]


def few_ticks(axis: Any, low: float, high: float) -> None:
    """Labels a logarithmic axis at `tick_values`."""
    axis.set_ticks(tick_values(low, high))
    counts(axis)


def flops(C: float) -> str:
    """1.6e12 as 1.6 x 10^12, in mathtext."""
    mantissa, exponent = f"{C:.1e}".split("e")
    mantissa = mantissa.removesuffix(".0")
    times = "" if mantissa == "1" else rf"{mantissa}\times"
    return rf"${times}10^{{{int(exponent)}}}$"


class Label(NamedTuple):
    """A name for a point, in data coordinates."""

    x: float
    y: float
    text: str
    colour: Any = ACCENT


def label_apart(ax: Axes, labels: list[Label], column: float, ha: str = "right") -> None:
    """Names points in a column at an x in axes coordinates, each in a row of its own."""
    figure = ax.figure
    figure.canvas.draw()  # settles the layout, so that pixels mean something
    box = ax.get_window_extent()
    height, last = 13 * figure.dpi / 72 / box.height, -math.inf
    to_axes = ax.transData + ax.transAxes.inverted()
    for label in sorted(labels, key=lambda p: p.y):
        last = max(float(to_axes.transform((label.x, label.y))[1]), last + height)
        ax.annotate(
            label.text, (label.x, label.y), (column, last), textcoords=ax.transAxes,
            ha=ha, va="center", fontsize=8.5, color=label.colour, path_effects=HALO,
            arrowprops={"arrowstyle": "-", "color": label.colour, "lw": 0.5, "shrinkB": 3},
            annotation_clip=False,
        )  # fmt: skip
