"""Gopher's, C4's and FineWeb's rules for prose, fast.

The rules, thresholds and names of reasons are datatrove's (GopherRepetitionFilter,
GopherQualityFilter, C4QualityFilter, FineWebQualityFilter). Here the words of a text are found once
for all rules (data/words.py) and numbered, and n-grams are compared as 64-bit hashes in numpy.

A rule is an object with `filter(document)`, as datatrove's filters are: True, or False and a
reason. C4's also drops lines, so it changes `document.text`.

Sources: Rae et al. 2021 (Gopher), table A1 and appendix A.1.1; Raffel et al. 2020 (C4), section
2.2; Penedo et al. 2024 (FineWeb), section 3.5.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from datatrove.utils.text import PUNCTUATION_SET, TERMINAL_PUNCTUATION

from data.overlap import grams
from data.shuffle import mix
from data.words import count_sentences, words

Verdict = bool | tuple[bool, str]

BLANK_LINES = re.compile(r"\n{2,}")
NEWLINES = re.compile(r"\n+")
CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
POLICY = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
LINE_ENDS = (".", "?", "!", '"', "'")
STOP_CHARACTERS = tuple(TERMINAL_PUNCTUATION)


def _symbol(word: str) -> bool:
    return word in PUNCTUATION_SET or not any(c not in PUNCTUATION_SET for c in word)


def _alphabetic(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def duplicates(items: list[str]) -> tuple[int, int]:
    """Return how many items repeat an earlier one, and the characters in them."""
    seen: set[str] = set()
    count = characters = 0
    for item in items:
        if item in seen:
            count += 1
            characters += len(item)
        else:
            seen.add(item)
    return count, characters


def top_gram_characters(hashes: np.ndarray, lengths: np.ndarray, n: int) -> int:
    """Return count x characters (spaces included) of the most frequent n-gram.

    `hashes` are of the n-grams, in order, `lengths` of the words. Of several the first counts.
    """
    if not len(hashes):
        return 0
    _, first, counts = np.unique(hashes, return_index=True, return_counts=True)
    start = first[counts == counts.max()].min()
    return int(counts.max() * (lengths[start : start + n].sum() + n - 1))


def repeated_characters(hashes: np.ndarray, ends: np.ndarray, n: int) -> int:
    """Return the characters in n-grams that were there before, counted without overlap.

    `ends` are the running totals of the words' lengths, from 0: int64 [words + 1]. As Gopher's
    rule has it: after an n-gram that repeats, the next one starts behind it.
    """
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return 0
    repeated = np.zeros(len(hashes), bool)
    repeated[order[1:][same]] = True
    repeated[order[:-1][same]] = True
    places = np.flatnonzero(repeated)
    seen: set[int] = set()
    total = after = 0
    for place, value in zip(places.tolist(), hashes[places].tolist(), strict=True):
        if place < after:
            continue
        if value in seen:
            total += int(ends[place + n] - ends[place])
            after = place + n
        else:
            seen.add(value)
    return total


@dataclass(frozen=True)
class GopherRepetition:
    """Drops text that repeats its lines, paragraphs or n-grams; shares are of all characters."""

    lines: float = 0.3
    paragraphs: float = 0.3
    line_characters: float = 0.2
    paragraph_characters: float = 0.2
    top: tuple[tuple[int, float], ...] = ((2, 0.2), (3, 0.18), (4, 0.16))
    repeated: tuple[tuple[int, float], ...] = (
        (5, 0.15), (6, 0.14), (7, 0.13), (8, 0.12), (9, 0.11), (10, 0.10),
    )  # fmt: skip

    def filter(self, document: Any) -> Verdict:
        text = document.text
        if not text:
            return False, "empty"
        reason = self._blocks(text) or self._grams(text)
        return (False, reason) if reason else True

    def _blocks(self, text: str) -> str:
        parts = (
            ("para", BLANK_LINES.split(text.strip()), self.paragraphs, self.paragraph_characters),
            ("line", NEWLINES.split(text), self.lines, self.line_characters),
        )
        for name, blocks, share, character_share in parts:
            count, characters = duplicates(blocks)
            if count / len(blocks) > share:
                return f"dup_{name}_frac"
            if characters / len(text) > character_share:
                return f"dup_{name}_char_frac"
        return ""

    def _grams(self, text: str) -> str:
        found = words(text)
        lengths = found.lengths
        codes = mix(found.ids.astype(np.uint64) + np.uint64(1))
        for n, share in self.top:
            if top_gram_characters(grams(codes, n), lengths, n) / len(text) > share:
                return f"top_{n}_gram"
        ends = np.concatenate([[0], np.cumsum(lengths)])
        for n, share in self.repeated:
            characters = repeated_characters(grams(codes, n), ends, n)
            if characters / len(text) > share:
                return f"duplicated_{n}_n_grams"
            if not characters:
                break  # where no n words repeat, no n + 1 do
        return ""


@dataclass(frozen=True)
class GopherQuality:
    """Drops text that is too short or long, or whose words, lines or symbols are not prose's."""

    min_words: int = 50
    max_words: int = 100_000
    min_length: float = 3
    max_length: float = 10
    max_symbols: float = 0.1  # of each of '#' and the ellipsis, per word
    max_bullets: float = 0.9
    max_ellipses: float = 0.3
    min_alphabetic: float = 0.8
    min_stop_words: int = 2

    def filter(self, document: Any) -> Verdict:
        reason = self._words(document.text) or self._lines(document.text)
        reason = reason or self._language(document.text)
        return (False, reason) if reason else True

    def _words(self, text: str) -> str:
        found = words(text)
        real = ~found.where(map(_symbol, found.vocabulary))
        count = int(real.sum())
        if count < max(self.min_words, 1):
            return "gopher_short_doc"
        if count > self.max_words:
            return "gopher_long_doc"
        mean = found.lengths[real].mean()
        if mean < self.min_length:
            return "gopher_below_avg_threshold"
        if mean > self.max_length:
            return "gopher_above_avg_threshold"
        if text.count("#") / len(found.ids) > self.max_symbols:
            return "gopher_too_many_hashes"
        if (text.count("...") + text.count("…")) / len(found.ids) > self.max_symbols:
            return "gopher_too_many_ellipsis"
        return ""

    def _lines(self, text: str) -> str:
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if bullets / len(lines) > self.max_bullets:
            return "gopher_too_many_bullets"
        ellipses = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if ellipses / len(lines) > self.max_ellipses:
            return "gopher_too_many_end_ellipsis"
        return ""

    def _language(self, text: str) -> str:
        found = words(text)
        if found.where(map(_alphabetic, found.vocabulary)).mean() < self.min_alphabetic:
            return "gopher_below_alpha_threshold"
        if len(STOP_WORDS.intersection(found.vocabulary)) < self.min_stop_words:
            return "gopher_enough_stop_words"
        return ""


@dataclass(frozen=True)
class C4:
    """Drops lines that are not sentences or are boilerplate, then text with too few sentences."""

    min_sentences: int = 5
    min_words: int = 3  # in a line
    max_word_length: int = 1000

    def filter(self, document: Any) -> Verdict:
        kept, sentences = [], 0
        for line in document.text.splitlines():
            line = line.strip()
            if not self._is_prose(line):
                continue
            line = CITATION.sub("", line)
            if not line.endswith(LINE_ENDS) or line.endswith("..."):
                continue
            lower = line.lower()
            if "lorem ipsum" in lower:
                return False, "lorem_ipsum"
            if "javascript" in lower:
                continue
            if "{" in line:
                return False, "curly_bracket"
            if any(phrase in lower for phrase in POLICY):
                continue
            sentences += count_sentences(line)
            kept.append(line)
        if sentences < self.min_sentences:
            return False, "too_few_sentences"
        document.text = "\n".join(kept).strip()
        return True

    def _is_prose(self, line: str) -> bool:
        """Tell whether the line has enough words, and none that is too long."""
        parts = line.split()
        longest = len(line) > self.max_word_length and max(map(len, parts), default=0)
        return len(parts) >= self.min_words and longest <= self.max_word_length


@dataclass(frozen=True)
class FineWeb:
    """Drops lists, menus and text whose lines repeat; shares are of lines, or of characters."""

    min_punctuated: float = 0.12
    max_short: float = 0.67
    short: int = 30  # characters
    max_repeated: float = 0.01
    max_newlines: float = 0.3  # per word

    def filter(self, document: Any) -> Verdict:
        text = document.text
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return False, "empty"
        if sum(line.endswith(STOP_CHARACTERS) for line in lines) / len(lines) < self.min_punctuated:
            return False, "line_punct_ratio"
        if sum(len(line) <= self.short for line in lines) / len(lines) > self.max_short:
            return False, "short_line_ratio"
        newlines = text.count("\n")
        if duplicates(lines)[1] / (len(text) - newlines) > self.max_repeated:
            return False, "char_dup_ratio"
        # There are at least as many words as there are runs without a space, which count faster.
        few = newlines > self.max_newlines * max(1, len(text.split()))
        if few and newlines > self.max_newlines * len(words(text).ids):
            return False, "list_ratio"
        return True
