"""Fine-tuning learns answers and nothing of prompts, from the parameters that it starts with."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gpt
from configs.sft import get_config
from data import pairs
from data.batch import Batches
from data.errors import UserError
from data.pairs import Pair
from data.tokenizer import EOT, PAD, train
from lm import params as P
from lm import sft
from lm.config import model_config, resolve
from lm.decode import Sampling
from lm.generate import complete
from lm.load import load
from lm.loss import loss_and_gradients
from lm.objective import make_objective
from lm.train import train as train_run

WORDS = ("cat", "dog", "hat", "mat", "sun", "rat", "log", "fog")
PAIRS = [Pair(f"say {a} {b}:", f" {b}") for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def tokenizer():
    return train(["say the cat sat on the mat: a dog ran off with the hat " * 20], 320)


def small():
    c = gpt.get_config("tiny")
    c.seq_len, c.data.vocab_size, c.batch_size = 32, 320, 8
    c.model.update(layers=1, width=16, heads=2)
    return c


def batch_of(tokenizer, some):
    objective = make_objective(resolve(small()), tokenizer)
    store = pairs.store(some, tokenizer, 32)
    batches = Batches(store, 1, objective, seed=0)
    parts = [batches(step) for step in range(batches.windows)]
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)


def test_answers_weigh_and_nothing_else(tokenizer):
    batch = batch_of(tokenizer, PAIRS)
    answers = sorted(tokenizer.encode(p.answer) + [EOT] for p in PAIRS)
    found = []
    for targets, weights in zip(batch.targets, batch.weights, strict=True):
        runs = np.flatnonzero(np.diff(np.pad(weights, 1)))
        found += [targets[a:b].tolist() for a, b in runs.reshape(-1, 2)]
    assert sorted(found) == answers  # each in one piece, once an epoch
    assert batch.weights.sum() == sum(map(len, answers))
    # What stands before an answer in its window is its own prompt, from an end-of-text on.
    prompts = {tuple(tokenizer.encode(p.prompt)) for p in PAIRS}
    for inputs, positions, weights in zip(
        batch.inputs, batch.positions, batch.weights, strict=True
    ):
        for at in np.flatnonzero(np.diff(weights, prepend=0) > 0):
            begin = at - positions[at]
            assert inputs[begin] == EOT
            assert tuple(inputs[begin + 1 : at + 1].tolist()) in prompts


def test_gradients_on_the_prompts_targets_are_zero(tokenizer):
    batch = batch_of(tokenizer, PAIRS[:12])
    model = P.build(model_config(resolve(small())))
    params = P.init(model, 0)
    gradients = jax.jit(lambda params, b: loss_and_gradients(model, params, b, z_loss=0.0)[1])
    found = gradients(params, batch)
    rng = np.random.default_rng(0)
    noise = rng.integers(3, 320, batch.targets.shape).astype(np.int32)
    other = batch._replace(targets=np.where(batch.weights > 0, batch.targets, noise))
    assert (other.targets != batch.targets).sum() > 50
    jax.tree.map(np.testing.assert_array_equal, gradients(params, other), found)
    answers = batch._replace(targets=np.where(batch.weights > 0, noise, batch.targets))
    changed = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), found, gradients(params, answers)
    )
    assert max(jax.tree.leaves(changed)) > 1e-3

    def naive(params):
        logits = model(params, batch.inputs, batch.positions, batch.segments)
        log_p = jax.nn.log_softmax(logits)
        rows, places = np.nonzero(batch.weights)
        return -jnp.mean(log_p[rows, places, batch.targets[rows, places]])

    expected = jax.jit(jax.grad(naive))(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, expected)


@pytest.mark.parametrize("length", (17, 18, 20, 25, 32))
def test_windows_are_whole_whatever_their_length(tokenizer, length):
    store = pairs.store(PAIRS, tokenizer, length)
    assert len(store) % length == 1 and store.tokens[-1] == EOT
    assert len(store.offsets) == len(PAIRS)
    for offset, pair in zip(store.offsets, PAIRS, strict=True):
        ids = tokenizer.encode(pair.prompt) + tokenizer.encode(pair.answer)
        end = offset + len(ids) + 2
        assert store.tokens[offset:end].tolist() == [EOT, *ids, EOT]
        assert offset // length == (end - 1) // length
    assert (store.weights[store.tokens == PAD] == 0).all()


def settings(run, tmp_path, **changes):
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(p._asdict()) for p in PAIRS))
    c = get_config()
    c.update(start=str(run), pairs=str(tmp_path / "pairs.jsonl"), batch_size=8)
    c.update(**changes)
    return c


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, text):
    """A run of a few steps on the tests' text."""
    folder = tmp_path_factory.mktemp("run") / "run"
    c = small()
    c.steps, c.train.eval_every, c.train.log_every = 8, 0, 8
    c.data.path, c.data.cache = str(text), str(folder.parent / "cache")
    train_run(c, folder)
    return folder


def test_it_starts_from_the_parameters_of_the_run(run_folder, tmp_path):
    c = settings(run_folder, tmp_path)
    start, config, prepared = sft.plan(c)
    from lm.train import Trainer

    state = sft.first_state(c, start, Trainer(config, prepared))
    assert int(state.step) == 0
    jax.tree.map(np.testing.assert_array_equal, state.params, load(run_folder).params)
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim]
    assert moments and not any(np.any(x) for x in moments)
    assert config.model == start.model and config.seq_len == start.seq_len


def test_after_it_the_model_answers_and_stops(run_folder, tmp_path):
    c = settings(run_folder, tmp_path, epochs=60.0, learning_rate=1e-2)
    out = tmp_path / "out"
    assert sft.finetune(c, out) is not None
    run = load(out)
    written, _ = complete(run, [p.prompt for p in PAIRS], 8, Sampling())
    ended = [ids[-1] == EOT for ids in written]
    right = [run.tokenizer.decode(i) == p.answer for i, p in zip(written, PAIRS, strict=True)]
    assert np.mean(ended) > 0.9
    assert np.mean(right) > 0.5  # by chance 1/8
    assert json.loads((out / "config.json").read_text())["sft"]["start"] == str(run_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": "nowhere.jsonl"}, "nowhere.jsonl: pairs cannot be read"),
        ({"pairs": ""}, "--config.pairs=FILE.jsonl is missing"),
        ({"start": "nowhere"}, "nowhere/config.json is not there"),
        ({"epochs": 0.0}, "epochs=0.0 must be above 0"),
        ({"valid_share": 1.0}, "valid_share=1.0 is not a share"),
        ({"valid_share": 1e-9}, "64 pairs are too few"),
    ],
)
def test_what_is_wrong_is_said_before_a_folder_is_made(run_folder, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        sft.finetune(settings(run_folder, tmp_path, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pairs_that_are_none_are_named(tmp_path, tokenizer):
    path = tmp_path / "pairs.jsonl"
    for content, message in (
        ("", "no pairs in it"),
        ('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}', 'line 2: a pair has texts "prompt"'),
        ("{", "line 1: not JSON"),
        ('["a", "b"]', "line 1: a pair has"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            pairs.read(path)
    with pytest.raises(UserError, match="more than seq_len=8: shorten or drop .*'say cat sun:'"):
        pairs.store(PAIRS, tokenizer, 8)
