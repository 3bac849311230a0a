"""Several real processes as one run: the same data and losses, through kills and other counts."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs.gpt import get_config
from data.errors import UserError
from lm import distributed
from lm import mesh as meshes
from lm.config import resolve
from lm.distributed import local_rows, several_by_environment, start
from lm.train import Trainer, prepare_data

STEPS = 48
SETTINGS = {
    "steps": STEPS, "batch_size": 8, "seq_len": 16, "checkpoint_every": 8,
    "model.layers": 1, "model.width": 16, "model.heads": 2,
    "learning_rate": 1e-4,  # small: rounding does not grow over these steps
    "data.vocab_size": 300, "data.max_epochs": 1e6,
    "train.steps_per_call": 2, "train.log_every": 1, "train.eval_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 4)) for _ in range(80)]
    texts = [" ".join(rng.choice(words, 60)) for _ in range(200)]
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": t}) for t in texts))
    cache = str(tmp_path_factory.mktemp("cache"))
    return SETTINGS | {"data.path": str(folder), "data.cache": cache, "data.valid_share": 0.1}


@pytest.fixture(scope="module")
def alone(settings):
    """The losses of the run by one process on four devices."""
    c = get_config("tiny")
    c.update_from_flattened_dict(settings | {"mesh": "data:4"})
    c = resolve(c)
    trainer, losses = Trainer(c, prepare_data(c), jax.devices()[:4]), []
    trainer.run(trainer.init(), c.steps, report=lambda _, row: losses.append(row["loss"]))
    return losses


def launch(settings, workdir, processes, devices, other_data=None):
    """The training command, once a process; the last one may be given other data."""
    with socket.socket() as s:
        s.bind(("localhost", 0))
        address = f"localhost:{s.getsockname()[1]}"
    fields = [f"--config.{k}={v}" for k, v in settings.items()]
    command = [sys.executable, "-m", "lm.train", "--config=configs/gpt.py:tiny", *fields]
    where = [f"--workdir={workdir}", f"--coordinator={address}", f"--processes={processes}"]
    flags = f"--xla_force_host_platform_device_count={devices} --xla_cpu_multi_thread_eigen=false"
    env = os.environ | {"XLA_FLAGS": flags}
    last = [f"--config.data.path={other_data}"] if other_data else []
    return [
        subprocess.Popen(
            [*command, *where, f"--process={i}", *(last if i == processes - 1 else [])],
            env=env, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for i in range(processes)
    ]  # fmt: skip


def finish(processes):
    """Exit codes and what was said on stderr."""
    said = [p.communicate(timeout=240)[1] for p in processes]
    return [p.returncode for p in processes], said


def wait_for(condition, processes):
    deadline = time.time() + 240
    while not condition():
        if time.time() > deadline or any(p.poll() is not None for p in processes):
            codes, said = finish(processes)
            pytest.fail(f"exit codes {codes}\n" + "\n".join(said))
        time.sleep(0.005)


def rows(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir):
    """Of each step, in order; a step that is missing or there twice fails."""
    found = [(r["step"], r["loss"]) for r in rows(workdir) if "loss" in r]
    assert [step for step, _ in found] == list(range(1, STEPS + 1))
    return [loss for _, loss in found]


def test_killed_and_resumed_by_another_number_of_processes(settings, alone, tmp_path):
    """Two processes until one is killed, then four, two and two of which share rows of a batch.

    The loss of a step is that of its batch and no other: another order of the data would show.
    """
    pair = launch(settings | {"mesh": "data:4"}, tmp_path, 2, devices=2)
    wait_for(lambda: (tmp_path / "checkpoints" / "8").exists(), pair)
    pair[1].send_signal(signal.SIGKILL)
    pair[0].send_signal(signal.SIGKILL)  # it would end by itself, after HEARTBEAT_SECONDS
    finish(pair)

    codes, said = finish(launch(settings | {"mesh": "fsdp:2,tensor:2"}, tmp_path, 4, devices=1))
    assert codes == [0] * 4, said
    resumed = int(said[0].partition("resuming at step ")[2].split()[0])
    assert 8 <= resumed < STEPS and not any(said[1:])
    np.testing.assert_allclose(losses(tmp_path), alone, rtol=2e-6)
    assert len([r for r in rows(tmp_path) if "final_loss" in r]) == 1


@pytest.mark.slow
def test_the_same_number_of_processes_resumes_to_the_same_bits(settings, alone, tmp_path):
    """A signal to one process stops both at the same step; what follows is as if it had not."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    settings = settings | {"mesh": "data:2,seq:2"}
    assert finish(launch(settings, whole, 2, devices=2))[0] == [0, 0]
    pair = launch(settings, stopped, 2, devices=2)
    path = stopped / "metrics.jsonl"
    wait_for(lambda: path.exists() and len(path.read_text().splitlines()) > 4, pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, said = finish(pair)
    assert codes == [0, 0] and "saved; the same command resumes" in said[0]
    assert finish(launch(settings, stopped, 2, devices=2))[0] == [0, 0]
    assert losses(stopped) == losses(whole)
    np.testing.assert_allclose(losses(whole), alone, rtol=2e-6)


@pytest.mark.slow
def test_a_lost_process_ends_the_others(settings, tmp_path):
    pair = launch(settings | {"mesh": "data:4", "steps": 10_000}, tmp_path, 2, devices=2)
    wait_for(lambda: (tmp_path / "metrics.jsonl").exists(), pair)
    pair[1].send_signal(signal.SIGKILL)
    since = time.time()
    codes, said = finish(pair)
    assert codes[0] not in (0, 2) and time.time() - since < 4 * distributed.HEARTBEAT_SECONDS
    assert "another task died" in said[0]


@pytest.mark.slow
def test_what_one_process_lacks_ends_all_in_one_line(settings, tmp_path):
    """The second is given other data; none waits for it, and no folder is claimed."""
    pair = launch(settings | {"mesh": "data:2"}, tmp_path / "run", 2, devices=1, other_data="x.txt")
    codes, said = finish(pair)
    assert codes == [2, 2]
    assert all("error: process 1: " in text and "x.txt" in text for text in said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"coordinator": "a:1"}, "need --processes, --process too"),
        ({"coordinator": "a:1", "processes": "2", "process": "2"}, "--process=2 must be below"),
        ({"coordinator": "a:1", "processes": "two", "process": "0"}, "not a whole number"),
        ({"coordinator": "a", "processes": "2", "process": "0"}, "needs a port"),
    ],
)
def test_wrong_flags_are_refused(flags, says):
    with pytest.raises(UserError, match=says):
        start(SimpleNamespace(**flags))


def test_one_process_needs_nothing(monkeypatch):
    monkeypatch.setattr(distributed, "_join", lambda **_: pytest.fail("there is nobody to join"))
    start()
    start(SimpleNamespace(coordinator="a:1", processes="1", process="0"))
    assert distributed.gather("x") == ["x"] and distributed.together(lambda: 3) == 3
    assert distributed.AnyProcess()(True) and not distributed.AnyProcess()(False)


@pytest.mark.parametrize(
    ("environment", "several"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # an allocation, but not started by srun
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "n1"}, False),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "n[1-4]"}, True),
    ],
)
def test_slurm_is_noticed(environment, several):
    assert several_by_environment(environment) == several


def test_cloud_tpu_is_noticed(monkeypatch):
    monkeypatch.setattr(distributed, "_tpu_chips", lambda: True)
    assert several_by_environment({})
    assert not several_by_environment({"JAX_PLATFORMS": "cpu"})
    assert not several_by_environment({"TPU_SKIP_MDS_QUERY": "1"})


@pytest.mark.parametrize("mesh", ["data:8", "data:2,tensor:4", "data:4,seq:2", "tensor:8"])
def test_a_process_holds_the_rows_of_its_devices(mesh):
    """On one process all rows; `place` then cuts them as device_put does."""
    sizes = meshes.parse(mesh, 8)
    sharding = meshes.sharding(meshes.make(sizes, jax.devices()[:8]), ("batch", "length"))
    numbers = np.arange(8 * 16).reshape(8, 16)
    assert local_rows(sharding, numbers.shape).tolist() == list(range(8))
    placed = distributed.place(sharding, numbers, np.arange(8), 8)
    expected = jax.device_put(numbers, sharding)
    for a, b in zip(placed.addressable_shards, expected.addressable_shards, strict=True):
        assert a.index == b.index
        np.testing.assert_array_equal(a.data, b.data)
