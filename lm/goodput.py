"""Where a run's time goes: seconds by kind while it runs, and goodput over all its restarts.

Goodput is the time spent on steps that are in the result, over the time from the first start to
the last word: what a kill threw away, start-up, waiting for data, checkpoints, evaluation and the
time when no process ran are the rest. Each start of a run appends to goodput.jsonl in its workdir:
a line when it starts (imports are over then), and one with its seconds by kind whenever it logs.

    python -m lm.goodput --workdir=out/tiny
"""

import collections
import contextlib
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from data.errors import Parser, UserError, run
from lm import workdir

T = TypeVar("T")
FILE = "goodput.jsonl"
KINDS = ("data", "compute", "checkpoint", "evaluation")


class Stopwatch:
    """Seconds by kind; time inside a nested block counts for the inner kind only."""

    def __init__(self) -> None:
        self._done: dict[str, float] = {}
        self._open: list[tuple[str, float]] = []  # blocks under way: kind, and counted from when

    def so_far(self) -> dict[str, float]:
        """Seconds by kind until now, blocks under way included."""
        self._count()
        return self._done.copy()

    def _count(self) -> None:
        """Counts the innermost block until now."""
        now = time.perf_counter()
        if self._open:
            kind, since = self._open.pop()
            self._done[kind] = self._done.get(kind, 0.0) + now - since
            self._open.append((kind, now))

    @contextlib.contextmanager
    def time(self, kind: str) -> Iterator[None]:
        """Counts the block's seconds."""
        self._count()
        self._open.append((kind, time.perf_counter()))
        try:
            yield
        finally:
            self._count()
            self._open.pop()
            if self._open:
                self._open[-1] = (self._open[-1][0], time.perf_counter())

    def waiting(self, kind: str, items: Iterable[T]) -> Iterator[T]:
        """The items; the time until each is there counts."""
        iterator, end = iter(items), object()
        while True:
            with self.time(kind):
                item: Any = next(iterator, end)
            if item is end:
                return
            yield item


class Goodput(NamedTuple):
    """Seconds of a run over all its starts; they add up to `wall`."""

    wall: float
    productive: float  # computing steps that are in the result
    lost: float  # computing steps that a stop threw away
    startup: float  # data, restoring and compiling, and what no kind counts
    data: float
    checkpoint: float
    evaluation: float
    down: float  # between a start and the last word of the one before
    starts: int

    @property
    def share(self) -> float:
        return self.productive / self.wall if self.wall else 0.0

    def __str__(self) -> str:
        named = {k: v for k, v in self._asdict().items() if k not in ("wall", "starts")}
        parts = ", ".join(f"{k} {v / max(self.wall, 1e-9):.1%}" for k, v in named.items())
        times = "start" if self.starts == 1 else "starts"
        return f"goodput {self.share:.1%} of {self.wall:.1f} s over {self.starts} {times} ({parts})"


class Line(NamedTuple):
    """What a start said: at what time it had done which step, and its seconds until then."""

    time: float
    step: int
    seconds: dict[str, float]


def text_of(line: Line, start: bool = False) -> str:
    """A line as the ledger has it."""
    return json.dumps({"start": start, **line._asdict()}) + "\n"


def read(path: Any) -> list[list[Line]]:
    """The lines of each start, the first of them written when it started.

    Raises:
      UserError: there is no such file.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UserError(f"{path} is not there: give the --workdir of a run of lm.train") from None
    starts: list[list[Line]] = []
    for row in text.splitlines():
        with contextlib.suppress(ValueError, KeyError):  # a kill leaves half a line
            found = json.loads(row)
            if found["start"] or not starts:
                starts.append([])
            starts[-1].append(Line(found["time"], found["step"], found["seconds"]))
    return starts


def goodput(starts: list[list[Line]]) -> Goodput:
    """Adds up the starts of a run.

    Steps of a start beyond the step at which the next one begins are lost; computing is taken as
    even between two lines.
    """
    total: dict[str, float] = collections.defaultdict(float)
    for i, lines in enumerate(starts):
        kept = starts[i + 1][0].step if i + 1 < len(starts) else lines[-1].step
        spent = {kind: lines[-1].seconds.get(kind, 0.0) for kind in KINDS}
        good = compute_until(lines, kept)
        wall = lines[-1].time - lines[0].time
        for kind in ("data", "checkpoint", "evaluation"):
            total[kind] += spent[kind]
        total["productive"] += good
        total["lost"] += spent["compute"] - good
        total["startup"] += wall - sum(spent.values())
        if i:
            total["down"] += lines[0].time - starts[i - 1][-1].time
    wall = starts[-1][-1].time - starts[0][0].time if starts else 0.0
    parts = {k: total[k] for k in Goodput._fields if k not in ("wall", "starts")}
    return Goodput(wall=wall, starts=len(starts), **parts)


def compute_until(lines: list[Line], step: int) -> float:
    """Seconds of computing in a start until a step."""
    before = lines[0]
    for line in lines[1:]:
        a, b = before.seconds.get("compute", 0.0), line.seconds.get("compute", 0.0)
        if line.step > step:
            return a + (b - a) * max(step - before.step, 0) / (line.step - before.step)
        before = line
    return before.seconds.get("compute", 0.0)


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m lm.goodput",
        description=__doc__,
    )
    parser.add_argument("--workdir", required=True, help="folder of a run")
    print(goodput(read(workdir.at(parser.parse_args().workdir) / FILE)))


if __name__ == "__main__":
    run(main)
