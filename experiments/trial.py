"""What a worker process of a sweep does: it trains rungs and leaves a record for each trial.

A worker is one process on one CPU core (or one accelerator), fed whole rungs through a pipe, or
several processes that are one run (experiments/executors.py). The numbers of a trial depend on its
config and data alone, never on which worker ran it or on stops.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from data.files import write_atomic
from data.mixture import as_record
from experiments.plan import Rung, Trial, at_steps
from experiments.records import model_path, record_path, write_record
from lm.config import TOKENIZER, resolve, to_json

if TYPE_CHECKING:
    from lm.state import TrainState
    from lm.train import Evaluation, Trainer

REPORT_EVERY = 0.5  # seconds
SAVE_EVERY = 60.0
CURVE_POINTS = 200


class Job(NamedTuple):
    """A rung to train, and what its records say besides."""

    rung: Rung
    folder: str
    facts: dict[str, Any]  # goes into every record: hashes, versions, git commit
    price: float  # dollars an hour
    save_every: float = SAVE_EVERY  # seconds of a trunk that a kill may cost
    resolution: int = 0  # steps a point of the recorded curves; 0: by the longest trial
    keep: bool = False  # each trial's model, in a folder that lm.load reads


class Progress(NamedTuple):
    """Steps of a rung done in all, and a timed stretch of them."""

    steps_done: int
    steps: int
    seconds: float


class Finished(NamedTuple):
    """A rung is done."""

    seconds: float


class Failed(NamedTuple):
    """A rung is not done, and why."""

    reason: str


class Stopped(Exception):
    """The worker was told to stop; what was done is saved."""


def configure(device: str, core: int | None, devices: int = 1) -> None:
    """Settles this process on its core and device (or CPU devices); before JAX is imported."""
    from lm import platform

    if device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags = os.environ.get("XLA_FLAGS", "").split()
        os.environ["XLA_FLAGS"] = " ".join(f for f in flags if "device_count" not in f)
        if core is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        platform.configure(cpu_devices=devices)
    else:
        platform.configure()


def work(connection: Connection, device: str, core: int | None, devices: int = 1) -> None:
    """The worker's life: jobs in, Progress and then Finished or Failed out; None ends it."""
    stopping: list[int] = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the driver decides
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
    configure(device, core, devices)
    while True:
        try:
            job: Job | None = connection.recv()
        except EOFError:
            return
        if job is None:
            return
        try:
            end = train_one(job, connection.send, lambda: bool(stopping))
            if end is None:
                return
            connection.send(end)
        except (BrokenPipeError, KeyboardInterrupt):
            return
        if isinstance(end, Failed):
            return


def train_one(
    job: Job, report: Callable[[Progress], None], stopping: Callable[[], bool]
) -> Finished | Failed | None:
    """Trains a rung and says how it ended; None where it was told to stop, and saved."""
    began = time.perf_counter()
    try:
        train_rung(job, report, stopping)
        return Finished(time.perf_counter() - began)
    except Stopped:
        return None
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception as e:  # whatever it is, the driver reports it and tries again
        return Failed(" ".join(str(e).split()) or type(e).__name__)


def train_rung(
    job: Job, report: Callable[[Progress], None], stopping: Callable[[], bool] = lambda: False
) -> None:
    """Trains a rung's trunk from branch point to branch point, and a cooldown from each.

    Trials that have a record are skipped. Raises Stopped, after saving the trunk, where asked to.
    Several processes that are one run all call it; they stop and save at the same steps, and the
    first writes what is written once.
    """
    from lm import distributed
    from lm.train import Trainer, make_schedule, prepare_data

    rung, folder = job.rung, Path(job.folder)
    missing = [t for t in rung.trials if not record_path(folder, t.run_id).exists()]
    if not missing:
        return
    config = resolve(ConfigDict(rung.config))
    prepared = distributed.together(lambda: prepare_data(config, log=lambda _: None))
    trainer = Trainer(config, prepared)
    pausing, ending = distributed.AnyProcess(), distributed.AnyProcess()

    def told() -> bool:
        return any(said == "True" for said in distributed.gather(str(stopping())))

    def pause_after(seconds: float) -> Callable[[], bool]:
        due = time.monotonic() + seconds
        return lambda: pausing(stopping() or time.monotonic() > due)

    trunk = Trunk(trainer, folder / "trunks" / rung.trials[-1].run_id, missing[0].decay_start)
    longest = make_schedule(config, rung.trials[-1].steps)
    cooled = sum(t.steps - t.decay_start for t in rung.trials if t not in missing)
    clock = Clock(report, trunk.step + cooled)
    for trial in missing:
        while trunk.step < trial.decay_start:
            trunk.advance(trial.decay_start, longest, clock, pause_after(job.save_every))
            stop = told()
            trunk.save_if(stop or trunk.step < trial.decay_start)
            if stop:
                raise Stopped
        own_config = at_steps(rung.config, trial.steps)
        own = make_schedule(own_config, trial.steps)
        cooldown: list[float] = []
        clock.start(trunk.step)
        branch = trainer.run(
            trainer.copy(trunk.state),
            trial.steps,
            own,
            clock.follow(cooldown),
            lambda: ending(stopping()),
        )
        if int(branch.step) < trial.steps or told():
            trunk.save_if(True)
            raise Stopped
        losses = trunk.losses[: trial.decay_start] + cooldown
        evaluation = trainer.evaluate(branch)
        if job.keep:
            keep_model(model_path(folder, trial.run_id), trainer, branch, own_config)
        seconds = trunk.take_seconds()
        if distributed.is_first():
            write_record(folder, make_record(job, trial, trainer, evaluation, losses, seconds))
    if distributed.is_first():
        trunk.remove()


def keep_model(folder: Path, trainer: "Trainer", state: "TrainState", config: ConfigDict) -> None:
    """Leaves a trained model in a folder as a run of lm.train does, for lm.load."""
    from lm.distributed import is_first

    trainer.save(folder / "checkpoints", state)
    if is_first():
        trainer.prepared.tokenizer.save(folder / TOKENIZER)
        write_atomic(folder / "config.json", to_json(config))


class Trunk:
    """A rung's run on the rate's plateau: its state, its losses so far, and both kept in a folder.

    A saved trunk beyond `before` steps is of no use and is left.
    """

    def __init__(self, trainer: "Trainer", folder: Path, before: int):
        self.trainer, self.folder = trainer, folder
        self.notes = folder.with_suffix(".json")
        self.state: TrainState = trainer.init()
        self.losses: list[float] = []
        self._seconds, self._began = 0.0, time.perf_counter()
        if self.notes.exists() and folder.exists():
            restored = trainer.restore(folder)
            if restored is not None and int(restored.step) <= before:
                notes = json.loads(self.notes.read_text())
                self.state = restored
                self.losses = notes["losses"][: self.step]
                self._seconds = notes["seconds"]

    @property
    def step(self) -> int:
        return int(self.state.step)

    def advance(self, stop: int, schedule: Any, clock: "Clock", pause: Callable[[], bool]) -> None:
        clock.start(self.step)
        self.state = self.trainer.run(self.state, stop, schedule, clock.follow(self.losses), pause)

    def save_if(self, wanted: bool) -> None:
        """Saves notes first: a checkpoint then always has the losses up to its step."""
        from lm.distributed import is_first

        if wanted:
            seconds = self._seconds + time.perf_counter() - self._began
            notes = {"losses": self.losses, "seconds": seconds}
            if is_first():
                write_atomic(self.notes, json.dumps(notes))
            self.trainer.save(self.folder, self.state)

    def take_seconds(self) -> float:
        """Seconds since they were last taken, those before a stop included."""
        now = time.perf_counter()
        seconds, self._seconds, self._began = self._seconds + now - self._began, 0.0, now
        return seconds

    def remove(self) -> None:
        import shutil

        shutil.rmtree(self.folder, ignore_errors=True)
        self.notes.unlink(missing_ok=True)


class Clock:
    """Times training steps and reports them now and then."""

    def __init__(self, report: Callable[[Progress], None], done: int):
        self._report = report
        self._done = done  # steps of the rung, over trunk and cooldowns
        self._step = self._timed = 0
        self._time: float | None = None

    def start(self, step: int) -> None:
        """A stretch begins at a step; the time to its first call is not a step's time."""
        self._step = self._timed = step
        self._time = None

    def follow(self, losses: list[float]) -> Callable[[int, dict], None]:
        """A callback for Trainer.run that appends each step's loss and keeps time."""

        def step(number: int, metrics: dict) -> None:
            losses.append(round(metrics["loss"], 5))
            self._done += number - self._step
            self._step = number
            now = time.perf_counter()
            if self._time is None:
                self._timed, self._time = number, now
            elif now - self._time >= REPORT_EVERY:
                self._report(Progress(self._done, number - self._timed, now - self._time))
                self._timed, self._time = number, now

        return step


def make_record(
    job: Job,
    trial: Trial,
    trainer: "Trainer",
    evaluation: "Evaluation",
    losses: list[float],
    seconds: float,
) -> dict[str, Any]:
    """All that is known of a finished trial."""
    rung = job.rung
    config = at_steps(rung.config, trial.steps)
    stride = job.resolution or max(1, rung.trials[-1].steps // CURVE_POINTS)
    return job.facts | {
        "run_id": trial.run_id,
        "model": f"{config.model.width}x{config.model.layers}",
        "rung": rung.name,
        "objective": config.objective,
        "config": config.to_dict(),
        "N": rung.N,
        "N_non_embedding": rung.N_non_embedding,
        "D": trial.D,
        "sources": as_record(trainer.batches.usage(trial.steps)),
        "targets": round(trial.steps * config.batch_size * trainer.objective.targets),
        "C": trial.C,
        "C_6ND": 6.0 * rung.N * trial.D,
        "C_spent": trial.C_spent,
        "budget": trial.budget,
        "held_out": trial.held_out,
        "loss": evaluation.loss,
        "bits_per_byte": evaluation.bits_per_byte,
        "eval_tokens": evaluation.tokens,
        "curve": binned(losses, stride) | {"decay_start": trial.decay_start},
        "learning_rate": config.learning_rate,
        "lr_factor": rung.lr_factor,
        "seed": rung.seed,
        "steps": trial.steps,
        "seconds": round(seconds, 2),
        "dollars": round(seconds / 3600 * job.price, 6),
        "chip": trainer.devices[0].device_kind,
    }


def binned(losses: list[float], stride: int) -> dict[str, list]:
    """A curve: the mean training loss over every `stride` steps, and the step that each ends at."""
    ends = [*range(stride, len(losses), stride), len(losses)]
    starts = [0, *ends[:-1]]
    means = [sum(losses[a:b]) / (b - a) for a, b in zip(starts, ends, strict=True)]
    return {"step": ends, "loss": [round(m, 5) for m in means]}
