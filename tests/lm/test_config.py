"""Configs: every preset resolves, and every mistake is one line that names it."""

import json

import pytest

from configs import bert, t5
from configs.gpt import get_config
from data.errors import UserError
from lm.config import claim_workdir, load, resolve, to_json

GPT = "--config=configs/gpt.py:tiny"


@pytest.mark.parametrize("name", ["tiny", "124m", "1b", "7b", "70b", "ladder-32x2"])
def test_every_preset_resolves(name):
    c = resolve(get_config(name))
    assert c.model.head_dim * c.model.heads == c.model.width
    assert c.optim.warmup >= 1
    assert json.loads(to_json(c)) == c.to_dict()


@pytest.mark.parametrize("name", ["tiny", "ladder-32x2", *bert.BERT, *bert.MODERN])
def test_every_bert_resolves(name):
    assert resolve(bert.get_config(name)).model.arch == "encoder"


@pytest.mark.parametrize("name", ["tiny", "ladder-32x2", *t5.V1_0, *t5.V1_1])
def test_every_t5_resolves(name):
    c = resolve(t5.get_config(name))
    assert c.model.enc_layers == c.model.layers


@pytest.mark.parametrize("family", [bert, t5])
def test_an_unknown_preset_is_refused_with_those_there_are(family):
    with pytest.raises(ValueError, match="no preset 'huge'; it has tiny"):
        family.get_config("huge")


def test_resolving_twice_changes_nothing():
    once = resolve(get_config("tiny"))
    assert resolve(once).to_dict() == once.to_dict()


def test_flags_change_fields():
    config, _ = load(["train", GPT, "--config.steps=7", "--config.model.width=32"], "usage")
    assert config.steps == 7 and config.model.width == 32


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--config=FILE.* is missing"),
        ([GPT, "--config.step=3"], "config.step: no such field .did you mean .steps"),
        ([GPT, "--config.model.widht=3"], "did you mean .model.width"),
        ([GPT, "--config.steps=many"], "config.steps"),
        ([GPT, "--wrokdir=x"], "wrokdir"),
        (["--config=configs/gpt.py:huge"], "no preset 'huge'"),
        (["--config=configs/nothing.py"], "no file configs/nothing.py; there are .*configs/gpt.py"),
        (["--config=pyproject.toml"], "pyproject.toml is not a Python file"),
        (["--config=configs/__init__.py"], "not a config file"),
        ([GPT, "stray"], "unexpected argument 'stray'"),
    ],
)
def test_a_wrong_command_line_is_one_line(argv, says):
    with pytest.raises(UserError, match=says) as e:
        load(["train", *argv], "usage")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("model.width", 65, "model.width=65 is not divisible by model.heads=4"),
        ("model.kv_heads", 3, "model.heads=4 is not divisible by model.kv_heads=3"),
        ("model.activation", "silo", "did you mean .silu"),
        ("objective", "casual", "did you mean .causal"),
        ("steps", 0, "steps=0 must be at least 1"),
        (
            "optim.microbatches",
            5,
            "batch_size=16 is not divisible by optim.microbatches=5",
        ),
        ("model.vocab_size", 100, "smaller than the tokenizer's"),
        ("model.head_dim", 15, "even model.head_dim"),
        ("model.arch", "encoder", "objective=causal trains model.arch=decoder, not encoder"),
        ("model.window", 0, "model.window=0 must be at least 1"),
        ("learning_rate", -1.0, "learning_rate=-1.0 must be at least 0"),
        ("learning_rate", float("nan"), "learning_rate=nan must be at least 0"),
        ("optim.beta2", 1.5, "optim.beta2=1.5 must be a share from 0 to 1"),
    ],
)
def test_values_that_cannot_work_are_refused(field, value, says):
    c = get_config("tiny")
    c.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=says):
        resolve(c)


@pytest.mark.parametrize(
    ("objective", "arch"),
    [
        ("causal", "decoder"),
        ("masked", "encoder"),
        ("span", "encoder-decoder"),
        ("prefix", "encoder-decoder"),
        ("ul2", "encoder-decoder"),
    ],
)
def test_one_word_changes_the_objective_and_the_stacks_with_it(objective, arch):
    c = get_config("tiny")
    c.objective = objective
    c = resolve(c)
    assert c.model.arch == arch
    assert c.model.enc_layers == (3 if arch == "encoder-decoder" else 0)


def test_a_loop_over_layers_takes_whole_groups():
    c = bert.get_config("modern-base")
    c.model.scan = True
    assert resolve(c).model.scan  # 21 layers after the first, in groups of 3
    c.model.layers = 23
    with pytest.raises(UserError, match="groups of model.global_every=3 layers, and 22 do not"):
        resolve(c)


def test_a_workdir_belongs_to_one_run(tmp_path):
    c = get_config("tiny")
    claim_workdir(tmp_path, resolve(c))
    c.train.log_every = 1  # does not change the result
    claim_workdir(tmp_path, resolve(c))
    c.learning_rate = 1e-3
    with pytest.raises(UserError, match="learning_rate: 0.004 there, 0.001 here"):
        claim_workdir(tmp_path, resolve(c))


def test_a_damaged_config_json_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not readable JSON"):
        claim_workdir(tmp_path, resolve(get_config("tiny")))
