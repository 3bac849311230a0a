"""Curation on a Ray cluster: the same bytes as here, whoever is killed on the way.

Needs requirements-cluster.txt, which the test environments do without.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from data import curation, executors
from tests.data.test_curation import Fails, config, make_sources, outcome

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch) -> Iterator:
    """A local cluster of two raylets of one core each; commands find it by RAY_ADDRESS."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def when(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act once something is so, beside the test; the thread ends when it did."""

    def wait() -> None:
        end = time.monotonic() + 200
        while not condition() and time.monotonic() < end:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_machine_lost_on_the_way_changes_nothing(cluster, tmp_path: Path) -> None:
    make_sources(tmp_path / "in")
    curation.curate(config(tmp_path / "in"), tmp_path / "local")
    out = tmp_path / "ray"

    def half_way() -> bool:
        return any(out.glob("work/logs/*minhash-sign/completions/*"))

    killer = when(
        half_way, lambda: cluster.remove_node(list(cluster.worker_nodes)[0], allow_graceful=False)
    )
    curation.curate(config(tmp_path / "in", executor="ray"), out)
    killer.join(timeout=1)
    assert not killer.is_alive() and len(cluster.worker_nodes) == 0
    assert outcome(out) == outcome(tmp_path / "local")


class Sleeps(Fails):
    """Notes its process, and takes long enough to be killed the first time."""

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        first = self.folder / f"process-{rank}"
        if rank == 1 and not first.exists():
            hidden = self.folder / "hidden"
            hidden.write_text(str(os.getpid()))
            hidden.rename(first)
            time.sleep(300)
        (self.folder / f"done-{rank}").touch()


def settings(workers: int) -> SimpleNamespace:
    return SimpleNamespace(workers=workers, memory_gb=0.1)


def test_a_killed_worker_is_replaced(cluster, tmp_path: Path) -> None:
    process = tmp_path / "process-1"
    killer = when(process.exists, lambda: os.kill(int(process.read_text()), signal.SIGKILL))
    steps = [Sleeps(tmp_path, "")]
    executor = executors.ray(steps, 4, tmp_path / "logs", settings(2), None)
    executor.run()
    killer.join(timeout=1)
    assert not killer.is_alive() and executors.missing(executor) == []
    assert all((tmp_path / f"done-{rank}").exists() for rank in range(4))


def test_a_task_that_never_works_stops_no_other(cluster, tmp_path: Path, capsys) -> None:
    steps = [Fails(tmp_path, "always")]
    executor = executors.ray(steps, 4, tmp_path / "logs", settings(2), None)
    executor.run()
    assert executors.missing(executor) == [1]
    assert "task 1 failed: RuntimeError: this task never works" in capsys.readouterr().err
