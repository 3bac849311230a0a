"""What appears with scale: five abilities trained into small models, and three explanations tested.

    make emergence
    python -m experiments.emergence --config=configs/emergence.py:tiny --workdir=out/emergence
    python -m experiments.emergence --config=configs/emergence.py:tiny --workdir=FOLDER --draw

Mixes procedural tasks (experiments/abilities.py) into text, trains a sweep on it, asks every model
held-out instances, and says where each ability starts and whether it does so suddenly. Leaves
sweep/ (its records and models), answers/*.json, emergence.json, verdicts.txt and figures/*.png. The
same command goes on where it was stopped; --draw trains nothing and shows what a folder has.
"""

import itertools
import json
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data.errors import UserError, run
from data.files import atomic_dir, only_writer, write_atomic
from experiments.abilities import END, TASKS, Instance, instances, wrong_answers
from experiments.ability_data import (
    asked_tasks,
    check,
    document,
    new_tokens,
    sweep_config,
    write_text,
)
from experiments.records import model_path, read_records
from experiments.sweep import claim, train_sweep
from lm.config import load


def main() -> int:
    """The command; 1 where a trial is missing at the end."""
    flags_help = {
        "workdir": ("", "folder of the measurement"),
        "draw": (False, "train and ask nothing: say and draw what the folder has"),
    }
    config, flags = load(sys.argv, __doc__ or "", **flags_help)
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the measurement")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(flags.workdir)
    missing = 0 if flags.draw else measure(config, folder)
    from experiments.emergence_report import report

    report(folder)
    return 1 if missing else 0


def measure(config: ConfigDict, folder: Path) -> int:
    """Trains and asks whatever is not done; returns how many trials are missing at the end."""
    rungs = check(config)  # before the folder is made
    with only_writer(folder):
        claim(folder, config)
        text = folder / "text"
        if not text.exists():
            with atomic_dir(text) as building:
                write_text(config, building, rungs)
        done, planned = train_sweep(sweep_config(config, text), folder / "sweep")
        if done < planned:
            print(f"{planned - done} of {planned} trials are missing; the same command tries again")
        ask_missing(config, folder)
    return planned - done


def ask_missing(config: ConfigDict, folder: Path) -> None:
    """Asks every trained model that has no answers yet."""
    records = read_records(folder / "sweep")
    for i, record in enumerate(records, 1):
        path = folder / "answers" / f"{record['run_id']}.json"
        if not path.exists():
            print(f"asking model {i} of {len(records)}: {record['rung']}", flush=True)
            found = ask_all(config, model_path(folder / "sweep", record["run_id"]))
            write_atomic(path, json.dumps(found, indent=1) + "\n")


def ask_all(config: ConfigDict, model: Path) -> dict[str, Any]:
    """What one model answers to all that is asked: a table for each task and difficulty."""
    from lm import load as models

    run_ = models.load(model)
    cells = {}
    for name in asked_tasks(config):
        for difficulty in TASKS[name].difficulties:
            some = instances(name, config.seed, True, difficulty)
            cells[f"{name} {difficulty}"] = ask(
                run_, name, list(itertools.islice(some, config.asked))
            )
    return {"asked": config.asked, "seed": config.seed, "cells": cells}


def ask(run_: Any, name: str, asked: list[Instance]) -> dict[str, Any]:
    """How a model does at instances of a task: the same outputs under every measure.

    Returns counts and means over the instances, with standard errors: `right` of `asked`; `chance`;
    `steps`, how often each step is right where those before it are given; `partial`, its value for
    guesses `partial_chance`; `brier`, the score over CHOICES answers, 0 to 2; `nats`, the
    log-likelihood of the right answer's tokens, and `by_token`, its mean at each.
    """
    from experiments import asking
    from lm.score import Request, score

    task, encode = TASKS[name], run_.tokenizer.encode
    for instance in asked:
        text = document(instance)
        if len(encode(text)) != len(text):
            raise UserError(
                f"the tokenizer joins characters of {text!r}: use a smaller "
                "sweep.base.data.vocab_size, so that a step of an answer is a token"
            )
    written = asking.texts(run_, [i.prompt for i in asked], new_tokens(asked))
    marks = [task.mark(i, _until_end(w)) for i, w in zip(asked, written, strict=True)]
    tokens = [Request(encode(i.prompt + i.answer[:k]), encode(i.answer[k])) for i in asked
              for k in range(len(i.answer))]  # fmt: skip
    found = iter(score(run_, tokens))
    forced = [[next(found) for _ in i.answer] for i in asked]
    wrong = [wrong_answers(task, i) for i in asked]
    others = asking.likelihoods(run_, [i.prompt for i in asked], wrong)
    own = np.array([sum(s.nats for s in row) for row in forced])
    steps = [
        m.parts or _step_rights(i, row) for m, i, row in zip(marks, asked, forced, strict=True)
    ]
    guesses = [task.mark(i, w).partial for i, ws in zip(asked, wrong, strict=True) for w in ws]
    chance = float(np.mean([i.chance for i in asked]))
    lengths = [len(i.answer) for i in asked]
    result: dict[str, Any] = {
        "asked": len(asked),
        "right": sum(m.right for m in marks),
        "chance": chance,
        "steps": np.sum(steps, 0).tolist(),
        "partial_chance": (1 - chance) * float(np.mean(guesses)) + chance,
    }
    values = {
        "partial": np.array([m.partial for m in marks]),
        "brier": np.array([_brier(a, b) for a, b in zip(own, others, strict=True)]),
        "nats": own / lengths,
    }
    for key, some in values.items():
        result |= {key: float(some.mean()), f"{key}_error": _error(some)}
    if len(set(lengths)) == 1:
        result["by_token"] = np.mean([[s.nats for s in row] for row in forced], 0).round(4).tolist()
    return result


def _until_end(text: str) -> str:
    before, end, _ = text.partition(END)
    return before + end


def _step_rights(instance: Instance, row: list[Any]) -> list[bool]:
    ends = np.cumsum([len(s) for s in instance.steps])
    return [
        all(s.greedy for s in row[end - len(step) : end])
        for step, end in zip(instance.steps, ends, strict=True)
    ]


def _brier(own: float, others: np.ndarray) -> float:
    """Brier's score of the probabilities of CHOICES answers, the first of them right: 0 to 2."""
    nats = np.array([own, *others])
    p = np.exp(nats - nats.max())
    p /= p.sum()
    return float((1 - p[0]) ** 2 + np.sum(p[1:] ** 2))


def _error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


if __name__ == "__main__":
    run(main)
