"""The three objectives compared: equal compute, the same questions, and the whole command."""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from data.errors import UserError
from data.store import Store
from data.tokenizer import EOT, train
from experiments import objective_figures, objectives
from lm import params as P
from lm.config import model_config, resolve
from lm.load import Run
from lm.objective import make_objective, sizes

VOCAB = 320


@pytest.fixture(scope="module")
def tokenizer():
    return train(["the cat sat on the mat and the dog ran off with the hat " * 20], VOCAB)


def store_of(tokens: list[int]) -> Store:
    ids = np.array(tokens, np.uint16)
    return Store(Path("memory"), {}, ids, np.flatnonzero(ids == EOT))


def test_the_three_runs_cost_the_same():
    spent = {}
    for name, arch in objectives.VARIANTS.items():
        c = resolve(objectives.run_config(name, 2e10))
        assert c.model.arch == arch
        per_token, tokens = sizes(c)
        spent[name] = c.steps * tokens * per_token
        assert spent[name] == pytest.approx(2e10, rel=0.5 / c.steps)
    assert len(spent) == 3


def test_sweeps_differ_in_one_word():
    causal, *others = (objectives.sweep_config(name).to_dict() for name in objectives.VARIANTS)
    for other in others:
        assert other.pop("base") != causal["base"]
        assert other == {k: v for k, v in causal.items() if k != "base"}
    bases = [objectives.sweep_config(name).base.to_dict() for name in objectives.VARIANTS]
    assert [base.pop("objective") for base in bases] == list(objectives.VARIANTS)
    assert bases[0] == bases[1] == bases[2]


def test_questions_are_spread_and_stay_within_a_document():
    tokens = [EOT, *range(10, 210), EOT, *range(210, 300), EOT, *range(10, 14), EOT]
    found = objectives.requests(store_of(tokens), 5, 2, 3, 40)
    assert 10 < len(found) <= 40
    for request in found:
        window = [*request.before, *request.target, *request.after]
        assert [len(part) for part in request] == [5, 2, 3]
        start = tokens.index(window[0])
        assert window == tokens[start : start + 10] and EOT not in window
    firsts = [request.before[0] for request in found]
    assert firsts == sorted(firsts) and firsts[0] < 20 and firsts[-1] > 250
    with pytest.raises(UserError, match="no document long enough"):
        objectives.requests(store_of([EOT, 9, 9] * 30), 5, 2, 3, 4)


@pytest.mark.parametrize("objective", objectives.VARIANTS)
def test_a_model_that_knows_nothing_is_uniform_in_every_probe(objective, tokenizer):
    c = objectives.run_config(objective, 1e10)
    c.model.update(layers=1, width=16)
    c.data.vocab_size = VOCAB
    c = resolve(c)
    model = P.build(model_config(c))
    params = jax.tree.map(np.zeros_like, P.init(model, 0))
    run = Run(c, tokenizer, make_objective(c, tokenizer), model, params, 0)
    tokens = np.random.default_rng(0).integers(280, VOCAB, 600).tolist()
    found = objectives.probe(run, store_of(tokens), count=6)
    assert list(found) == list(objectives.ASKED)
    for p in found.values():
        assert p.nats == pytest.approx(np.log(VOCAB), rel=1e-6)
        assert p.error == pytest.approx(0, abs=1e-6) and not p.greedy


def made_up() -> dict:
    names = list(objectives.ASKED)
    return {
        v: {n: objectives.Probe(3.0 + i + j / 10, 0.05, 0.1) for j, n in enumerate(names)}
        for i, v in enumerate(objectives.VARIANTS)
    }


def test_the_table_and_the_figures_say_what_was_found():
    text = objectives.show(made_up())
    assert " causal " in text.splitlines()[0] and "5.100 +- 0.050" in text
    figure = objective_figures.bars(made_up())
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([3.0, 3.1, 3.2, 4.0, 4.1, 4.2, 5.0, 5.1, 5.2])
    seen = [np.asarray(ax.images[0].get_array()) for ax in objective_figures.masks().axes]
    n = objective_figures.SEEN
    assert seen[0].sum() == n * (n + 1) / 2 and seen[2].all()
    assert seen[4].shape == (6, n) and seen[4].sum() == 3 * 7 + 3 * (n - 7)


def test_a_curve_is_read_without_evaluations(tmp_path):
    rows = [{"step": 20, "loss": 5.0}, {"step": 20, "event": "eval", "loss": 1.0}, {"step": 40}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert objectives.curve(tmp_path) == [(20, 5.0)]


def test_no_compute_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command", "--compute=0"])
    with pytest.raises(UserError, match="--compute=0 must be above 0"):
        objectives.main()


@pytest.mark.slow
def test_the_whole_comparison(tmp_path, monkeypatch):
    """In small, twice: the second time finds all of it done."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(objectives, "LADDER", ((8, 1), (16, 1), (24, 1)))
    monkeypatch.setattr(objectives, "BUDGETS", (2e9, 4e9, 8e9))
    monkeypatch.setattr(objectives, "PROBES", 8)
    settings = objectives.settings

    def little(c, objective):
        c.data.limit_mb = 2.0
        return settings(c, objective)

    monkeypatch.setattr(objectives, "settings", little)
    found = objectives.compare(tmp_path / "out", 4e9, sweep=True)
    saved = json.loads((tmp_path / "out" / "objectives.json").read_text())
    assert saved == json.loads(json.dumps(found))
    assert list(saved["steps"]) == list(objectives.VARIANTS)
    for probes in saved["probes"].values():
        assert all(2 < p["nats"] < 9 and p["error"] > 0 for p in probes.values())
    for objective in objectives.VARIANTS:
        assert len(list((tmp_path / "out/sweeps" / objective / "runs").glob("*.json"))) == 9
    assert len(list((tmp_path / "out" / "figures").glob("*.png"))) == 4
    assert objectives.compare(tmp_path / "out", 4e9, sweep=True) == found
