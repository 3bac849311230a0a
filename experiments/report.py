"""One interactive page over whatever folders hold: sweeps, laws, tokenizers, curated data.

    python -m experiments.report out/sweep
    python -m experiments.report out/sweep out/tokens out/curated --out=report.html

The page is one file that opens offline. Folders are only read: a sweep that is not finished is
shown as far as it goes, with what is missing. `experiments/chapters.py` lists what can be shown.
"""

import json
import time
from pathlib import Path

from data.errors import Parser, UserError, run
from data.files import write_atomic
from experiments.chapters import chapters, sweep_parts
from experiments.frontier import to_json
from experiments.interactive import Section, document
from experiments.outcome import Findings, find, summary
from experiments.records import write_runs_csv

TITLE = "Compute-optimal scaling: a report"


def finish(folder: Path, began: float) -> Findings:
    """Ends a sweep: writes runs.csv, law.json, frontier.json, figures and report.html.

    Prints the closing table. `began` is the time.monotonic() at which the sweep was started.
    """
    from experiments.sweep_figures import draw

    found = find(folder)
    write_runs_csv(folder)
    if found.law:
        found.law.save(folder / "law.json")
        rows = json.dumps(to_json(found.law, found.optima), indent=1, allow_nan=False)
        write_atomic(folder / "frontier.json", rows + "\n")
    draw(folder, found.records, found.law, found.checks)
    write_atomic(folder / "report.html", document(TITLE, [("Sweep", sweep_parts(found))]))
    print(summary(found, elapsed=time.monotonic() - began))
    return found


def sections(folders: list[Path]) -> list[Section]:
    """The chapters of all folders, named after their folder where there are several."""
    found = []
    for folder in folders:
        for title, parts in chapters(folder):
            found.append((f"{title}: {folder}" if len(folders) > 1 else title, parts))
    return found


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.report",
        description=__doc__,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="what to show; only read")
    parser.add_argument("--out", type=Path, default="report.html", help="the file (%(default)s)")
    flags = parser.parse_args()
    inside = [f for f in flags.folders if f.resolve() in flags.out.resolve().parents]
    if inside:
        raise UserError(f"--out={flags.out} lies in {inside[0]}, which is only read: name another")
    found = sections(flags.folders)
    page = document(TITLE, found)
    write_atomic(flags.out, page)
    for title, parts in found:
        print(f"{title}: {len(parts)} parts")
    print(f"wrote {flags.out} ({len(page.encode()) / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
