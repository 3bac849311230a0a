"""Text with abilities mixed in at stated rates: a folder of documents that a sweep trains on."""

import itertools
import json
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data import source, split
from data.documents import Document
from data.errors import UserError
from data.files import write_atomic
from experiments.abilities import TASKS, Instance, instances
from experiments.plan import Data, Rung, check_plan, make_plan

TEXT = "text"  # the kind of all documents that are no task


def check(config: ConfigDict) -> list[Rung]:
    """The plan of a config, before anything is written.

    Raises:
      UserError: rates that are no shares, a grid that cannot be trained, windows that a task does
        not fit into, or a text that cannot be read.
    """
    rates = config.rates.to_dict()
    if any(not 0 <= r < 1 for r in rates.values()) or not 0 < sum(rates.values()) < 1:
        raise UserError(
            f"rates={rates} have to be shares of the training tokens that leave some for text: "
            "each from 0 to 1, together above 0 and below 1"
        )
    if config.asked < 8:
        raise UserError(f"asked={config.asked}: fewer than 8 instances measure nothing")
    if not config.sweep.keep_models:
        raise UserError("sweep.keep_models has to be True: the models are asked later")
    check_plan(config.sweep)
    rungs = make_plan(config.sweep, Data(sys.maxsize, "", ""))
    longest = max(
        1 + len(i.prompt) + new_tokens([i])
        for name in asked_tasks(config)
        for i in itertools.islice(instances(name, config.seed, True, max_difficulty(name)), 20)
    )
    if longest > config.sweep.base.seq_len:
        raise UserError(
            f"sweep.base.seq_len={config.sweep.base.seq_len} is too short for the tasks: "
            f"at least {longest}"
        )
    next(source.read(config.text.path))
    return rungs


def asked_tasks(config: ConfigDict) -> list[str]:
    """The tasks that have a rate above 0."""
    return [name for name in TASKS if config.rates[name] > 0]


def new_tokens(asked: list[Instance]) -> int:
    """How much a model may write: some more than the answers; of few sizes, each is compiled."""
    return -(-(max(len(i.answer) for i in asked) + 2) // 8) * 8


def max_difficulty(name: str) -> int:
    return max(TASKS[name].difficulties)


def write_text(config: ConfigDict, folder: Path, rungs: list[Rung]) -> None:
    """Writes the text and enough of each task that the longest run repeats none of it."""
    most = max(r.trials[-1].D for r in rungs)
    write_jsonl(folder / "text.jsonl", text_documents(config.text.path, config.text.limit_mb))
    for name in asked_tasks(config):
        tokens = math.ceil(1.05 * most * config.rates[name]) + 8 * config.sweep.base.seq_len
        write_jsonl(folder / f"{name}.jsonl", task_documents(name, config.seed, tokens))


def text_documents(path: str, limit_mb: float) -> Iterator[dict[str, Any]]:
    """Documents as records of one kind, a subset of about `limit_mb` MB (0: all)."""
    cuts = split.cuts(source.read(path), limit_mb * 1e6) if limit_mb else None
    documents: Iterable[Document] = source.read(path)
    for d in split.subset(documents, cuts) if cuts else documents:
        yield {"text": d.text, "id": d.id, "kind": TEXT, "split": d.split}


def task_documents(name: str, seed: int, tokens: int) -> Iterator[dict[str, Any]]:
    """One instance a document, of all difficulties; a token a character and one for its end.

    They all train: the loss that models are compared by is that of text.
    """
    for i, instance in enumerate(instances(name, seed, False)):
        yield {"text": document(instance), "id": f"{name}:{i}", "kind": name, "split": "train"}
        tokens -= len(document(instance)) + 1
        if tokens <= 0:
            return


def document(instance: Instance) -> str:
    return instance.prompt + instance.answer


def write_jsonl(path: Path, records: Iterable[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))


def sweep_config(config: ConfigDict, text: Path) -> ConfigDict:
    """The sweep over the mixed text."""
    sweep = ConfigDict(config.sweep.to_dict())
    rates = {name: config.rates[name] for name in asked_tasks(config)}
    shares = {TEXT: 1 - sum(rates.values())} | rates
    sweep.base.data.path = str(text)
    sweep.base.data.mixture = ",".join(f"{k}:{v:.6f}" for k, v in shares.items())
    return sweep
