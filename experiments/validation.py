"""Does a law hold? Roll-out to runs it has not seen, and three estimators side by side."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from data.errors import UserError
from experiments import laws
from experiments.envelope import fit_envelope
from experiments.runs import Runs
from experiments.search import Objective

DISTINCT = 0.05  # decades of C that separate one step of a roll-out from the next


class Step(NamedTuple):
    """A law fitted to all runs up to `C_fitted`, and its errors on the runs of most compute."""

    C_fitted: float
    points: int
    targets: int
    decades: float  # from the fitted runs to the targets
    error_percent: float  # mean over the targets, signed: predicted above observed is positive
    worst_percent: float  # largest in size


class Estimate(NamedTuple):
    """Exponent a of N* ~ C^a by one approach, with its 90% interval."""

    approach: str
    a: float
    low: float
    high: float


def roll_out(
    runs: Runs, objective: Objective | None = None, tied: bool = False, target_decades: float = 0.3
) -> list[Step]:
    """Fit to growing shares of the compute and predict the runs of most compute, never fitted.

    Targets are the runs within `target_decades` of the largest C, three or more. Held-out rows take
    no part.
    UserError where no smaller set of runs can determine a law.
    """
    used = runs.fitted
    log_C = np.log10(used.C)
    few = np.sort(log_C)[-3:].min()
    targets = log_C >= min(log_C.max() - target_decades, few)
    goal = used.where(targets)
    edges = np.sort(log_C[~targets])
    if len(edges):
        edges = edges[np.append(np.diff(edges) > DISTINCT, True)]
    steps = []
    for edge in edges:
        known = used.where(~targets & (log_C <= edge + 1e-9))
        try:
            laws.check_identifiable(known, 4 if tied else 5)
        except UserError:
            continue
        theta, _ = laws.fit_theta(known.N, known.D, known.loss, objective or Objective(), tied)
        predicted = laws.mean_loss(theta, np.log(goal.N), np.log(goal.D))
        errors = 100 * (predicted / goal.loss - 1)
        steps.append(
            Step(
                float(known.C.max()),
                len(known),
                len(goal),
                float(log_C.max() - edge),
                float(errors.mean()),
                float(errors[np.argmax(np.abs(errors))]),
            )
        )
    if not steps:
        raise UserError(
            "a roll-out needs 6 runs or more, with 3 sizes and 3 token counts, that spent less "
            f"than 1/{10**target_decades:.2g} of the largest compute"
        )
    return steps


def compare(law: laws.Law, curves: Runs | None = None) -> tuple[list[Estimate], str]:
    """The exponent of N* by every approach that the data allow, and whether they agree.

    curves: checkpoints for approach 1. The verdict is about 90% intervals: estimators of a that
    overlap may still differ by what a reader would care about, so the spread is given too.
    """
    rows = []
    missing = []
    try:
        if curves is None:
            raise UserError("no training curves given")
        envelope = fit_envelope(curves)
        rows.append(Estimate("1: envelope of curves", envelope.a, *envelope.interval))
    except UserError as error:
        missing.append(f"approach 1: {error}")
    iso = law.isoflop
    if iso is not None and iso.a is not None and iso.a_interval is not None:
        rows.append(Estimate("2: isoFLOP minima", iso.a, *iso.a_interval))
    else:
        missing.append("approach 2: no two budgets with a minimum inside and noise to measure")
    a = law.params["beta"] / (law.params["alpha"] + law.params["beta"])
    rows.append(Estimate("3: parametric law", a, *law.intervals["a"]))
    return rows, verdict(rows, missing)


def verdict(rows: list[Estimate], missing: list[str]) -> str:
    """One or more sentences on whether the approaches agree."""
    tail = "".join(f" Not available: {text}." for text in missing)
    if len(rows) < 2:
        return "One approach only: nothing to compare." + tail
    spread = max(r.a for r in rows) - min(r.a for r in rows)
    apart = [
        f"{r.approach} and {s.approach}"
        for i, r in enumerate(rows)
        for s in rows[i + 1 :]
        if r.low > s.high or s.low > r.high
    ]
    if apart:
        return f"They disagree: the 90% intervals of {'; '.join(apart)} do not meet." + tail
    factor = 10 ** (2 * spread)
    return (
        f"They agree within their intervals: a differs by {spread:.3f}, which two decades of "
        f"extrapolation turn into a factor of {factor:.2g} in N*." + tail
    )


def examine(law: laws.Law, runs: Runs, curves: Runs | None = None) -> laws.Law:
    """The law with its roll-out and the approaches side by side added to its diagnostics."""
    try:
        objective = Objective(law.delta, law.residuals == "log")
        steps = [step._asdict() for step in roll_out(runs, objective, law.form == "tied")]
    except UserError as error:
        steps, reason = [], str(error)
    else:
        reason = ""
    rows, text = compare(law, curves)
    return replace(
        law,
        diagnostics=law.diagnostics
        | {
            "roll_out": steps,
            "roll_out_missing": reason,
            "approaches": [row._asdict() for row in rows],
            "verdict": text,
        },
    )


def findings(law: laws.Law) -> list[str]:
    """Sentences on what `examine` found: do approaches agree, and how far off is a roll-out."""
    out = [law.diagnostics["verdict"]] if "verdict" in law.diagnostics else []
    steps, missing = law.diagnostics.get("roll_out"), law.diagnostics.get("roll_out_missing")
    if steps:
        last = steps[-1]
        out.append(
            f"Roll-out: fitted to the {last['points']} runs up to C = {last['C_fitted']:.3g}, the "
            f"law misses the {last['targets']} largest by {last['error_percent']:+.2f}% on "
            f"average, {last['worst_percent']:+.2f}% at worst."
        )
    elif missing:
        out.append(f"Roll-out: {missing}.")
    return out
