"""Asking many prompts at once gives what asking each alone gives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base
from data.errors import UserError
from data.tokenizer import EOT, PAD, train
from experiments import asking
from lm import params as P
from lm.config import model_config, resolve
from lm.decode import Sampling
from lm.load import Run
from lm.objective import make_objective


@pytest.fixture(scope="module")
def run():
    tokenizer = train(["the cat sat on the mat and the dog ran off with the hat " * 20], 320)
    c = base()
    c.seq_len, c.data.vocab_size = 96, 320
    c.model.update(layers=1, width=16, heads=2)
    c = resolve(c)
    model = P.build(model_config(c))
    params = jax.tree.map(lambda x: x * 3 if x.ndim > 1 else x, P.init(model, 0))
    return Run(c, tokenizer, make_objective(c, tokenizer), model, params, 0)


@pytest.fixture(scope="module")
def logits(run):
    """The whole model, without a cache or padding: ids -> float64 [L, V]."""
    program = jax.jit(lambda params, *rows: run.model(params, *rows))

    def of(ids):
        room = np.full((1, 96), PAD, np.int32)
        room[0, : len(ids)] = ids
        places = np.arange(96, dtype=np.int32)[None]
        segments = (places < len(ids)).astype(np.int32)
        found = program(run.params, room, places, segments)
        return np.asarray(found[0, : len(ids)], np.float64)

    return of


def prompts_of(lengths):
    rng = np.random.default_rng(1)
    return [rng.integers(278, 320, n).tolist() for n in lengths]


def test_greedy_writing_is_the_whole_models_choice_step_by_step(run, logits):
    prompts = prompts_of([1, 30, 31, 32, 60, 5])
    written = asking.write(run, prompts, 6)
    for prompt, ids in zip(prompts, written, strict=True):
        so_far = [EOT, *prompt]
        for token in ids:
            assert token == int(np.argmax(logits(so_far)[-1, :320]))
            so_far.append(token)
        assert len(ids) == 6 or ids[-1] == EOT


def test_order_and_number_of_prompts_change_no_greedy_answer(run):
    prompts = prompts_of([3, 40, 7] * 25)  # two batches of the short ones
    together = asking.write(run, prompts, 4)
    backwards = asking.write(run, prompts[::-1], 4)[::-1]
    assert together == backwards
    assert asking.write(run, prompts[:1], 4) == together[:1]


def test_few_programs_are_compiled(run):
    before = dict(asking._programs)
    asking._programs.clear()
    asking.write(run, prompts_of(range(1, 60)), 5)
    (program,) = asking._programs.values()
    assert program._cache_size() == 2  # 1 to 32 tokens with end-of-text, 33 to 64
    asking._programs.update(before)


def test_samples_follow_the_models_distribution(run, logits):
    n = 4096
    prompt = prompts_of([4])[0]
    first = [ids[0] for ids in asking.write(run, [prompt] * n, 1, Sampling(1.0), seed=3)]
    probs = np.exp(logits([EOT, *prompt])[-1, :320])
    probs /= probs.sum()
    counts = np.bincount(first, minlength=320)
    expected = probs * n
    kept = expected >= 5
    chi2 = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi2 < kept.sum() + 5 * np.sqrt(2 * kept.sum())
    again = asking.write(run, [prompt] * n, 1, Sampling(1.0), seed=3)
    assert [ids[0] for ids in again] == first
    other = asking.write(run, [prompt] * n, 1, Sampling(1.0), seed=4)
    assert [ids[0] for ids in other] != first


def test_likelihoods_are_those_of_the_whole_model(run, logits):
    prompts = ["the cat", "the dog ran off with"]
    answers = [[" sat", " ran off with the hat"], [" the mat"]]
    found = asking.likelihoods(run, prompts, answers)
    assert [len(x) for x in found] == [2, 1]
    for prompt, given, nats in zip(prompts, answers, found, strict=True):
        for answer, value in zip(given, nats, strict=True):
            before, target = run.tokenizer.encode(prompt), run.tokenizer.encode(answer)
            log_p = np.array(jax.nn.log_softmax(jnp.array(logits([EOT, *before, *target]))))
            places = np.arange(len(before), len(before) + len(target))
            assert value == pytest.approx(log_p[places, target].sum(), abs=1e-4)


def test_text_goes_in_and_comes_out(run):
    (text,) = asking.texts(run, ["the cat sat"], 8)
    (ids,) = asking.write(run, [run.tokenizer.encode("the cat sat")], 8)
    assert text == run.tokenizer.decode(ids)


def test_what_cannot_be_asked_is_said(run):
    with pytest.raises(UserError, match=r"a prompt of 91 tokens and 6 new ones .* the 96"):
        asking.write(run, prompts_of([90]), 6)
    encoder = run._replace(config=run.config.copy_and_resolve_references())
    with encoder.config.unlocked():
        encoder.config.model.arch = "encoder"
    with pytest.raises(UserError, match="only a decoder"):
        asking.write(encoder, ["the"], 2)
    assert asking.write(run, [], 4) == []
