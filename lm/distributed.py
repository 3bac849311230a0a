"""Several processes as one run: one on each host of a TPU slice, or one a node or GPU.

Every process runs the same command. On Cloud TPU and under Slurm it finds the others by itself;
elsewhere each is told where process 0 listens, how many they are and which it is:

    python -m lm.train --config=configs/gpt.py:tiny --workdir=out/two \
        --coordinator=localhost:9876 --processes=2 --process=0

or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment. The workdir
has to be a folder that all of them see. A run that lost a process cannot go on: JAX ends the
others, and the same command, by any number of processes, resumes from the last checkpoint.
"""

import glob
import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import NamedSharding

from data.errors import UserError

T = TypeVar("T")
FLAGS: dict[str, tuple[Any, str]] = {
    "coordinator": ("", "HOST:PORT of process 0, where several processes are one run"),
    "processes": ("", "how many they are"),
    "process": ("", "this one's number, from 0"),
}
ENVIRONMENT = {
    "coordinator": "JAX_COORDINATOR_ADDRESS",
    "processes": "JAX_NUM_PROCESSES",
    "process": "JAX_PROCESS_ID",
}
MESSAGE_BYTES = 1024
HEARTBEAT_SECONDS = 30  # a process that is not heard of for this long ends the others


def start(flags: Any = None) -> None:
    """Joins the other processes of the run, if there are any; before JAX touches a device.

    Args:
      flags: parsed FLAGS of a command; the environment stands in for those left out.

    Raises:
      UserError: some are given and others not, or the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    given: dict[str, str] = {
        name: getattr(flags, name, "") or os.environ.get(variable, "")
        for name, variable in ENVIRONMENT.items()
    }
    if not any(given.values()):
        if several_by_environment(os.environ):
            _join()
        return
    missing = [f"--{name}" for name, value in given.items() if not value]
    if missing:
        raise UserError(f"several processes need {', '.join(missing)} too: see lm/distributed.py")
    count, number = (_whole(name, given[name]) for name in ("processes", "process"))
    if number >= count:
        raise UserError(f"--process={number} must be below --processes={count}: they count from 0")
    if ":" not in given["coordinator"]:
        raise UserError(f"--coordinator={given['coordinator']} needs a port: HOST:PORT")
    if count > 1:
        _join(coordinator_address=given["coordinator"], num_processes=count, process_id=number)


def _whole(name: str, value: str) -> int:
    if not value.isdigit():
        raise UserError(f"--{name}={value} is not a whole number")
    return int(value)


def _join(**where: Any) -> None:
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=HEARTBEAT_SECONDS, **where)
    except (RuntimeError, ValueError) as e:
        text = " ".join(str(e).split())[:200]
        raise UserError(f"the processes of the run did not find each other: {text}") from e


def several_by_environment(environment: Mapping[str, str]) -> bool:
    """True in a Slurm step of several tasks and on a Cloud TPU host: JAX finds the others there."""
    if environment.get("JAX_PLATFORMS") == "cpu" and "SLURM_STEP_NODELIST" not in environment:
        return False
    if int(environment.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in environment:
        return True
    skipped = environment.get("TPU_SKIP_MDS_QUERY", "").lower() in ("1", "true")
    return not skipped and _tpu_chips()


def _tpu_chips() -> bool:
    """True where this host has TPU chips and the library for them."""
    devices = glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")
    return bool(devices) and importlib.util.find_spec("libtpu") is not None


def is_first() -> bool:
    """True on the process that writes what a run writes once."""
    return jax.process_index() == 0


def gather(text: str) -> list[str]:
    """Every process's text (its first kilobyte), by process; all must call."""
    if jax.process_count() == 1:
        return [text]
    from jax.experimental import multihost_utils

    row = np.zeros(MESSAGE_BYTES, np.uint8)
    cut = text.encode()[:MESSAGE_BYTES]
    row[: len(cut)] = np.frombuffer(cut, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(row)).reshape(-1, MESSAGE_BYTES)
    return [bytes(r).rstrip(b"\0").decode(errors="ignore") for r in rows]


def together(work: Callable[[], T]) -> T:
    """Does `work` on every process; a UserError of one is raised by all, so that none waits."""
    if jax.process_count() == 1:
        return work()
    results, error = [], ""
    try:
        results.append(work())
    except UserError as e:
        error = str(e)
    for process, said in enumerate(gather(error)):
        if said:
            raise UserError(f"process {process}: {said}")
    return results[0]


def first_writes(path: Path, write: Callable[[], None]) -> None:
    """The first process does `write`, which leaves `path`; the others see the same folder.

    Raises:
      UserError: what `write` raises, or a process does not see what the first one wrote.
    """
    together(write if is_first() else lambda: None)

    def check() -> None:
        if not path.exists():
            raise UserError(f"{path.parent} is not shared: name a folder that all hosts see")

    together(check)


def say(text: str) -> None:
    """Prints a line, on the first process only."""
    if is_first():
        print(text)


def check_equal(what: str, value: str) -> None:
    """Raises UserError where a process has another value than process 0."""
    values = gather(value)
    others = [i for i, v in enumerate(values) if v != values[0]]
    if others:
        raise UserError(
            f"{what} of process {others[0]} differs from that of process 0 "
            f"({values[others[0]][:16]}, {values[0][:16]}): give all hosts the same"
        )


class AnyProcess:
    """Whether a flag is up on any process, known to all of them at the same call.

    The answer is to the question of the call before: it has come by then, so nobody waits.
    """

    def __init__(self) -> None:
        self._pending: jax.Array | None = None
        if jax.process_count() > 1:
            self._mesh = jax.sharding.Mesh(jax.devices(), ("all",))
            self._rows = NamedSharding(self._mesh, jax.P("all"))
            self._max = jax.jit(jax.numpy.max, out_shardings=NamedSharding(self._mesh, jax.P()))

    def __call__(self, flag: bool) -> bool:
        if jax.process_count() == 1:
            return flag
        before, count = self._pending, len(jax.devices())
        mine = jax.make_array_from_callback((count,), self._rows, lambda _: np.array([flag]))
        self._pending = self._max(mine)
        return before is not None and bool(np.asarray(before))


def local_rows(sharding: NamedSharding, shape: tuple[int, int]) -> np.ndarray:
    """Numbers of the rows of a global [B, L] array that this process's devices hold, rising."""
    indices: Any = sharding.addressable_devices_indices_map(shape).values()
    return np.unique(np.concatenate([np.arange(shape[0])[index[0]] for index in indices]))


def place(sharding: NamedSharding, local: np.ndarray, rows: np.ndarray, size: int) -> jax.Array:
    """A global array from the rows that this process has.

    Args:
      sharding: of the global array [..., B, L].
      local: [..., len(rows), L].
      rows: which rows of B those are, rising.
      size: B.
    """
    shape = (*local.shape[:-2], size, local.shape[-1])

    def part(index: Any) -> np.ndarray:
        wanted = np.arange(size)[index[-2]]
        return local[(*index[:-2], np.searchsorted(rows, wanted), index[-1])]

    return jax.make_array_from_callback(shape, sharding, part)
