"""What tokenizers make of different content: counts, efficiency, speed, and why they differ.

python -m data.tokenizer count bpe:1024 out/tokenizer.model
python -m data.tokenizer compare bpe:8192 unigram:8192 tokenizer.json --out=out/tokens
"""

import base64
import json
import re
import time
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import sentencepiece

from data import prepare, source
from data.documents import Document
from data.errors import UserError, optional
from data.files import write_atomic
from data.tokenizer import MODEL_TYPES, Tokenizer, train

SAMPLE = 200_000  # bytes of each content
LARGEST = 10_000_000  # bytes that are counted of a file
PIECE = 4000  # characters that are encoded at once
# What cl100k_base splits text by; a .tiktoken file holds ranks only.
PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
WORD = re.compile(r"\w+")


class Coder(NamedTuple):
    """A tokenizer of any make: text to ids and, where it can, back."""

    name: str
    encode: Callable[[str], list[int]]
    decode: Callable[[list[int]], str]


class Count(NamedTuple):
    """What a tokenizer makes of a content."""

    tokenizer: str
    content: str
    tokens: int
    characters: int
    words: int  # runs of letters and digits; a Chinese sentence is one
    bytes: int
    exact: bool  # decoding gives the text back
    mb_per_second: float  # encoded, on one core

    @property
    def tokens_per_word(self) -> float:
        return self.tokens / max(1, self.words)

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / max(1, self.tokens)


# Tokenizers -----------------------------------------------------------------------------------


def load(spec: str) -> Coder:
    """Return a tokenizer by what names it.

    'bytes'; 'bpe:SIZE' or 'unigram:SIZE', trained here on the embedded corpus; a SentencePiece
    .model, a Hugging Face tokenizer.json or a .tiktoken file of ranks; 'tiktoken:NAME', for
    which tiktoken must have its file already. UserError where there is none.
    """
    path = Path(spec)
    kind, _, size = spec.partition(":")
    if spec == "bytes":
        return Coder(spec, lambda text: list(_raw(text)), lambda ids: bytes(ids).decode())
    if kind in MODEL_TYPES and size.isdigit():
        texts = prepare.sample((d.text for d in source.read()), prepare.SAMPLE_BYTES)
        ours = train(texts, int(size), kind)
        return Coder(spec, ours.encode, ours.decode)
    if kind == "tiktoken":
        return _named_tiktoken(spec, size)
    if not path.is_file():
        raise UserError(
            f"{spec}: no such tokenizer; give bytes, bpe:SIZE, unigram:SIZE, tiktoken:NAME, or a "
            "file .model, tokenizer.json or .tiktoken"
        )
    if path.suffix == ".json":
        return _hugging_face(path)
    if path.suffix == ".tiktoken":
        return _ranks(path)
    return _sentencepiece(path)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _sentencepiece(path: Path) -> Coder:
    """Return one of ours, or any other SentencePiece model."""
    try:
        ours = Tokenizer.load(path)
        return Coder(path.name, ours.encode, ours.decode)
    except UserError as error:
        if "another layout" not in str(error):
            raise
    other = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    return Coder(path.name, other.encode, other.decode)


def _hugging_face(path: Path) -> Coder:
    tokenizers = optional("tokenizers", "requirements-parity.txt")
    try:
        loaded = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise UserError(f"{path}: not a Hugging Face tokenizer ({error})") from error
    return Coder(
        path.parent.name or path.name,
        lambda text: loaded.encode(text, add_special_tokens=False).ids,
        lambda ids: loaded.decode(ids, skip_special_tokens=False),
    )


def _tiktoken() -> Any:
    try:
        return optional("tiktoken", "requirements-data.txt")
    except UserError as error:
        raise UserError("tiktoken is not installed: pip install tiktoken") from error


def _ranks(path: Path) -> Coder:
    tiktoken = _tiktoken()
    try:
        pairs = (line.split() for line in path.read_bytes().splitlines() if line.strip())
        ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
        loaded = tiktoken.Encoding(
            path.stem, pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={}
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: not a file of tiktoken ranks ({error})") from error
    return Coder(path.stem, loaded.encode_ordinary, loaded.decode)


def _named_tiktoken(spec: str, name: str) -> Coder:
    try:
        loaded = _tiktoken().get_encoding(name)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{spec}: tiktoken has no such encoding here ({type(error).__name__}); it fetches them "
            "when first used: give a .tiktoken file instead"
        ) from error
    return Coder(name, loaded.encode_ordinary, loaded.decode)


# Contents -------------------------------------------------------------------------------------


def contents(files: Iterable[str] = ()) -> dict[str, str]:
    """Return the contents to count over by name: five of the embedded corpus, then `files`."""
    documents = list(source.read())

    def of(chosen: Callable[[Document], bool]) -> str:
        text = "\n".join(islice((d.text for d in documents if chosen(d)), 400))
        return _raw(text)[:SAMPLE].decode("utf-8", "ignore")

    rows = [{"id": d.id, "source": d.source, "licence": d.licence, "url": d.url} for d in documents]
    found = {
        "prose": of(lambda d: d.kind == "books" and "standardebooks" in d.source),
        "technical": of(lambda d: d.kind == "web"),
        "code": of(lambda d: d.kind == "code"),
        "Chinese": of(lambda d: d.kind == "multilingual" and d.lang.startswith("zh")),
        "JSON": json.dumps(rows[::7], indent=1, ensure_ascii=False)[:SAMPLE],
    }
    for name in files:
        try:
            with open(name, "rb") as file:
                found[Path(name).name] = file.read(LARGEST).decode("utf-8", "replace")
        except OSError as error:
            raise UserError(f"{name}: cannot be read ({error.strerror})") from error
    return {name: text for name, text in found.items() if text}


def count(coder: Coder, content: str, text: str) -> Count:
    """Return the counts of a text; it is encoded in pieces cut at spaces, as documents are."""
    pieces = cut(text)
    start = time.process_time()
    ids = [coder.encode(piece) for piece in pieces]
    seconds = max(1e-9, time.process_time() - start)
    exact = all(coder.decode(i) == piece for i, piece in zip(ids, pieces, strict=True))
    size = len(_raw(text))
    tokens = sum(map(len, ids))
    words = len(WORD.findall(text))
    speed = size / 1e6 / seconds
    return Count(coder.name, content, tokens, len(text), words, size, exact, speed)


def cut(text: str) -> list[str]:
    """Return a text in pieces of about PIECE characters that join to it."""
    pieces, start = [], 0
    while start < len(text):
        space = text.find("\n", start + PIECE)
        stop = space + 1 if space >= 0 else len(text)
        pieces.append(text[start:stop])
        start = stop
    return pieces


# What a person reads --------------------------------------------------------------------------


def table(counts: list[Count]) -> str:
    head = (
        f"{'tokenizer':<20} {'content':<14} {'tokens':>9} {'characters':>10} {'words':>8} "
        f"{'tokens/word':>11} {'bytes/token':>11} {'chars/token':>11} {'MB/s':>6}  exact"
    )
    rows = [
        f"{c.tokenizer[:20]:<20} {c.content[:14]:<14} {c.tokens:>9,} {c.characters:>10,} "
        f"{c.words:>8,} {c.tokens_per_word:>11.2f} {c.bytes_per_token:>11.2f} "
        f"{c.characters / max(1, c.tokens):>11.2f} {c.mb_per_second:>6.1f}  "
        f"{'yes' if c.exact else 'no'}"
        for c in counts
    ]
    return "\n".join([head, *rows])


def makeup(text: str) -> dict[str, float]:
    """Return what decides how many tokens a text takes, whatever the tokenizer."""
    words = WORD.findall(text)
    size = max(1, len(text))
    return {
        "bytes/char": len(_raw(text)) / size,
        "letters": sum(map(str.isalpha, text)) / size,
        "digits": sum(map(str.isdigit, text)) / size,
        "spaces": sum(map(str.isspace, text)) / size,
        "marks": sum(not (c.isalnum() or c.isspace()) for c in text) / size,
        "word length": sum(map(len, words)) / max(1, len(words)),
        "distinct words": len(set(words)) / max(1, len(words)),
    }


def reasons(counts: list[Count], texts: dict[str, str]) -> str:
    """Say for each tokenizer which content is the most and least efficient, then what they are."""
    lines = []
    for name in dict.fromkeys(c.tokenizer for c in counts):
        mine = sorted((c for c in counts if c.tokenizer == name), key=lambda c: c.bytes_per_token)
        worst, best = mine[0], mine[-1]
        if best.bytes_per_token < 1.01 * worst.bytes_per_token:
            lines.append(f"{name}: all content alike, {best.bytes_per_token:.2f} bytes a token.")
            continue
        lines.append(
            f"{name}: {best.content} is the most token-efficient, {best.bytes_per_token:.2f} bytes "
            f"a token; {worst.content} the least, {worst.bytes_per_token:.2f}."
        )
    made = {content: makeup(text) for content, text in texts.items()}
    columns = list(next(iter(made.values())))
    lines += ["", f"{'why: content':<20} " + " ".join(f"{c:>14}" for c in columns)]
    for content, values in made.items():
        cells = (
            f"{v:>14.2f}" if c in ("bytes/char", "word length") else f"{v:>14.1%}"
            for c, v in values.items()
        )
        lines.append(f"{content[:20]:<20} " + " ".join(cells))
    lines.append(
        "Long words that recur become one token; marks, digits and indentation break tokens up; "
        "characters of several bytes cost as many tokens where they have no piece of their own."
    )
    return "\n".join(lines)


def plot(counts: list[Count], path: Path) -> None:
    """Write bytes per token by content and tokenizer as a PNG."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    contents = list(dict.fromkeys(c.content for c in counts))
    names = list(dict.fromkeys(c.tokenizer for c in counts))
    figure, axes = plt.subplots(figsize=(1.6 + 1.3 * len(contents), 3.6), layout="constrained")
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        heights = [c.bytes_per_token for c in counts if c.tokenizer == name]
        places = [place + (i - (len(names) - 1) / 2) * width for place in range(len(contents))]
        bars = axes.bar(places, heights, width, label=name)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks(range(len(contents)), contents)
    axes.set_ylabel("UTF-8 bytes per token (more is better)")
    axes.spines[["top", "right"]].set_visible(False)
    columns = min(4, len(names))
    axes.legend(frameon=False, ncols=columns, loc="lower center", bbox_to_anchor=(0.5, 1))
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=150)
    plt.close(figure)
    write_atomic(path, data.getvalue())


def run_counts(specs: list[str], files: list[str], out: str, why: bool) -> None:
    """Print the table of tokenizers over contents; with `out`, write it and the figure there."""
    coders = [load(spec) for spec in specs]
    texts = contents(files)
    counts = [count(coder, name, text) for coder in coders for name, text in texts.items()]
    text = table(counts) + (f"\n\n{reasons(counts, texts)}" if why else "")
    print(text)
    if out:
        folder = Path(out)
        rows = [c._asdict() | {"bytes_per_token": c.bytes_per_token} for c in counts]
        write_atomic(folder / "tokens.json", json.dumps(rows, indent=1) + "\n")
        write_atomic(folder / "tokens.txt", text + "\n")
        plot(counts, folder / "tokens.png")
        print(f"\n{folder / 'tokens.png'}, tokens.txt and tokens.json written")
