"""How many models share an accelerator: what is measured, by workers that keep a script."""

import itertools
from types import SimpleNamespace

import pytest

from experiments import executors, packing
from experiments.packing import best_count, tokens_per_second
from experiments.trial import Failed, Progress
from tests.experiments.sweeps import grid

RUNG = SimpleNamespace(name="a", tokens_per_step=100, flops_per_token=1.0)


@pytest.mark.parametrize(
    ("rates", "most", "best"),
    [
        ({1: 10, 2: 19, 4: 30, 8: 30}, 8, 4),
        ({1: 10, 2: 10.4}, 8, 1),  # not worth it
        ({1: 10, 2: 20}, 3, 2),
        ({1: 10, 2: 0}, 8, 1),  # two do not fit
    ],
)
def test_processes_are_doubled_while_that_pays(rates, most, best):
    assert best_count(rates.__getitem__, most) == best


class Scripted:
    """A worker that trains so many steps at each question, a tenth of a second apart."""

    def __init__(self, clock, steps, fails=False):
        self.clock, self.steps, self.fails = clock, steps, fails
        self.stopped = False

    def start(self, job):
        self.job = job

    def heard(self):
        self.clock[0] += 0.05
        return [Failed("no")] if self.fails else [Progress(0, self.steps, 0.1)]

    def death(self):
        return None

    def stop(self, seconds):
        self.stopped = True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(packing.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(packing.time, "sleep", lambda _: None)
    return now


def test_tokens_of_all_workers_count_once_all_of_them_train(clock, tmp_path):
    made = []

    def new_worker(share):
        made.append(Scripted(clock, 3 + len(made)))
        assert share == 2
        return made[-1]

    rate = tokens_per_second(new_worker, 2, RUNG, {}, tmp_path)
    assert rate == pytest.approx((3 + 4) * 100 / 0.1, rel=0.02)
    assert all(w.stopped for w in made) and len({w.job.folder for w in made}) == 2


def test_a_process_that_fails_counts_as_nothing(clock, tmp_path):
    workers = iter([Scripted(clock, 3), Scripted(clock, 3, fails=True)])
    assert tokens_per_second(lambda _: next(workers), 2, RUNG, {}, tmp_path) == 0.0


def test_only_gpus_are_measured_and_workers_share_their_memory(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(executors.packing, "tokens_per_second", lambda *a: {1: 5, 2: 9, 4: 9}[a[1]])
    monkeypatch.setattr(
        executors, "Worker",
        lambda *_: seen.append(executors.os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION")),
    )  # fmt: skip
    sweep, rungs = grid(), list(itertools.repeat(RUNG, 8))
    sweep.device = "gpu"
    local = executors.Local(sweep, tmp_path)
    assert local.capacity == 1 and local.pack(rungs, {}) == 2
    local.new_worker()
    assert seen == ["0.450"]
    sweep.device = "cpu"
    assert executors.Local(sweep, tmp_path).pack(rungs, {}) == executors.worker_count(sweep)
