"""What pretraining does not do: oracles for its measures, and the command in little."""

import json
import math
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.stats import norm

from configs import gpt
from configs.limits import get_config
from data import toxicity
from data.documents import Document
from data.errors import UserError
from data.prepare import Prepared
from data.store import Store, write
from data.tokenizer import train
from experiments import estimates, limit_words, limits, planted, steadiness, toxic_text
from experiments import memorisation as memory
from experiments import requests as asked
from experiments.estimates import Estimate
from lm import params as P
from lm.config import resolve
from lm.load import Run
from lm.objective import make_objective
from lm.train import Trainer

TIMES = (0, 16)


# Estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (7, 10), (10, 10), (81, 263)])
def test_wilsons_interval_solves_its_equation(hits, n):
    """Its ends are the p at which |p_hat - p| is z standard errors of p (Wilson 1927)."""
    e = estimates.share([True] * hits + [False] * (n - hits))
    z = norm.ppf(0.975)
    for end in (e.low, e.high):
        if 0 < end < 1:
            assert abs(hits / n - end) == pytest.approx(
                z * math.sqrt(end * (1 - end) / n), rel=1e-5
            )
    assert e.low <= hits / n <= e.high
    if hits == 81:  # Newcombe (1998), table I
        assert (round(e.low, 4), round(e.high, 4)) == (0.2553, 0.3662)


def test_a_mean_has_students_interval():
    e = estimates.mean([1.0, 2.0, 3.0, 4.0, 5.0])
    assert e.value == 3.0
    assert e.high - e.value == pytest.approx(2.776445 * math.sqrt(2.5 / 5), rel=1e-6)


def test_a_change_is_claimed_only_where_intervals_are_apart():
    low, high = Estimate(0.1, 0.05, 0.2, 50, "share"), Estimate(0.6, 0.5, 0.7, 50, "share")
    near = Estimate(0.15, 0.1, 0.3, 50, "share")
    assert limit_words.change("x", low, high) == "x rises from 10% [5%, 20%] to 60% [50%, 70%]"
    assert limit_words.change("x", high, low).startswith("x falls from 60%")
    assert limit_words.change("x", low, near).startswith("x is not told apart: 10%")
    seen = {0: low, 1: high, 2: near, 4: high, 8: high}
    assert limit_words.first_seen(seen, 0.4) == "from 4 times on"
    assert limit_words.first_seen(seen, 0.9) == "at no number of times tried"


# Memorisation ---------------------------------------------------------------------------------


def test_exposure_is_log2_of_candidates_over_rank():
    nats = -np.arange(256.0)
    for rank in (1, 2, 8, 256):
        order = np.roll(nats, 1 - rank)  # the first is then the rank-th largest
        order[0] = nats[rank - 1]
        others = np.delete(nats, rank - 1)
        found = memory.exposure(np.concatenate([[nats[rank - 1]], others]))
        assert found == pytest.approx(8 - math.log2(rank))
    assert memory.exposure(np.zeros(256)) == 0  # all alike: nothing is known of it


def test_exposure_by_chance_has_its_closed_form():
    """The mean of log2(n / k) over ranks k is log2 n - log2(n!) / n."""
    for n in (2, 16, 256):
        closed = math.log2(n) - math.lgamma(n + 1) / math.log(2) / n
        assert memory.by_chance(n) == pytest.approx(closed, rel=1e-12)
    rng = np.random.default_rng(0)
    drawn = [memory.exposure(rng.normal(size=256)) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(memory.by_chance(256), abs=0.1)


@pytest.fixture(scope="module")
def overfitted(tmp_path_factory):
    """A model that certainly memorised: a few canaries, again and again, and nothing else."""
    secrets = planted.canaries(TIMES, 3, seed=0)
    lines = [f"{s.prompt}{s.hidden}." for s in secrets if s.times]
    others = planted.canaries((1,), 300, seed=1)
    tokenizer = train([f"{s.prompt}{s.hidden}." for s in others], 400)
    folder = tmp_path_factory.mktemp("stores")
    documents = [Document(line, str(i)) for i, line in enumerate(lines * 40)]
    write(folder / "train", documents, tokenizer, workers=1)
    write(folder / "valid", documents[:8], tokenizer, workers=1)
    data = Prepared(tokenizer, Store.open(folder / "train"), Store.open(folder / "valid"), {})
    c = gpt.get_config("tiny")
    c.seq_len, c.batch_size, c.steps, c.learning_rate = 96, 8, 150, 1e-2
    c.data.vocab_size, c.data.max_epochs = 400, 1000.0
    c.model.update(layers=2, width=32, heads=4)
    c = resolve(c)
    trainer = Trainer(c, data, jax.devices()[:1])
    state = trainer.run(trainer.init(), c.steps)
    run = Run(c, tokenizer, make_objective(c, tokenizer), trainer.model, state.params, c.steps)
    return run, secrets


def test_planted_canaries_are_drawn_out_of_a_model_that_memorised_them(overfitted):
    run, secrets = overfitted
    shares = memory.by_times(secrets, memory.extracted(run, secrets))
    assert shares[16].value == 1.0 and shares[0].value == 0.0
    bits = memory.by_times(secrets, memory.exposures(run, secrets), estimates.mean)
    assert bits[16].value == 8.0  # the likeliest of 256
    assert bits[0].value < 6.0
    passage = planted.Secret("passage", 16, "", f"{secrets[-1].prompt}{secrets[-1].hidden}.")
    ids = run.tokenizer.encode(passage.hidden)
    at = len(ids) - 3
    longer = memory.extracted_passages(run, [passage], at, at)
    assert longer == [False]  # fewer than TARGET tokens are left: none can be verbatim


def test_a_model_that_saw_nothing_gives_nothing_away(overfitted):
    run, secrets = overfitted
    blank = run._replace(params=P.init(run.model, 1))
    assert not any(memory.extracted(blank, secrets))
    assert np.mean(memory.exposures(blank, secrets)) < 5


# What is planted, and what cleaning does to it --------------------------------------------------


@pytest.fixture(scope="module")
def material():
    return limits.material(get_config("quick"))


def count(documents, text):
    return sum(d.text.count(text) for d in documents)


def test_everything_stands_in_the_text_as_often_as_it_should(material):
    for s in material.canaries:
        assert count(material.documents, s.prompt + s.hidden) == s.times
    for s in material.passages:
        assert count(material.documents, s.hidden) == s.times
        assert count(material.corpus.held_out, s.hidden) == 0
    for s in material.people:
        assert count(material.documents, s.hidden) == s.times


def test_deduplication_leaves_one_of_each(material):
    kept = planted.deduplicated(material.documents)
    for s in (*material.canaries, *material.passages):
        assert count(kept, s.prompt + s.hidden) == min(s.times, 1)


def test_scrubbing_takes_what_it_knows_and_no_more(material):
    kept = planted.scrubbed(material.documents)
    for s in material.people:
        left = count(kept, s.hidden)
        assert left == (s.times if s.kind == "address" else 0)
    for s in material.canaries:
        assert count(kept, s.prompt + s.hidden) == s.times
    toxic = [t.text for t in toxic_text.tweets(toxic_text.TRAINED_ON)[:100] if t.toxic]
    texts = {d.text for d in kept}
    assert np.mean([t in texts for t in toxic]) < 0.2


def test_what_is_asked_was_not_trained_on(material):
    trained = asked.training_pairs(material.corpus.dialogues(False), 60, seed=0)
    prompts = {p.prompt for p in trained}
    for ask in asked.asks(held_out=True, each=40, seed=0):
        if ask.kind not in ("yes or no", "name two things"):  # of which there are few
            assert asked.prompt(ask) not in prompts
    texts = " ".join(d.text for d in material.documents)
    for opening in toxic_text.charged(50):
        assert texts.count(opening) == 0 and toxicity.listed(opening)


# Requests ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "right", "wrong"),
    [
        ("repeat a word", "The word: no", "no"),
        ("in capitals", None, "lower"),
        ("count words", None, "7"),
        ("yes or no", "Yes.", "Yes or no, who knows"),
    ],
)
def test_answers_are_checked(kind, right, wrong):
    for ask in asked.asks(held_out=True, each=5, seed=1):
        assert ask.passes(ask.answer) and ask.passes(f" {ask.answer}".strip())
        assert not ask.passes("") and not ask.passes("I would like a coffee with milk, please.")
        if ask.kind == kind:
            assert not ask.passes(wrong)
            assert kind != "yes or no" or ask.passes(right)


def test_among_wants_so_many_different_ones():
    passes = asked.among(["red", "blue", "green"], 2)
    assert passes("red and blue.") and passes("Blue, green")
    assert not passes("red and red") and not passes("red") and not passes("red blue green")


def test_calibration_error_of_known_gaps():
    rng = np.random.default_rng(0)
    sure = rng.uniform(size=200_000)
    honest = (rng.uniform(size=sure.size) < sure).astype(float)
    assert steadiness.calibration_error(sure, honest) < 0.005
    bold = (rng.uniform(size=sure.size) < sure**2).astype(float)
    assert steadiness.calibration_error(sure, bold) == pytest.approx(1 / 6, abs=0.005)


def test_false_alarms_add_up_over_samples():
    error = toxic_text.Error(Estimate(0.9, 0.8, 1, 10), Estimate(0.02, 0.01, 0.03, 100))
    expected = [1 - 0.98**25, 1 - 0.99**25, 1 - 0.97**25]
    assert error.by_chance(25)[:3] == pytest.approx(expected)


# The command ---------------------------------------------------------------------------------


def test_what_is_wrong_with_a_run_is_said_before_a_folder_is_made(tmp_path):
    c = get_config("quick")
    with pytest.raises(UserError, match=r"--from=.*nowhere: no run"):
        limits.measure(c, tmp_path / "out", tmp_path / "nowhere")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"objective": "masked"}')
    with pytest.raises(UserError, match="trained for masked; only causal"):
        limits.measure(c, tmp_path / "out", tmp_path / "bert")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "config.json").write_text('{"objective": "causal"}')
    with pytest.raises(UserError, match="has no checkpoints yet"):
        limits.measure(c, tmp_path / "out", tmp_path / "new")
    assert not (tmp_path / "out").exists()


def test_an_imported_run_without_a_tokenizer_is_told(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text('{"objective": "causal"}')
    (said,) = limits.missing_of(tmp_path)
    assert "has no tokenizer.model" in said and "left out" in said


def test_the_verdict_of_part_of_the_results_says_what_is_missing():
    c = get_config("quick")
    e = Estimate(0.5, 0.4, 0.6, 10, "share")
    names = ("canary", "exposure", "e-mail", "phone", "address", "passage, 8 tokens given")
    one = {name: {0: e, 4: e} for name in names}
    some = {
        f"{what}, {kind}": e
        for kind in ("neutral", "charged")
        for what in ("expected maximum toxicity", "at least one toxic of 4")
    }
    result = {
        "missing": ["x has no tokenizer.model"], "model": "x", "tokens": {"raw": 10},
        "memorised": dict.fromkeys(planted.TEXTS, one),
        "toxic": {"raw": some, "scrubbed": some},
        "classifier": {"recall": e, "false_alarms": e, "any false alarm": e, "auc": 0.9},
    }  # fmt: skip
    text = limit_words.page(c, result)
    assert "Missing: x has no tokenizer.model." in text
    assert "not told apart: 50% [40%, 60%], then 50% [40%, 60%]" in text
    assert "after fine-tune" not in text


@pytest.mark.slow
def test_the_whole_command_and_again_after_an_interrupt(tmp_path):
    command = [
        sys.executable, "-m", "experiments.limits", "--config=configs/limits.py:quick",
        f"--workdir={tmp_path / 'out'}",
    ]  # fmt: skip
    root = Path(__file__).parent.parent.parent
    import signal
    import time

    first = subprocess.Popen(command, cwd=root, text=True, stderr=subprocess.PIPE)
    metrics = tmp_path / "out" / "runs" / "raw" / "metrics.jsonl"
    while first.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.2)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130, said
    assert not (tmp_path / "out" / "limits.json").exists()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "limits.json").read_text())
    assert found["base"].keys() == found["tuned"].keys()
    assert set(found["memorised"]) == {*planted.TEXTS, "after fine-tune"}
    assert len(found["verdict"]) >= 8
    for name in found["figures"]:
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 10_000
    other = subprocess.run(
        [*command, "--config.text_mb=0.3"], cwd=root, capture_output=True, text=True, check=False
    )
    assert other.returncode == 2 and "text_mb: 0.2 there, 0.3 here" in other.stderr
