"""Procedural tasks: right answers by other means, chance by guessing, nothing asked was trained."""

import itertools
import json
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.emergence import get_config
from data.errors import UserError
from experiments.abilities import (
    MET,
    SMALL,
    TASKS,
    Instance,
    by_hash,
    edit_distance,
    instances,
    unseen_pair,
    wrong_answers,
)
from experiments.ability_data import check, document, sweep_config, task_documents, write_text

CELLS = [(name, d) for name, task in TASKS.items() for d in task.difficulties]


def some(name: str, difficulty: int, count: int = 50, held_out: bool = True) -> list[Instance]:
    return list(itertools.islice(instances(name, 0, held_out, difficulty), count))


def solved(name: str, prompt: str) -> str:
    """The answer by another way than it was made."""
    if name == "arithmetic":
        parts = re.findall(r"[+-]?\d", prompt)
        return ",".join(str(eval("".join(parts[: k + 1])) % 10) for k in range(1, len(parts)))
    if name == "deduction":
        facts, start = prompt[:-1].split("?")
        after = dict(f.split(">") for f in facts.split(";"))
        found = []
        while start in after:
            found.append(start := after[start])
        return ",".join(found)
    if name == "mapping":
        pairs, keys = prompt[:-1].split("?")
        return "".join(pairs[pairs.index(k) + 1] for k in keys)
    if name == "induction":
        return prompt[1:-1]
    names, text = prompt[:-1].split(":")
    found = []
    for o in names:
        a, b, c = text
        text = (c + b + a, b + c + a, "", b + a + c, a + a + c)[int(o)]
        text = text or (a + b + c).translate(str.maketrans(SMALL, SMALL[1:] + SMALL[0]))
        found.append(text)
    return ",".join(found)


@pytest.mark.parametrize(("name", "difficulty"), CELLS)
def test_answers_are_right_and_guesses_are_right_as_often_as_stated(name, difficulty):
    task, rng = TASKS[name], Random(1)
    for instance in some(name, difficulty):
        if name != "instructions":
            assert solved(name, instance.prompt) + "." == instance.answer
        assert len(instance.steps) == (1 if name == "instructions" else _steps(name, difficulty))
        assert task.mark(instance, instance.answer)[:2] == (True, 1.0)
        wrong = wrong_answers(task, instance)
        assert len(set(wrong)) == 3
        assert not any(task.mark(instance, w).right for w in wrong)
    asked = some(name, difficulty, 2000)
    right = sum(task.mark(i, i.guess(rng)).right for i in asked)
    chance = sum(i.chance for i in asked) / len(asked)
    assert abs(right - 2000 * chance) < 4 * (2000 * chance) ** 0.5 + 1


def _steps(name: str, difficulty: int) -> int:
    return 2 if name == "mapping" else difficulty


@pytest.mark.parametrize("signs", ["#", "^", "!&", "#^$", "!#$&", "!#$&^"])
def test_chance_of_constraints_is_the_share_of_all_words(signs):
    from experiments.abilities import LENGTHS, _word_chance

    value = {
        s: v for s, v in {"#": "4", "^": "A", "$": "B", "!": "C", "&": "D"}.items() if s in signs
    }
    share = 0.0
    for n in LENGTHS:
        words = map("".join, itertools.product(SMALL, repeat=n))
        share += sum(all(MET[s](value[s], w) for s in signs) for w in words) / 8**n / 3
    assert _word_chance(value) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize("name", TASKS)
def test_nothing_asked_was_ever_trained(name):
    trained = {i.prompt for i in itertools.islice(instances(name, 0, False), 3000)}
    asked = {i.prompt for d in TASKS[name].difficulties for i in some(name, d)}
    assert not trained & asked


def test_combinations_asked_are_unseen_and_their_operations_seen():
    names = {d: {i.prompt.split(":")[0] for i in some("operations", d, 400)} for d in (2, 3)}
    trained = {
        i.prompt.split(":")[0] for i in itertools.islice(instances("operations", 0, False), 3000)
    }
    pairs = {n[k : k + 2] for n in trained for k in range(len(n) - 1)}
    assert len(names[2]) == 5 and len(pairs) == 20
    assert {p[0] for p in pairs} == {p[1] for p in pairs} == set("01234")
    assert all(any(n[k : k + 2] in names[2] for k in (0, 1)) for n in names[3])
    assert not names[2] & pairs


def test_instances_hang_on_their_seed_alone():
    def first(seed):
        return [i.prompt for i in itertools.islice(instances("deduction", seed, True, 2), 5)]

    assert first(0) == first(0) != first(1)


@given(st.text("ABC", max_size=6), st.text("ABC", max_size=6), st.text("ABC", max_size=6))
def test_edit_distance_is_a_metric(a, b, c):
    assert edit_distance(a, b) == edit_distance(b, a) <= max(len(a), len(b))
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert edit_distance("kitten", "sitting") == 3


def test_a_quarter_is_held_out():
    share = sum(by_hash(str(k)) for k in range(4000)) / 4000
    assert 0.22 < share < 0.28
    assert unseen_pair("00:ABC=") and not unseen_pair("01:ABC=")


def test_documents_fill_the_tokens_asked_for():
    found = list(task_documents("mapping", 0, 5000))
    size = sum(len(d["text"]) + 1 for d in found)
    assert 5000 <= size < 5050 and {d["split"] for d in found} == {"train"}


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("rates.mapping", 0.9, "leave some for text"),
        ("rates.mapping", -0.1, "leave some for text"),
        ("asked", 3, "measure nothing"),
        ("sweep.keep_models", False, "keep_models"),
        ("sweep.base.seq_len", 32, "seq_len=32 is too short"),
        ("sweep.budgets", (1.0,), "no model of the ladder"),
        ("text.path", "no/such/folder", "no such file"),
    ],
)
def test_what_cannot_work_is_said_first(path, value, says):
    config = get_config("tiny")
    with config.unlocked():
        config.update_from_flattened_dict({path: value})
    with pytest.raises(UserError, match=says):
        check(config)


@pytest.mark.parametrize("size", ["tiny", "full", "gpu"])
def test_configs_make_plans(size):
    config = get_config(size)
    rungs = check(config)
    assert len({r.seed for r in rungs}) == len(config.sweep.seeds)
    assert len({r.N for r in rungs}) == len(config.sweep.ladder)


def test_the_rates_are_what_is_trained(tmp_path):
    """Of the tokens that a run reads, each task has its share, once."""
    from lm.config import resolve
    from lm.train import Trainer, prepare_data

    config = get_config("tiny")
    config.text.limit_mb = 0.5
    config.sweep.ladder, config.sweep.budgets = ((16, 2),), (2e10,)
    rungs = check(config)
    write_text(config, tmp_path / "text", rungs)
    lines = (tmp_path / "text" / "mapping.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["text"] == document(next(instances("mapping", 0, False)))
    base = sweep_config(config, tmp_path / "text").base
    base.data.cache = str(tmp_path / "cache")
    resolved = resolve(base)
    prepared = prepare_data(resolved, log=lambda _: None)
    used = {u.name: u for u in Trainer(resolved, prepared).batches.usage(rungs[0].trials[-1].steps)}
    for name, rate in config.rates.items():
        assert used[name].share == pytest.approx(rate, abs=0.002)
        assert used[name].epochs < 1
    assert used["text"].share == pytest.approx(1 - sum(config.rates.values()), abs=0.005)
    assert set(prepared.valid.manifest["documents_by_kind"]) == {"text"}
