"""The three objectives at equal compute: what each sees, learns, and is good at; a law for each.

    make objectives
    python -m experiments.objectives --workdir=out/objectives

Trains a decoder (causal), an encoder (masked) and an encoder-decoder (span corruption) with the
same FLOPs on the embedded corpus, asks all three the same things, then sweeps each over nine cells
of model size and compute. Leaves objectives.json, figures/*.png, and each run's and sweep's
folder; the same command goes on where it was stopped.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from configs import gpt
from configs import sweep as sweeps
from data.errors import Parser, UserError, run
from data.files import write_atomic
from data.store import Store
from data.tokenizer import EOT
from experiments.tables import table
from lm.config import resolve
from lm.load import Run, load
from lm.objective import sizes
from lm.score import Request, score

VARIANTS = {"causal": "decoder", "masked": "encoder", "span": "encoder-decoder"}
COMPUTE = 1.2e12  # FLOPs of each of the three runs
MASKED = 0.3  # of the tokens: twice BERT's share, so that the encoder learns from more of them
LADDER = ((16, 2), (24, 2), (40, 2))
BUDGETS = (4e10, 8e10, 1.6e11)
WINDOW = 64  # tokens of a text that a probe reads
PROBES = 300  # windows of the validation text for each
# name: (tokens before, tokens to be found, tokens after, what it is)
ASKED = {
    "continuation": (48, 8, 0, "8 tokens after 48"),
    "cloze": (31, 1, 32, "1 token between 31 and 32"),
    "infilling": (29, 6, 29, "6 tokens between 29 and 29"),
}


class Probe(NamedTuple):
    """How a model did at one probe."""

    nats: float  # for each token asked for
    error: float  # standard error, over windows
    greedy: float  # share of windows in which every token is the model's first choice


def settings(c: ConfigDict, objective: str) -> ConfigDict:
    """The layers that all three share; only the objective, and with it the stacks, differ.

    Positions by a learned bias: short runs learn from it at once who stands next to whom.
    """
    c.objective, c.model.position, c.masked.rate = objective, "relative", MASKED
    return c


def run_config(objective: str, compute: float) -> ConfigDict:
    """A small model of an objective, with the steps that its compute allows."""
    c = settings(gpt.rung(sweeps.defaults().base, 48, 2), objective)
    c.train.update(eval_every=0, log_every=20, eval_tokens=100_000)
    c.checkpoint_every = 200
    per_token, tokens = sizes(resolve(c))
    c.steps = max(1, round(compute / (per_token * tokens)))
    return c


def sweep_config(objective: str) -> ConfigDict:
    """The sweep of an objective: nine cells, one word apart from the others'."""
    c = sweeps.defaults()
    settings(c.base, objective)
    c.base.train.eval_tokens = 50_000
    c.ladder, c.budgets = LADDER, BUDGETS
    c.tokens_per_parameter = (0.1, 1000.0)
    c.held_out, c.noise_seeds, c.lr_check = 0.0, (), ()
    return c


def requests(store: Store, before: int, target: int, after: int, count: int) -> list[Request]:
    """Windows spread evenly over a text, none across an end of text."""
    length = before + target + after
    starts = np.linspace(0, len(store) - length, 4 * count).astype(int)
    whole = [start for start in starts if EOT not in store.tokens[start : start + length]]
    if not whole:
        raise UserError("the validation text has no document long enough for a probe")
    found = []
    for i in np.unique(np.linspace(0, len(whole) - 1, count).astype(int)):
        ids = store.tokens[whole[i] : whole[i] + length].tolist()
        cut = before + target
        found.append(Request(ids[:before], ids[before:cut], ids[cut:]))
    return found


def probe(model: Run, store: Store, count: int = PROBES) -> dict[str, Probe]:
    """All probes of one model."""
    result = {}
    for name, (before, target, after, _) in ASKED.items():
        scores = score(model, requests(store, before, target, after, count))
        nats = np.array([-s.nats / s.tokens for s in scores])
        error = float(nats.std(ddof=1) / np.sqrt(len(nats)))
        result[name] = Probe(float(nats.mean()), error, float(np.mean([s.greedy for s in scores])))
    return result


def train_variants(folder: Path, compute: float) -> dict[str, Run]:
    """The three runs at equal compute, trained where they are not yet."""
    from lm.train import train

    models = {}
    for objective in VARIANTS:
        if train(run_config(objective, compute), folder / objective) is None:
            raise KeyboardInterrupt
        models[objective] = load(folder / objective)
    return models


def curve(folder: Path) -> list[tuple[int, float]]:
    """Steps and training losses that a run has logged."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return [(r["step"], r["loss"]) for r in rows if "loss" in r and "event" not in r]


def show(probes: dict[str, dict[str, Probe]]) -> str:
    """The probes as a table."""
    rows = [["nats for each token asked for", *probes]]
    for name, (_, _, _, what) in ASKED.items():
        cells = [f"{p[name].nats:.3f} +- {p[name].error:.3f}" for p in probes.values()]
        rows.append([f"{name} ({what})", *cells])
    return table(rows)


def compare(folder: Path, compute: float, sweep: bool) -> dict[str, Any]:
    """Everything: runs, probes, sweeps, figures; what objectives.json holds."""
    from experiments import objective_figures as figures
    from experiments.laws import Law
    from experiments.sweep import run_sweep
    from lm.train import prepare_data

    models = train_variants(folder / "runs", compute)
    valid = prepare_data(resolve(run_config("causal", compute))).valid
    probes = {name: probe(model, valid) for name, model in models.items()}
    laws: dict[str, Law] = {}
    for objective in VARIANTS if sweep else ():
        where = folder / "sweeps" / objective
        if run_sweep(sweep_config(objective), where):
            raise UserError(f"the sweep of {objective} is not complete: give the command again")
        if (where / "law.json").exists():
            laws[objective] = Law.load(where / "law.json")
    curves = {name: curve(folder / "runs" / name) for name in VARIANTS}
    steps = {name: m.config.steps for name, m in models.items()}
    figures.save(folder / "figures", curves, steps, compute, probes, laws, folder / "sweeps")
    result = {
        "compute": compute,
        "steps": steps,
        "probes": {k: {n: p._asdict() for n, p in v.items()} for k, v in probes.items()},
        "laws": [f"sweeps/{name}/law.json" for name in laws],  # with all their intervals
    }
    write_atomic(folder / "objectives.json", json.dumps(result, indent=1) + "\n")
    print(f"\n{show(probes)}\n\nwrote {folder}/objectives.json and {folder}/figures")
    return result


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.objectives",
        description=__doc__,
    )
    parser.add_argument("--workdir", default="out/objectives", help="folder (%(default)s)")
    parser.add_argument("--compute", type=float, default=COMPUTE, help="FLOPs of each run")
    parser.add_argument("--no-sweep", action="store_true", help="leave out the three sweeps")
    flags = parser.parse_args()
    if not flags.compute > 0:
        raise UserError(f"--compute={flags.compute:g} must be above 0")
    compare(Path(flags.workdir), flags.compute, not flags.no_sweep)


if __name__ == "__main__":
    run(main)
