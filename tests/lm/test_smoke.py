"""The smoke test's verdicts: each must be able to say no; and the whole of it here."""

import json
import re
import shutil
import subprocess
import sys

import jax.numpy as jnp
import pytest

from lm import smoke
from lm.checkpoint import Checkpoints
from lm.train import Trainer

RECORDED = {"losses": {"causal": {"first": 7.0, "final": 5.0}}, "tolerance": {"cpu": 0.02}}


@pytest.mark.parametrize(
    ("found", "good"),
    [([7.0, 6.0, 5.01], True), ([7.0, 6.0, 5.1], False), ([7.1, 6.0, 5.0], False)],
)
def test_a_loss_has_to_be_as_recorded(found, good):
    assert smoke.judge_loss(found, RECORDED, "cpu", "causal").good == good


@pytest.mark.parametrize(
    ("wanted", "calls", "good"),
    [
        ({"cudnn": 3}, {"cudnn": 6, "splash": 0}, True),
        ({"cudnn": 3}, {"cudnn": 5, "splash": 0}, False),  # a backward pass fell back
        ({"cudnn": 3}, {"cudnn": 0, "splash": 0}, False),
        ({"xla": 3}, {"cudnn": 0, "splash": 0}, True),
        ({"xla": 3}, {"cudnn": 0, "splash": 1}, False),
    ],
)
def test_the_kernels_have_to_be_those_of_the_table(wanted, calls, good):
    assert smoke.judge_kernels(wanted, calls, "causal").good == good


@pytest.mark.parametrize(
    ("objective", "kernels"), [("causal", {"cudnn": 3}), ("masked", {"cudnn": 3})]
)
def test_on_a_gpu_every_attention_of_a_single_stack_is_fused(objective, kernels):
    trainer = Trainer(smoke.config_of(objective, "gpu"), None)
    assert smoke.wanted_kernels(trainer, "gpu") == kernels


def test_an_encoder_decoders_attentions_are_all_counted():
    trainer = Trainer(smoke.config_of("span", "gpu"), None)
    c, o = trainer.model.config, trainer.objective
    found = smoke.wanted_kernels(trainer, "gpu")
    even = o.length % 2 == 0
    assert sum(found.values()) == c.enc_layers + 2 * c.layers
    assert found.get("xla", 0) == (0 if even else 2 * c.layers)


def run_of(folder, losses, array):
    folder.mkdir()
    lines = [{"step": i, "loss": x} for i, x in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(1, {"a": jnp.array(array)})
    checkpoints.close()
    return folder


def test_a_resume_that_differs_in_one_bit_is_told(tmp_path):
    whole = run_of(tmp_path / "whole", [2.0, 1.0], [1.0, 0.0])
    assert smoke.judge_resume(whole, shutil.copytree(whole, tmp_path / "copy")).good
    assert not smoke.judge_resume(whole, run_of(tmp_path / "b", [2.0, 1.0], [1.0, -0.0])).good
    assert not smoke.judge_resume(whole, run_of(tmp_path / "c", [2.0, 1.5], [1.0, 0.0])).good


@pytest.mark.slow
def test_all_is_good_here(tmp_path):
    command = [sys.executable, "-m", "lm.smoke", f"--workdir={tmp_path / 'smoke'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 15 and all(line.startswith("ok  ") for line in lines[:-1])
    assert re.fullmatch(r"14 of 14 good, \d+ s", lines[-1])
