"""A logistic regression on hashed words and characters: trained in seconds, one small file.

    python -m data.linear train --positive=GOOD.jsonl --negative=BAD.jsonl --out=quality.npz
    python -m data.linear score --model=quality.npz --text=MORE.jsonl

GOOD and BAD are files or folders as `data.source` reads them. What such a classifier learns is the
difference between the two sets, their sources and formats included, so the negatives should come
from the sources of the positives (docs/data.md). The score is a probability; `score` prints which
threshold keeps how much.

A word is a run of letters and digits, lower-cased (data/overlap.py); text is read once in numpy.
"""

import argparse
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.sparse

from data import overlap, source
from data.errors import Parser, UserError, run
from data.files import PathLike, write_atomic
from data.shuffle import mix

BITS = 18  # of the hashed features
RUN = 5  # characters in a row that are a feature
GAP = "\n" * RUN  # after each text, also a lone one
HELD_OUT = 5  # one row in so many is not trained on
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)


def features(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashed features of all texts, and the text that each belongs to.

    int64 [features] twice. Features are words, pairs of words and runs of 5 characters; none
    reaches from one text into the next.
    """
    codes = np.frombuffer(
        "".join(text + GAP for text in texts).encode("utf-32-le", "surrogatepass"), np.uint32
    )
    ends = np.cumsum([len(text) + len(GAP) for text in texts])
    folded = overlap.fold(codes)
    hashes, starts, _ = overlap.words(codes)
    runs = [
        (hashes, starts, starts),
        (overlap.grams(hashes, 2), starts[:-1], starts[1:]),
        (
            overlap.grams(folded, RUN),
            np.arange(len(codes) - RUN + 1),
            np.arange(RUN - 1, len(codes)),
        ),
    ]
    found, rows = [], []
    for salt, (values, first, last) in enumerate(runs):
        row = np.searchsorted(ends, first, "right")
        inside = row == np.searchsorted(ends, last, "right")
        found.append(
            (mix(values[inside] + np.uint64(salt)) >> np.uint64(64 - BITS)).astype(np.int64)
        )
        rows.append(row[inside])
    return np.concatenate(found), np.concatenate(rows)


@dataclass(frozen=True)
class Linear:
    """Weights of the hashed features, float32 [2**BITS], and the bias."""

    weights: np.ndarray
    bias: float

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """Return the probability of the positive class, float64 [texts]."""
        if not len(texts):
            return np.zeros(0)
        indices, rows = features(texts)
        totals = np.bincount(rows, self.weights[indices], len(texts))
        counts = np.maximum(np.bincount(rows, minlength=len(texts)), 1)
        return _sigmoid(self.bias + totals / np.sqrt(counts))

    def save(self, path: PathLike) -> None:
        """Write the model; weights are kept to 3 digits, which moves no score by 0.001."""
        content = io.BytesIO()
        np.savez_compressed(content, weights=self.weights.astype(np.float16), bias=self.bias)
        write_atomic(path, content.getvalue())

    @classmethod
    def load(cls, path: PathLike) -> "Linear":
        try:
            with np.load(path, allow_pickle=False) as arrays:
                weights, bias = arrays["weights"].astype(np.float32), float(arrays["bias"])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path}: not a classifier ({error}); data.linear trains one"
            ) from error
        if weights.shape != (1 << BITS,):
            raise UserError(f"{path}: a classifier of another format; train it again")
        return cls(weights, bias)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def train(texts: Sequence[str], labels: np.ndarray, penalty: float = 1e-5) -> Linear:
    """Fit by L-BFGS; the same rows give the same weights.

    Args:
      texts, labels: rows, and bool [rows].
      penalty: of the squared weights, beside the mean loss a row.
    """
    indices, numbers = features(texts)
    values = 1 / np.sqrt(np.bincount(numbers, minlength=len(texts)))[numbers]
    rows = scipy.sparse.coo_matrix((values, (numbers, indices)), (len(texts), 1 << BITS)).tocsr()
    signs = np.where(labels, 1.0, -1.0)
    columns = rows.T.tocsr()

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (rows @ theta[:-1] + theta[-1])
        slopes = -signs * _sigmoid(-margins) / len(signs)
        value = np.logaddexp(0, -margins).mean() + penalty * (theta[:-1] @ theta[:-1])
        gradient = columns @ slopes + 2 * penalty * theta[:-1]
        return value, np.append(gradient, slopes.sum())

    fit = scipy.optimize.minimize(
        loss, np.zeros((1 << BITS) + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}
    )
    return Linear(fit.x[:-1].astype(np.float16).astype(np.float32), float(fit.x[-1]))


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the chance that a positive scores above a negative, ties counted half."""
    positives, negatives = np.sort(scores[labels]), scores[~labels]
    below = np.searchsorted(positives, negatives, "left")
    ties = np.searchsorted(positives, negatives, "right") - below
    above = len(positives) - below - ties
    return float((above + 0.5 * ties).sum() / (len(positives) * len(negatives)))


def precision_recall(
    scores: np.ndarray, labels: np.ndarray, threshold: float
) -> tuple[float, float]:
    """Return precision and recall of `scores >= threshold`."""
    flagged = scores >= threshold
    hits = (flagged & labels).sum()
    return float(hits / max(flagged.sum(), 1)), float(hits / max(labels.sum(), 1))


def _texts(path: str, limit: int) -> list[str]:
    texts = []
    for document in source.read(path):
        texts.append(document.text)
        if len(texts) == limit:
            break
    return texts


def _train(options: argparse.Namespace) -> None:
    positives, negatives = (_texts(p, options.limit) for p in (options.positive, options.negative))
    texts = positives + negatives
    labels = np.arange(len(texts)) < len(positives)
    held_out = np.arange(len(texts)) % HELD_OUT == 0
    if not (held_out & labels).any() or not (held_out & ~labels).any() or len(texts) < 20:
        raise UserError("too little to train on: give at least ten texts of each class")
    model = train([t for t, h in zip(texts, held_out, strict=True) if not h], labels[~held_out])
    scores = model.score([t for t, h in zip(texts, held_out, strict=True) if h])
    labels = labels[held_out]
    print(f"{len(positives):,} positive and {len(negatives):,} negative texts, a fifth held out")
    print(f"AUC on the held-out fifth {auc(scores, labels):.3f}")
    print(f"{'threshold':>10} {'precision':>10} {'recall':>10}")
    for threshold in (0.1, 0.25, 0.5, 0.75, 0.9):
        precision, recall = precision_recall(scores, labels, threshold)
        print(f"{threshold:>10} {precision:>10.3f} {recall:>10.3f}")
    model.save(options.out)
    print(f"wrote {options.out}")


def _score(options: argparse.Namespace) -> None:
    model = Linear.load(options.model)
    scores = model.score(_texts(options.text, options.limit))
    print(f"{len(scores):,} texts; to keep the better share, ask for at least")
    for quantile in QUANTILES:
        print(f"  {np.quantile(scores, quantile):.4f} keeps {1 - quantile:.0%}")


def main(argv: Iterable[str] | None = None) -> None:
    parser = Parser(
        prog="python -m data.linear",
        description="Train a classifier of texts, or score texts with one.",
        epilog="example: python -m data.linear train --positive=good --negative=bad --out=q.npz",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    training = commands.add_parser("train", help="from a set of positives and one of negatives")
    training.add_argument("--positive", required=True, help="file or folder of text")
    training.add_argument("--negative", required=True, help="file or folder of text")
    training.add_argument("--out", required=True, type=Path, help="where the model goes (.npz)")
    training.set_defaults(run=_train)
    scoring = commands.add_parser("score", help="quantiles of the scores of a set")
    scoring.add_argument("--model", required=True, type=Path)
    scoring.add_argument("--text", required=True, help="file or folder of text")
    scoring.set_defaults(run=_score)
    for command in (training, scoring):
        command.add_argument(
            "--limit", type=int, default=50_000, help="texts of a set (%(default)s)"
        )
    options = parser.parse_args(None if argv is None else list(argv))
    options.run(options)


if __name__ == "__main__":
    run(main)
