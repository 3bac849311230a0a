"""CPU time and objective of the law's fit, beside the package `chinchilla` where a Python has it.

    python -m experiments.bench_fit
    python -m experiments.bench_fit --peer=PYTHON       (an interpreter with chinchilla 0.2.0)

Same 240 points, same objective (sum of Huber of ln loss, delta 1e-3), one thread each; both of the
peer's customary grids of starts. Objectives are computed again here from each one's parameters.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.errors import Parser, UserError, run
from experiments import laws, uncertainty
from experiments.published_data import FOLDER
from experiments.runs import read
from experiments.search import Objective, search, value
from experiments.tables import table

RUNS = FOLDER / "epoch_chinchilla.csv"
REPEATS = 5
# What the peer does with a table of runs and a grid of starts, in its own interpreter.
PEER = """
import json, sys
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
axes = {k: np.array(v) for k, v in json.loads(sys.argv[2]).items()}
fitted = Chinchilla(
    sys.argv[1], param_grid=axes, loss_fn=lambda y, p: log_huber(y, p, 1e-3), log_level=40
)
fitted.fit(parallel=False)
print(json.dumps({k: float(v) for k, v in fitted.get_params().items()}))
"""
GRIDS = {
    "its README's 3,125 starts": {
        "E": np.linspace(1, 2, 5),
        "a": np.linspace(1, 10, 5),
        "b": np.linspace(1, 10, 5),
        "alpha": np.linspace(0.1, 0.7, 5),
        "beta": np.linspace(0.1, 0.7, 5),
    },
    "Hoffmann's 4,500 starts": {
        "e": np.arange(-1, 1.5, 0.5),
        "a": np.arange(0, 30, 5.0),
        "b": np.arange(0, 30, 5.0),
        "alpha": np.arange(0, 2.5, 0.5),
        "beta": np.arange(0, 2.5, 0.5),
    },
}


class Timed(NamedTuple):
    """One way to fit: CPU seconds and the objective it reached."""

    name: str
    cpu: float
    objective: float | None


def ours() -> list[Timed]:
    """The point fit (median of a few) and 4,000 bootstrap fits."""
    runs = read(RUNS)
    terms, _ = laws.design(runs.N, runs.D)
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        found = search(terms, runs.loss, Objective(1e-3))
        times.append(time.process_time() - start)
    noise = uncertainty.estimate_noise(runs, terms, found.theta)
    start = time.process_time()
    uncertainty.resample(terms, runs.loss, found.theta, Objective(1e-3), noise, 4000)
    spent = time.process_time() - start
    return [
        Timed("this library, 1,600 starts", statistics.median(times), found.objective),
        Timed("this library, 4,000 bootstrap fits", spent, None),
    ]


def theirs(python: str) -> list[Timed]:
    """The peer on both grids, one process."""
    runs = read(RUNS)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        columns = zip(runs.C, runs.N, runs.D, runs.loss, strict=True)
        rows = [",".join(str(float(x)) for x in row) for row in columns]
        Path(folder, "df.csv").write_text("C,N,D,loss\n" + "\n".join(rows) + "\n")
        for name, axes in GRIDS.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            grid = json.dumps({k: list(v) for k, v in axes.items()})
            done = subprocess.run(
                [python, "-c", PEER, folder, grid],
                capture_output=True,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
            if done.returncode:
                raise UserError(f"{python} cannot run chinchilla: {done.stderr.splitlines()[-1]}")
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            p = json.loads(done.stdout.splitlines()[-1])
            terms, (n, d) = laws.design(runs.N, runs.D)
            logs = np.log([p["E"], p["A"], p["B"]])
            centred = logs - np.array([0.0, p["alpha"] * n, p["beta"] * d])
            theta = np.array([[*centred, p["alpha"], p["beta"]]])
            total = value(theta, terms, np.log(runs.loss), np.ones(len(runs)), Objective(1e-3))
            found.append(Timed(f"chinchilla, {name}", cpu, float(total[0])))
    return found


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.bench_fit",
        description=__doc__,
    )
    parser.add_argument("--peer", default="", help="a Python that has chinchilla 0.2.0")
    flags = parser.parse_args()
    rows = ours() + (theirs(flags.peer) if flags.peer else [])
    best = rows[0]
    cells = [["", "CPU s", "times ours", "objective", "above ours"]]
    for row in rows:
        objective = "" if row.objective is None else f"{row.objective:.14f}"
        above = ""
        if row.objective is not None and best.objective is not None:
            above = f"{row.objective / best.objective - 1:.1e}"
        cells.append([row.name, f"{row.cpu:.3g}", f"{row.cpu / best.cpu:.0f}", objective, above])
    print(table(cells))
    versions = f"Python {sys.version.split()[0]}, numpy {np.__version__}"
    print(f"one thread of {os.cpu_count()} cores; {versions}; the peer's time has its start in it")


if __name__ == "__main__":
    # Threads are chosen when numpy is first imported, so a second process is started for it.
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.environ["OMP_NUM_THREADS"] = "1"
        os.execv(sys.executable, [sys.executable, "-m", "experiments.bench_fit", *sys.argv[1:]])
    run(main)
