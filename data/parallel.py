"""Map a function over a stream in several processes, in order and in flat memory.

Workers are plain `python -m data.parallel` processes that speak pickle over pipes. Unlike
multiprocessing's they neither fork a process that may hold JAX's threads nor import the caller's
main module (and with it JAX) again; they end when the caller does, however it ends.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")
Answer = tuple[Exception | None, Any]  # what a worker raised, or what it returned

CHUNK = 1 << 18  # characters of text in one piece of work


def chunked(texts: Iterable[str], size: int = CHUNK) -> Iterator[list[str]]:
    """Gather texts into lists of at least `size` characters, the last one excepted."""
    chunk: list[str] = []
    held = 0
    for text in texts:
        chunk.append(text)
        held += len(text)
        if held >= size:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[T], R], items: Iterable[T], workers: int | None = None
) -> Iterator[R]:
    """Yield `function(item)` for each item, in order, computed by `workers` processes.

    `function` is found by name in the workers: a module's function, or a functools.partial of
    one. An exception in it is raised here. With one worker it runs in this process.
    """
    workers = workers or cpu_count()
    if workers == 1:
        yield from map(function, items)
        return
    processes = [_start(function) for _ in range(workers)]
    # Queues of C alone: an interrupted Condition, which futures wait on, may never wake again.
    jobs: SimpleQueue[tuple[T, SimpleQueue[Answer]] | None] = SimpleQueue()
    threads = [Thread(target=_serve, args=(p, jobs), daemon=True) for p in processes]
    for thread in threads:
        thread.start()
    try:
        pending: deque[SimpleQueue[Answer]] = deque()
        for item in items:
            pending.append(SimpleQueue())
            jobs.put((item, pending[-1]))
            if len(pending) > 2 * workers:
                yield _result(pending.popleft().get())
        while pending:
            yield _result(pending.popleft().get())
    finally:
        for process in processes:
            process.kill()
            jobs.put(None)
        for thread in threads:
            thread.join()
        for process in processes:
            process.communicate()


def _serve(process: "subprocess.Popen[bytes]", jobs: "SimpleQueue[Any]") -> None:
    """Have one worker process answer jobs until there is a None."""
    while (job := jobs.get()) is not None:
        item, answer = job
        answer.put(_ask(process, item))


def _result(answer: Answer) -> Any:
    error, result = answer
    if error is not None:
        raise error
    return result


def _start(function: Callable[..., Any]) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "data.parallel"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        process_group=0,  # Ctrl-C is for the caller, which then ends its workers
    )
    _send(process.stdin, function)
    return process


def _ask(process: "subprocess.Popen[bytes]", item: Any) -> Answer:
    try:
        _send(process.stdin, item)
        answer: Answer = pickle.load(process.stdout)  # type: ignore[arg-type]
        return answer
    except (EOFError, BrokenPipeError):
        why = f"a worker process ended early (exit code {process.wait()}); was it out of memory?"
        return RuntimeError(why), None
    except Exception as error:  # what cannot be pickled
        return error, None


def _send(stream: Any, value: Any) -> None:
    pickle.dump(value, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _answer(function: Callable[[Any], Any], item: Any) -> Answer:
    try:
        return None, function(item)
    except Exception as error:
        return error, None


def _work() -> None:
    """Serve one caller: read the function, then answer items until the pipe closes."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a stray print must not break the answers
    try:
        function = pickle.load(sys.stdin.buffer)
        while True:
            _send(answers, _answer(function, pickle.load(sys.stdin.buffer)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass


if __name__ == "__main__":
    _work()
