"""A sweep over model sizes and compute budgets, from text to a fitted law and a report.

    python -m experiments.sweep --config=configs/sweep.py:quick --workdir=out/quick
    python -m experiments.sweep --config=configs/sweep.py:tiny --workdir=out/sweep
    python -m experiments.sweep --config=configs/sweep.py:tiny --workdir=out/sweep --executor=ray

Prints the plan and its cost first. The same command goes on where it was stopped and skips what is
done. Leaves runs/*.json, runs.csv, law.json, frontier.json, figures/ and report.html.
"""

import collections
import importlib.metadata
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data.errors import UserError, run, suggest
from data.files import only_writer, write_atomic
from experiments.executors import EXECUTORS, Local
from experiments.plan import (
    Cost,
    Data,
    Rung,
    check_plan,
    data_facts,
    describe,
    estimate,
    make_plan,
)
from experiments.progress import FINISH_SECONDS, Display, Speed, makespan
from experiments.records import record_path, write_runs_csv
from experiments.trial import Failed, Finished, Job, Progress
from lm.config import check_same_run, flatten, load, resolve
from lm.workdir import at, is_remote

VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "sentencepiece")
# Fields that change how fast and at what price a sweep runs, not what it finds.
NOT_RESULT = (
    "workers",
    "hosts",
    "save_every",
    "device",
    "retries",
    "keep_models",
    "chip",
    "mfu",
    "price",
    "base.data.cache",
)


class Failure(NamedTuple):
    """A rung given up."""

    rung: Rung
    reason: str


def main() -> int:
    """The command; 1 where a trial is missing at the end."""
    sweep, flags = load(
        sys.argv,
        __doc__ or "",
        workdir=("", "folder of the sweep"),
        executor=("local", "where models are trained: local or ray"),
        address=("", "of a Ray cluster, HOST:PORT or 'auto'; '': one on this machine"),
    )
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the sweep")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with only_writer(flags.workdir):
        return run_sweep(sweep, at(flags.workdir), flags.executor, flags.address)


def run_sweep(sweep: ConfigDict, folder: Path, executor: str = "local", address: str = "") -> int:
    """Plans, trains what is missing, fits, draws and reports; returns the exit code."""
    began = time.monotonic()
    done, planned = train_sweep(sweep, folder, executor, address)
    if done:
        from experiments.report import finish

        finish(folder, began)
    if done < planned:
        missing = planned - done
        print(f"{missing} of {planned} trials are missing; the same command tries them again")
    return 1 if done < planned else 0


def train_sweep(
    sweep: ConfigDict, folder: Path, executor: str = "local", address: str = ""
) -> tuple[int, int]:
    """Plans, trains what is missing, writes runs.csv; returns how many trials are done, and are."""
    from lm.train import prepare_data

    if executor not in EXECUTORS:
        names = ", ".join(EXECUTORS)
        raise UserError(
            f"--executor={executor} is not one of {names}{suggest(executor, EXECUTORS)}"
        )
    if is_remote(folder):
        raise UserError(
            f"--workdir={folder}: a sweep needs a folder (on storage that all nodes mount, where "
            "there are several); a bucket serves single runs of lm.train"
        )
    check_claim(folder, sweep)
    check_plan(sweep)
    data = data_facts(prepare_data(resolve(sweep.base)))
    rungs = make_plan(sweep, data)
    crew = EXECUTORS[executor](sweep, folder, address)
    claim(folder, sweep)
    workers = crew.capacity
    text = describe(rungs, sweep, data, workers)
    write_atomic(folder / "plan.json", plan_json(rungs, text, estimate(rungs, sweep, workers)))
    print(text, flush=True)
    failures = execute(rungs, folder, sweep, data, workers, crew)
    write_runs_csv(folder)
    for failure in failures:
        print(f"failed: {failure.rung.name}: {failure.reason}", file=sys.stderr)
    trials = [t for r in rungs for t in r.trials]
    return sum(record_path(folder, t.run_id).exists() for t in trials), len(trials)


def check_claim(folder: Path, sweep: ConfigDict) -> None:
    """Raises UserError where a folder belongs to another sweep, and says which fields differ."""
    path = folder / "config.json"
    if path.exists():
        try:
            old = json.loads(path.read_text())
        except ValueError as e:
            raise UserError(f"{path} is not readable JSON ({e}): remove it or the folder") from e
        check_same_run(path, _decides(old), _decides(json.loads(json.dumps(sweep.to_dict()))))


def claim(folder: Path, sweep: ConfigDict) -> None:
    """Writes config.json into a folder, unless it belongs to another sweep (UserError)."""
    check_claim(folder, sweep)
    text = json.dumps(sweep.to_dict(), indent=2, sort_keys=True)
    write_atomic(folder / "config.json", text + "\n")


def _decides(sweep: dict[str, Any]) -> dict[str, Any]:
    fields = flatten(sweep).items()
    return {k: v for k, v in fields if k.removeprefix("sweep.") not in NOT_RESULT}


def plan_json(rungs: list[Rung], text: str, cost: Cost) -> str:
    """The plan as a report needs it: every trial that is to be, the cost, and what was printed."""
    trials: list[dict[str, Any]] = [
        {"rung": r.name, "N": r.N} | t._asdict() for r in rungs for t in r.trials
    ]
    total = {"flops": sum(t["C_spent"] for t in trials)} | cost._asdict()
    return json.dumps({"trials": trials, "estimate": total, "text": text}, indent=1) + "\n"


def facts(data: Data) -> dict[str, Any]:
    """What every record says of its origin."""
    versions = {name: importlib.metadata.version(name) for name in VERSIONED}
    versions["python"] = sys.version.split()[0]
    return {
        "tokenizer_hash": data.tokenizer,
        "data_hash": data.store,
        "unique_tokens": data.tokens,
        "versions": versions,
        "git_commit": git_commit(),
    }


def git_commit() -> str:
    """The commit of this code, '' where it is not in a repository."""
    here = Path(__file__).parent
    found = subprocess.run(
        ["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else ""


def execute(
    rungs: list[Rung],
    folder: Path,
    sweep: ConfigDict,
    data: Data,
    workers: int,
    crew: Any = None,
) -> list[Failure]:
    """Trains all trials that have no record; returns the rungs that were given up.

    `crew` is an executor of experiments/executors.py; None: processes of this machine.
    """
    crew = crew or Local(sweep, folder)
    driver = Driver(rungs, folder, sweep, data, workers, crew)
    try:
        return driver.run()
    finally:
        driver.close()


class Driver:
    """Feeds rungs to workers, the longest first, and answers for those that fail."""

    def __init__(
        self,
        rungs: list[Rung],
        folder: Path,
        sweep: ConfigDict,
        data: Data,
        workers: int,
        crew: Any,
    ):
        self.folder, self.sweep, self.crew = folder.absolute(), sweep, crew
        self.facts = facts(data)
        self.speed = Speed()
        self.rungs = [
            r for r in rungs if any(not record_path(folder, t.run_id).exists() for t in r.trials)
        ]
        self.queue = sorted(self.rungs, key=self.speed.rung_seconds, reverse=True)
        self.attempts: collections.Counter[str] = collections.Counter()
        self.failures: list[Failure] = []
        self.workers: list[Any] = []
        if sweep.device == "gpu" and not sweep.workers:
            workers = crew.pack(self.queue, self.facts)
        self.wanted = min(workers, len(self.queue))
        self.trials = [t for r in rungs for t in r.trials]
        self.price = sweep.price

    def run(self) -> list[Failure]:
        """Until every rung is done or given up."""
        if not self.queue:
            return []
        self.display = Display()
        self.workers = [self.crew.new_worker() for _ in range(self.wanted)]
        while self.busy() or self.queue:
            for worker in self.workers:
                if worker.rung is None and self.queue:
                    self.give(worker, self.queue.pop(0))
            self.crew.wait(self.workers)
            for worker in list(self.workers):
                self.listen(worker)
            self.show()
        return self.failures

    def busy(self) -> list[Any]:
        return [w for w in self.workers if w.rung is not None]

    def give(self, worker: Any, rung: Rung) -> None:
        self.attempts[rung.name] += 1
        every, keep = self.sweep.save_every, self.sweep.keep_models
        job = Job(rung, str(self.folder), self.facts, self.price, every, keep=keep)
        try:
            worker.start(job)
        except (BrokenPipeError, OSError):
            self.failed(worker, "its process died before it began")

    def listen(self, worker: Any) -> None:
        """Takes what a worker has said, and notices when it is dead."""
        for message in worker.heard():
            self.hear(worker, message)
            if worker not in self.workers:
                return
        reason = worker.death()
        if reason and worker in self.workers:
            self.failed(worker, reason)

    def hear(self, worker: Any, message: Progress | Finished | Failed) -> None:
        rung = worker.rung
        assert rung is not None
        if isinstance(message, Progress):
            worker.steps_done = message.steps_done
            worker.timed_seconds += message.seconds
            self.speed.observe(rung, message.steps * rung.tokens_per_step, message.seconds)
        elif isinstance(message, Failed):
            self.failed(worker, message.reason)
        else:
            training = rung.steps_to_run * rung.tokens_per_step * self.speed.seconds_per_token(rung)
            if worker.timed_seconds:
                spare = max(message.seconds - training, 0.0)
                self.speed.observe_overhead(len(rung.trials), spare)
            worker.rung = None

    def failed(self, worker: Any, reason: str) -> None:
        """Tries a rung once more in a new process, or gives it up."""
        rung = worker.rung
        worker.stop(5.0)
        self.workers.remove(worker)
        if rung is not None:
            again = self.attempts[rung.name] <= self.sweep.retries
            note = "trying again" if again else "given up"
            self.display.say(f"{rung.name} failed: {reason} ({note})")
            if again:
                self.queue.insert(0, rung)
            else:
                self.failures.append(Failure(rung, reason))
        if self.queue:
            self.workers.append(self.crew.new_worker(worker))

    def show(self) -> None:
        """Progress, and the time left."""
        busy = self.busy()
        left = [self.left(w) for w in busy]
        todo = [self.speed.rung_seconds(r) for r in self.queue]
        idle = [0.0] * max(self.wanted - len(busy), 0)
        eta = makespan([*left, *idle], todo) + FINISH_SECONDS
        all_work = sum(self.speed.rung_seconds(r) for r in self.rungs)
        share = 1 - (sum(left) + sum(todo)) / max(all_work, 1e-9)
        done = sum(record_path(self.folder, t.run_id).exists() for t in self.trials)
        doing = ", ".join(
            f"{w.rung.name} {1e-3 / self.speed.seconds_per_token(w.rung):.1f}k tokens/s"
            for w in busy
            if w.rung and w.steps_done
        )
        text = f"{done} of {len(self.trials)} trials" + (f"; {doing}" if doing else "")
        self.display.update(min(max(share, 0.0), 1.0), eta, text)

    def left(self, worker: Any) -> float:
        """Seconds that a worker still needs for its rung."""
        assert worker.rung is not None
        seconds = self.speed.rung_seconds(worker.rung, worker.steps_done)
        waited = time.monotonic() - worker.began if not worker.steps_done else 0.0
        return max(seconds - waited, 0.0)

    def close(self) -> None:
        """Ends all workers; those at work save their trunks first."""
        for worker in self.workers:
            worker.ask_to_end()
        for worker in self.workers:
            worker.stop(10.0 if worker.rung is None else 30.0)
        self.crew.close()
        if self.rungs and hasattr(self, "display"):
            self.display.close()


if __name__ == "__main__":
    run(main)
