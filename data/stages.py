"""The filters of a curation chain by name, each built from its section of the config."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from data import overlap, source
from data.embed_labels import benchmarks
from data.errors import UserError
from data.heuristics import C4, FineWeb, GopherQuality, GopherRepetition, Verdict
from data.linear import Linear
from data.pii import Pii
from data.toxicity import Toxicity

LANGUAGE_SAMPLE = 1000  # characters that language identification reads: more changes little
# What ftfy may change: anything not ASCII, entities, escapes and control characters.
UNCLEAN = re.compile(r"[^\n\t -~]|&[#\w]+;")


class Url:
    """Drops pages of blocked domains, and whose address has a blocked word as one of its parts."""

    def __init__(self, domains: str, words: Sequence[str]):
        self.blocked = _domains(domains) if domains else frozenset()
        self.words = frozenset(word.lower() for word in words)

    def filter(self, document: Any) -> Verdict:
        address = document.metadata.get("url", "")
        try:
            host = (urlsplit(address).hostname or "").lower()
        except ValueError:
            return False, "malformed address"
        labels = host.split(".")
        if any(".".join(labels[i:]) in self.blocked for i in range(len(labels))):
            return False, "blocked domain"
        parts = self.words and set(re.split(r"[^a-z0-9]+", address.lower()))
        return (False, "blocked word") if parts and parts & self.words else True


@cache
def _domains(path: str) -> frozenset[str]:
    """Return the names in a block list: one a line, or a hosts file's second column."""
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot read the block list ({error.strerror})") from error
    rows = (line.partition("#")[0].split() for line in lines)
    return frozenset(row[-1].lower().strip(".") for row in rows if row)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def identify(text: str) -> tuple[str, float]:
    """Return a text's language, as py3langid names it, and the probability."""
    language, probability = _identifier().classify(text[:LANGUAGE_SAMPLE])
    return language, float(probability)


class Language:
    """Labels documents with their language (py3langid) and keeps some."""

    def __init__(self, keep: Sequence[str], min_probability: float):
        self.keep, self.min_probability = frozenset(keep), min_probability
        self.tally: Counter[str] = Counter()

    def filter(self, document: Any) -> Verdict:
        language, probability = identify(document.text)
        document.metadata |= {"lang": language, "lang_probability": round(probability, 3)}
        self.tally[language] += 1
        if not self.keep or (language in self.keep and probability >= self.min_probability):
            return True
        return False, "unsure language" if language in self.keep else "other language"


class Quality:
    """Scores documents with a classifier that the user trained and keeps the better ones."""

    def __init__(self, model: str, min_score: float):
        self.model, self.min_score = Linear.load(model), min_score

    def filter(self, document: Any) -> Verdict:
        score = float(self.model.score([document.text])[0])
        document.metadata["quality"] = round(score, 4)
        return True if score >= self.min_score else (False, "low quality")


class FixText:
    """ftfy with datatrove's settings, on the lines that it could change: mojibake, entities."""

    def filter(self, document: Any) -> Verdict:
        if UNCLEAN.search(document.text):
            lines = document.text.split("\n")
            document.text = "\n".join(
                _fix(line) if UNCLEAN.search(line) else line for line in lines
            )
        return True


@cache
def _fixer() -> Callable[[str], str]:
    from datatrove.pipeline.formatters import FTFYFormatter

    return FTFYFormatter().format


def _fix(line: str) -> str:
    return _fixer()(line)


class Decontaminate:
    """Drops documents that share runs of words with a benchmark; `tally` counts by benchmark.

    13 words as GPT-3 has it (Brown et al. 2020, appendix C); a shorter text is not compared.
    """

    def __init__(self, files: dict[str, Path], words: int, min_hits: int):
        self.words, self.min_hits = words, min_hits
        self.names = sorted(files)
        grams, owners = [], []
        for number, name in enumerate(self.names):
            found = benchmark_grams(str(files[name]), words)
            grams.append(found)
            owners.append(np.full(len(found), number))
        hashes = np.concatenate(grams) if grams else np.zeros(0, np.uint64)
        order = np.argsort(hashes, kind="stable")
        self.index = hashes[order]
        self.owners = np.concatenate(owners)[order] if owners else np.zeros(0, np.int64)
        self.tally: Counter[str] = Counter()

    def filter(self, document: Any) -> Verdict:
        codes = np.frombuffer(document.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        hashes = np.unique(overlap.grams(overlap.words(codes)[0], self.words))
        hits = hashes[overlap.contains(self.index, hashes)]
        if len(hits) < self.min_hits:
            return True
        first = np.searchsorted(self.index, hits, "left")
        last = np.searchsorted(self.index, hits, "right")
        spans = [self.owners[a:b] for a, b in zip(first, last, strict=True)]
        for number in np.unique(np.concatenate(spans)):
            self.tally[self.names[number]] += 1
        return False, "in a benchmark"


@cache
def benchmark_grams(path: str, words: int) -> np.ndarray:
    """Return the distinct n-gram hashes of a benchmark's texts."""
    texts = [document.text for document in source.read(path)]
    return overlap.all_grams(texts, words)


def _benchmark_files(folder: str) -> dict[str, Path]:
    if not folder:
        return benchmarks()
    files, _ = source.text_files(folder)
    return {file.name.partition(".")[0]: file for file in files}


FILTERS: dict[str, Callable[[Any], Any]] = {
    "url": lambda c: Url(c.url.domains, c.url.words),
    "language": lambda c: Language(c.language.keep, c.language.min_probability),
    "gopher_repetition": lambda c: GopherRepetition(),
    "gopher_quality": lambda c: GopherQuality(),
    "c4": lambda c: C4(),
    "fineweb": lambda c: FineWeb(),
    "toxicity": lambda c: Toxicity(c.toxicity.max_share, c.toxicity.max_words, c.toxicity.drop),
    "quality": lambda c: Quality(c.quality.model, c.quality.min_score),
    "fix_text": lambda c: FixText(),
    "pii": lambda c: Pii(c.pii.types),
    "decontaminate": lambda c: Decontaminate(
        _benchmark_files(c.decontaminate.path), c.decontaminate.words, c.decontaminate.min_hits
    ),
}
