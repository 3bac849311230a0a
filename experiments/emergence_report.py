"""What many models' answers say of each ability: whether, where and how suddenly it appears.

Three explanations of a sudden rise are tested. *Threshold*: the score follows parameters, compute
or loss, and starts at some value of it. *Accumulation*: an answer of several steps is right where
all are, and their success rates multiplied give that of the whole. *Measurement* (Schaeffer et al.
2023): the same outputs rise smoothly under a score that gives partial credit; Du et al. 2024 take
the loss as the axis, since equal losses, not equal sizes, make models comparable.
"""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from data.files import write_atomic
from experiments.abilities import CHOICES, TASKS
from experiments.records import read_records
from experiments.sharpness import (
    Points,
    crossing,
    explained,
    predicted,
    resampled_difference,
    sharpness,
    wilson,
)
from experiments.tables import table

HALF = 0.5  # of the way from chance to always: where an ability counts as crossed
LEAST = 0.1  # above chance, of that way: where it counts as seen
BLIND = 10  # a null that reaches so far cannot tell a rise within a tenth of the range from chance
FEWEST = 6  # models from which on curves are fitted
AXES = {"N": "parameters", "D": "tokens", "C": "compute", "loss": "loss"}
METRICS = {
    "exact": "exact match",
    "partial": "partial credit",
    "brier": "Brier skill",
    "nats": "log-likelihood",
}
UNIFORM_BRIER = (1 - 1 / CHOICES) ** 2 + (CHOICES - 1) / CHOICES**2


class Study(NamedTuple):
    """What a folder has: records with an answer each, the tasks asked, and what is missing."""

    records: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    missing: list[str]

    @property
    def cells(self) -> list[str]:
        """'TASK DIFFICULTY' of all that was asked of every model."""
        names = [f"{n} {d}" for n, task in TASKS.items() for d in task.difficulties]
        return [c for c in names if all(c in a["cells"] for a in self.answers)]

    def column(self, key: str) -> np.ndarray:
        return np.array([r[key] for r in self.records], float)

    def axis(self, name: str) -> np.ndarray:
        """Growing with scale: log10 of N or C, or minus the loss of text."""
        values = self.column(name)
        return -values if name == "loss" else np.log10(values)

    def values(self, cell: str, key: str) -> np.ndarray:
        return np.array([a["cells"][cell][key] for a in self.answers], float)

    def points(self, cell: str, metric: str, axis: str) -> Points:
        """A score along an axis."""
        y, error = self.score(cell, metric)
        cells = np.stack([self.column("N"), self.column("D")], 1)
        group = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        return Points(self.axis(axis), y, error, group)

    def score(self, cell: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Scores that grow with ability, at most 1 (log-likelihood: 0), and standard errors."""
        if metric == "exact":
            right, asked = self.values(cell, "right"), self.values(cell, "asked")
            ends = np.array([wilson(r, n) for r, n in zip(right, asked, strict=True)])
            return right / asked, np.ptp(ends, axis=1) / 2 / 1.96
        value, error = self.values(cell, metric), self.values(cell, f"{metric}_error")
        if metric == "brier":
            return 1 - value / UNIFORM_BRIER, error / UNIFORM_BRIER
        return value, error


def read(folder: Path) -> Study:
    """A measurement's folder, as far as it has come.

    Raises:
      UserError: no model has been asked yet, or a file is not readable.
    """
    records = read_records(folder / "sweep")
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for record in records:
        path = folder / "answers" / f"{record['run_id']}.json"
        if path.exists():
            try:
                answer = json.loads(path.read_text())
                found.append((record, {"cells": dict(answer["cells"])}))
            except (ValueError, KeyError, TypeError) as e:
                raise UserError(f"{path} holds no answers ({e}): remove it to ask again") from e
    if not found:
        raise UserError(
            f"{folder} has no answers yet: start experiments.emergence on it without --draw"
        )
    missing = []
    plan = folder / "sweep" / "plan.json"
    planned = len(json.loads(plan.read_text())["trials"]) if plan.exists() else len(records)
    if len(found) < planned:
        missing.append(f"{planned - len(found)} of {planned} models are not trained and asked yet")
    if len({r["seed"] for r, _ in found}) == 1:
        missing.append(
            "one seed only: how far runs differ by luck is taken from their scatter about curves"
        )
    if len(found) < FEWEST:
        missing.append(f"{len(found)} models are too few for curves; there are {FEWEST} at least")
    return Study([r for r, _ in found], [a for _, a in found], missing)


def floor(study: Study, cell: str, metric: str) -> float | None:
    """What no ability at all scores, where that is known."""
    if metric == "exact":
        return float(study.values(cell, "chance").mean())
    return None


def analyse(study: Study, cell: str) -> dict[str, Any]:
    """All that is found of one task at one difficulty, plain data."""
    right, asked = study.values(cell, "right"), study.values(cell, "asked")
    share, chance = right / asked, float(study.values(cell, "chance").mean())
    best = int(np.argmax(share))
    low, high = wilson(right[best], asked[best], 1 - 0.05 / len(share))  # the best of several
    found: dict[str, Any] = {
        "chance": chance,
        "best": {"share": share[best], "low": low, "high": high, "N": study.records[best]["N"]},
        "seen": bool(low > chance + LEAST * (1 - chance)),
        "crossed": bool(low > chance + HALF * (1 - chance)),
        "accumulation": accumulation(study, cell),
    }
    if len(share) < FEWEST:
        return found
    base = floor(study, cell, "exact")
    exact = {a: study.points(cell, "exact", a) for a in AXES if np.ptp(study.axis(a))}
    for name, share_at in (("starts", LEAST), ("crosses", HALF)):
        level = chance + share_at * (1 - chance)
        found[name] = {a: _natural(a, crossing(p, level, base)._asdict()) for a, p in exact.items()}
    if not found["seen"]:
        return found
    found["follows"] = follows(exact, base)
    found["sharpness"] = {
        axis: {m: _sharp(study, cell, m, axis) for m in METRICS}
        for axis in ("C", "loss")
        if axis in exact
    }
    found["left_out"] = left_out(study, cell)
    return found


def _natural(axis: str, value: Any) -> Any:
    """Axis values in their own unit, None beyond what was looked at; ends of losses in order."""
    if isinstance(value, dict):
        found = {k: _natural(axis, v) for k, v in value.items()}
        if axis == "loss" and "low" in found:
            found["low"], found["high"] = found["high"], found["low"]
        return found
    if not math.isfinite(value):
        return None
    return -value if axis == "loss" else 10**value


def _sharp(study: Study, cell: str, metric: str, axis: str) -> dict[str, Any]:
    ceiling = 0.0 if metric == "nats" else 1.0
    found = sharpness(study.points(cell, metric, axis), floor(study, cell, metric), ceiling)
    return found._asdict() | {"sudden": found.sudden}


def accumulation(study: Study, cell: str) -> dict[str, Any]:
    """Success rates of the steps multiplied, against the share of whole answers that are right.

    `off`: root mean square difference over the models; `noise`: what it would be by chance of the
    instances alone, if the steps were independent.
    """
    right, asked = study.values(cell, "right"), study.values(cell, "asked")
    steps = np.array([a["cells"][cell]["steps"] for a in study.answers], float) / asked[:, None]
    product = steps.prod(1)
    off = float(np.sqrt(np.mean((right / asked - product) ** 2)))
    noise = float(np.sqrt(np.mean(product * (1 - product) / asked)))
    return {"product": product.tolist(), "steps": steps.shape[1], "off": off, "noise": noise}


def follows(exact: dict[str, Points], base: float | None) -> dict[str, Any]:
    """Which axis explains most of the score, and whether by more than the choice of runs."""
    share = {a: explained(p, base) for a, p in exact.items()}
    first = max(share, key=lambda a: share[a])
    against = {
        a: resampled_difference(exact[first], p, base) for a, p in exact.items() if a != first
    }
    clear = all(low >= 0.01 for low, _ in against.values())
    return {"explained": share, "most": first, "against": against, "clear": clear}


def left_out(study: Study, cell: str) -> dict[str, Any] | None:
    """The largest size predicted from the others along compute, and how that went.

    None where there is one size, or too few runs of the others.
    """
    N = study.column("N")
    rest = N.max() > N
    if rest.sum() < FEWEST:
        return None
    points = study.points(cell, "exact", "C")
    known = Points(*(v[rest] for v in points))
    base = floor(study, cell, "exact")
    error = float(points.error[~rest].mean())
    value, low, high = predicted(known, points.x[~rest], error, base)
    y = points.y[~rest]
    return {
        "N": N.max(),
        "C": (10 ** points.x[~rest]).tolist(),
        "predicted": value.tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
        "measured": y.tolist(),
        "inside": int(((low <= y) & (y <= high)).sum()),
        "mean_error": float(np.abs(value - y).mean()),
        "mean_only": float(np.abs(known.y.mean() - y).mean()),  # of no law at all
    }


def verdict(cell: str, found: dict[str, Any]) -> str:
    """What is found of one task at one difficulty, in words, every claim with its interval."""
    best = found["best"]
    share = f"{best['share']:.2f} ({best['low']:.2f} to {best['high']:.2f})"
    if not found["seen"]:
        return (
            f"{cell}: not seen at this scale. The best model is right in {share} of the cases, "
            f"chance is {found['chance']:.3g}." + _expected(found)
        )
    words = "crossed" if found["crossed"] else "seen, not crossed"
    lines = [f"{cell}: {words}. The best model is right in {share} of the cases."]
    if "follows" not in found:
        return lines[0] + " Too few models for curves."
    starts, crosses = found["starts"], found["crosses"]
    if "C" in starts:
        lines.append(
            f"It starts at {_range(starts['C'], 'C')}"
            + (f" and loss {_range(starts['loss'], 'loss')}" if "loss" in starts else "")
            + f"; half-way is at {_range(crosses['C'], 'C')}."
        )
    most = found["follows"]
    shares = ", ".join(f"{AXES[a]} {v:.0%}" for a, v in most["explained"].items())
    lines.append(
        f"Of its variance a sigmoid explains, along {shares}: it follows {AXES[most['most']]}"
        + (", beyond the luck of runs" if most["clear"] else ", but that may be luck of the runs")
        + f" (95% of its lead over {_leads(most)})."
    )
    for axis, by_metric in found["sharpness"].items():
        lines.append(f"Along {AXES[axis]} it is {_suddenness(by_metric)}.")
    lines.append(_accumulated(found["accumulation"]))
    if found["left_out"]:
        o = found["left_out"]
        lines.append(
            f"The largest size, left out, was within the sigmoid's 95% in {o['inside']} of "
            f"{len(o['measured'])} runs, {o['mean_error']:.2f} off on average "
            f"(the others' mean: {o['mean_only']:.2f})."
        )
    return " ".join(lines)


def _leads(most: dict[str, Any]) -> str:
    return ", ".join(f"{AXES[a]}: {lo:.2f} to {hi:.2f}" for a, (lo, hi) in most["against"].items())


def _expected(found: dict[str, Any]) -> str:
    """Where a sigmoid expects what was not seen."""
    if "C" not in found.get("crosses", {}):
        return ""
    c = found["crosses"]["C"]
    if c["value"] is not None:
        return f" A sigmoid expects it half-way at {_range(c, 'C')}, if it can be trusted so far."
    early = "nowhere" if c["low"] is None else f"not before {c['low']:.1e} FLOPs"
    return f" A sigmoid through these runs expects it {early}: they do not say where."


def _range(c: dict[str, Any], axis: str) -> str:
    def one(v: float | None) -> str:
        if v is None:
            return "out of sight"
        return f"{v:.2f}" if axis == "loss" else f"{v:.1e} FLOPs"

    return f"{one(c['value'])} ({one(c['low'])} to {one(c['high'])})"


def _suddenness(by_metric: dict[str, dict[str, Any]]) -> str:
    def one(name: str) -> str:
        s = by_metric[name]
        ends = f"{s['low']:.1f} to {s['high']:.1f}; smooth up to {s['null_high']:.1f}"
        return f"{METRICS[name]} {s['value']:.1f} ({ends})"

    sudden = [m for m in METRICS if by_metric[m]["sudden"]]
    if not sudden and by_metric["exact"]["null_high"] >= BLIND:
        return f"not told whether sudden or smooth by so few runs [{'; '.join(map(one, METRICS))}]"
    words = {True: "sudden", False: "no more sudden than smooth curves look"}["exact" in sudden]
    graded = [m for m in sudden if m != "exact"]
    if "exact" in sudden and not graded:
        words += " under exact match alone, so the measure makes it"
    elif "exact" in sudden:
        words += (
            " under "
            + ", ".join(METRICS[m] for m in graded)
            + " too, so it is not the measure alone"
        )
    return f"{words} [sharpness: {'; '.join(map(one, METRICS))}]"


def _accumulated(a: dict[str, Any]) -> str:
    if a["steps"] == 1:
        return "An answer is one step: nothing accumulates."
    fits = "predict the whole" if a["off"] <= 2 * a["noise"] else "do not predict the whole"
    return (
        f"Its {a['steps']} steps' success rates, multiplied, {fits}: {a['off']:.3f} off, where "
        f"independent steps would be {a['noise']:.3f}."
    )


def summary(study: Study, results: dict[str, dict[str, Any]]) -> str:
    """The table of all that was asked."""
    rows = [["task, difficulty", "chance", "best share", "95% interval", "verdict"]]
    for cell, found in results.items():
        best = found["best"]
        word = "crossed" if found["crossed"] else "seen" if found["seen"] else "not seen"
        rows.append(
            [
                cell,
                f"{found['chance']:.2g}",
                f"{best['share']:.2f}",
                f"{best['low']:.2f} to {best['high']:.2f}",
                word,
            ]
        )
    return table(rows)


def report(folder: Path) -> dict[str, Any]:
    """Says and draws what a folder has; writes emergence.json, verdicts.txt and figures."""
    from experiments import emergence_figures

    study = read(folder)
    cells = {cell: analyse(study, cell) for cell in study.cells}
    lines = [f"missing: {line}" for line in study.missing]
    lines += [summary(study, cells), ""]
    lines += [verdict(cell, found) for cell, found in cells.items()]
    text = "\n".join(lines)
    print(text)
    result = {"models": len(study.records), "missing": study.missing, "cells": cells}
    write_atomic(folder / "emergence.json", json.dumps(result, indent=1) + "\n")
    write_atomic(folder / "verdicts.txt", text + "\n")
    emergence_figures.save(folder / "figures", study, cells)
    print(f"\nwrote {folder}/emergence.json, verdicts.txt and figures/")
    return result
