"""A sweep over model sizes and compute budgets, from text to a fitted law and a report.

    python -m experiments.sweep --config=configs/sweep.py:quick --workdir=out/quick
    python -m experiments.sweep --config=configs/sweep.py:tiny --workdir=out/sweep

Prints the plan and its cost first. The same command goes on where it was stopped and skips what is
done. Leaves runs/*.json, runs.csv, law.json, frontier.json, figures/ and report.html.
"""

import collections
import contextlib
import importlib.metadata
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from data.errors import UserError, run
from data.files import only_writer, write_atomic
from experiments.plan import (
    Cost,
    Data,
    Rung,
    check_plan,
    data_facts,
    describe,
    estimate,
    make_plan,
    worker_count,
)
from experiments.progress import FINISH_SECONDS, Display, Speed, makespan
from experiments.records import record_path, write_runs_csv
from experiments.trial import Failed, Finished, Job, Progress, work
from lm.config import check_same_run, flatten, load, resolve

VERSIONED = ("jax", "jaxlib", "flax", "optax", "numpy", "sentencepiece")
# Fields that change how fast and at what price a sweep runs, not what it finds.
NOT_RESULT = (
    "workers",
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
    sweep, flags = load(sys.argv, __doc__ or "", workdir=("", "folder of the sweep"))
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the sweep")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with only_writer(flags.workdir):
        return run_sweep(sweep, Path(flags.workdir))


def run_sweep(sweep: ConfigDict, folder: Path) -> int:
    """Plans, trains what is missing, fits, draws and reports; returns the exit code."""
    began = time.monotonic()
    done, planned = train_sweep(sweep, folder)
    if done:
        from experiments.report import finish

        finish(folder, began)
    if done < planned:
        missing = planned - done
        print(f"{missing} of {planned} trials are missing; the same command tries them again")
    return 1 if done < planned else 0


def train_sweep(sweep: ConfigDict, folder: Path) -> tuple[int, int]:
    """Plans, trains what is missing, writes runs.csv; returns how many trials are done, and are."""
    from lm.train import prepare_data

    check_claim(folder, sweep)
    check_plan(sweep)
    data = data_facts(prepare_data(resolve(sweep.base)))
    rungs = make_plan(sweep, data)
    workers = worker_count(sweep)
    claim(folder, sweep)
    text = describe(rungs, sweep, data, workers)
    write_atomic(folder / "plan.json", plan_json(rungs, text, estimate(rungs, sweep, workers)))
    print(text, flush=True)
    failures = execute(rungs, folder, sweep, data, workers)
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
    rungs: list[Rung], folder: Path, sweep: ConfigDict, data: Data, workers: int
) -> list[Failure]:
    """Trains all trials that have no record; returns the rungs that were given up."""
    driver = Driver(rungs, folder, sweep, data, workers)
    try:
        return driver.run()
    finally:
        driver.close()


class Worker:
    """A process and what it is doing."""

    def __init__(self, device: str, core: int | None):
        context = multiprocessing.get_context("spawn")
        self.core = core
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(theirs, device, core), daemon=True)
        with environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"):
            self.process.start()
        theirs.close()
        self.rung: Rung | None = None
        self.began = 0.0
        self.steps_done = 0
        self.timed_seconds = 0.0

    def start(self, job: Job) -> None:
        self.rung, self.began = job.rung, time.monotonic()
        self.steps_done, self.timed_seconds = 0, 0.0
        self.connection.send(job)

    def stop(self, seconds: float) -> None:
        """Asks it to save and end, and makes it after a while."""
        self.process.terminate()
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


class environment:
    """Variables that processes started inside the block inherit."""

    def __init__(self, **values: str):
        self.values = values

    def __enter__(self) -> None:
        self.old = {k: os.environ.get(k) for k in self.values}
        os.environ.update(self.values)

    def __exit__(self, *_: object) -> None:
        for key, value in self.old.items():
            if value is None:
                os.environ.pop(key)
            else:
                os.environ[key] = value


class Driver:
    """Feeds rungs to workers, the longest first, and answers for those that fail."""

    def __init__(
        self, rungs: list[Rung], folder: Path, sweep: ConfigDict, data: Data, workers: int
    ):
        self.folder, self.sweep = folder, sweep
        self.facts = facts(data)
        self.speed = Speed()
        self.rungs = [
            r for r in rungs if any(not record_path(folder, t.run_id).exists() for t in r.trials)
        ]
        self.queue = sorted(self.rungs, key=self.speed.rung_seconds, reverse=True)
        self.attempts: collections.Counter[str] = collections.Counter()
        self.failures: list[Failure] = []
        self.workers: list[Worker] = []
        self.wanted = min(workers, len(self.queue))
        self.trials = [t for r in rungs for t in r.trials]
        self.price = sweep.price

    def run(self) -> list[Failure]:
        """Until every rung is done or given up."""
        if not self.queue:
            return []
        self.display = Display()
        self.workers = [self.new_worker(core) for core in self.cores()]
        while self.busy() or self.queue:
            for worker in self.workers:
                if worker.rung is None and self.queue:
                    self.give(worker, self.queue.pop(0))
            waiting = [w.connection for w in self.workers] + [
                w.process.sentinel for w in self.workers
            ]
            multiprocessing.connection.wait(waiting, timeout=1.0)
            for worker in list(self.workers):
                self.listen(worker)
            self.show()
        return self.failures

    def cores(self) -> list[int | None]:
        """A core for each worker, where processes can be bound to one."""
        if self.sweep.device != "cpu" or not hasattr(os, "sched_getaffinity"):
            return [None] * self.wanted
        mine = sorted(os.sched_getaffinity(0))
        return [mine[i % len(mine)] for i in range(self.wanted)]

    def new_worker(self, core: int | None) -> Worker:
        return Worker(self.sweep.device, core)

    def busy(self) -> list[Worker]:
        return [w for w in self.workers if w.rung is not None]

    def give(self, worker: Worker, rung: Rung) -> None:
        self.attempts[rung.name] += 1
        job = Job(rung, str(self.folder), self.facts, self.price, keep=self.sweep.keep_models)
        try:
            worker.start(job)
        except (BrokenPipeError, OSError):
            self.failed(worker, "its process died before it began")

    def listen(self, worker: Worker) -> None:
        """Takes what a worker has said, and notices when it is dead."""
        try:
            while worker.connection.poll():
                self.hear(worker, worker.connection.recv())
                if worker not in self.workers:
                    return
        except (EOFError, OSError):
            pass
        if not worker.process.is_alive() and worker in self.workers:
            code = worker.process.exitcode or 0
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            self.failed(worker, f"its process {how}")

    def hear(self, worker: Worker, message: Progress | Finished | Failed) -> None:
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

    def failed(self, worker: Worker, reason: str) -> None:
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
            self.workers.append(self.new_worker(worker.core))

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

    def left(self, worker: Worker) -> float:
        """Seconds that a worker still needs for its rung."""
        assert worker.rung is not None
        seconds = self.speed.rung_seconds(worker.rung, worker.steps_done)
        waited = time.monotonic() - worker.began if not worker.steps_done else 0.0
        return max(seconds - waited, 0.0)

    def close(self) -> None:
        """Ends all workers; those at work save their trunks first."""
        for worker in self.workers:
            if worker.rung is None:
                with contextlib.suppress(OSError):
                    worker.connection.send(None)
            else:
                worker.process.terminate()
        for worker in self.workers:
            worker.process.join(10.0 if worker.rung is None else 30.0)
            worker.stop(5.0)
        if self.rungs and hasattr(self, "display"):
            self.display.close()


if __name__ == "__main__":
    run(main)
