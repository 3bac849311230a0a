"""What is known of a sweep from its folder: records, plan, law, and what they say in words.

Nothing is written: a folder is read as it is, whole or half.
"""

from pathlib import Path
from typing import Any, NamedTuple

from data.errors import UserError
from data.files import human_count
from experiments.checks import (
    ASSUMED_NOISE,
    RateCheck,
    missing_trials,
    rate_checks,
    read_plan,
    saved_share,
    seed_noise,
)
from experiments.frontier import frontier, show
from experiments.laws import FORMULA, NAMES, Law, Optimum, fit
from experiments.records import COLUMNS, Record, read_records
from experiments.runs import from_rows, own_curves
from experiments.tables import duration, table
from experiments.validation import examine

FAR = (1e21, 1e22, 1e23, 1e24)  # FLOPs at which real budgets lie
BEYOND = (10.0, 100.0, 1000.0)  # times the largest budget


class Findings(NamedTuple):
    """All that is known of a sweep; what cannot be known yet is None or empty."""

    folder: Path
    records: list[Record]
    plan: dict[str, Any]
    missing: list[dict[str, Any]]
    checks: list[RateCheck]
    law: Law | None
    no_law: str  # why there is none
    optima: list[Optimum]


def find(folder: Path, law: Law | None = None) -> Findings:
    """Reads a sweep's folder; its law is fitted anew from the records unless given.

    Raises:
      UserError: there is no run record.
    """
    records = read_records(folder)
    if not records:
        raise UserError(f"{folder} has no runs/*.json: is it the folder of a sweep that has run?")
    plan = read_plan(folder)
    no_law = ""
    if law is None:
        try:
            rows = [{c: r[c] for c in COLUMNS} for r in records]
            runs = from_rows(rows, str(folder / "runs.csv"))
            law = examine(fit(runs), runs, own_curves(folder))
        except UserError as e:
            no_law = str(e)
    return Findings(
        folder,
        records,
        plan,
        missing_trials(plan, records),
        rate_checks(records),
        law,
        no_law,
        frontier(law, report_budgets(records)) if law else [],
    )


def report_budgets(records: list[Record]) -> list[float]:
    """The sweep's own budgets, some beyond them, and real ones."""
    return budgets_beyond(sorted({r["budget"] for r in records if not r["held_out"]}))


def budgets_beyond(own: list[float]) -> list[float]:
    """Budgets from the smallest, multiples of the largest, and those of real models."""
    return [*own, *(own[-1] * b for b in BEYOND), *FAR]


def summary(found: Findings, elapsed: float) -> str:
    """What a sweep prints at its end."""
    parts = ["", cost_line(found, elapsed), "", table(run_rows(found.records)), ""]
    parts += [str(check) for check in found.checks]
    if found.law:
        parts += ["", FORMULA, table(law_rows(found.law)), "", show(found.optima)]
        parts += [
            f"C: {found.law.conventions['C']}; the last column is how far compute lies beyond."
        ]
        parts += ["", *(holdout_line(s) for s in found.law.holdout)]
        parts += [f"warning: {w}" for w in found.law.warnings]
    else:
        parts.append(f"no law: {found.no_law}")
    names = [n for n in ("runs.csv", "law.json", "frontier.json", "report.html")
             if (found.folder / n).exists()]  # fmt: skip
    parts += ["", *(str(found.folder / n) for n in [*names, "figures/"])]
    return "\n".join(parts)


def cost_line(found: Findings, elapsed: float = 0.0) -> str:
    """What was planned against what it took."""
    records = found.records
    seconds = sum(r["seconds"] for r in records)
    text = (
        f"{len(records)} runs: {sum(r['C_spent'] for r in records):.3g} FLOPs, "
        f"{duration(seconds)} of worker time, ${sum(r['dollars'] for r in records):.2f}"
    )
    planned = found.plan.get("estimate") or {}
    if planned:
        text += (
            f" (planned: {planned['flops']:.3g} FLOPs, {duration(planned['hours'] * 3600)}, "
            f"${planned['dollars']:.2f})"
        )
    text += f"; shared trunks saved {saved_share(records):.0%} of the compute"
    return text + (f"; all in {duration(elapsed)}" if elapsed else "")


def gaps(found: Findings) -> list[str]:
    """What a reader would miss without being told: a sentence each."""
    said = []
    if found.missing:
        said.append(
            f"This sweep is not complete: {len(found.missing)} of {len(found.plan['trials'])} runs "
            "are missing. What follows rests on the others."
        )
    if found.law is None:
        said.append(f"No law can be fitted yet: {found.no_law}")
    if not seed_noise(found.records).freedom:
        said.append(
            "One seed only: no run is repeated, so the scatter between seeds is not measured; "
            f"{ASSUMED_NOISE} nats/token is assumed where it is needed."
        )
    if not found.plan["trials"]:
        said.append("There is no plan.json, so it cannot be said whether runs are missing.")
    return said


def missing_names(found: Findings) -> list[str]:
    """The planned trials that are not there."""
    return [f"{t['rung']}: D {human_count(t['D'])}, {t['C']:.2e} FLOPs" for t in found.missing]


def run_rows(records: list[Record]) -> list[list[str]]:
    """The table of runs: header first."""
    rows = [["model", "N", "D", "D/N", "C", "loss", "bits/byte", "rate", "seed", "seconds", ""]]
    for r in records:
        note = "held out" if r["held_out"] else f"rate x{r['lr_factor']:g}"
        rows.append(
            [
                r["model"],
                human_count(r["N"]),
                human_count(r["D"]),
                f"{r['D'] / r['N']:.1f}",
                f"{r['C']:.2e}",
                f"{r['loss']:.4f}",
                "-" if r["bits_per_byte"] is None else f"{r['bits_per_byte']:.4f}",
                f"{r['learning_rate']:.2g}",
                str(r["seed"]),
                f"{r['seconds']:.0f}",
                note if r["held_out"] or r["lr_factor"] != 1 else "",
            ]
        )
    return rows


def law_rows(law: Law) -> list[list[str]]:
    """Parameters and exponents with their 90% intervals: header first."""
    a = law.params["beta"] / (law.params["alpha"] + law.params["beta"])
    values = {**{n: law.params[n] for n in NAMES}, "a": a, "b": 1 - a}
    note = {"a": "N* grows as C^a", "b": "D* grows as C^b"}
    rows = [["parameter", "value", "90% interval", ""]]
    for name, value in values.items():
        low, high = law.intervals[name]
        rows.append([name, f"{value:.4g}", f"{low:.4g} to {high:.4g}", note.get(name, "")])
    iso = law.isoflop
    for name, what in (("a", "N*"), ("b", "D*")):
        exponent = getattr(iso, name) if iso else None
        if exponent is not None:
            interval = getattr(iso, f"{name}_interval")
            text = f"{interval[0]:.4g} to {interval[1]:.4g}" if interval else "not measured"
            rows.append([f"{name}, isoFLOP", f"{exponent:.4g}", text, f"from the minima of {what}"])
    return rows


def holdout_line(score: dict[str, Any]) -> str:
    """A held-out run against the law."""
    low, high = score["interval"]
    return (
        f"held out: N {human_count(score['N'])}, D {human_count(score['D'])}, "
        f"{score['times_largest_C']:.1f} times the largest C of the fit: loss {score['loss']:.4f}, "
        f"predicted {score['predicted']:.4f} ({low:.4f} to {high:.4f}), "
        f"error {score['error_percent']:+.2f}%, "
        f"{'inside' if score['inside'] else 'OUTSIDE'} the 90% interval"
    )


def data_rows(records: list[Record]) -> list[list[str]]:
    """The tokenizers and texts that the runs used: header first."""
    rows = [["tokenizer", "data", "tokens in it", "runs", "validation tokens", "chip"]]
    groups: dict[tuple[str, ...], int] = {}
    for r in records:
        key = (
            r["tokenizer_hash"][:12], r["data_hash"][:12], human_count(r["unique_tokens"]),
            f"{r['eval_tokens']:,}", r["chip"],
        )  # fmt: skip
        groups[key] = groups.get(key, 0) + 1
    rows += [[*key[:3], str(count), *key[3:]] for key, count in groups.items()]
    return rows


def provenance(found: Findings) -> list[str]:
    """Conventions, versions and commit, a sentence each."""
    first = found.records[0]
    versions = ", ".join(f"{k} {v}" for k, v in sorted(first["versions"].items()))
    items = [
        "N counts all parameters, embeddings included; C the FLOPs of every matrix product of the "
        "forward and backward pass, attention as the whole square.",
        f"Loss in nats/token on {first['eval_tokens']:,} validation tokens.",
        f"Commit {first['git_commit'][:12] or 'unknown'}; {versions}.",
    ]
    if found.law:
        items += [f"{k}: {v}" for k, v in found.law.conventions.items()]
        items.append(
            f"Fitted on {found.law.data['points']} runs, sha256 {found.law.data['sha256']}."
        )
    return items
