"""Requests whose answers can be checked, and talks: answered, or merely continued?

A request is put as a talk is written in the training text, 'User: ...' and then 'Assistant:'. The
answer is the first line of what follows. Requests for training and for asking share their
kinds, and no instance: words, lists and phrasings of one side are not on the other.
"""

import random
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data.pairs import Pair
from experiments import asking
from lm.decode import Sampling
from lm.load import Run

ANSWER_TOKENS = 24
TALK_TOKENS = 48
SHOTS = 3
THINGS = {
    "colour": "red blue green yellow black white brown pink orange purple grey",
    "animal": "dog cat horse cow sheep bird fish lion mouse bear duck",
    "day": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "month": "January February March April May June July August October December",
    "number": "one two three four five six seven eight nine ten",
    "fruit": "apple pear plum cherry grape peach lemon fig melon date",
    "drink": "tea coffee milk water juice wine beer cocoa",
    "metal": "iron gold silver copper tin lead zinc",
}
ASKED_SO = {
    False: ("Name a {}.", "Give me a {}.", "Tell me a {}."),
    True: ("Which {} comes to mind?", "I want to hear a {}."),
}
OPPOSITES = (
    "hot cold,big small,up down,left right,day night,yes no,open closed,young old,rich poor,"
    "fast slow,high low,hard soft,long short,light dark,good bad,first last,early late,"
    "full empty,loud quiet,near far,strong weak,wet dry,true false,win lose,love hate,in out"
)
WORDS = (
    "house river table stone garden window letter winter summer morning paper music school market "
    "bridge church doctor engine flower forest island kitchen ladder mirror number ocean picture "
    "pocket prince question ribbon season shadow silver spring street teacher thunder village "
    "water wheel wonder yellow animal butter castle dinner evening farmer finger ground hammer"
)


class Ask(NamedTuple):
    """A request, an answer that would do, and what any answer has to pass."""

    kind: str
    text: str
    answer: str
    passes: Callable[[str], bool]


def words_of(answer: str) -> list[str]:
    return re.findall(r"[\w']+", answer)


def exactly(expected: str) -> Callable[[str], bool]:
    """Whether an answer is these words, whatever stands around them."""
    return lambda answer: words_of(answer) == words_of(expected)


def among(choices: Sequence[str], count: int = 1) -> Callable[[str], bool]:
    """Whether an answer has so many different words of a list, and at most as many others."""
    known = {c.lower() for c in choices}

    def passes(answer: str) -> bool:
        said = [w.lower() for w in words_of(answer)]
        return len(known & set(said)) == count and len(said) <= 2 * count

    return passes


def asks(held_out: bool, each: int, seed: int) -> list[Ask]:
    """`each` requests of every kind, for asking (`held_out`) or for training."""
    rng = random.Random(f"requests {held_out} {seed}")
    words, half = WORDS.split(), len(WORDS.split()) // 2
    words = words[half:] if held_out else words[:half]
    things = {name: members.split() for name, members in THINGS.items()}
    opposites = [pair.split() for pair in OPPOSITES.split(",")]
    opposites = opposites[18:] if held_out else opposites[:18]
    found = []
    for _ in range(each):
        thing, other = rng.sample(list(things), 2)
        word, *more = rng.sample(words, rng.randint(2, 5))
        first, second = rng.sample(rng.choice(opposites), 2)
        phrase = rng.choice(ASKED_SO[held_out])
        pick = rng.choice(things[thing])
        two = rng.sample(things[other], 2)
        said = rng.choice(things[other])
        yes = rng.random() < 0.5
        listed = [word, *more]
        found += [
            Ask("repeat a word", f"Say {word}.", f"{word}.", exactly(word)),
            Ask("name a thing", phrase.format(thing), f"{pick}.", among(things[thing])),
            Ask(
                "name two things",
                f"Name two of these: {other}.",
                f"{two[0]} and {two[1]}.",
                among(things[other], 2),
            ),
            Ask(
                "yes or no",
                f"Is {pick if yes else said} a {thing}? Yes or no.",
                "Yes." if yes else "No.",
                among(("yes", "no")),
            ),
            Ask(
                "in capitals",
                f"Write {word} in capitals.",
                f"{word.upper()}.",
                exactly(word.upper()),
            ),
            Ask(
                "count words",
                f"How many words: {' '.join(listed)}?",
                f"{len(listed)}.",
                exactly(str(len(listed))),
            ),
            Ask("opposite", f"What is the opposite of {first}?", f"{second}.", exactly(second)),
        ]
    return found


def prompt(ask: Ask, shots: Sequence[Ask] = ()) -> str:
    """A request as a talk, after others with their answers."""
    before = "".join(f"User: {s.text}\nAssistant: {s.answer}\n" for s in shots)
    return f"{before}User: {ask.text}\nAssistant:"


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def answered(run: Run, some: Sequence[Ask], shots: int = 0, seed: int = 0) -> list[bool]:
    """Whether each request's likeliest answer passes; `shots` others of its kind stand before it.

    As many of them are left out as do not fit into what the model can read.
    """
    rng = random.Random(f"shots {seed}")
    examples = asks(held_out=False, each=SHOTS * 8, seed=seed + 1)
    prompts = []
    for ask in some:
        same = [e for e in examples if e.kind == ask.kind]
        given = rng.sample(same, shots)
        while given and not fits(run, prompt(ask, given), ANSWER_TOKENS):
            given.pop()
        prompts.append(prompt(ask, given))
    texts = asking.texts(run, prompts, ANSWER_TOKENS)
    return [ask.passes(first_line(t)) for ask, t in zip(some, texts, strict=True)]


def fits(run: Run, text: str, new: int) -> bool:
    return 1 + len(run.tokenizer.encode(text)) + new <= run.longest


class Talk(NamedTuple):
    """How a model went on after another's turn."""

    other_side: bool  # it wrote the other side's turn too
    ended: bool  # it wrote end-of-text by itself


def openings(talks: Sequence[Sequence[str]], run: Run) -> list[str]:
    """First turns of talks, up to where the assistant is to speak."""
    found = [f"{turns[0]}\nAssistant:" for turns in talks]
    return [text for text in dict.fromkeys(found) if fits(run, text, TALK_TOKENS)]


def talk(run: Run, prompts: Sequence[str], seed: int = 0) -> list[Talk]:
    """What a model makes of its turn, sampled at temperature 0.8."""
    written = asking.write(run, prompts, TALK_TOKENS, Sampling(temperature=0.8), seed)
    found = []
    for ids in written:
        text = run.tokenizer.decode(ids)
        found.append(Talk("\nUser:" in text, ids[-1] == run.tokenizer.eot))
    return found


def training_pairs(talks: Sequence[Sequence[str]], each: int, seed: int) -> list[Pair]:
    """Pairs to fine-tune on: `each` requests of every kind, and the first answers of talks."""
    pairs = [Pair(prompt(a), f" {a.answer}") for a in asks(held_out=False, each=each, seed=seed)]
    for turns in talks:
        if len(turns) > 1 and turns[1].startswith("Assistant: "):
            pairs.append(Pair(f"{turns[0]}\nAssistant:", turns[1].removeprefix("Assistant:")))
    return list(dict.fromkeys(pairs))
