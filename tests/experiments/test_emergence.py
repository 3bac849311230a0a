"""Answers made from known curves give the verdicts they were made for."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from configs.emergence import get_config
from data.errors import UserError
from experiments.abilities import TASKS, instances
from experiments.ability_data import check
from experiments.emergence_report import analyse, read, report, summary, verdict
from experiments.records import COLUMNS, write_record

ROOT = Path(__file__).parents[2]
MEASURED = ROOT / "experiments" / "measured" / "emergence"
SIZES, BUDGETS = (20_000, 40_000, 80_000, 160_000), (1e11, 2e11, 4e11, 8e11, 1.6e12)


def make_folder(folder, curve, seeds=(0, 1), sizes=SIZES, budgets=BUDGETS, steps=4, asked=100):
    """A measurement whose models solve each step of induction with probability curve(log10 C)."""
    rng = np.random.default_rng(0)
    for seed in seeds:
        for N in sizes:
            for C in budgets:
                D = C / 6 / N
                run_id = f"{seed}-{N}-{C:.0e}"
                record = dict.fromkeys(COLUMNS, 0) | {
                    "run_id": run_id, "model": str(N), "N": N, "N_non_embedding": N, "D": D,
                    "C": C, "seed": seed, "loss": 3.0 - 0.3 * math.log10(C / 1e11) + 0.001 * seed,
                    "held_out": False, "lr_factor": 1.0, "rung": str(N),
                }  # fmt: skip
                write_record(folder / "sweep", record)
                made = rng.random((asked, steps)) < curve(math.log10(C))
                write_answers(folder, run_id, made, asked)


def write_answers(folder, run_id, made, asked):
    each = made.mean(1)
    one = {
        "asked": asked, "right": int(made.all(1).sum()), "chance": 16.0**-4,
        "steps": made.sum(0).tolist(), "partial_chance": 0.1,
        "partial": each.mean(), "partial_error": each.std() / 10,
        "brier": 0.75 * (1 - each.mean()), "brier_error": 0.75 * each.std() / 10,
        "nats": -3 * (1 - each.mean()), "nats_error": 3 * each.std() / 10,
        "by_token": [-2.0, -1.0, -1.0, -0.5, 0.0],
    }  # fmt: skip
    none = one | {"right": 10, "chance": 0.1, "steps": [10, 0]}
    cells = {"induction 4": one, "arithmetic 1": none}
    path = folder / "answers" / f"{run_id}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cells": cells}))


def smooth(c):
    return 1 / (1 + math.exp(-(c - 11.5) * 2 * math.log(9) / 1.0))


def sudden(c):
    return 0.99 if c > 11.75 else 0.05


def test_a_sudden_ability_is_crossed_where_it_was_made_to_be(tmp_path):
    make_folder(tmp_path, sudden)
    found = report(tmp_path)["cells"]
    one = found["induction 4"]
    assert one["crossed"] and one["sharpness"]["C"]["exact"]["sudden"]
    assert one["sharpness"]["C"]["partial"]["sudden"]
    at = one["crosses"]["C"]
    assert at["low"] <= at["value"] <= at["high"] and 4e11 < at["value"] < 8e11
    loss = one["crosses"]["loss"]
    assert loss["low"] <= loss["value"] <= loss["high"]
    assert one["follows"]["most"] in ("C", "loss")
    assert one["follows"]["explained"]["N"] < 0.2 < 0.9 < one["follows"]["explained"]["C"]
    assert not found["arithmetic 1"]["seen"]
    text = (tmp_path / "verdicts.txt").read_text()
    assert "arithmetic 1: not seen at this scale. The best model is right in 0.10 (0.0" in text
    assert "so it is not the measure alone" in text
    assert "missing" not in text
    names = {"abilities.png", "measures.png", "steps.png"}
    assert names <= {p.name for p in (tmp_path / "figures").iterdir()}


def test_a_smooth_ability_is_not_called_sudden_and_its_steps_multiply(tmp_path):
    make_folder(tmp_path, smooth)
    study = read(tmp_path)
    found = analyse(study, "induction 4")
    assert found["crossed"]
    assert not any(s["sudden"] for s in found["sharpness"]["C"].values())
    assert found["accumulation"]["off"] < 2 * found["accumulation"]["noise"]
    assert found["left_out"]["mean_error"] < found["left_out"]["mean_only"]
    assert found["left_out"]["inside"] >= 8


def test_steps_that_succeed_together_do_not_multiply(tmp_path):
    make_folder(tmp_path, smooth)
    for path in (tmp_path / "answers").iterdir():
        kept = json.loads(path.read_text())
        one = kept["cells"]["induction 4"]
        one["right"] = min(one["steps"])  # whoever takes one step takes all
        path.write_text(json.dumps(kept))
    found = analyse(read(tmp_path), "induction 4")["accumulation"]
    assert found["off"] > 2 * found["noise"]


def test_what_is_missing_is_said_and_the_rest_shown(tmp_path, capsys):
    with pytest.raises(UserError, match="has no answers yet"):
        read(tmp_path)
    make_folder(tmp_path, sudden, seeds=(0,), sizes=SIZES[:1], budgets=BUDGETS[:3])
    trials = [{"run_id": str(i)} for i in range(9)]
    (tmp_path / "sweep" / "plan.json").write_text(json.dumps({"trials": trials}))
    found = report(tmp_path)
    said = capsys.readouterr().out
    assert "missing: 6 of 9 models are not trained and asked yet" in said
    assert "missing: one seed only" in said and "too few for curves" in said
    assert "crosses" not in found["cells"]["induction 4"]
    assert (tmp_path / "figures" / "abilities.png").exists()
    answer = next((tmp_path / "answers").iterdir())
    answer.write_text("{")
    with pytest.raises(UserError, match="holds no answers"):
        read(tmp_path)


def test_the_records_of_the_guide_are_whole_and_it_says_what_they_say():
    kept = json.loads((MEASURED / "emergence.json").read_text())
    study = read(MEASURED)
    assert kept["models"] == len(study.records) and kept["missing"] == study.missing
    page = " ".join((ROOT / "docs" / "emergence.md").read_text().split())
    assert " ".join(summary(study, kept["cells"]).split()) in page
    for cell, found in kept["cells"].items():
        right = study.values(cell, "right") / study.values(cell, "asked")
        assert right.max() == found["best"]["share"]
        if found["seen"]:
            assert " ".join(verdict(cell, found).split()) in page


@pytest.mark.parametrize("cell", ["induction 8", "arithmetic 2"])
def test_the_kept_results_are_those_of_the_records(cell):
    kept = json.loads((MEASURED / "emergence.json").read_text())["cells"][cell]
    again = json.loads(json.dumps(analyse(read(MEASURED), cell)))
    assert list(again) == list(kept)
    for name in ("starts", "crosses"):
        for axis, ends in kept[name].items():
            for end, value in ends.items():
                found = again[name][axis][end]
                assert found == (None if value is None else pytest.approx(value, rel=1e-6))
    assert (again["seen"], again["crossed"]) == (kept["seen"], kept["crossed"])


def test_nothing_is_made_where_the_plan_cannot_work(tmp_path):
    from experiments.emergence import measure

    config = get_config("tiny")
    config.rates.induction = 1.5
    with pytest.raises(UserError, match="rates"):
        measure(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_tiny_measurement_from_start_to_end(tmp_path, capsys):
    from experiments.emergence import ask, measure
    from lm.load import load

    config = get_config("tiny")
    config.text.limit_mb, config.asked = 0.3, 8
    config.sweep.ladder, config.sweep.seeds = ((16, 1),), (0,)
    config.sweep.budgets = (2e9, 4e9)
    config.sweep.base.data.cache = str(tmp_path / "cache")
    config.sweep.base.train.eval_tokens = 2000
    assert len(check(config)) == 1
    folder = tmp_path / "out"
    assert measure(config, folder) == 0
    kept = {p.name: p.read_bytes() for p in (folder / "answers").iterdir()}
    assert len(kept) == 2
    (folder / "answers" / min(kept)).unlink()
    assert measure(config, folder) == 0  # trains nothing, asks one model again
    assert {p.name: p.read_bytes() for p in (folder / "answers").iterdir()} == kept
    found = report(folder)
    assert set(found["cells"]) == {f"{n} {d}" for n, t in TASKS.items() for d in t.difficulties}
    # Written greedily, an answer is right exactly where each of its tokens is the likeliest.
    run = load(next((folder / "sweep" / "models").iterdir()))
    asked = [next(instances("mapping", k, True, 3)) for k in range(8)]
    one = ask(run, "mapping", asked)
    assert 0 <= one["brier"] <= 2 and one["nats"] < 0 and one["right"] <= min(one["steps"])
    assert len(one["by_token"]) == 3
    assert np.mean(one["by_token"]) == pytest.approx(one["nats"], abs=1e-3)
