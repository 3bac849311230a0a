"""One model of a data ablation: trained on a version of the crawl, asked about it.

A module of its own, since worker processes find its functions by name.
"""

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.ablation_data import READ, Passage, Texts, training_store

ALL, EQUAL = "all text", "equal unique tokens"
TEXTS = "texts.pickle"  # what the command hands to its workers


class Trial(NamedTuple):
    """One model to be trained."""

    version: str
    text: str  # ALL or EQUAL
    seed: int

    @property
    def name(self) -> str:
        return f"{self.version}-{self.text.replace(' ', '-')}-{self.seed}"


@cache
def trainer(base: str, folder: str, seed: int) -> Any:
    """One compiled trainer for all runs of a seed: only its batches change. And the texts."""
    from lm.platform import configure

    configure(cpu_devices=1)
    import jax

    from data.prepare import Prepared
    from lm.train import Trainer

    config = ConfigDict(json.loads(base))
    config.seed = seed
    texts = load_texts(folder)
    prepared = Prepared(texts.tokenizer, texts.valid, texts.valid, {})
    return Trainer(config, prepared, jax.devices()[:1]), texts


@cache
def load_texts(folder: str) -> Texts:
    return pickle.loads((Path(folder) / TEXTS).read_bytes())


def train(base: str, folder: str, trial: Trial) -> dict[str, float]:
    """Train one model and measure it."""
    from data.batch import Batches
    from lm.load import Run

    one, texts = trainer(base, folder, trial.seed)
    sizes = {name: sum(map(len, rows)) for name, rows in texts.versions.items()}
    tokens = min(sizes.values()) if trial.text == EQUAL else 0
    store = training_store(texts.versions[trial.version], tokens, trial.seed)
    one.batches = Batches(store, one.config.batch_size, one.objective, trial.seed)
    state = one.run(one.init(), one.config.steps)
    model = Run(
        one.config, texts.tokenizer, one.objective, one.model, state.params, int(state.step)
    )
    lengths = texts.tokenizer.byte_lengths
    repeated, verbatim = ask(model, texts.repeated, lengths)
    return {
        "held_out": float(one.evaluate(state).bits_per_byte),
        "repeated": repeated,
        "single": ask(model, texts.single, lengths)[0],
        "verbatim": verbatim,
        "unique_tokens": float(len(store)),
        "epochs": one.config.steps * one.tokens_per_step / len(store),
    }


def ask(model: Any, passages: list[Passage], lengths: np.ndarray) -> tuple[float, float]:
    """Bits/byte of what follows READ tokens of the passages; the share written word for word."""
    from lm.score import Request, score

    scores = score(model, [Request(p.ids[:READ], p.ids[READ:]) for p in passages])
    size = sum(int(lengths[p.ids[READ:]].sum()) for p in passages)
    bits = -sum(s.nats for s in scores) / np.log(2) / size
    return float(bits), float(np.mean([s.greedy for s in scores]))
