"""Score a trained model: the loss on a text, and small tests of what it knows.

    python -m lm.evaluate --workdir=out/tiny --text=FILE
    python -m lm.evaluate --workdir=out/tiny --tasks=blimp,lambada --json=out/tiny/scores.json

Tasks are `blimp` (of two sentences the grammatical one is likelier), `copa` and `openbook_qa` (of
several endings the right one is likeliest, a byte), `lambada` (the last word of a passage is
the model's own choice), `all`, or a .jsonl file of your own with the same fields.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from data.batch import eval_batches
from data.errors import Parser, UserError, run, suggest
from data.files import write_atomic
from data.source import read
from data.store import Store, token_dtype
from data.tokenizer import EOT
from lm.load import Run, load
from lm.loss import loss_sums
from lm.score import Request, score
from lm.train import LIKELIHOODS

FOLDER = Path(__file__).parent.parent / "data" / "probes"
TASKS = ("blimp", "copa", "openbook_qa", "lambada")
BATCH = 16
PSEUDO_TOKENS = 1000  # of a text, each masked alone: one pass of the model a token


class TaskScore(NamedTuple):
    """How well a task went."""

    metric: str
    score: float
    error: float  # standard error
    chance: float
    items: int


def text_scores(run_: Run, path: str) -> dict[str, Any]:
    """Loss on a text under the objective that the model was trained with.

    nats_per_token, tokens (predictions counted), and bits_per_byte, None where the loss is not the
    likelihood of the text. An encoder has `pseudo_` values too, from a part of the text.
    """
    ids = _stream(run_, path)
    store = Store(Path(path), {}, ids, np.flatnonzero(ids[:-1] == EOT))
    scored, model = run_.objective.scored, run_.model
    sums = jax.jit(lambda params, batch: loss_sums(model, params, batch, scored))
    lengths = run_.tokenizer.byte_lengths
    loss = weight = size = 0.0
    for batch in eval_batches(store, BATCH, run_.objective):
        found = sums(run_.params, batch)
        loss, weight = loss + float(found.loss), weight + float(found.weight)
        size += float((lengths[batch.targets] * batch.weights).sum())
    if not weight:
        raise UserError(f"{path}: nothing in it to predict")
    likelihood = run_.objective.name in LIKELIHOODS and size
    result = {
        "objective": run_.objective.name,
        "nats_per_token": loss / weight,
        "bits_per_byte": loss / size / math.log(2) if likelihood else None,
        "tokens": int(weight),
    }
    return result | (_pseudo(run_, ids) if run_.arch == "encoder" else {})


def _stream(run_: Run, path: str) -> np.ndarray:
    """A text's documents as a stream of tokens, each after an end-of-text, closed by one."""
    rows = [[EOT, *run_.tokenizer.encode(d.text)] for d in read(path)]
    if not rows:
        raise UserError(f"{path}: there is no text in it")
    return np.concatenate([*rows, [EOT]]).astype(token_dtype(run_.tokenizer.vocab_size))


def _pseudo(run_: Run, ids: np.ndarray) -> dict[str, Any]:
    """Pseudo-log-likelihood (Salazar et al. 2020) of windows spread over a text."""
    length = run_.longest - 1
    count = max(1, min(PSEUDO_TOKENS // length, len(ids) // length))
    firsts = np.linspace(0, max(0, len(ids) - length), count).astype(int)
    windows = [[t for t in ids[i : i + length].tolist() if t != EOT] for i in firsts]
    scores = score(run_, [Request([], w) for w in windows], pseudo=True)
    nats, tokens = -sum(s.nats for s in scores), sum(s.tokens for s in scores)
    size = sum(int(run_.tokenizer.byte_lengths[w].sum()) for w in windows)
    return {
        "pseudo_nats_per_token": nats / tokens,
        "pseudo_bits_per_byte": nats / size / math.log(2),
        "pseudo_tokens": tokens,
    }


def pairs(run_: Run, items: list[dict]) -> TaskScore:
    """Minimal pairs: how often the good sentence is likelier than the bad one."""
    encode = run_.tokenizer.encode
    requests = [Request([], encode(item[side])) for item in items for side in ("good", "bad")]
    nats = np.array([s.nats for s in score(run_, requests, pseudo=True)]).reshape(-1, 2)
    return _accuracy("accuracy", nats[:, 0] > nats[:, 1], 0.5)


def choices(run_: Run, items: list[dict]) -> TaskScore:
    """Multiple choice: how often the right ending has the highest likelihood a byte."""
    encode = run_.tokenizer.encode
    endings = [[" " + text.strip() for text in item["choices"]] for item in items]
    requests = [
        Request(encode(item["query"]), encode(text))
        for item, texts in zip(items, endings, strict=True)
        for text in texts
    ]
    found = iter(score(run_, requests, pseudo=True))
    best = [
        int(np.argmax([next(found).nats / len(t.encode()) for t in texts])) for texts in endings
    ]
    right = np.array([b == item["gold"] for b, item in zip(best, items, strict=True)])
    chance = float(np.mean([1 / len(texts) for texts in endings]))
    return _accuracy("accuracy, likelihood a byte", right, chance)


def cloze(run_: Run, items: list[dict]) -> TaskScore:
    """Cloze: how often each token of the last word is the model's first choice."""
    encode = run_.tokenizer.encode
    requests = [Request(encode(i["prefix"]), encode(" " + i["target"])) for i in items]
    return _accuracy("accuracy, greedy", np.array([s.greedy for s in score(run_, requests)]), 0.0)


def _accuracy(metric: str, right: np.ndarray, chance: float) -> TaskScore:
    p = float(right.mean())
    return TaskScore(metric, p, math.sqrt(p * (1 - p) / len(right)), chance, len(right))


# The fields of an item tell what kind of task it is.
KINDS: dict[tuple[str, ...], Callable[[Run, list[dict]], TaskScore]] = {
    ("good", "bad"): pairs,
    ("query", "choices", "gold"): choices,
    ("prefix", "target"): cloze,
}


def read_task(name: str, limit: int = 0) -> list[dict]:
    """The items of a task that comes with the code, or of a .jsonl file; the first `limit`.

    Raises:
      UserError: there is no such task or file, or a line is no item; says which.
    """
    path = FOLDER / f"{name}.jsonl" if name in TASKS else Path(name)
    if name not in TASKS and path.suffix != ".jsonl":
        known = ", ".join((*TASKS, "all"))
        raise UserError(
            f"no task {name!r}; there are {known}, or a .jsonl file{suggest(name, TASKS)}"
        )
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    except UnicodeDecodeError as e:
        raise UserError(f"{path}: not UTF-8 ({e})") from e
    items = [_item(path, i, line) for i, line in enumerate(lines, 1) if line.strip()]
    if not items:
        raise UserError(f"{path}: there are no items in it")
    _kind(path, items)
    return items[:limit] if limit else items


def _item(path: Path, number: int, line: str) -> dict:
    """One line of a task's file, checked."""
    try:
        item = json.loads(line)
    except ValueError as e:
        raise UserError(f"{path}: line {number} is not a JSON object ({e})") from e
    if not isinstance(item, dict):
        raise UserError(f"{path}: line {number} is not a JSON object")
    for name in ("good", "bad", "query", "prefix", "target"):
        value = item.get(name, "?")
        if not isinstance(value, str) or not (value or name in ("query", "prefix")):
            raise UserError(f"{path}: line {number}: {name!r} must be a text that is not empty")
    choices, gold = item.get("choices", ["?"]), item.get("gold", 0)
    if not isinstance(choices, list) or not choices or not all(isinstance(c, str) for c in choices):
        raise UserError(f"{path}: line {number}: 'choices' must be a list of texts")
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise UserError(f"{path}: line {number}: 'gold' must be the number of a choice, from 0 on")
    return item


def _kind(path: Any, items: list[dict]) -> Callable[[Run, list[dict]], TaskScore]:
    for fields, scorer in KINDS.items():
        if all(set(fields) <= item.keys() for item in items):
            return scorer
    kinds = "; ".join(" and ".join(fields) for fields in KINDS)
    raise UserError(f"{path}: items of a task need the fields {kinds}")


def task_scores(run_: Run, names: list[str], limit: int = 0) -> dict[str, TaskScore]:
    """Scores by name of the task."""
    tasks = {name: read_task(name, limit) for name in names}
    return {name: _kind(name, items)(run_, items) for name, items in tasks.items()}


def show(text: dict[str, Any], tasks: dict[str, TaskScore]) -> str:
    """The scores for people."""
    lines = []
    if text:
        bits = text["bits_per_byte"]
        lines.append(
            f"text: {text['nats_per_token']:.4f} nats/token ({text['objective']})"
            + (f", {bits:.4f} bits/byte" if bits is not None else "")
            + f" on {text['tokens']:,} tokens"
        )
        if "pseudo_tokens" in text:
            lines.append(
                f"pseudo-log-likelihood: {text['pseudo_nats_per_token']:.4f} nats/token, "
                f"{text['pseudo_bits_per_byte']:.4f} bits/byte on {text['pseudo_tokens']:,} tokens "
                "(each knows all others: not comparable with the likelihood of a text)"
            )
    if tasks:
        lines.append(f"{'task':<16} {'score':>8} {'+-':>7} {'chance':>7} {'items':>6}  metric")
    for name, s in tasks.items():
        lines.append(
            f"{name:<16} {s.score:8.3f} {s.error:7.3f} {s.chance:7.3f} {s.items:6}  {s.metric}"
        )
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m lm.evaluate",
        description=__doc__,
    )
    parser.add_argument("--workdir", required=True, help="folder of a run")
    parser.add_argument("--text", default="", help="file or folder of text to score")
    parser.add_argument("--tasks", default="", help="names or .jsonl files, by comma; or all")
    parser.add_argument("--limit", type=int, default=0, help="items of each task; 0: all")
    parser.add_argument("--json", help="also write the scores to this file")
    flags = parser.parse_args()
    if not flags.text and not flags.tasks:
        raise UserError("nothing to score: give --text=FILE, --tasks=NAMES or both")
    if flags.limit < 0:
        raise UserError(f"--limit={flags.limit} must not be negative; 0 is all items")
    names = list(TASKS) if flags.tasks == "all" else [n for n in flags.tasks.split(",") if n]
    for name in names:
        read_task(name)
    run_ = load(flags.workdir)
    text = text_scores(run_, flags.text) if flags.text else {}
    tasks = task_scores(run_, names, flags.limit)
    print(show(text, tasks))
    if flags.json:
        result = text | {"tasks": {name: s._asdict() for name, s in tasks.items()}}
        result |= {"workdir": flags.workdir, "step": run_.step, "text": flags.text}
        write_atomic(flags.json, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
