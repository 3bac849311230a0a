"""What cleaning a crawl does to a model: raw, deduplicated, filtered and fully curated text.

    make ablation
    python -m experiments.ablation --config=configs/ablation.py --workdir=out/ablation

The same small model is trained on each version of the embedded crawl for equally many tokens:
on all of the version's text, so that a smaller version is read more often, and on equally many
unique tokens of each, so that it is not. Each is asked for held-out text, and to go on with
passages of the crawl. Leaves runs/*.json, ablation.json and ablation.png; the same command goes on
where it was stopped.
"""

import itertools
import json
import pickle
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from data.errors import UserError, run
from data.files import only_writer, write_atomic
from data.parallel import cpu_count, parallel_map
from experiments import ablation_data
from experiments.ablation_data import ASKED, READ
from experiments.ablation_train import ALL, EQUAL, TEXTS, Trial, train
from experiments.tables import table
from lm.config import check_same_run, flatten, load, resolve

MEASURES = {
    "held_out": "held-out bits/byte",
    "repeated": "repeated passages, bits/byte",
    "single": "single passages, bits/byte",
    "verbatim": "repeated passages verbatim",
}


class Mean(NamedTuple):
    """A mean over seeds with its 95% interval (Student's t); the half-width of one seed is nan."""

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {self.half:.3f}"


def check(c: ConfigDict) -> ConfigDict:
    """Return the resolved base config; UserError for values that no field may have."""
    for name in ("tokens", "passages"):
        if c[name] < 1:
            raise UserError(f"{name}={c[name]} must be at least 1")
    if not c.seeds or len(set(c.seeds)) < len(c.seeds):
        raise UserError(f"seeds={tuple(c.seeds)} must be different numbers, one at least")
    if not 0 < c.held_out < 1:
        raise UserError(f"held_out={c.held_out:g} is not a share between 0 and 1")
    base = c.base.copy_and_resolve_references()
    base.steps = max(1, round(c.tokens / (base.batch_size * base.seq_len)))
    if base.objective != "causal":
        raise UserError(f"base.objective={base.objective}: only causal models go on with a passage")
    return resolve(base)


def claim(folder: Path, c: ConfigDict) -> None:
    """Take a folder for this ablation; UserError where it holds another one's runs."""
    new = {k: v for k, v in flatten(c.to_dict()).items() if k != "workers"}
    path = folder / "config.json"
    if path.exists():
        check_same_run(path, json.loads(path.read_text("utf-8")), json.loads(json.dumps(new)))
    write_atomic(path, json.dumps(new, indent=1) + "\n")


def mean(values: list[float]) -> Mean:
    """Mean over seeds with its 95% interval."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return Mean(float(np.mean(values)), float("nan"))
    half = stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / np.sqrt(n)
    return Mean(float(np.mean(values)), float(half))


def summarise(results: dict[Trial, dict[str, float]]) -> list[dict[str, Any]]:
    """One row for each version and text: every measure's mean, and its change from the raw one."""
    rows = []
    seeds = sorted({trial.seed for trial in results})
    for version, text in dict.fromkeys((t.version, t.text) for t in results):
        own = [results[Trial(version, text, seed)] for seed in seeds]
        raw = [results[Trial(next(iter(results)).version, text, seed)] for seed in seeds]
        row: dict[str, Any] = {"version": version, "text": text}
        for name in own[0]:
            row[name] = mean([r[name] for r in own])
            row[f"{name}_change"] = mean([r[name] - b[name] for r, b in zip(own, raw, strict=True)])
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    head = ["", "unique tokens", "epochs", *MEASURES.values(), "held-out, change from raw"]
    lines = [head]
    for row in rows:
        cells = [f"{row['unique_tokens'].mean:,.0f}", f"{row['epochs'].mean:.2f}"]
        cells += [str(row[name]) for name in MEASURES]
        change = row["held_out_change"]
        lines.append([f"{row['version']}, {row['text']}", *cells, str(change)])
    return table(lines)


def ablate(c: ConfigDict, folder: Path) -> list[dict[str, Any]]:
    """Everything: texts, models, table, figure."""
    from experiments import ablation_figure

    base = check(c).to_json()
    claim(folder, c)
    texts = ablation_data.prepare(c, folder)
    for sort, some in (("repeated", texts.repeated), ("single", texts.single)):
        if not some:
            raise UserError(f"the versions share no {sort} passage of {READ + ASKED} tokens")
        print(f"{len(some)} {sort} passages, {np.mean([p.copies for p in some]):.1f} copies each")
    write_atomic(folder / TEXTS, pickle.dumps(texts))
    grid = itertools.product(c.seeds, c.versions, (ALL, EQUAL))
    trials = [Trial(version, text, seed) for seed, version, text in grid]
    paths = {trial: folder / "runs" / f"{trial.name}.json" for trial in trials}
    missing = [trial for trial in trials if not paths[trial].exists()]
    workers = min(c.workers or cpu_count(), max(1, len(missing)))
    work = partial(train, base, str(folder))
    for trial, found in zip(missing, parallel_map(work, missing, workers), strict=True):
        write_atomic(paths[trial], json.dumps(found, indent=1) + "\n")
        print(f"{trial.name}: {found['held_out']:.3f} bits/byte held out", file=sys.stderr)
    results = {trial: json.loads(path.read_text("utf-8")) for trial, path in paths.items()}
    rows = summarise(results)
    plain = [{k: v._asdict() if isinstance(v, Mean) else v for k, v in row.items()} for row in rows]
    write_atomic(folder / "ablation.json", json.dumps(plain, indent=1) + "\n")
    ablation_figure.save(rows, folder / "ablation.png")
    print(f"\n{show(rows)}\n\nwrote {folder}/ablation.json and {folder}/ablation.png")
    return rows


def main() -> None:
    """The command."""
    c, flags = load(sys.argv, __doc__ or "", workdir=("", "folder of the ablation"))
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the ablation")
    check(c)
    with only_writer(flags.workdir):
        ablate(c, Path(flags.workdir))


if __name__ == "__main__":
    run(main)
