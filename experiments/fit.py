"""Fit a scaling law to a table of runs.

    python -m experiments.fit out/sweep/runs.csv --out=out/sweep/law.json
    python -m experiments.fit runs.csv --out=law.json --delta=0     (least absolute deviations)
    python -m experiments.fit out/sweep --out=law.json              (a sweep's folder)
    python -m experiments.fit runs.csv --approach=2 --out=isoflop.json

Approaches 3 (the parametric law, with its roll-out and the approaches side by side) and tied (the
same with alpha = beta) make a law.json for other commands. The others:

{approaches}

Columns: N (parameters), D (tokens), loss (nats/token); optional run_id, C (training FLOPs; 6ND
where it is absent), budget (FLOPs; runs of one isoFLOP group), held_out (1: scored, not fitted),
group (rows that are checkpoints or branches of one run), U (unique tokens), in_fit (0: left out),
N_non_embedding (what --parameters=non-embedding fits).
"""

import argparse
import json
from pathlib import Path

from data.errors import Parser, UserError, run, suggest
from data.files import write_atomic
from experiments.approaches import APPROACHES, Options, curves
from experiments.laws import Law, fit
from experiments.runs import PARAMETERS, own_curves, read
from experiments.tables import table
from experiments.validation import examine, findings


def show(law: Law) -> str:
    """A fitted law for people."""
    return "\n".join([str(law), *_approaches(law), *findings(law), *_holdout(law)])


def _approaches(law: Law) -> list[str]:
    found = law.diagnostics.get("approaches", [])
    if not found:
        return []
    rows = [["approach", "a (N* ~ C^a)", "90% interval"]]
    rows += [[r["approach"], f"{r['a']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}"] for r in found]
    return ["", table(rows)]


def _holdout(law: Law) -> list[str]:
    return [
        f"held out {h['run_id']} ({h['times_largest_C']:.3g} times the largest C fitted): loss "
        f"{h['loss']:.4f}, predicted {h['predicted']:.4f} ({h['interval'][0]:.4f} to "
        f"{h['interval'][1]:.4f}), error {h['error_percent']:+.2f}%, "
        f"{'inside' if h['inside'] else 'OUTSIDE'} the interval"
        for h in law.holdout
    ]


def main() -> None:
    """The command."""
    listed = "\n".join(f"    {name:13}{a.help}" for name, a in APPROACHES.items())
    parser = Parser(
        prog="python -m experiments.fit",
        description=(__doc__ or "").replace("{approaches}", listed),
    )
    parser.add_argument("runs", help="CSV, JSON lines, Parquet, or a sweep's folder")
    parser.add_argument("--out", default="law.json", help="where the law goes (%(default)s)")
    parser.add_argument(
        "--approach", default="3", metavar="NAME", help="see above (default %(default)s)"
    )
    parser.add_argument(
        "--curves",
        default="",
        help="training curves or a sweep's folder, to compare approach 1 too",
    )
    parser.add_argument(
        "--delta", type=float, default=1e-3,
        help="Huber's threshold on ln loss; 0: absolute values, inf: squares (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--residuals", default="log", choices=("log", "plain"), help="of ln loss, or of the loss"
    )
    parser.add_argument(
        "--parameters", default="total", choices=tuple(PARAMETERS), help="what N is (%(default)s)"
    )
    parser.add_argument("--x", default="C", help="a column's name, for some approaches")
    parser.add_argument("--y", default="loss", help="a column's name, for some approaches")
    parser.add_argument(
        "--noise", type=float, default=0.002, help="scatter of losses, for akima (%(default)s)"
    )
    parser.add_argument("--bootstrap", type=int, default=1000, help="refits (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the refits (%(default)s)")
    flags = parser.parse_args()
    check(flags)
    if flags.approach in ("3", "tied"):
        law = parametric(flags)
        law.save(flags.out)
        print(show(law))
    else:
        options = Options(
            flags.delta,
            flags.bootstrap,
            flags.seed,
            flags.parameters,
            flags.x,
            flags.y,
            flags.noise,
        )
        text, record = APPROACHES[flags.approach].fit(flags.runs, options)
        record |= {"approach": flags.approach, "source": Path(flags.runs).name}
        write_atomic(flags.out, json.dumps(record, indent=1, allow_nan=False) + "\n")
        print(text)
    print(f"wrote {flags.out}")


def check(flags: argparse.Namespace) -> None:
    """Refuse options that make no sense."""
    names = ("3", "tied", *APPROACHES)
    if flags.approach not in names:
        close = suggest(flags.approach, names)
        raise UserError(f'no approach "{flags.approach}"{close}; there are: {", ".join(names)}')
    if not flags.delta >= 0:
        raise UserError(f"--delta={flags.delta:g} must not be negative")
    if not flags.noise > 0:
        raise UserError(f"--noise={flags.noise:g} must be positive")
    if flags.bootstrap < 100:
        raise UserError(
            f"--bootstrap={flags.bootstrap} is too few for a 90% interval; use 100 or more"
        )


def parametric(flags: argparse.Namespace) -> Law:
    """Approach 3, with what other approaches and a roll-out say of it.

    Training curves for approach 1 are those of --curves, else of a sweep's own folder.
    """
    runs = read(flags.runs, flags.parameters)
    tied = flags.approach == "tied"
    law = fit(runs, flags.delta, flags.bootstrap, flags.seed, tied, flags.residuals)
    if flags.curves:
        return examine(law, runs, curves(flags.curves))
    return examine(law, runs, own_curves(flags.runs))


if __name__ == "__main__":
    run(main)
