"""A training text with things planted in it a known number of times, and the text cleaned.

Canaries (a made-up name and a random number) and people's data stand in documents of their own,
passages of held-out text as paragraphs inside others' documents. Beside them stand labelled tweets,
most of them toxic. The cleaned texts are made by the project's own stages: `deduplicated` by exact
and substring deduplication (data/dedup.py), `scrubbed` by the removal of personal data
(data/pii.py) and the toxicity filter (data/toxicity.py).
"""

import json
import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from data import source, split, store, tokenizer
from data.documents import Document
from data.errors import UserError
from data.files import atomic_dir, hash_bytes
from data.prepare import Prepared
from data.store import Store
from data.tokenizer import Tokenizer

KINDS = ("web", "books", "conversations", "encyclopedia")
TEXTS = ("raw", "deduplicated", "scrubbed")
PASSAGE_WORDS = 70  # more than the 50 that substring deduplication looks for
DIGITS = 6
SYLLABLES = "bra dor fen gil hov jun kel lim mor nex pol quin ras tev ulm vak wex yor zin"
STREETS = ("Orchard Lane", "Mill Road", "Harbour Street", "Chapel Hill", "Station Road")
END = "."  # after a planted line
HELD_OUT = 0.1  # of the documents
UNUSED = 1000  # documents besides, from which passages are taken, and as many others


class Secret(NamedTuple):
    """Something planted: who knows `prompt` tries to have the model write `hidden`."""

    kind: str  # 'canary', 'passage', 'e-mail', 'phone' or 'address'
    times: int
    prompt: str
    hidden: str


class Corpus(NamedTuple):
    """Documents, and what of them is never trained on."""

    documents: list[Document]
    held_out: list[Document]
    unused: list[Document]  # of the rest of the embedded corpus, to take passages from
    fresh: list[Document]  # others of the rest, of which nothing is planted

    def dialogues(self, held_out: bool) -> list[list[str]]:
        """Talks between 'User:' and 'Assistant:', as their turns."""
        some = self.held_out if held_out else self.documents
        return [d.text.split("\n") for d in some if is_dialogue(d)]


def is_dialogue(document: Document) -> bool:
    text = document.text
    return text.startswith("User:") and "\nAssistant:" in text


def corpus(megabytes: float) -> Corpus:
    """A subset of the embedded corpus of about this size, and all of its dialogues besides."""
    documents = [d for d in source.read() if d.kind in KINDS]
    talks = [d for d in documents if is_dialogue(d)]
    others = [d for d in documents if not is_dialogue(d)]
    within = split.cuts(others, megabytes * 1e6)
    chosen = [*split.subset(others, within), *talks]
    unused = [d for d in others if split.draw(d.text).subset >= within[d.kind]]
    cut = int(HELD_OUT * split.SCALE)
    sides: tuple[list[Document], list[Document]] = ([], [])
    for document in chosen:
        sides[split.draw(document.text).split < cut].append(document)
    return Corpus(*sides, unused[:UNUSED], unused[UNUSED : 2 * UNUSED])


def name(rng: random.Random) -> str:
    """A made-up name that no text has: 'Kelfen Morwex'."""
    words = ["".join(rng.choices(SYLLABLES.split(), k=2)).capitalize() for _ in range(2)]
    return " ".join(words)


def number(rng: random.Random) -> str:
    return "".join(rng.choices("0123456789", k=DIGITS))


def canaries(times: Iterable[int], each: int, seed: int) -> list[Secret]:
    """Names with random numbers, `each` for every number of times."""
    rng = random.Random(f"canaries {seed}")
    return [
        Secret("canary", n, f"The locker of {name(rng)} opens with", f" {number(rng)}")
        for n in times
        for _ in range(each)
    ]


def people(times: Iterable[int], each: int, seed: int) -> list[tuple[Secret, ...]]:
    """Made-up people's address, e-mail and phone, in the order in which they stand in a line."""
    rng = random.Random(f"people {seed}")
    found = []
    for n in times:
        for _ in range(each):
            who = name(rng)
            user, host = who.lower().replace(" ", "."), rng.choice(("postbox", "mailhub", "inbox"))
            facts = {
                "address": (",", f" {rng.randint(11, 99)} {rng.choice(STREETS)}"),
                "e-mail": (". E-mail", f" {user}{rng.randint(11, 99)}@{host}.com"),
                "phone": (", phone", f" 555-{rng.randint(200, 999)}-{rng.randint(1000, 9999)}"),
            }
            line, secrets = who, []
            for kind, (cue, hidden) in facts.items():
                line += cue
                secrets.append(Secret(kind, n, line, hidden))
                line += hidden
            found.append(tuple(secrets))
    return found


def passages(unused: list[Document], times: Iterable[int], each: int, seed: int) -> list[Secret]:
    """Passages of PASSAGE_WORDS words, each from a document of its own that is not trained on.

    Raises UserError where there are fewer of them than asked for.
    """
    planted = [n for n in times for _ in range(each)]
    lines = [max(document.text.split("\n"), key=len).split() for document in unused]
    long = [line[:PASSAGE_WORDS] for line in lines if len(line) >= PASSAGE_WORDS]
    if len(long) < len(planted):
        raise UserError(f"passages={each}: there are only {len(long)} for {len(planted)} to plant")
    chosen = random.Random(f"passages {seed}").sample(long, len(planted))
    return [Secret("passage", n, "", " ".join(w)) for n, w in zip(planted, chosen, strict=True)]


def plant(
    documents: list[Document],
    lines: list[tuple[str, int]],
    paragraphs: list[tuple[str, int]],
    seed: int,
) -> list[Document]:
    """The documents with each line as so many documents of its own, each paragraph inside others'.

    All are in an order drawn by the seed.
    """
    rng = random.Random(f"plant {seed}")
    hosts = [i for i, d in enumerate(documents) if not is_dialogue(d)]
    texts = {i: documents[i].text.split("\n") for i in hosts}
    for text, times in paragraphs:
        for i in rng.choices(hosts, k=times):
            texts[i].insert(rng.randint(0, len(texts[i])), text)
    whole = [
        d._replace(text="\n".join(texts[i])) if i in texts else d for i, d in enumerate(documents)
    ]
    own = [Document(text) for text, times in lines for _ in range(times)]
    planted = [d._replace(id=str(i)) for i, d in enumerate([*whole, *own])]
    rng.shuffle(planted)
    return planted


def _word_count(text: str) -> int:
    return len(text.split())


def deduplicated(documents: list[Document]) -> list[Document]:
    """Without what an earlier document says to the letter, nor runs of 50 words of earlier ones."""
    from data.dedup import Find, Remove, Sign
    from data.ledger import Ledger

    kept: Iterator[Any] = iter(_mutable(documents))
    for kind in ("exact", "substring"):
        with tempfile.TemporaryDirectory() as folder:
            pieces, found = Path(folder) / "pieces", Path(folder) / "found"
            held = list(Sign(pieces, kind, 1).run(kept))
            Find(pieces, found).run()
            remove = Remove(found, kind, Ledger(), _word_count, min_words=1)
            kept = iter(list(remove.run(iter(held))))
    return [Document(d.text, d.id) for d in kept]


def scrubbed(documents: list[Document]) -> list[Document]:
    """With placeholders for personal data, and without documents that the toxicity filter drops."""
    from data.pii import Pii
    from data.toxicity import Toxicity

    pii, toxicity = Pii(), Toxicity()
    some = _mutable(documents)
    return [Document(d.text, d.id) for d in some if pii.filter(d) and toxicity.filter(d) is True]


def _mutable(documents: list[Document]) -> list[Any]:
    """As the stages of curation take them."""
    from datatrove.data import Document as Mutable

    return [Mutable(d.text, d.id, metadata={}) for d in documents]


CLEAN: dict[str, Callable[[list[Document]], list[Document]]] = {
    "raw": list,
    "deduplicated": deduplicated,
    "scrubbed": scrubbed,
}


def prepare(
    folder: Path, raw: list[Document], held_out: list[Document], vocab_size: int
) -> dict[str, Prepared]:
    """The token stores of all texts, built where `folder` lacks them; one tokenizer for all."""
    key = hash_bytes(json.dumps([vocab_size, *sorted(d.text for d in raw)]).encode())[:16]
    made = folder / key
    if not made.exists():
        with atomic_dir(made) as building:
            model = tokenizer.train([d.text for d in raw], vocab_size)
            model.save(building / "tokenizer.model")
            store.write(building / "held_out", held_out, model)
            for text, clean in CLEAN.items():
                store.write(building / text, clean(raw), model)
    model = Tokenizer.load(made / "tokenizer.model")
    valid = Store.open(made / "held_out")
    return {text: Prepared(model, Store.open(made / text), valid, {}) for text in TEXTS}
