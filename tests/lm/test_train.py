"""Training: the same bits after every interruption, and clear words when it cannot go on."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from configs.gpt import get_config
from data.errors import UserError
from lm.config import resolve
from lm.goodput import FILE, KINDS, goodput, read
from lm.optim import make_schedule
from lm.train import NonFiniteError, Trainer, prepare_data
from lm.train import train as train_on_all_devices

SPEED = ("tokens_per_second", "mfu_full", "mfu_visible")
SPEED += tuple(f"seconds_{kind}" for kind in KINDS)


@pytest.fixture(scope="module")
def config(text, tmp_path_factory):
    c = get_config("tiny")
    c.steps, c.batch_size, c.seq_len, c.checkpoint_every = 40, 8, 16, 10
    c.mesh = "data:2"
    c.model.update(layers=2, width=16, heads=2)
    c.data.update(path=str(text), vocab_size=300, valid_share=0.1, max_epochs=100.0)
    c.data.cache = str(tmp_path_factory.mktemp("cache"))
    c.optim.warmup = 5
    c.train.update(steps_per_call=4, log_every=5, eval_every=20)
    return c


@pytest.fixture(scope="module")
def trainer(config):
    return make_trainer(config)


def make_trainer(config, **changes):
    c = resolve(changed(config, **changes))
    devices = int(np.prod([int(part.split(":")[1]) for part in c.mesh.split(",")]))
    return Trainer(c, prepare_data(c), jax.devices()[:devices])


def train(config, workdir):
    """`lm.train.train` takes all devices: as many as tests simulate."""
    return train_on_all_devices(changed(config, mesh="data:-1"), workdir)


def changed(config, **changes):
    c = type(config)(config.to_dict())
    c.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return c


def assert_same_state(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def log_lines(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in SPEED} for row in rows]


def test_the_loss_falls(trainer):
    before = trainer.evaluate(trainer.init(), tokens=0)
    after = trainer.evaluate(trainer.run(trainer.init(), 40), tokens=0)
    # An untied head gives logits of variance 1, which cost 1/2 nat above a uniform guess.
    assert before.loss == pytest.approx(np.log(300) + 0.5, abs=0.15)
    assert after.loss < before.loss - 0.5
    assert after.tokens == before.tokens > 1000


def test_the_first_evaluation_is_what_numpy_says(trainer):
    """Loss and bits per byte of an untrained model, from its logits in float64."""
    from data.batch import eval_batches
    from data.objectives import causal

    state, lengths = trainer.init(), trainer.prepared.tokenizer.byte_lengths
    nats = tokens = size = 0.0
    for batch in eval_batches(trainer.prepared.valid, 8, causal(16)):
        rows = trainer.model(state.params, batch.inputs, batch.positions, batch.segments)
        logits = np.asarray(rows, np.float64)
        log_p = np.take_along_axis(logits, batch.targets[..., None], -1)[..., 0]
        log_p = log_p - np.log(np.exp(logits).sum(-1))
        nats -= (log_p * batch.weights).sum()
        tokens += batch.weights.sum()
        size += lengths[batch.targets[batch.weights > 0]].sum()
    e = trainer.evaluate(state, tokens=0)
    assert e.tokens == tokens
    expected = [nats / tokens, nats / size / np.log(2)]
    np.testing.assert_allclose([e.loss, e.bits_per_byte], expected, rtol=1e-5)


@pytest.mark.parametrize("cuts", [[1], [4], [3, 17, 18, 31], list(range(1, 40))])
def test_calls_cut_short_give_the_same_bits(trainer, cuts):
    whole, parts = trainer.run(trainer.init(), 40), trainer.init()
    for stop in [*cuts, 40]:
        parts = trainer.run(parts, stop)
    assert_same_state(whole, parts)


def test_steps_per_call_changes_nothing_but_rounding(config, trainer):
    one = make_trainer(config, train__steps_per_call=1)
    a, b = trainer.run(trainer.init(), 12), one.run(one.init(), 12)
    for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_a_branch_equals_a_run_from_scratch(trainer):
    """A cooldown from a trunk is bit for bit the run that had that length from the start."""
    short, long = (make_schedule(trainer.config, total) for total in (20, 40))
    trunk = trainer.run(trainer.init(), int(short.decay_start), long)
    branch = trainer.run(trainer.copy(trunk), 20, short)
    assert_same_state(branch, trainer.run(trainer.init(), 20, short))
    trunk = trainer.run(trunk, 40, long)
    assert_same_state(trunk, trainer.run(trainer.init(), 40, long))


@pytest.mark.parametrize(
    "changes",
    [{"mesh": "data:1"}, {"mesh": "data:4"}, {"mesh": "fsdp:2,tensor:2"}, {"model__scan": True}],
)
def test_a_checkpoint_restores_on_another_mesh_or_layout(config, trainer, tmp_path, changes):
    state = trainer.run(trainer.init(), 7)
    trainer.save(tmp_path, state)
    other = make_trainer(config, **changes)
    moved = other.restore(tmp_path)
    other.save(tmp_path / "again", moved)
    assert_same_state(trainer.restore(tmp_path / "again"), state)


def test_a_run_leaves_what_it_promises(config, tmp_path):
    train(config, tmp_path)
    rows = log_lines(tmp_path)
    assert [r["step"] for r in rows if "loss" in r] == [1, *range(5, 45, 5)]
    assert [r["step"] for r in rows if "eval_loss" in r] == [20, 40]
    assert rows[-1]["final_loss"] == pytest.approx(rows[-2]["eval_loss"], rel=0.2)
    assert {"step", "tokens", "loss", "grad_norm", "learning_rate", "weight"} <= rows[0].keys()
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 0
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


COMMAND = [sys.executable, "-m", "lm.train", "--config=configs/gpt.py:tiny"]


def command(config, workdir):
    """The config as a command line, with two host devices as `mesh` asks."""
    flat = {}
    for key, value in config.items():
        inner = value.items() if hasattr(value, "items") else [("", value)]
        flat |= {f"{key}.{k}".rstrip("."): v for k, v in inner}
    flags = [f"--config.{k}={v}" for k, v in flat.items()]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    return [*COMMAND, *flags, f"--workdir={workdir}"], env


def start(config, workdir):
    argv, env = command(config, workdir)
    return subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    deadline = time.time() + seconds
    while not condition() and process.poll() is None and time.time() < deadline:
        time.sleep(0.005)


def test_killed_again_and_again_it_ends_with_the_same_bits(config, tmp_path):
    """kill -9 at random moments, among them the first files of a save; then on to the end."""
    c = changed(config, steps=400, checkpoint_every=50, train__eval_every=0)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(c, whole)
    assert process.wait(300) == 0, process.stderr.read()
    rng = random.Random(1)
    for when in ("saving", "anywhere"):
        process = start(c, killed)
        folder = killed / "checkpoints"
        seen = set(folder.iterdir()) if folder.exists() else set()
        wait_for(lambda f=folder, s=seen: f.exists() and set(f.iterdir()) - s, process)
        if when == "anywhere":
            time.sleep(rng.random())
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(c, killed)
    assert process.wait(300) == 0, process.stderr.read()
    trainer = make_trainer(c)
    states = [trainer.restore(folder / "checkpoints") for folder in (whole, killed)]
    assert_same_state(*states)
    assert log_lines(whole) == log_lines(killed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_polite_signal_saves_and_exits_cleanly(config, tmp_path, number):
    c = changed(config, steps=100_000, checkpoint_every=0, train__eval_every=0)
    c.data.max_epochs = 1e6
    process = start(c, tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and len(metrics.read_text().splitlines()) > 3, process)
    process.send_signal(number)
    said = process.stderr.read()
    assert process.wait(60) == 0
    assert "saved; the same command resumes" in said
    state = make_trainer(c).restore(tmp_path / "checkpoints")
    assert 0 < int(state.step) < 100_000 and f"stopped at step {int(state.step)} of" in said


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    c = changed(config, learning_rate=1e30, optim__clip=0.0)
    with pytest.raises(NonFiniteError, match=r"not finite at step \d+ \(examples \d+-\d+\)") as e:
        train(c, tmp_path)
    kept = make_trainer(c).restore(tmp_path / "checkpoints")
    assert kept is None or int(kept.step) <= e.value.step


def test_or_skips_that_update_when_asked(config, tmp_path):
    c = changed(config, learning_rate=1e30, optim__clip=0.0, train__on_nonfinite="skip")
    trainer = make_trainer(c)
    state = trainer.run(trainer.init(), 12)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    train(c, tmp_path)
    assert [r for r in log_lines(tmp_path) if r.get("event") == "skipped"]


def test_a_run_says_where_its_time_went_and_leaves_a_trace(config, tmp_path, capfd):
    c = changed(config, mesh="data:-1")
    train_on_all_devices(c, tmp_path, profile=True)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert sum(row.get("seconds_compute", 0) for row in rows) > 0
    found = goodput(read(tmp_path / FILE))
    assert found.starts == 1 and 0 < found.share < 1 and found.lost == 0
    assert found.data > 0 and found.checkpoint > 0 and found.evaluation > 0
    assert f"goodput {found.share:.1%}" in capfd.readouterr().err
    assert list(tmp_path.glob("profile/plugins/profile/*/*.xplane.pb"))


def test_out_of_memory_ends_in_one_line(config, tmp_path, monkeypatch, capfd):
    def exhausted(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Trainer, "_place", exhausted)
    with pytest.raises(UserError, match="out of device memory; the cheapest remedies: --config"):
        train(config, tmp_path)
    assert "activations" in capfd.readouterr().err


def test_a_spike_is_logged_with_its_batch(config, tmp_path):
    from lm.log import SPIKE_WINDOW, RunLog

    log = RunLog(tmp_path, make_trainer(config), start=0, began=time.time())
    for step in range(1, SPIKE_WINDOW + 3):
        loss = 9.0 if step == SPIKE_WINDOW + 1 else 3.0
        log.step(step, {"loss": loss, "learning_rate": 0.1})
    events = [r for r in log_lines(tmp_path) if "event" in r]
    first = SPIKE_WINDOW * 8
    spike = {"step": SPIKE_WINDOW + 1, "event": "spike", "loss": 9.0}
    assert events == [spike | {"examples": f"{first}-{first + 7}"}]


def test_a_damaged_checkpoint_is_named(config, trainer, tmp_path):
    trainer.save(tmp_path, trainer.run(trainer.init(), 4))
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match="4 cannot be restored .* remove that folder"):
        trainer.restore(tmp_path)


def test_a_foreign_checkpoint_is_named(config, trainer, tmp_path):
    other = make_trainer(config, model__width=32)
    other.save(tmp_path, other.init())
    with pytest.raises(UserError, match="cannot be restored"):
        trainer.restore(tmp_path)


def test_another_config_in_the_workdir_is_refused(config, tmp_path):
    train(changed(config, steps=4), tmp_path)
    with pytest.raises(UserError, match="steps: 4 there, 8 here"):
        train(changed(config, steps=8), tmp_path)


def test_a_budget_beyond_the_epochs_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="epochs"):
        train(changed(config, steps=1_000_000), tmp_path)
    shutil.rmtree(tmp_path)


def test_the_step_compiles_once(config):
    trainer = make_trainer(config)
    state = trainer.run(trainer.init(), 6)
    state = trainer.run(state, 13, make_schedule(trainer.config, 200))
    assert trainer._advance._cache_size() == 1
    donated = state.params["embed"]
    trainer.run(state, 20)
    assert donated.is_deleted()
