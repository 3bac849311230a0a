"""From a sweep's folder to its law, frontier, figures, one-file report and the closing table.

    python -m experiments.report out/sweep
    python -m experiments.report out/sweep out/long --out=report.html

The report needs the folder only: run records, and what is there of plan, law and frontier. A sweep
that is not finished is shown as far as it goes, with what is missing.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from data import page as html
from data.errors import Parser, UserError, run
from data.files import human_count, write_atomic
from experiments.checks import (
    RateCheck,
    missing_trials,
    rate_checks,
    read_plan,
    saved_share,
)
from experiments.frontier import frontier, show, to_json
from experiments.laws import FORMULA, NAMES, Law, Optimum, fit
from experiments.records import Record, read_records, write_runs_csv
from experiments.runs import own_curves, read
from experiments.tables import duration, table
from experiments.validation import examine, findings

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
        write_runs_csv(folder)
        try:
            runs = read(folder / "runs.csv")
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
    own = sorted({r["budget"] for r in records if not r["held_out"]})
    return [*own, *(own[-1] * b for b in BEYOND), *FAR]


def finish(folder: Path, began: float) -> Findings:
    """Ends a sweep: writes law.json, frontier.json, figures and report.html, prints the table.

    `began` is the time.monotonic() at which the sweep was started.
    """
    from experiments.sweep_figures import draw

    found = find(folder)
    if found.law:
        found.law.save(folder / "law.json")
        rows = json.dumps(to_json(found.law, found.optima), indent=1, allow_nan=False)
        write_atomic(folder / "frontier.json", rows + "\n")
    figures = draw(folder, found.records, found.law, found.checks)
    write_atomic(folder / "report.html", build([(found, figures)]))
    print(summary(found, elapsed=time.monotonic() - began))
    return found


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


def build(sweeps: list[tuple[Findings, list[Any]]]) -> str:
    """The report of one or several sweeps as HTML; figures are read from their folders."""
    body = [html.heading("Compute-optimal scaling: a sweep's report", 1)]
    for found, figures in sweeps:
        if len(sweeps) > 1:
            body.append(html.heading(str(found.folder)))
        body += section(found, figures)
    return html.page("Compute-optimal scaling: a sweep's report", body)


def section(found: Findings, figures: list[Any]) -> list[str]:
    """The pieces of one sweep."""
    parts = [html.paragraph(cost_line(found))]
    if found.missing:
        names = [f"{t['rung']}: D {human_count(t['D'])}, {t['C']:.2e} FLOPs" for t in found.missing]
        total = len(found.plan["trials"])
        parts.append(html.paragraph(
            f"This sweep is not complete: {len(found.missing)} of {total} runs are missing. "
            "What follows rests on the others.", "warn"))  # fmt: skip
        parts.append(html.bullets(names, "warn"))
    if found.law:
        parts += law_section(found.law, found.optima)
    else:
        parts.append(html.paragraph(f"No law can be fitted yet: {found.no_law}", "warn"))
    parts.append(html.heading("Figures"))
    parts += [html.figure(found.folder / "figures" / f"{f.name}.png", f.caption) for f in figures]
    if found.checks:
        parts.append(html.heading("Learning-rate check"))
        parts += [html.paragraph(str(c), "warn" if c.under_tuned else "") for c in found.checks]
    parts += [html.heading("Runs"), html.table(run_rows(found.records))]
    if found.plan["text"]:
        parts += [html.heading("The plan"), html.preformatted(found.plan["text"])]
    return [*parts, html.heading("How it was counted"), *provenance(found)]


def law_section(law: Law, optima: list[Optimum]) -> list[str]:
    """The law, its optima, and how it did beyond the data."""
    parts = [html.heading("The law"), html.paragraph(FORMULA), html.table(law_rows(law))]
    parts += [html.paragraph(holdout_line(s)) for s in law.holdout]
    parts += [html.paragraph(text) for text in findings(law)]
    if law.warnings:
        parts.append(html.bullets([f"Warning: {w}" for w in law.warnings], "warn"))
    rows = [line.split("  ") for line in show(optima).splitlines()]
    cells = [[c.strip() for c in row if c.strip()] for row in rows]
    del cells[1]  # the rule under the header
    return [
        *parts,
        html.heading("Compute-optimal models"),
        html.table(cells),
        html.paragraph(
            "'Beyond the data' is how many decades of compute a budget lies above the largest run "
            "of the fit. Far out, the intervals hold only as far as the law's form does.", "soft"
        ),
    ]  # fmt: skip


def provenance(found: Findings) -> list[str]:
    """Conventions, versions and hashes."""
    first = found.records[0]
    versions = ", ".join(f"{k} {v}" for k, v in sorted(first["versions"].items()))
    items = [
        "N counts all parameters, embeddings included; C the FLOPs of every matrix product of the "
        "forward and backward pass, attention as the whole square.",
        f"Loss in nats/token on {first['eval_tokens']:,} validation tokens.",
        f"Tokenizer {first['tokenizer_hash'][:12]}, data {first['data_hash'][:12]}, "
        f"commit {first['git_commit'][:12] or 'unknown'}; {versions}; chip: {first['chip']}.",
    ]
    if found.law:
        items += [f"{k}: {v}" for k, v in found.law.conventions.items()]
        items.append(
            f"Fitted on {found.law.data['points']} runs, sha256 {found.law.data['sha256']}."
        )
    return [html.bullets(items, "soft")]


def main() -> None:
    """The command."""
    from experiments.sweep_figures import draw

    parser = Parser(
        prog="python -m experiments.report",
        description=__doc__,
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders of sweeps")
    parser.add_argument("--out", type=Path, help="the file; by default report.html in the first")
    flags = parser.parse_args()
    sweeps = [find(folder) for folder in flags.folders]
    out = flags.out or flags.folders[0] / "report.html"
    drawn = [(f, draw(f.folder, f.records, f.law, f.checks)) for f in sweeps]
    write_atomic(out, build(drawn))
    for found in sweeps:
        print(f"{found.folder}: {len(found.records)} runs, {len(found.missing)} missing")
    print(f"wrote {out}")


if __name__ == "__main__":
    run(main)
