"""Which validation text training has seen: word 13-grams, hashed to 64 bits and compared.

A word is a run of alphanumeric characters (str.isalnum), lower-cased character by character
(where that gives one character). GPT-3 used 13-grams to find overlap (Brown et al. 2020,
appendix C). Among n validation and m training n-grams a false match has a chance of about
n m / 2**64: one in a million for a corpus of 50 MB.
"""

from collections.abc import Iterable
from functools import cache, partial

import numpy as np

from data.parallel import chunked, parallel_map
from data.shuffle import mix

N = 13
BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
LAST_CODE = 0x40000  # above it Unicode has no letters or digits
FILTER_BITS = 24


@cache
def _folding() -> np.ndarray:
    """Return uint64 [LAST_CODE + 1]: a character's lower case, 0 where it is not alphanumeric."""
    table = np.zeros(LAST_CODE + 1, np.uint64)
    for code in range(LAST_CODE):
        character = chr(code)
        if character.isalnum():
            lower = character.lower()
            table[code] = ord(lower) if len(lower) == 1 else code
    return table


@cache
def _powers(log2_count: int) -> np.ndarray:
    """Return BASE**i modulo 2**64 for i < 2**log2_count."""
    return np.cumprod(np.full(1 << log2_count, BASE))


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def fold(codes: np.ndarray) -> np.ndarray:
    """Return uint64: the lower case of each code point, 0 where it is not alphanumeric."""
    return _folding()[np.minimum(codes, LAST_CODE)]


def words(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return hash, start and end (in characters) of each word of a text's code points."""
    folded = fold(codes)
    inside = np.zeros(len(folded) + 2, np.int8)
    inside[1:-1] = folded != 0
    edges = np.diff(inside)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return np.zeros(0, np.uint64), starts, ends
    lengths = ends - starts
    first = np.cumsum(lengths) - lengths
    place = np.arange(lengths.sum()) - np.repeat(first, lengths)
    powers = _powers(int(lengths.max()).bit_length())
    return mix(np.add.reduceat(folded[folded != 0] * powers[place], first)), starts, ends


def grams(word_hashes: np.ndarray, n: int = N) -> np.ndarray:
    """Return the hash of every run of n words."""
    count = max(0, len(word_hashes) - n + 1)
    total = np.zeros(count, np.uint64)
    for i in range(n):
        total = total * BASE + word_hashes[i : i + count]
    return mix(total)


def all_grams(texts: Iterable[str], n: int) -> np.ndarray:
    """Return the distinct n-gram hashes of all texts, sorted."""
    parts = [grams(words(_codes(text))[0], n) for text in texts]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, np.uint64)


class _Finder:
    """Finds n-grams of an index in texts; most are ruled out by one look-up in a small table."""

    def __init__(self, index: np.ndarray, n: int):
        self.index, self.n = index, n
        self.maybe = np.zeros(1 << FILTER_BITS, bool)
        self.maybe[index >> np.uint64(64 - FILTER_BITS)] = True

    def __call__(self, texts: list[str]) -> np.ndarray:
        found = []
        for text in texts:
            these = grams(words(_codes(text))[0], self.n)
            these = these[self.maybe[these >> np.uint64(64 - FILTER_BITS)]]
            found.append(these[contains(self.index, these)])
        return np.unique(np.concatenate(found))


def contains(index: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Tell which values are in the sorted `index`."""
    if not len(index):
        return np.zeros(len(values), bool)
    place = np.minimum(np.searchsorted(index, values), len(index) - 1)
    return index[place] == values


def shared(
    valid: Iterable[str], train: Iterable[str], n: int = N, workers: int | None = 1
) -> np.ndarray:
    """Return the sorted hashes of the word n-grams that validation and training both have.

    Memory holds the validation n-grams (8 bytes each); training streams past them.
    """
    index = all_grams(valid, n)
    if not len(index):
        return index
    found = np.zeros(len(index), bool)
    for some in parallel_map(partial(_found, index, n), chunked(train), workers):
        found[np.searchsorted(index, some)] = True
    return index[found]


_finder: _Finder | None = None


def _found(index: np.ndarray, n: int, texts: list[str]) -> np.ndarray:
    """Return which of the index's n-grams are in the texts; one finder serves a whole process."""
    global _finder
    if _finder is None or _finder.index is not index:
        _finder = _Finder(index, n)
    return _finder(texts)


def covered(text: str, seen: np.ndarray, n: int = N) -> np.ndarray:
    """Return bool [UTF-8 bytes of text]: inside an n-gram of `seen`, its first to its last word."""
    codes = _codes(text)
    hashes, starts, ends = words(codes)
    hits = np.flatnonzero(contains(seen, grams(hashes, n)))
    marks = np.zeros(len(codes) + 1, np.int32)
    np.add.at(marks, starts[hits], 1)
    np.add.at(marks, ends[hits + n - 1], -1)
    inside = np.cumsum(marks[:-1]) > 0
    wide = np.array([0x80, 0x800, 0x10000], np.uint32)
    return np.repeat(inside, 1 + np.searchsorted(wide, codes, side="right"))


def token_weights(text: str, byte_lengths: np.ndarray, seen: np.ndarray, n: int = N) -> np.ndarray:
    """Return uint8 [tokens]: 0 for each token that shares a byte with an n-gram of `seen`.

    `byte_lengths` are those of the text's tokens, in order.
    """
    before = np.concatenate([[0], np.cumsum(covered(text, seen, n))])
    ends = np.cumsum(byte_lengths)
    return (before[ends] == before[ends - byte_lengths]).astype(np.uint8)
