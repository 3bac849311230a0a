"""Fit a scaling law to a table of runs.

    python -m experiments.fit out/sweep/runs.csv --out=out/sweep/law.json
    python -m experiments.fit runs.csv --out=law.json --delta=0     (least absolute deviations)
    python -m experiments.fit out/sweep --out=law.json              (a sweep's folder)
    python -m experiments.fit runs.csv --approach=2 --out=isoflop.json

Approaches: 1, the envelope of training curves (rows of one `group` are a run's checkpoints); 2,
isoFLOP minima; 3, the parametric law (the only one that makes a law.json for other commands, with
its roll-out and the approaches side by side); kaplan, his form without a floor.

Columns: N (parameters), D (tokens), loss (nats/token); optional run_id, C (training FLOPs; 6ND
where it is absent), budget (FLOPs; runs of one isoFLOP group), held_out (1: scored, not fitted),
group (rows that are checkpoints or branches of one run), in_fit (0: left out).
"""

import argparse
import json
from typing import Any

import numpy as np

from data.errors import UserError, run
from data.files import write_atomic
from experiments import forms
from experiments.envelope import fit_envelope
from experiments.isoflop import fit_isoflop
from experiments.laws import Law, fit
from experiments.runs import Runs, read
from experiments.tables import table
from experiments.validation import examine, findings


def show(law: Law) -> str:
    """A fitted law for people."""
    return "\n".join([str(law), *_approaches(law), *findings(law), *_holdout(law)])


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4g} to {interval[1]:.4g}"


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
        f"{h['loss']:.4f}, predicted {h['predicted']:.4f} ({_range(tuple(h['interval']))}), "
        f"error {h['error_percent']:+.2f}%, {'inside' if h['inside'] else 'OUTSIDE'} the interval"
        for h in law.holdout
    ]


def other(approach: str, runs: Runs, delta: float, seed: int) -> tuple[str, dict[str, Any]]:
    """Approach 1, 2 or kaplan as text for people and as plain data."""
    used = runs.fitted
    if approach == "1":
        e = fit_envelope(used, seed=seed)
        record = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in e._asdict().items()}
        text = f"N* = {e.k:.4g} C^{e.a:.4f}, a {_range(e.interval)} (90%), {e.sizes} sizes win"
        return text, record
    if approach == "2":
        iso = fit_isoflop(used, seed)
        if iso is None:
            raise UserError(
                "no isoFLOP groups: approach 2 needs budgets with 3 sizes or more, by a `budget` "
                "column or by C within a tenth"
            )
        rows = [["C", "runs", "N*", "D*", "loss", "problem"]]
        for m in iso.minima:
            found = [m.N, m.D, m.loss]
            cells = ["-" if x is None else f"{x:.4g}" for x in found]
            rows.append([f"{m.C:.3g}", str(m.points), *cells, m.problem])
        lines = [table(rows)]
        if iso.a is not None:
            ends = "" if iso.a_interval is None else f", a {_range(iso.a_interval)} (90%)"
            lines.append(f"N* = {iso.k_N:.4g} C^{iso.a:.4f}{ends}")
        lines += [f"warning: {w}" for w in iso.warnings]
        return "\n".join(lines), iso._asdict() | {"minima": [m._asdict() for m in iso.minima]}
    kaplan = forms.fit_kaplan(used.N, used.D, used.loss, delta)
    p = kaplan.params
    text = (
        f"L = ((Nc/N)^(aN/aD) + Dc/D)^aD: aN {p['alpha_N']:.4f}, aD {p['alpha_D']:.4f}, "
        f"Nc {np.exp(p['log_Nc']):.3g}, Dc {np.exp(p['log_Dc']):.3g}; objective "
        f"{kaplan.objective:.6g}, {kaplan.reached:.0%} of the polished starts reached it"
    )
    return text, {"params": p, "objective": kaplan.objective, "reached": kaplan.reached}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.fit",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", help="CSV, JSON lines, Parquet, or a sweep's folder")
    parser.add_argument("--out", default="law.json", help="where the law goes (%(default)s)")
    parser.add_argument(
        "--approach", default="3", choices=("1", "2", "3", "kaplan"), help="default %(default)s"
    )
    parser.add_argument("--curves", default="", help="training curves, to compare approach 1 too")
    parser.add_argument(
        "--delta", type=float, default=1e-3,
        help="Huber's threshold on ln loss; 0: absolute values, inf: squares (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--bootstrap", type=int, default=1000, help="refits (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the refits (%(default)s)")
    flags = parser.parse_args()
    if not flags.delta >= 0:
        raise UserError(f"--delta={flags.delta:g} must not be negative")
    if flags.bootstrap < 100:
        raise UserError(
            f"--bootstrap={flags.bootstrap} is too few for a 90% interval; use 100 or more"
        )
    runs = read(flags.runs)
    if flags.approach == "3":
        law = fit(runs, flags.delta, flags.bootstrap, flags.seed)
        law = examine(law, runs, read(flags.curves) if flags.curves else None)
        law.save(flags.out)
        print(show(law))
    else:
        text, record = other(flags.approach, runs, flags.delta, flags.seed)
        record |= {"approach": flags.approach, "sha256": runs.fitted.fingerprint}
        write_atomic(flags.out, json.dumps(record, indent=1, allow_nan=False) + "\n")
        print(text)
    print(f"wrote {flags.out}")


if __name__ == "__main__":
    run(main)
