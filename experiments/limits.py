"""What pretraining does not do, measured on a base model and again after a short fine-tune.

    make limits
    python -m experiments.limits --config=configs/limits.py:tiny --workdir=out/limits
    python -m experiments.limits --config=configs/limits.py --workdir=out/mine --from=out/gpt2

Three models are trained on a text with canaries, passages, personal data and toxic tweets planted
in it: as it is, deduplicated, and scrubbed of personal data and toxic documents. The first, or with
--from the run in a folder (one of lm.train, or imported by lm.hf), is asked for requests, talks,
toxic text, steadiness and calibration, fine-tuned on pairs of prompt and answer, and asked again.
Leaves limits.json, limits.md, figures/*.png and each run's folder; the same command goes on where
it was stopped.
"""

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from configs import sft as sft_config
from data import settings
from data.errors import UserError, run
from data.files import write_atomic
from data.prepare import Prepared
from experiments import estimates, limit_figures, limit_words, planted, toxic_text
from experiments import memorisation as memory
from experiments import requests as asked
from experiments import steadiness as steady
from experiments.estimates import Estimate
from experiments.planted import Corpus, Secret
from lm.config import TOKENIZER, claim_workdir, resolve
from lm.evaluate import read_task
from lm.load import Run, load
from lm.sft import finetune
from lm.train import train

Say = Callable[[str], None]


class Material(NamedTuple):
    """What is planted and what is asked: a function of the settings alone."""

    corpus: Corpus
    canaries: list[Secret]
    people: list[Secret]
    passages: list[Secret]
    documents: list[Any]  # to train on, with all that is planted


def material(c: ConfigDict) -> Material:
    """Plants what the settings say into the text that they name."""
    corpus = planted.corpus(c.text_mb)
    canaries = planted.canaries(c.times, c.canaries, c.seed)
    people = planted.people(c.times, c.people, c.seed)
    passages = planted.passages(corpus.unused, c.times, c.passages, c.seed)
    tweets = toxic_text.tweets(toxic_text.TRAINED_ON)[: c.tweets]
    lines = [(f"{s.prompt}{s.hidden}{planted.END}", s.times) for s in canaries]
    lines += [(f"{last.prompt}{last.hidden}{planted.END}", last.times) for *_, last in people]
    lines += [(t.text, 1) for t in tweets]
    paragraphs = [(s.hidden, s.times) for s in passages]
    documents = planted.plant(corpus.documents, lines, paragraphs, c.seed)
    flat = [s for person in people for s in person]
    return Material(corpus, canaries, flat, passages, documents)


def base_run(c: ConfigDict, prepared: Prepared, folder: Path) -> Run:
    """A model trained once over a text: what stands there n times, it has seen n times."""
    base = ConfigDict(c.base.to_dict())
    base.seed = c.seed
    base.steps = max(1, (len(prepared.train) - 1) // base.seq_len // base.batch_size)
    if train(base, folder, prepared) is None:
        raise KeyboardInterrupt
    return load(folder)


def tuned_run(c: ConfigDict, start: Path, talks: list[list[str]], folder: Path) -> Run:
    """The run in a folder, fine-tuned on requests and talks."""
    base = load(start)
    pairs = asked.training_pairs(talks, c.tune_requests, c.seed)
    pairs = [p for p in pairs if asked.fits(base, p.prompt + p.answer, 2)]
    path = folder / "pairs.jsonl"
    write_atomic(path, "".join(json.dumps(p._asdict()) + "\n" for p in pairs))
    tune = sft_config.get_config(str(start))
    tune.update(pairs=str(path), seed=c.seed, **c.tune.to_dict())
    if finetune(tune, folder / "run") is None:
        raise KeyboardInterrupt
    return load(folder / "run")


def memorised(c: ConfigDict, model: Run, m: Material) -> dict[str, Any]:
    """What a model gives away: {measure: {times: Estimate}}, passages by prefix length too."""
    found: dict[str, Any] = {
        "canary": memory.by_times(m.canaries, memory.extracted(model, m.canaries)),
        "exposure": memory.by_times(
            m.canaries,
            memory.exposures(model, m.canaries, seed=c.seed),
            lambda bits: estimates.mean(bits, "bits", (0.0, np.log2(memory.CANDIDATES))),
        ),
    }
    hits = memory.extracted(model, m.people)
    for kind in ("e-mail", "phone", "address"):
        some = [(s, h) for s, h in zip(m.people, hits, strict=True) if s.kind == kind]
        found[kind] = memory.by_times([s for s, _ in some], [h for _, h in some])
    for prefix in c.prefixes:
        hits = memory.extracted_passages(model, m.passages, prefix, max(c.prefixes))
        found[f"passage, {prefix} tokens given"] = memory.by_times(m.passages, hits)
    return found


def behaviour(c: ConfigDict, model: Run, m: Material) -> dict[str, Any]:
    """Requests, talks, steadiness and calibration of one model, by name of the measure."""
    found: dict[str, Any] = {}
    some = asked.asks(held_out=True, each=c.requests, seed=c.seed)
    for name, shots in (("zero-shot", 0), ("few-shot", asked.SHOTS)):
        hits = asked.answered(model, some, shots, c.seed)
        found[f"requests answered, {name}"] = estimates.share(hits)
        for kind in dict.fromkeys(a.kind for a in some):
            mine = [h for a, h in zip(some, hits, strict=True) if a.kind == kind]
            found[f"{kind}, {name}"] = estimates.share(mine)
    talks = asked.talk(model, asked.openings(m.corpus.dialogues(True), model)[: c.talks], c.seed)
    found["other side's turn written"] = estimates.share([t.other_side for t in talks])
    found["ended its turn itself"] = estimates.share([t.ended for t in talks])
    irrelevant = toxic_text.neutral(m.corpus.fresh, 50, c.seed)
    items = read_task("blimp")
    items = random.Random(c.seed).sample(items, min(c.pairs, len(items)))
    judged = steady.judgements(model, items, irrelevant)
    found["sentence pairs judged right"] = judged["nothing"].accuracy
    for prefix in ("irrelevant", "adversarial"):
        found[f"right after an {prefix} prefix"] = judged[prefix].accuracy
        found[f"flipped by an {prefix} prefix"] = judged[prefix].flipped
    ids = model.tokenizer.encode("\n".join(d.text for d in m.corpus.held_out))
    calibrated = steady.calibration(model, np.array(ids), c.windows)
    found["calibration error"] = calibrated.error
    found["calibration"] = calibrated
    return found


def toxic(c: ConfigDict, model: Run, m: Material) -> dict[str, Estimate]:
    """Toxicity after neutral and charged prompts."""
    prompts = {
        "neutral": toxic_text.neutral(m.corpus.fresh, c.toxic_prompts, c.seed),
        "charged": toxic_text.charged(c.toxic_prompts, c.seed),
    }
    found = {}
    for kind, some in prompts.items():
        t = toxic_text.toxic(model, some, c.samples, c.seed)
        found[f"expected maximum toxicity, {kind}"] = t.maximum
        found[f"at least one toxic of {c.samples}, {kind}"] = t.at_least_one
    return found


def measure(c: ConfigDict, folder: Path, start: Path | None, say: Say = print) -> dict[str, Any]:
    """Trains, asks, fine-tunes and asks again; what limits.json holds.

    Raises:
      UserError: `start` is no run of a decoder that can be loaded.
    """
    missing = missing_of(start)
    m = material(c)
    claimed = c.to_dict() | {"from": str(start or "")}
    claim_workdir(folder, ConfigDict(json.loads(json.dumps(claimed))))  # tuples as they come back
    prepared = planted.prepare(
        folder / "text", m.documents, m.corpus.held_out, resolve(c.base).data.vocab_size
    )
    result: dict[str, Any] = {"missing": missing, "tokens": {}, "memorised": {}, "toxic": {}}
    for text in planted.TEXTS:
        say(f"a model of the {text} text")
        model = base_run(c, prepared[text], folder / "runs" / text)
        result["tokens"][text] = len(prepared[text].train)
        result["memorised"][text] = memorised(c, model, m)
        if text != "deduplicated":
            result["toxic"][text] = toxic(c, model, m)
        if text == "raw":
            error = toxic_text.classifier_error(model, m.corpus.fresh)
            result["classifier"] = error._asdict() | {
                "any false alarm": error.by_chance(c.samples),
                "auc": toxic_text.classifier_auc(model),
            }
    first = start or folder / "runs" / "raw"
    result["model"] = str(start or "the model of the raw text")
    if not missing:
        say("asking the base model")
        base = load(first)
        result["base"] = behaviour(c, base, m)
        toxic_base = toxic(c, base, m) if start else result["toxic"]["raw"]
        say("fine-tuning, and asking again")
        talks = m.corpus.dialogues(False)
        tuned = tuned_run(c, first, talks, folder / ("tuned-from" if start else "tuned"))
        result["tuned"] = behaviour(c, tuned, m) | toxic(c, tuned, m)
        result["base"] |= toxic_base
        if not start:
            result["memorised"]["after fine-tune"] = memorised(c, tuned, m)
    return result


def missing_of(start: Path | None) -> list[str]:
    """What cannot be measured of an imported run, and why; [] where nothing is missing.

    Raises:
      UserError: it is no run of a decoder.
    """
    if start is None:
        return []
    try:
        config = json.loads((start / "config.json").read_text())
        objective = config["objective"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"--from={start}: no run of lm.train or lm.hf is there ({e})") from e
    if objective != "causal":
        raise UserError(
            f"--from={start}: trained for {objective}; only causal models go on writing"
        )
    if not (start / "checkpoints").is_dir():
        raise UserError(f"--from={start} has no checkpoints yet: train it first")
    if not (start / TOKENIZER).is_file():
        return [
            f"{start} has no {TOKENIZER}: it takes ids, not text, so requests, talks, toxic text, "
            "steadiness, calibration and the fine-tune are left out"
        ]
    return []


def as_json(value: Any) -> Any:
    """Estimates as [value, low, high, n], all else as it is."""
    if isinstance(value, Estimate):
        return [value.value, value.low, value.high, value.n]
    if hasattr(value, "_asdict"):
        return as_json(value._asdict())
    if isinstance(value, dict):
        return {str(k): as_json(v) for k, v in value.items()}
    return value


def main() -> None:
    """The command."""
    extra = {
        "workdir": ("", "folder of runs, tables and figures"),
        "from": ("", "workdir of the run to ask; else one is trained"),
    }
    c, flags = settings.load(sys.argv, __doc__ or "", **extra)
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep runs and results")
    folder, start = Path(flags.workdir), Path(flags["from"].value) if flags["from"].value else None
    result = measure(c, folder, start)
    figures = limit_figures.save(folder / "figures", result)
    text = limit_words.page(c, result)
    write_atomic(folder / "limits.md", text)
    words = {"verdict": limit_words.verdict(c, result), "figures": figures}
    write_atomic(folder / "limits.json", json.dumps(as_json(result) | words, indent=1) + "\n")
    print(text)
    print(f"wrote {folder}/limits.json, limits.md and {folder}/figures")


if __name__ == "__main__":
    run(main)
