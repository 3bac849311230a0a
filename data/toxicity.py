"""Toxicity: a word list and a linear classifier, both applied paragraph by paragraph.

    python -m data.toxicity train       trains the embedded weights from the embedded rows
    python -m data.toxicity evaluate    precision and recall of both on the held-out rows

The classifier learns from labelled tweets (Davidson et al. 2017) and, as clean text, paragraphs of
the embedded corpus. Its labels were sampled by a lexicon and are known to be biased against
African American English (Sap et al. 2019); hate without slurs it mostly misses. So a document is
tagged, and dropped only where much of it is flagged.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data import source
from data.embed_labels import labels
from data.errors import Parser, run
from data.linear import Linear, auc, precision_recall, train

WEIGHTS = Path(__file__).with_name("labels") / "toxicity.npz"
THRESHOLD = 0.42  # chosen on the development rows, see `evaluate`
PENALTY = 1e-6
CLEAN_SHARE = 8  # one clean paragraph in so many is used
CLEAN_KINDS = ("web", "books", "papers", "encyclopedia", "conversations", "code")
WORD = re.compile(r"\w+")


class Row(NamedTuple):
    text: str
    toxic: bool
    clean: bool  # a paragraph of the corpus, not a tweet
    part: str  # 'train', 'development' or 'test'


@cache
def classifier() -> Linear:
    return Linear.load(WEIGHTS)


@cache
def _phrases() -> dict[str, list[re.Pattern[str]]]:
    """Return the English list by first word; a phrase matches where no word goes on around it."""
    (english,) = (row["words"] for row in labels("toxicity_words") if row["lang"] == "en")
    found: dict[str, list[re.Pattern[str]]] = {}
    for phrase in english:
        first = WORD.search(phrase.lower())
        if first:
            pattern = re.compile(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)")
            found.setdefault(first.group(), []).append(pattern)
    return found


def listed(text: str) -> int:
    """Return how many different phrases of the word list a text has."""
    lower = text.lower()
    phrases = _phrases()
    first_words = phrases.keys() & set(WORD.findall(lower))
    return sum(bool(p.search(lower)) for word in first_words for p in phrases[word])


def scores(paragraphs: list[str]) -> np.ndarray:
    """Return the classifier's probability for each paragraph."""
    return classifier().score(paragraphs)


class Toxicity:
    """Tags documents with `toxicity` and `toxic_words`; drops those above the shares given.

    Args:
      max_share: of a document's characters, in paragraphs that the classifier flags.
      max_words: phrases of the word list per thousand words; two are always let pass.
      drop: False only tags.
    """

    def __init__(self, max_share: float = 0.3, max_words: float = 5.0, drop: bool = True):
        self.max_share, self.max_words, self.drop = max_share, max_words, drop

    def filter(self, document: Any) -> bool | tuple[bool, str]:
        paragraphs = [line for line in document.text.split("\n") if line.strip()]
        lengths = np.array([len(p) for p in paragraphs])
        flagged = scores(paragraphs) >= THRESHOLD
        share = float(lengths[flagged].sum() / max(lengths.sum(), 1))
        found = listed(document.text)
        document.metadata["toxicity"] = round(share, 3)
        document.metadata["toxic_words"] = found
        if self.drop and share > self.max_share:
            return False, "toxic_paragraphs"
        if self.drop and found > max(2, self.max_words * document.text.count(" ") / 1000):
            return False, "toxic_words"
        return True


def part_of(name: str) -> str:
    """Return which of the three parts a text, by itself or by its id, belongs to."""
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % 5
    return {0: "test", 1: "development"}.get(number, "train")


def rows() -> Iterator[Row]:
    """Yield tweets and clean paragraphs; the parts share no tweet and no clean document."""
    for tweet in labels("toxicity_tweets"):
        yield Row(tweet["text"], tweet["toxic"], False, part_of(tweet["text"]))
    for document in source.read():
        if document.kind in CLEAN_KINDS:
            part = part_of(document.id)
            for text in document.text.split("\n"):
                digest = hashlib.sha256(text.encode()).digest()
                if len(text) >= 40 and digest[0] % CLEAN_SHARE == 0:
                    yield Row(text, False, True, part)


def train_embedded() -> None:
    chosen = [row for row in rows() if row.part == "train"]
    toxic = np.array([row.toxic for row in chosen])
    train([row.text for row in chosen], toxic, PENALTY).save(WEIGHTS)
    print(f"trained on {len(chosen):,} rows; wrote {WEIGHTS.name}")


def evaluate(parts: tuple[str, ...] = ("development", "test")) -> dict[str, dict[str, float]]:
    """Return figures by method and part: precision and recall on tweets, share of clean flagged."""
    found: dict[str, dict[str, float]] = {}
    everything = [row for row in rows() if row.part in parts]
    for part in parts:
        chosen = [row for row in everything if row.part == part]
        toxic = np.array([row.toxic for row in chosen])
        clean = np.array([row.clean for row in chosen])
        for method, values, threshold in (
            ("word list", np.array([float(listed(row.text) > 0) for row in chosen]), 0.5),
            ("classifier", scores([row.text for row in chosen]), THRESHOLD),
        ):
            precision, recall = precision_recall(values[~clean], toxic[~clean], threshold)
            found[f"{method}, {part}"] = {
                "tweets": int((~clean).sum()),
                "precision": precision,
                "recall": recall,
                "auc": auc(values[~clean], toxic[~clean]),
                "clean": int(clean.sum()),
                "clean_flagged": float((values[clean] >= threshold).mean()),
            }
    return found


def hatecheck() -> dict[str, float]:
    """Return the classifier's recall and false alarms on HateCheck, whose cases avoid cues."""
    cases = labels("toxicity_hatecheck")
    flagged = scores([case["text"] for case in cases]) >= THRESHOLD
    hateful = np.array([case["hateful"] for case in cases])
    return {"hateful": float(flagged[hateful].mean()), "not": float(flagged[~hateful].mean())}


def _print_evaluation() -> None:
    head = ("tweets", "precision", "recall", "AUC", "clean paragraphs", "flagged")
    print(f"{'':<24}" + "".join(f"{name:>18}" for name in head))
    for name, f in evaluate().items():
        print(
            f"{name:<24}{f['tweets']:>18,}{f['precision']:>18.3f}{f['recall']:>18.3f}"
            f"{f['auc']:>18.3f}{f['clean']:>18,}{f['clean_flagged']:>18.3%}"
        )
    cases = hatecheck()
    print(f"HateCheck: flags {cases['hateful']:.1%} of hateful, {cases['not']:.1%} of other cases")


def main() -> None:
    parser = Parser(
        prog="python -m data.toxicity",
        description="Train or evaluate the embedded toxicity classifier.",
        epilog="example: python -m data.toxicity evaluate",
    )
    parser.add_argument("command", choices=("train", "evaluate"))
    if parser.parse_args().command == "train":
        train_embedded()
    else:
        _print_evaluation()


if __name__ == "__main__":
    run(main)
