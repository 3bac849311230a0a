"""How many models to train side by side on one accelerator: measured before a sweep begins.

A small model leaves most of a GPU idle, and several processes on it may do more together; or not.
So a model of the middle of the ladder is trained by one process, by two, by four, for some seconds
each, as long as that gives more tokens/s. Nothing of it is kept. On CPUs it is a process a core,
as measured in docs/speed.md. How many there are changes no trial: each is a process of its own.
"""

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.plan import Rung
from experiments.trial import Failed, Finished, Job, Progress

WINDOW = 10.0  # seconds that are measured, once all processes train
PATIENCE = 300.0  # seconds for all of them to build, compile and start
WORTH = 1.05  # more processes have to give this much more
MOST = 8


def best_count(rate: Callable[[int], float], most: int = MOST) -> int:
    """The number of processes, 1 or doubled from it, up to which tokens/s rise."""
    best, speed = 1, rate(1)
    while 2 * best <= most:
        more = rate(2 * best)
        if more < WORTH * speed:
            break
        best, speed = 2 * best, more
    return best


def tokens_per_second(
    new_worker: Callable[[int], Any], count: int, rung: Rung, facts: dict[str, Any], folder: Path
) -> float:
    """Tokens/s of so many processes that each train the rung; 0.0 where one of them fails.

    `new_worker(share)` starts a worker that is to use a share-th of the device's memory.
    """
    workers = [new_worker(count) for _ in range(count)]
    scratch = folder / "packing"
    try:
        for i, worker in enumerate(workers):
            worker.start(Job(rung, str(scratch / str(i)), facts, 0.0, save_every=1e9))
        begun: set[int] = set()
        deadline, since, steps = time.monotonic() + PATIENCE, 0.0, 0
        while time.monotonic() < deadline:
            for i, worker in enumerate(workers):
                heard = worker.heard()
                if worker.death() or any(isinstance(m, Failed) for m in heard):
                    return 0.0
                if since:
                    steps += sum(m.steps for m in heard if isinstance(m, Progress))
                begun |= {i} if heard else set()
                if since and any(isinstance(m, Finished) for m in heard):
                    deadline = 0.0
            if not since and len(begun) == count:
                since = time.monotonic()
                deadline = since + WINDOW
            time.sleep(0.02)
        seconds = time.monotonic() - since
        return steps * rung.tokens_per_step / seconds if since else 0.0
    finally:
        for worker in workers:
            worker.stop(0.0)
        shutil.rmtree(scratch, ignore_errors=True)
