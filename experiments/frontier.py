"""Compute-optimal models for budgets, from a fitted law.

python -m experiments.frontier law.json --compute=1e21,1e22,1e23,1e24 --json=frontier.json
"""

import json
from typing import Any

from data.errors import Parser, UserError, run
from data.files import human_count, write_atomic
from experiments.laws import Interval, Law, Optimum
from experiments.tables import table

HEADER = ["C (FLOPs)", "N*", "90%", "D*", "90%", "D/N", "90%", "loss", "90%", "beyond the data"]


def frontier(law: Law, budgets: list[float]) -> list[Optimum]:
    """The optimum of each budget, FLOPs."""
    return [law.optimal(C) for C in budgets]


def show(rows: list[Optimum]) -> str:
    """The frontier for people; each row says how far it lies beyond the law's data."""
    return table([HEADER, *map(cells, rows)])


def cells(r: Optimum) -> list[str]:
    """A row of the table: C, four quantities each with its interval, decades beyond the data."""
    numbers = [*_count(r.N), *_count(r.D), *_plain(r.ratio), *_plain(r.loss)]
    return [f"{r.C:.3g}", *numbers, _beyond(r)]


def _count(i: Interval) -> list[str]:
    return [human_count(i.value), f"{human_count(i.low)}-{human_count(i.high)}"]


def _plain(i: Interval) -> list[str]:
    return [f"{i.value:.4g}", f"{i.low:.4g}-{i.high:.4g}"]


def _beyond(row: Optimum) -> str:
    if row.decades_beyond <= 0:
        return "inside"
    return f"{row.decades_beyond:.1f} decades"


def to_json(law: Law, rows: list[Optimum]) -> dict[str, Any]:
    """The frontier as plain data."""
    return {
        "law_sha256": law.data["sha256"],
        "conventions": law.conventions,
        "level": law.level,
        "rows": [
            {
                key: value._asdict() if isinstance(value, Interval) else value
                for key, value in row._asdict().items()
            }
            for row in rows
        ],
    }


def parse_budgets(text: str) -> list[float]:
    """'1e21,1e22' as numbers; UserError where one is not a positive number."""
    budgets = []
    for part in text.split(","):
        try:
            budgets.append(float(part))
        except ValueError:
            raise UserError(f"--compute: {part!r} is not a number of FLOPs such as 1e21") from None
        if not 0 < budgets[-1] < float("inf"):
            raise UserError(f"--compute: {part!r} must be positive and finite")
    return budgets


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.frontier",
        description=__doc__,
    )
    parser.add_argument("law", help="law.json, as experiments.fit writes it")
    parser.add_argument("--compute", required=True, help="budgets in FLOPs, e.g. 1e21,1e22")
    parser.add_argument("--json", default="", help="also write the rows to this file")
    flags = parser.parse_args()
    law = Law.load(flags.law)
    rows = frontier(law, parse_budgets(flags.compute))
    print(show(rows))
    print(f"fitted on {law.data['points']} runs up to C = {law.data['C'][1]:.3g}. "
          f"C: {law.conventions['C']}.")  # fmt: skip
    if flags.json:
        write_atomic(flags.json, json.dumps(to_json(law, rows), indent=1, allow_nan=False) + "\n")
        print(f"wrote {flags.json}")


if __name__ == "__main__":
    run(main)
