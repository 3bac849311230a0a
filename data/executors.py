"""Where a pipeline runs: on this machine, on a Ray cluster or under Slurm, by one word.

All three are datatrove's executors: tasks, markers of those that are done, resuming by skipping
them. Here and on Ray tasks are started by us. In datatrove's pool a fault in one task ends the
run, and a process that is killed leaves it waiting for ever; its Ray executor hangs likewise when
a worker is lost.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import sys
from abc import abstractmethod
from collections.abc import Callable, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from datatrove.executor.base import PipelineExecutor
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.logging import logger

from data.errors import UserError, explain, optional
from data.parallel import cpu_count

ATTEMPTS = 2  # of a task that failed
LOST = 3  # times that Ray starts a task anew whose worker or machine was lost
Pipeline = Sequence[PipelineStep]


class Tasks(LocalPipelineExecutor):
    """Tasks side by side, at most `workers` of them; one that fails does not stop the others."""

    def run(self) -> None:
        for _ in range(ATTEMPTS):
            waiting, running = self.get_incomplete_ranks(), list[Any]()
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        running.append(self.start(waiting.pop(0)))
                    running = self.wait(running)
            finally:
                for task in running:
                    self.stop(task)

    @abstractmethod
    def start(self, rank: int) -> Any:
        """Start the task of a rank, and return it."""

    @abstractmethod
    def wait(self, tasks: list[Any]) -> list[Any]:
        """Wait until a task has ended, well or not, and return those that run."""

    @abstractmethod
    def stop(self, task: Any) -> None:
        """End a task that runs."""


class Local(Tasks):
    """Each task in a process of its own."""

    def start(self, rank: int) -> multiprocessing.process.BaseProcess:
        context = multiprocessing.get_context("forkserver")
        # The modules are imported once; tasks fork from there.
        context.set_forkserver_preload(["data.curation"])
        process = context.Process(target=_print_fault, args=(self, rank), daemon=True)
        process.start()
        return process

    def wait(self, tasks: list[Any]) -> list[Any]:
        ended = set(connection.wait([process.sentinel for process in tasks]))
        for process in tasks:
            if process.sentinel in ended:
                process.join()
        return [process for process in tasks if process.sentinel not in ended]

    def stop(self, task: Any) -> None:
        task.kill()


class OnRay(Tasks):
    """Each task a function called on the cluster, and called anew where its machine was lost."""

    memory_gb = 1.0

    def start(self, rank: int) -> Any:
        import ray

        options = {"max_retries": LOST, "num_cpus": 1, "memory": int(self.memory_gb * 1e9)}
        return ray.remote(**options)(run_task).remote(self, rank)

    def wait(self, tasks: list[Any]) -> list[Any]:
        import ray

        ended, running = ray.wait(tasks, num_returns=1)
        for task in ended:
            try:
                fault = ray.get(task)
            except ray.exceptions.RayError as error:
                fault = f"a task was lost: {str(error).splitlines()[0]}"
            if fault:
                print(fault, file=sys.stderr)
        return running

    def stop(self, task: Any) -> None:
        import ray

        ray.cancel(task, force=True)


def run_task(executor: PipelineExecutor, rank: int) -> str:
    """Run one task here; return what went wrong, in a line, or ''."""
    logger.remove()
    before = _cpu_seconds()
    # datatrove prints the log of local rank 0; the file of it is enough.
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            executor._run_for_rank(rank, local_rank=1)
        usage = {"cpu_s": _cpu_seconds() - before, "peak_mb": _peak_mb()}
        # Written down, since a process that the fork server started is nobody's child.
        with executor.logging_dir.open(f"usage/{rank:05d}.json", "w") as file:
            json.dump(usage, file)
    except BaseException as error:
        return f"task {rank} failed: {explain(error) or f'{type(error).__name__}: {error}'}"
    return ""


def _print_fault(executor: PipelineExecutor, rank: int) -> None:
    fault = run_task(executor, rank)
    if fault:
        print(fault, file=sys.stderr)
        os._exit(1)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def local(pipeline: Pipeline, tasks: int, logs: Path, settings: Any, after: Any) -> Any:
    workers = settings.workers or cpu_count()
    return Local(list(pipeline), tasks=tasks, workers=workers, logging_dir=str(logs))


def ray(pipeline: Pipeline, tasks: int, logs: Path, settings: Any, after: Any) -> Any:
    """On the cluster that RAY_ADDRESS names, or one started here; OUT must be a shared folder."""
    module = optional("ray", "requirements-cluster.txt")
    if not module.is_initialized():
        root = str(Path(__file__).resolve().parent.parent)
        module.init(runtime_env={"env_vars": {"PYTHONPATH": root}}, log_to_driver=False)
    workers = settings.workers or tasks
    executor = OnRay(list(pipeline), tasks=tasks, workers=workers, logging_dir=str(logs))
    executor.memory_gb = settings.memory_gb
    return executor


def slurm(pipeline: Pipeline, tasks: int, logs: Path, settings: Any, after: Any) -> Any:
    """As job arrays, each waiting for the one before; `run` only submits."""
    from datatrove.executor.slurm import SlurmPipelineExecutor

    if not settings.partition:
        raise UserError("executor slurm needs --config.run.partition=NAME")
    root = Path(__file__).resolve().parent.parent
    return SlurmPipelineExecutor(
        list(pipeline),
        tasks=tasks,
        workers=settings.workers or -1,
        time=settings.time,
        partition=settings.partition,
        mem_per_cpu_gb=settings.memory_gb,
        job_name=f"curate-{logs.name}",
        logging_dir=str(logs),
        slurm_logs_folder=str(logs / "slurm"),
        env_command=f"export PYTHONPATH={root}; source {root}/.venv/bin/activate",
        qos=settings.qos,
        depends=after,
        mail_type="NONE",
    )


EXECUTORS: dict[str, Callable[[Pipeline, int, Path, Any, Any], Any]] = {
    "local": local,
    "ray": ray,
    "slurm": slurm,
}


def missing(executor: Any) -> list[int]:
    """Return the tasks that are not done, once a run has ended."""
    return executor.get_incomplete_ranks(skip_completed=True)
