"""Sweeps on a Ray cluster: gangs, one of them killed, and the table of the local executor."""

import os
import signal
import subprocess
import sys
import time

import pytest
from ml_collections import ConfigDict

from data.errors import UserError
from experiments import executors
from experiments.executors import Gang, Ray, refuse_unshared
from experiments.plan import data_facts, make_plan
from experiments.sweep import Driver, execute, run_sweep
from lm.config import resolve
from lm.train import prepare_data
from tests.experiments.sweeps import grid, small
from tests.experiments.test_sweep import table


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of this machine, said to have four CPUs."""
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    variables = {"PYTHONPATH": str(executors.ROOT)}
    ray.init(
        num_cpus=4, include_dashboard=False, log_to_driver=False,
        runtime_env={"env_vars": variables},
    )  # fmt: skip
    yield ray
    ray.shutdown()


@pytest.fixture
def config(tmp_path) -> ConfigDict:
    """Two models, each trained by two processes, long enough to be killed in the middle."""
    c = small(tmp_path / "text", tmp_path / "cache")
    c.hosts, c.save_every = 2, 0.2
    c.budgets = (4e9, 6e9)
    c.tokens_per_parameter, c.base.data.max_epochs = (0.01, 1e6), 1e6
    return c


@pytest.mark.slow
def test_a_gang_that_loses_a_host_gives_the_local_executors_table(
    config, tmp_path, cluster, monkeypatch, capfd
):
    killed = []
    show = Driver.show

    def kill_one(driver: Driver) -> None:
        saved = list((tmp_path / "ray" / "trunks").glob("*/[0-9]*"))
        busy = [
            w for w in driver.busy() if w.rung.trials[-1].run_id in {p.parent.name for p in saved}
        ]
        if not killed and busy and len(busy[0].actors) == 2:
            os.kill(cluster.get(busy[0].actors[1].pid.remote()), signal.SIGKILL)
            killed.append(busy[0].rung.name)
        show(driver)

    monkeypatch.setattr(Driver, "show", kill_one)
    rungs = make_plan(config, data := data_facts(prepare_data(resolve(config.base))))
    assert len(rungs) == 2
    crew = Ray(config, tmp_path / "ray")
    assert crew.capacity == 2
    assert execute(rungs, tmp_path / "ray", config, data, crew.capacity, crew) == []
    said = capfd.readouterr().err
    assert f"{killed[0]} failed: host 1 was lost" in said or "host 0 was lost" in said
    assert said.count("(trying again)") == 1

    monkeypatch.setattr(Driver, "show", show)
    assert execute(rungs, tmp_path / "local", config, data, workers=1) == []
    got, expected = table(tmp_path / "ray"), table(tmp_path / "local")
    assert len(got) == 4 and got == expected
    assert not list((tmp_path / "ray" / "trunks").iterdir())


@pytest.mark.slow
def test_a_driver_killed_and_started_again_trains_only_what_is_missing(config, tmp_path, cluster):
    rungs = make_plan(config, data := data_facts(prepare_data(resolve(config.base))))
    folder = tmp_path / "ray"
    assert execute(rungs[:1], folder, config, data, 1, Ray(config, folder)) == []
    before = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*.json")}
    assert len(before) == 2
    assert execute(rungs, folder, config, data, 2, Ray(config, folder)) == []
    after = {p: p.stat().st_mtime_ns for p in folder.glob("runs/*.json")}
    assert len(after) == 4 and before.items() <= after.items()


@pytest.mark.slow
def test_a_model_that_no_cluster_holds_is_refused(config, tmp_path, cluster):
    config.hosts = 5
    with pytest.raises(UserError, match="the cluster has 4 CPU: too little for .* hosts=5"):
        Ray(config, tmp_path)


def test_a_folder_that_a_node_does_not_see_is_refused(tmp_path):
    asked = []

    def ask(path, word):
        asked.append(path.read_text() == word)
        return {"node-a": True, "node-b": False}

    with pytest.raises(UserError, match="is not seen by node-b: name a folder on storage"):
        refuse_unshared(tmp_path, ask)
    assert asked == [True] and not list(tmp_path.iterdir())
    refuse_unshared(tmp_path, lambda path, word: {"node-a": True})


def test_an_unknown_executor_is_refused(tmp_path):
    with pytest.raises(UserError, match='--executor=rya is not one of local, ray .*"ray"'):
        run_sweep(grid(), tmp_path / "new", executor="rya")
    assert not (tmp_path / "new").exists()


def test_without_ray_one_line_says_what_to_install(tmp_path):
    hide = "import sys; sys.modules['ray'] = None; from experiments import executors as e"
    code = f"{hide}; from data.errors import run; from tests.experiments.sweeps import grid\n"
    code += f"run(lambda: e.Ray(grid(), {str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "requirements-cluster.txt" in done.stderr and "Traceback" not in done.stderr


class FakeRay:
    """Ray as a gang sees it: what has ended, and how."""

    class exceptions:
        class RayError(Exception):
            pass

    def __init__(self, ends):
        self.ends = ends

    def wait(self, refs, num_returns=1, timeout=0):
        return [r for r in refs if r in self.ends], []

    def get(self, refs):
        if isinstance(refs, list):
            return [self.get(r) for r in refs]
        if isinstance(self.ends[refs], Exception):
            raise self.ends[refs]
        return self.ends[refs]


def gang(ends):
    found = Gang.__new__(Gang)
    found.cluster = type("Cluster", (), {"ray": FakeRay(ends)})()
    found.runs, found.actors, found._poll, found._group = ["a", "b"], [], None, None
    found._asked = time.monotonic()
    return found


def test_a_gang_lives_as_long_as_all_its_hosts_and_ends_once():
    from experiments.trial import Failed, Finished

    lost = FakeRay.exceptions.RayError("gone")
    assert gang({}).death() is None and gang({}).heard() == []
    assert gang({"b": lost}).death() == "host 1 was lost (RayError)"
    assert gang({"a": Finished(1.0), "b": lost}).heard() == []
    assert gang({"b": Failed("loss 1e9")}).death() == "loss 1e9"
    assert gang({"a": Finished(2.0)}).heard() == []
    assert gang({"a": Finished(2.0), "b": Finished(3.0)}).heard() == [Finished(2.0)]
    assert gang({"a": Finished(2.0), "b": Failed("no")}).heard() == [Failed("no")]
