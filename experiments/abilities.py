"""Five abilities as procedural tasks: seeded, of a chosen difficulty, with known chance.

    arithmetic    4+7-5=1,6.             running results modulo 10
    deduction     C>F;D>E;A>C;H>B?A=C,F. follow the arrows; others are in the way
    operations    12:ABC=BCA,CDB.        numbered operations on a string, one after another
    mapping       A3F7C1?CA=13.          look up in a mapping that stands only here
    induction     *QXAB|QXAB.            repeat random text
    instructions  #4^B$D:BACD.           any word that meets every constraint

Difficulty counts operations, arrows to follow, operations, pairs, letters, constraints. Mapping and
induction are both in-context learning. An instance is held out by a hash of its prompt, operations
by the pairs of operations in it, so that nothing asked was ever trained on. Chance is the
probability that a guess is right which knows the form of an answer and nothing else.
"""

import math
from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

from data.files import hash_bytes

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SMALL = LETTERS[:8]  # of words and strings
REPEATED = LETTERS[:16]  # of random text
LENGTHS = (3, 4, 5)  # of words
CHOICES = 4  # answers that a multiple-choice score compares, the right one among them
END = "."
Guess = Callable[[Random], str]


class Instance(NamedTuple):
    """One question and its answer; `steps` joined is the answer, END included."""

    prompt: str
    steps: tuple[str, ...]
    guess: Guess  # draws an answer of the right form
    chance: float  # that such a guess is right

    @property
    def answer(self) -> str:
        return "".join(self.steps)


class Marks(NamedTuple):
    """How a written answer did."""

    right: bool
    partial: float  # 0 to 1: 1 - edit distance / length, or the share of constraints that are met
    parts: tuple[bool, ...]  # of instructions: each constraint; else empty


class Task(NamedTuple):
    """A kind of question."""

    ability: str
    make: Callable[[Random, int], Instance]
    difficulties: tuple[int, ...]
    held_out: Callable[[str], bool]
    mark: Callable[[Instance, str], Marks]


def arithmetic(rng: Random, difficulty: int) -> Instance:
    """A sum of digits, its running results modulo 10."""
    numbers = [rng.randrange(10) for _ in range(difficulty + 1)]
    signs = [rng.choice("+-") for _ in range(difficulty)]
    prompt, total, results = str(numbers[0]), numbers[0], []
    for sign, number in zip(signs, numbers[1:], strict=True):
        total = (total + (number if sign == "+" else -number)) % 10
        prompt += f"{sign}{number}"
        results.append(str(total))

    def guess(rng: Random) -> str:
        return ",".join(str(rng.randrange(10)) for _ in results) + END

    return Instance(prompt + "=", _listed(results), guess, 0.1**difficulty)


def deduction(rng: Random, difficulty: int) -> Instance:
    """A chain of implications among others; a guess names different right-hand sides."""
    chain, others = difficulty + 1, difficulty + 2
    names = rng.sample(LETTERS, chain + 2 * others)
    facts = list(zip(names[: chain - 1], names[1:chain], strict=True))
    facts += list(zip(names[chain::2], names[chain + 1 :: 2], strict=True))
    rng.shuffle(facts)
    ends = [after for _, after in facts]

    def guess(rng: Random) -> str:
        return ",".join(rng.sample(ends, difficulty)) + END

    prompt = ";".join(f"{a}>{b}" for a, b in facts) + f"?{names[0]}="
    chance = 1 / math.perm(len(ends), difficulty)
    return Instance(prompt, _listed(names[1:chain]), guess, chance)


OPERATIONS: tuple[Callable[[str], str], ...] = (
    lambda s: s[::-1],
    lambda s: s[1:] + s[0],
    lambda s: "".join(SMALL[(SMALL.index(c) + 1) % len(SMALL)] for c in s),
    lambda s: s[1] + s[0] + s[2:],
    lambda s: s[0] + s[0] + s[2:],
)


def operations(rng: Random, difficulty: int) -> Instance:
    """Operations 0 to 4 on three letters, with what each of them leaves."""
    names = [rng.randrange(len(OPERATIONS)) for _ in range(difficulty)]
    text = "".join(rng.choices(SMALL, k=3))
    prompt, results = "".join(map(str, names)) + f":{text}=", []
    for name in names:
        text = OPERATIONS[name](text)
        results.append(text)

    def guess(rng: Random) -> str:
        return ",".join("".join(rng.choices(SMALL, k=3)) for _ in names) + END

    return Instance(prompt, _listed(results), guess, float(len(SMALL)) ** (-3 * difficulty))


def unseen_pair(prompt: str) -> bool:
    """Whether operations follow each other that never do in training.

    Of 25 pairs 5, each first and each second operation once. Single ones: by hash.
    """
    names = [int(c) for c in prompt.partition(":")[0]]
    if len(names) == 1:
        return by_hash(prompt)
    return any((a + 2 * b) % len(OPERATIONS) == 0 for a, b in zip(names, names[1:], strict=False))


def mapping(rng: Random, difficulty: int) -> Instance:
    """Pairs of letter and digit, then two letters to look up; a guess names two digits shown."""
    keys, values = rng.sample(REPEATED, difficulty), rng.sample("0123456789", difficulty)
    asked = rng.sample(range(difficulty), 2)
    pairs = "".join(k + v for k, v in zip(keys, values, strict=True))
    first, second = (values[i] for i in asked)

    def guess(rng: Random) -> str:
        return "".join(rng.sample(values, 2)) + END

    prompt = f"{pairs}?{''.join(keys[i] for i in asked)}="
    return Instance(prompt, (first, second + END), guess, 1 / math.perm(difficulty, 2))


def induction(rng: Random, difficulty: int) -> Instance:
    """Random text twice."""
    text = "".join(rng.choices(REPEATED, k=difficulty))

    def guess(rng: Random) -> str:
        return "".join(rng.choices(REPEATED, k=difficulty)) + END

    steps = (*text[:-1], text[-1] + END)
    return Instance(f"*{text}|", steps, guess, float(len(REPEATED)) ** -difficulty)


MET: dict[str, Callable[[str, str], bool]] = {  # a constraint's sign: (value, word) -> met
    "#": lambda value, word: len(word) == int(value),
    "^": lambda value, word: word.startswith(value),
    "$": lambda value, word: word.endswith(value),
    "!": lambda value, word: value not in word,
    "&": lambda value, word: value in word,
}


def instructions(rng: Random, difficulty: int) -> Instance:
    """A word of 3 to 5 letters of 8 under some constraints; their letters differ."""
    signs = sorted(rng.sample(sorted(MET), difficulty))
    letters = iter(rng.sample(SMALL, 4))
    value = {s: str(rng.choice(LENGTHS)) if s == "#" else next(letters) for s in signs}
    prompt = "".join(s + value[s] for s in signs) + ":"
    word = _word(rng)
    while not all(MET[s](value[s], word) for s in signs):
        word = _word(rng)
    return Instance(prompt, (word + END,), lambda rng: _word(rng) + END, _word_chance(value))


def _word(rng: Random) -> str:
    return "".join(rng.choices(SMALL, k=rng.choice(LENGTHS)))


def _word_chance(value: dict[str, str]) -> float:
    """The share of words that meet constraints, of lengths that are equally likely."""
    size = len(SMALL)
    fixed = ("^" in value) + ("$" in value)
    allowed = size - ("!" in value)
    share = 0.0
    for length in LENGTHS:
        if value.get("#", str(length)) == str(length):
            ways = allowed ** (length - fixed)
            if "&" in value:
                ways -= (allowed - 1) ** (length - fixed)
            share += ways / size**length / len(LENGTHS)
    return share


def mark_exact(instance: Instance, written: str) -> Marks:
    """An answer that has to be the right one."""
    answer = instance.answer
    far = edit_distance(written, answer) / max(len(written), len(answer))
    return Marks(written == answer, 1 - far, ())


def mark_constraints(instance: Instance, written: str) -> Marks:
    """An answer that has to be a word and meet each constraint."""
    word = written.removesuffix(END)
    proper = written.endswith(END) and bool(word) and set(word) <= set(SMALL)
    pairs = instance.prompt.removesuffix(":")
    constraints = zip(pairs[::2], pairs[1::2], strict=True)
    parts = tuple(proper and MET[sign](value, word) for sign, value in constraints)
    return Marks(all(parts), sum(parts) / len(parts), parts)


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and replacements that make b of a (Levenshtein)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def by_hash(prompt: str) -> bool:
    """A quarter of all prompts, for ever."""
    return hash_bytes(prompt.encode())[0] in "0123"


def _listed(results: list[str]) -> tuple[str, ...]:
    return (*(r + "," for r in results[:-1]), results[-1] + END)


IN_CONTEXT, EXACT = "in-context learning", mark_exact
TASKS = {
    "arithmetic": Task("multi-step arithmetic", arithmetic, (1, 2, 3), by_hash, EXACT),
    "deduction": Task("deduction chains", deduction, (1, 2, 3), by_hash, EXACT),
    "operations": Task("multi-task generalisation", operations, (1, 2, 3), unseen_pair, EXACT),
    "mapping": Task(IN_CONTEXT, mapping, (3, 5, 7), by_hash, EXACT),
    "induction": Task(IN_CONTEXT, induction, (4, 8, 16), by_hash, EXACT),
    "instructions": Task("instructions", instructions, (1, 2, 3), by_hash, mark_constraints),
}


def instances(name: str, seed: int, held_out: bool, difficulty: int = 0) -> Iterator[Instance]:
    """Endless instances of a task, held out or for training; difficulty 0: every one in turn."""
    task = TASKS[name]
    rng = Random(f"{name} {seed} {held_out} {difficulty}")
    levels = (difficulty,) if difficulty else task.difficulties
    while True:
        for level in levels:
            while task.held_out((found := task.make(rng, level)).prompt) != held_out:
                pass
            yield found


def wrong_answers(task: Task, instance: Instance, count: int = CHOICES - 1) -> list[str]:
    """Different answers of the right form that are wrong, the same for the same instance."""
    rng, found = Random(instance.prompt), dict[str, None]()
    while len(found) < count:
        answer = instance.guess(rng)
        if not task.mark(instance, answer).right:
            found[answer] = None
    return list(found)
