"""Figures of the scaling-law papers, drawn again from the published runs.

    python -m experiments.figures all
    python -m experiments.figures epoch --out=out/figures

Each writes NAME.png, NAME.svg and NAME.json: published numbers beside ours, with differences.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

from data.errors import Parser, UserError, run, suggest
from data.files import write_atomic
from experiments import law_figures, paper_figures
from experiments.paper_figures import Drawn, Row
from experiments.tables import table

FIGURES: dict[str, Callable[[], Drawn]] = {
    "chinchilla_isoflop": paper_figures.chinchilla_isoflop,
    "chinchilla_surface": paper_figures.chinchilla_surface,
    "own_curves": law_figures.own_curves,
    "three_approaches": law_figures.three_approaches,
    "epoch": paper_figures.epoch,
    "porian": paper_figures.porian,
    "gadre": paper_figures.gadre,
    "repeated": paper_figures.repeated,
    "olmo": paper_figures.olmo,
    "famous_models": law_figures.famous_models,
    "reconciled": law_figures.reconciled,
}


def save(name: str, folder: Path) -> Drawn:
    """Draw one figure and write its three files."""
    import matplotlib.pyplot as plt

    from experiments.style import STYLE

    with plt.rc_context(STYLE | {"svg.hashsalt": name}):
        drawn = FIGURES[name]()
        for kind in ("png", "svg"):
            buffer = io.BytesIO()
            drawn.figure.savefig(
                buffer, format=kind, metadata={"Date": None} if kind == "svg" else {}
            )
            write_atomic(folder / f"{name}.{kind}", buffer.getvalue())
        plt.close(drawn.figure)
    numbers = [row._asdict() | {"difference": row.ours - row.published} for row in drawn.rows]
    record = {"title": FIGURES[name].__doc__, "note": drawn.note, "numbers": numbers}
    write_atomic(folder / f"{name}.json", json.dumps(record, indent=1, allow_nan=False) + "\n")
    return drawn


def show(rows: list[Row]) -> str:
    """Published against ours, for people."""
    cells = [["", "published", "ours", "difference"]]
    for row in rows:
        cells.append(
            [
                row.what,
                f"{row.published:.6g}",
                f"{row.ours:.6g}",
                f"{row.ours - row.published:+.3g}",
            ]
        )
    return table(cells)


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.figures",
        description=__doc__,
    )
    parser.add_argument("name", help=f"all, or one of {', '.join(FIGURES)}")
    parser.add_argument("--out", default="out/figures", help="folder (%(default)s)")
    flags = parser.parse_args()
    if flags.name != "all" and flags.name not in FIGURES:
        raise UserError(
            f'no figure "{flags.name}"{suggest(flags.name, FIGURES)}; there are: all, '
            + ", ".join(FIGURES)
        )
    for name in FIGURES if flags.name == "all" else [flags.name]:
        drawn = save(name, Path(flags.out))
        print(f"\n{name}: {FIGURES[name].__doc__}\n\n{show(drawn.rows)}")
        print(f"{drawn.note}\nwrote {flags.out}/{name}.png, .svg and .json", flush=True)


if __name__ == "__main__":
    run(main)
