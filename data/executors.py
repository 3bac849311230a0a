"""Where a pipeline runs: on this machine, on a Ray cluster or under Slurm, by one word.

All three are datatrove's executors: tasks, markers of those that are done, resuming by skipping
them. The local one starts its tasks itself, each in a process of its own: in datatrove's pool a
fault in one task ends the run, and a process that is killed leaves it waiting for ever.
"""

import contextlib
import json
import multiprocessing
import os
import resource
import sys
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
Pipeline = Sequence[PipelineStep]


class Local(LocalPipelineExecutor):
    """Tasks side by side in processes of their own; one that fails does not stop the others."""

    def run(self) -> None:
        for _ in range(ATTEMPTS):
            waiting = self.get_incomplete_ranks()
            running: dict[Any, multiprocessing.process.BaseProcess] = {}
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        process = self._start(waiting.pop(0))
                        running[process.sentinel] = process
                    for sentinel in connection.wait(list(running)):
                        running.pop(sentinel).join()
            finally:
                for process in running.values():
                    process.kill()

    def _start(self, rank: int) -> multiprocessing.process.BaseProcess:
        context = multiprocessing.get_context("forkserver")
        # The modules are imported once; tasks fork from there.
        context.set_forkserver_preload(["data.curation"])
        process = context.Process(target=_run_task, args=(self, rank), daemon=True)
        process.start()
        return process


def _run_task(executor: PipelineExecutor, rank: int) -> None:
    logger.remove()
    # datatrove prints the log of local rank 0; the file of it is enough.
    try:
        with contextlib.redirect_stderr(open(os.devnull, "w")):
            executor._run_for_rank(rank, local_rank=1)
        _note_usage(executor, rank)
    except BaseException as error:
        line = explain(error) or f"{type(error).__name__}: {error}"
        print(f"task {rank} failed: {line}", file=sys.stderr)
        os._exit(1)


def _note_usage(executor: PipelineExecutor, rank: int) -> None:
    """Write down what the task took: a process that the fork server started is nobody's child."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    usage = {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss / 1000}
    with executor.logging_dir.open(f"usage/{rank:05d}.json", "w") as file:
        json.dump(usage, file)


def local(pipeline: Pipeline, tasks: int, logs: Path, settings: Any, after: Any) -> Any:
    workers = settings.workers or cpu_count()
    return Local(list(pipeline), tasks=tasks, workers=workers, logging_dir=str(logs))


def ray(pipeline: Pipeline, tasks: int, logs: Path, settings: Any, after: Any) -> Any:
    """On the cluster that RAY_ADDRESS names, or one started here; OUT must be a shared folder."""
    module = optional("ray", "requirements-cluster.txt")
    from datatrove.executor.ray import RayPipelineExecutor

    if not module.is_initialized():
        root = str(Path(__file__).resolve().parent.parent)
        module.init(runtime_env={"env_vars": {"PYTHONPATH": root}}, log_to_driver=False)
    return RayPipelineExecutor(
        list(pipeline),
        tasks=tasks,
        workers=settings.workers or tasks,
        mem_per_cpu_gb=settings.memory_gb,
        logging_dir=str(logs),
    )


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
