"""Curation: sources in, clean documents out, and a report of what happened to every one.

    python -m data.curate --config=configs/curate.py:web --out=out/curated
    python -m data.curate --config=configs/curate.py:web --out=out/curated --config.path=FOLDER

OUT/documents holds the result, which training reads as data.path; OUT/report.html and
OUT/report.json say what each stage took and why; OUT/work holds what lies between the stages. A run
that was stopped goes on where it was; with the same config it ends in the same files.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from data.errors import UserError, run
from data.settings import load


def main(argv: Sequence[str] | None = None) -> None:
    usage = __doc__ or ""
    c, flags = load(sys.argv if argv is None else argv, usage, out=("", "where the result goes"))
    if not flags.out:
        raise UserError("--out=FOLDER is missing, e.g. --out=out/curated")
    # Imported here, so that --help and wrong flags answer at once.
    from data import curation, curation_report

    report = curation.curate(c, Path(flags.out))
    if report:
        print(curation_report.table(report))
        print(f"report: {flags.out}/report.html")


if __name__ == "__main__":
    run(main)
