"""Where a sweep's rungs are trained: by processes of this machine, or on a Ray cluster.

An executor starts workers; a worker trains one rung at a time and says how it goes. On Ray a worker
is a gang: one actor on each of the hosts that a model is trained on together, joined by
jax.distributed as several processes of lm.train are. A gang's actors are placed together or not at
all, are new for each rung (a process can join one run only), and end together: when one is lost,
the driver ends the others at once and gives the rung, whose trunk is saved now and then, to a new
gang wherever there is room. Nothing is left to Ray's own restarts.
"""

import collections
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import socket
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ml_collections import ConfigDict

from data.errors import UserError, optional
from data.files import write_atomic
from experiments import packing
from experiments.plan import Rung, worker_count
from experiments.trial import Failed, Finished, Job, Progress, configure, train_one, work

ROOT = Path(__file__).parent.parent
# What a host of a gang is asked for, by the device that it trains on.
HOST = {"cpu": {"CPU": 1}, "gpu": {"CPU": 1, "GPU": 1}, "tpu": {"CPU": 1, "TPU": 4}}
GPU_SHARE = 0.9  # of a GPU's memory, that its processes have together
TURN = 1.0  # seconds that a driver waits for news
POLL = 0.5  # seconds between questions to a gang
Message = Progress | Finished | Failed


class Worker:
    """A process of this machine and what it is doing."""

    def __init__(self, device: str, core: int | None, devices: int = 1):
        context = multiprocessing.get_context("spawn")
        self.core = core
        self.connection, theirs = context.Pipe()
        arguments = (theirs, device, core, devices)
        self.process = context.Process(target=work, args=arguments, daemon=True)
        with environment(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1"):
            self.process.start()
        theirs.close()
        self.rung: Rung | None = None
        self.began = 0.0
        self.steps_done = 0
        self.timed_seconds = 0.0

    def start(self, job: Job) -> None:
        """Gives it a rung; OSError where it is dead."""
        self.rung, self.began = job.rung, time.monotonic()
        self.steps_done, self.timed_seconds = 0, 0.0
        self.connection.send(job)

    def heard(self) -> list[Message]:
        """What it has said since."""
        messages = []
        with contextlib.suppress(EOFError, OSError):
            while self.connection.poll():
                messages.append(self.connection.recv())
        return messages

    def death(self) -> str | None:
        """How it died; None while it lives."""
        if self.process.is_alive():
            return None
        code = self.process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"its process {how}"

    def ask_to_end(self) -> None:
        """At work, it saves first."""
        if self.rung is None:
            with contextlib.suppress(OSError):
                self.connection.send(None)
        else:
            self.process.terminate()

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


class Local:
    """Processes side by side on this machine, each bound to a core where it trains on one.

    A model for several hosts is trained by one process that has as many CPU devices. On a GPU, and
    with no number of workers given, as many share it as is fastest (experiments/packing.py).
    """

    def __init__(self, sweep: ConfigDict, folder: Path, address: str = ""):
        self.sweep, self.capacity = sweep, worker_count(sweep)
        self._started, self._share = 0, 1
        self.folder = folder

    def pack(self, rungs: list[Rung], facts: dict[str, Any]) -> int:
        """How many rungs to train side by side: on a GPU the fastest number that was measured."""
        if self.sweep.device == "gpu" and not self.sweep.workers and len(rungs) > 1:
            middle = sorted(rungs, key=lambda r: r.flops_per_token)[len(rungs) // 2]

            def rate(count: int) -> float:
                return packing.tokens_per_second(self._sharing, count, middle, facts, self.folder)

            self.capacity = self._share = packing.best_count(rate, min(packing.MOST, len(rungs)))
        return self.capacity

    def _sharing(self, share: int) -> Worker:
        self._share = share
        return self.new_worker()

    def new_worker(self, like: Worker | None = None) -> Worker:
        """A worker, in the place of one that died or in the next."""
        core = like.core if like else self._next_core()
        if self._share == 1:
            return Worker(self.sweep.device, core, self.sweep.hosts)
        with environment(XLA_PYTHON_CLIENT_MEM_FRACTION=f"{GPU_SHARE / self._share:.3f}"):
            return Worker(self.sweep.device, core, self.sweep.hosts)

    def _next_core(self) -> int | None:
        if self.sweep.device != "cpu" or not hasattr(os, "sched_getaffinity"):
            return None
        if self.sweep.hosts > 1:
            return None
        mine = sorted(os.sched_getaffinity(0))
        self._started += 1
        return mine[(self._started - 1) % len(mine)]

    def wait(self, workers: list[Worker]) -> None:
        """Until one of the workers has news, or a little while."""
        waiting: list[Any] = [w.connection for w in workers]
        waiting += [w.process.sentinel for w in workers]
        multiprocessing.connection.wait(waiting, timeout=TURN)

    def close(self) -> None:
        """All workers have ended."""


class Host:
    """What runs on one host of a gang, in a process of its own: an actor of Ray."""

    def __init__(self, device: str, folder: str):
        os.chdir(folder if Path(folder).is_dir() else ROOT)
        configure(device, None)
        self._messages: collections.deque[Message] = collections.deque()
        self._stopping = False

    def address(self) -> str:
        """Where the processes of the run can meet."""
        import ray

        with socket.socket() as s:
            s.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{s.getsockname()[1]}"

    def pid(self) -> int:
        return os.getpid()

    def run(self, job: Job, coordinator: str, hosts: int, number: int) -> Message | None:
        """Trains a rung with the other hosts; None where it was told to stop."""
        from lm import distributed

        where = SimpleNamespace(coordinator=coordinator, processes=str(hosts), process=str(number))
        try:
            distributed.start(where)
        except UserError as e:
            return Failed(str(e))
        return train_one(job, self._messages.append, lambda: self._stopping)

    def messages(self) -> list[Message]:
        """What was said since it was asked last."""
        return [self._messages.popleft() for _ in range(len(self._messages))]

    def stop(self) -> None:
        """Save, and end."""
        self._stopping = True


class Gang:
    """The actors that train one rung together; between rungs there are none."""

    def __init__(self, cluster: "Ray"):
        self.cluster = cluster
        self.rung: Rung | None = None
        self.began = 0.0
        self.steps_done = 0
        self.timed_seconds = 0.0
        self.actors: list[Any] = []
        self.runs: list[Any] = []
        self._group: Any = None
        self._poll: Any = None
        self._asked = 0.0

    def start(self, job: Job) -> None:
        """Asks for the hosts; Ray starts the gang when there is room for all of it."""
        self.rung, self.began = job.rung, time.monotonic()
        self.steps_done, self.timed_seconds = 0, 0.0
        self._group, self.actors = self.cluster.place()
        address = self.actors[0].address.remote()
        count = len(self.actors)
        self.runs = [a.run.remote(job, address, count, i) for i, a in enumerate(self.actors)]

    def heard(self) -> list[Message]:
        """What its first host has said, and how the run ended once all hosts are done."""
        ray = self.cluster.ray
        messages: list[Message] = []
        with contextlib.suppress(ray.exceptions.RayError):
            if self._poll is None and time.monotonic() - self._asked > POLL and self.actors:
                self._poll, self._asked = self.actors[0].messages.remote(), time.monotonic()
            if self._poll is not None and ray.wait([self._poll], timeout=0)[0]:
                answered, self._poll = self._poll, None
                messages += ray.get(answered)
        if self.runs and len(self._done()) == len(self.runs):
            with contextlib.suppress(ray.exceptions.RayError):
                ends = ray.get(self.runs)
                failed = [m for m in ends if isinstance(m, Failed)]
                messages += failed[:1] or [m for m in ends[:1] if m is not None]
                self._dismiss()
        return messages

    def _done(self) -> list[Any]:
        return self.cluster.ray.wait(self.runs, num_returns=len(self.runs), timeout=0)[0]

    def death(self) -> str | None:
        """What happened to the first of its hosts that is lost; None while all are there."""
        ray = self.cluster.ray
        for ref in self._done() if self.runs else []:
            try:
                end = ray.get(ref)
            except ray.exceptions.RayError as e:
                number = self.runs.index(ref)
                return f"host {number} was lost ({type(e).__name__})"
            if isinstance(end, Failed):
                return end.reason
        return None

    def ask_to_end(self) -> None:
        """Its hosts save at the same step."""
        for actor in self.actors:
            actor.stop.remote()

    def stop(self, seconds: float) -> None:
        """Asks it to save and end where all hosts live, and makes it after a while."""
        if self.runs and self.death() is None:
            self.ask_to_end()
            self.cluster.ray.wait(self.runs, num_returns=len(self.runs), timeout=seconds)
        self._dismiss()

    def _dismiss(self) -> None:
        ray = self.cluster.ray
        for actor in self.actors:
            ray.kill(actor, no_restart=True)
        if self._group is not None:
            ray.util.remove_placement_group(self._group)
        self.actors, self.runs, self._poll, self._group = [], [], None, None


class Ray:
    """Gangs on the cluster at `address`; without one, on a cluster of this machine's cores.

    Raises:
      UserError: no such cluster, none large enough, or a node that does not see the folder.
    """

    def __init__(self, sweep: ConfigDict, folder: Path, address: str = ""):
        self.ray = ray = optional("ray", "requirements-cluster.txt")
        self.placing = optional("ray.util.scheduling_strategies", "requirements-cluster.txt")
        self.hosts, self.device = sweep.hosts, sweep.device
        self._mine = not ray.is_initialized()
        if self._mine:
            where: dict[str, Any] = (
                {"address": address} if address else {"include_dashboard": False}
            )
            variables = {"PYTHONPATH": str(ROOT)}
            try:
                ray.init(log_to_driver=False, runtime_env={"env_vars": variables}, **where)
            except (ConnectionError, RuntimeError, ValueError) as e:
                said = " ".join(str(e).split())[:160]
                raise UserError(f"--address={address}: no Ray cluster answers ({said})") from e
        refuse_unshared(folder, self._nodes_that_see)
        room = ray.cluster_resources()
        fits = [int(room.get(name, 0) // (n * self.hosts)) for name, n in HOST[self.device].items()]
        if not min(fits):
            there = ", ".join(f"{room.get(name, 0):g} {name}" for name in HOST[self.device])
            raise UserError(
                f"the cluster has {there}: too little for a model on hosts={self.hosts} "
                f"of device={self.device}; add nodes, or set --config.hosts"
            )
        self.capacity = min(sweep.workers or min(fits), min(fits))

    def pack(self, rungs: list[Rung], facts: dict[str, Any]) -> int:
        """How many rungs to train side by side: as many gangs as the cluster holds."""
        return self.capacity

    def _nodes_that_see(self, path: Path, word: str) -> dict[str, bool]:
        """Asks every node whether it reads the word at a path."""
        strategy = self.placing.NodeAffinitySchedulingStrategy

        def sees(path: str, word: str) -> bool:
            return Path(path).is_file() and Path(path).read_text() == word

        task = self.ray.remote(num_cpus=0, max_retries=2)(sees)
        nodes = [n for n in self.ray.nodes() if n["Alive"]]
        asked = [
            task.options(scheduling_strategy=strategy(n["NodeID"], soft=False)).remote(
                str(path), word
            )
            for n in nodes
        ]
        answers = self.ray.get(asked)
        names = [n["NodeManagerHostname"] for n in nodes]
        return dict(zip(names, answers, strict=True))

    def place(self) -> tuple[Any, list[Any]]:
        """Actors on as many hosts as there are, all or none; they start when there is room."""
        util, wanted = self.ray.util, HOST[self.device]
        group = util.placement_group([wanted] * self.hosts, strategy="SPREAD")
        strategy = self.placing.PlacementGroupSchedulingStrategy
        other = {name: n for name, n in wanted.items() if name not in ("CPU", "GPU")}
        actors = [
            self.ray.remote(Host)
            .options(
                num_cpus=wanted.get("CPU", 0), num_gpus=wanted.get("GPU", 0), resources=other,
                max_restarts=0, max_concurrency=2, scheduling_strategy=strategy(group, i),
            )
            .remote(self.device, os.getcwd())
            for i in range(self.hosts)
        ]  # fmt: skip
        return group, actors

    def new_worker(self, like: Gang | None = None) -> Gang:
        """A gang, without hosts until it has a rung."""
        return Gang(self)

    def wait(self, workers: list[Gang]) -> None:
        """Until one of the hosts has ended, or a little while."""
        runs = [ref for w in workers for ref in w.runs]
        if runs:
            self.ray.wait(runs, timeout=POLL)
        else:
            time.sleep(POLL)

    def close(self) -> None:
        """All gangs have ended; a cluster that was started here ends too."""
        if self._mine:
            self.ray.shutdown()


def refuse_unshared(folder: Path, ask: Any) -> None:
    """Raises UserError naming the nodes that do not see what is written into a folder here."""
    word = uuid.uuid4().hex
    path = folder.absolute() / f".seen-{word[:8]}"
    write_atomic(path, word)
    try:
        blind = [node for node, sees in ask(path, word).items() if not sees]
    finally:
        path.unlink()
    if blind:
        raise UserError(
            f"--workdir={folder} is not seen by {', '.join(sorted(blind)[:4])}: name a folder on "
            "storage that all nodes mount"
        )


EXECUTORS: dict[str, Any] = {"local": Local, "ray": Ray}
