"""SentencePiece with one layout of ids for all objectives, and an exact round trip.

Ids: pad 0, end-of-text 1, unknown 2, then CLS, SEP, MASK and the sentinels (control symbols,
which no text can produce), then the 256 bytes, then the pieces. Text is not normalised; what has
no piece becomes bytes, newline among it. So every Python string round-trips, lone surrogates
(three bytes each, as in 'surrogatepass') and U+2581, SentencePiece's own mark for a space,
included: those two kinds of character go around the library.

    python -m data.tokenizer train --path=FOLDER --vocab=4096 --out=out/tokenizer.model
    python -m data.tokenizer count out/tokenizer.model --file=README.md
    python -m data.tokenizer compare bpe:4096 bytes --out=out/tokens
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
import sentencepiece

from data.errors import Parser, UserError, run
from data.files import PathLike, hash_bytes, write_atomic

PAD, EOT, UNK, CLS, SEP, MASK = range(6)
FIRST_SENTINEL = 6
MODEL_TYPES = ("bpe", "unigram")
SMALL_VOCAB = 8192  # below this 16 sentinels do, else there are 100
MAX_LINE = 4096  # bytes; SentencePiece drops longer training lines, so they are cut
SPACE = "\u2581"
# Characters that SentencePiece keeps for itself, and text that has no UTF-8.
AROUND = re.compile("[\u2581\ud800-\udfff]+")
RESERVED = re.compile("[\0\u2581\u2585\ud800-\udfff]+")
# What no piece spans: a word with the spaces before it, and newlines. BPE joins neighbours only, so
# it makes the same of a word wherever that stands.
WORD = re.compile(r"\n+| *[^ \n]+| +")
CACHED_WORDS = 1 << 18  # that a tokenizer remembers at most ...
LONG_WORD = 40  # ... none longer (characters): they hardly recur


def sentinel_count(vocab_size: int) -> int:
    return 16 if vocab_size < SMALL_VOCAB else 100


def smallest_vocab(vocab_size: int) -> int:
    """Return the number of ids that are not pieces: control symbols and bytes."""
    return FIRST_SENTINEL + sentinel_count(vocab_size) + 256


class Words(dict[str, tuple[int, ...]]):
    """The ids of words, each encoded when it is first looked up."""

    def __init__(self, encode: Callable[[str], list[int]]):
        super().__init__()
        self.encode = encode

    def __missing__(self, word: str) -> tuple[int, ...]:
        ids = tuple(self.encode(word))
        if len(word) <= LONG_WORD:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


class Tokenizer:
    """A trained SentencePiece model.

    Attributes: `vocab_size`; ids `pad, eot, unk, cls, sep, mask`; `sentinels` (a range);
    `byte_lengths`, int64 [vocab_size], the UTF-8 bytes that an id stands for (0 for control
    symbols); `hash`, the SHA-256 of the model.
    """

    pad, eot, unk, cls, sep, mask = PAD, EOT, UNK, CLS, SEP, MASK

    def __init__(self, model: bytes):
        self.model = model
        self.hash = hash_bytes(model)
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise UserError(f"not a SentencePiece model ({error})") from error
        self.vocab_size: int = self._processor.get_piece_size()
        self.sentinels = range(FIRST_SENTINEL, FIRST_SENTINEL + sentinel_count(self.vocab_size))
        self.first_byte = self.sentinels.stop
        self._words = Words(self._processor.encode)
        piece = self._processor.id_to_piece
        if self.vocab_size < self.first_byte + 256 or piece(self.first_byte) != "<0x00>":
            raise UserError("a SentencePiece model with another layout of ids; train it here")

    @classmethod
    def load(cls, path: PathLike) -> "Tokenizer":
        try:
            return cls(Path(path).read_bytes())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except UserError as error:
            raise UserError(f"{path}: {error}") from error

    def save(self, path: PathLike) -> None:
        write_atomic(path, self.model)

    @cached_property
    def pieces(self) -> list[bytes]:
        """The bytes that each id stands for; empty for control symbols."""
        first = self.first_byte
        names = map(self._processor.id_to_piece, range(first + 256, self.vocab_size))
        return (
            [b""] * first
            + [bytes([byte]) for byte in range(256)]
            + [name.replace(SPACE, " ").encode() for name in names]
        )

    @cached_property
    def names(self) -> list[str]:
        """What SentencePiece calls each id: '<pad>', '<0x0A>', '\u2581the'."""
        return [self._processor.id_to_piece(i) for i in range(self.vocab_size)]

    @cached_property
    def scores(self) -> np.ndarray:
        """SentencePiece's score of each id: of BPE the negative rank, of unigram a logarithm."""
        return np.array([self._processor.get_score(i) for i in range(self.vocab_size)], np.float64)

    @cached_property
    def _by_words(self) -> bool:
        """Whether words can be encoded one by one: scores of BPE are whole numbers, the ranks."""
        first = self.first_byte + 256
        ranked = bool((self.scores[first:] == -np.arange(self.vocab_size - first)).all())
        words = (WORD.fullmatch(piece.decode()) for piece in self.pieces[first:])
        return ranked and all(words)

    @cached_property
    def byte_lengths(self) -> np.ndarray:
        return np.array([len(piece) for piece in self.pieces], np.int64)

    def encode(self, text: str) -> list[int]:
        """Return the ids of any string; no control symbol is ever among them."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each string, as `encode` does."""
        usual = [AROUND.sub("\n", text) for text in texts]
        if self._by_words:
            known = self._words.__getitem__
            ids = [list(chain.from_iterable(map(known, WORD.findall(text)))) for text in usual]
        else:
            ids = self._processor.encode(usual, num_threads=1)
        for row, text in enumerate(texts):
            if AROUND.search(text):
                ids[row] = self._encode_around(text)
        return ids

    def _encode_around(self, text: str) -> list[int]:
        """Encode what SentencePiece would change as bytes, the rest between it as usual."""
        ids, start = [], 0
        for match in AROUND.finditer(text):
            ids += self._processor.encode(text[start : match.start()])
            raw = match.group().encode("utf-8", "surrogatepass")
            ids += [self.first_byte + byte for byte in raw]
            start = match.end()
        return ids + self._processor.encode(text[start:])

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of any ids: control symbols give none, broken UTF-8 gives U+FFFD."""
        pieces = self.pieces
        raw = b"".join([pieces[i] for i in ids])
        try:
            return raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")


def train(texts: Iterable[str], vocab_size: int, model_type: str = "bpe") -> Tokenizer:
    """Train a tokenizer of exactly `vocab_size` ids; the same texts give the same model.

    Texts are read line by line and held in memory. UserError where the vocabulary cannot be
    had: too small for the control symbols and bytes, or larger than the text has pieces.
    """
    if model_type not in MODEL_TYPES:
        raise UserError(f'data.model_type is "{model_type}", not {" or ".join(MODEL_TYPES)}')
    fixed = smallest_vocab(vocab_size)
    if vocab_size <= fixed + 16:
        raise UserError(
            f"data.vocab_size={vocab_size} is too small: control symbols and bytes take {fixed} "
            "ids, and pieces need at least 17 more"
        )
    texts = list(texts)
    pieces = vocab_size - fixed
    common = _common_characters(texts, min(pieces // 2, max(64, pieces // 6)))
    if not common:
        raise UserError("no text to train a tokenizer on: only blank lines")
    lines = [line for text in texts for line in _training_lines(text, common)]
    model = io.BytesIO()
    sentinels = [f"<extra_id_{i}>" for i in range(sentinel_count(vocab_size))]
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type=model_type,
            vocab_size=vocab_size,
            pad_id=PAD,
            eos_id=EOT,
            unk_id=UNK,
            bos_id=-1,
            pad_piece="<pad>",
            eos_piece="<eot>",
            control_symbols=["<cls>", "<sep>", "<mask>", *sentinels],
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            allow_whitespace_only_pieces=True,
            character_coverage=1.0,  # of what _training_lines leaves
            max_sentence_length=MAX_LINE + 4,
            num_threads=1,  # more threads may sum in another order, and give another model
            minloglevel=2,
        )
    except RuntimeError as error:
        most = re.search(r"value <= (\d+)", str(error))
        if not most:
            raise
        raise UserError(
            f"data.vocab_size={vocab_size} is too large: {len(lines):,} lines of training text "
            f"give at most {most[1]} ids; use more text or a smaller vocabulary"
        ) from error
    return Tokenizer(model.getvalue())


def _common_characters(texts: list[str], count: int) -> str:
    """Return the most frequent characters, which get pieces; the rest are spelt in bytes.

    Else a little Chinese would fill a small vocabulary: with a sixth of the pieces for characters
    the embedded corpus has 2.11 bytes a token at 1024 ids, with an eighth or a quarter 2.09.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    usable = ((c, n) for c, n in counts.items() if c != "\n" and not RESERVED.match(c))
    return "".join(c for c, _ in sorted(usable, key=lambda item: (-item[1], item[0]))[:count])


def _training_lines(text: str, common: str) -> Iterator[str]:
    """Yield the runs of common characters, at most MAX_LINE bytes each, cut at spaces if possible.

    SentencePiece sees neither rare characters (its own option covers no less than 98%) nor
    newlines: both end a line.
    """
    for match in re.finditer(f"[{re.escape(common)}]+", text):
        line = match.group()
        while len(line) > MAX_LINE // 4 and len(line.encode()) > MAX_LINE:
            cut = line.rfind(" ", 1, MAX_LINE // 4)
            cut = cut if cut > 0 else MAX_LINE // 4
            yield line[:cut]
            line = line[cut:]
        yield line


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="python -m data.tokenizer", description="Train tokenizers, as runs do, and study them."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "train",
        help="train on the training split of a text",
        epilog="example: python -m data.tokenizer train --vocab=4096 --out=out/tokenizer.model",
    )
    command.add_argument(
        "--path", default="", help="file, folder or tfds:NAME; '': embedded corpus"
    )
    command.add_argument("--vocab", type=int, default=1024, help="ids in all (%(default)s)")
    command.add_argument("--model-type", default="bpe", choices=MODEL_TYPES, help="(%(default)s)")
    command.add_argument("--valid-share", type=float, default=0.025, help="left out (%(default)s)")
    command.add_argument("--out", required=True, help="the SentencePiece model to write")
    for name, does, example in (
        ("count", "count what tokenizers make of different content", "count bpe:1024"),
        ("compare", "the same with a figure, and why", "compare bpe:4096 bytes --out=out/tokens"),
    ):
        command = commands.add_parser(
            name, help=does, epilog=f"example: python -m data.tokenizer {example}"
        )
        command.add_argument(
            "tokenizers",
            nargs="+",
            help="bytes, bpe:SIZE, unigram:SIZE (trained on the embedded corpus), tiktoken:NAME, "
            "or a file: .model, tokenizer.json, .tiktoken",
        )
        command.add_argument("--file", action="append", default=[], help="count over this text too")
        command.add_argument("--out", default="", help="folder for the table, JSON and figure")
    options = parser.parse_args(argv)
    if options.command != "train":
        from data import token_lab

        why = options.command == "compare"
        token_lab.run_counts(options.tokenizers, options.file, options.out, why)
        return

    from data import prepare, source, split  # prepare imports this module

    cut = split.validation_cuts(source.read(options.path), options.valid_share)
    documents = (d for d in source.read(options.path) if not split.is_validation(d, cut))
    texts = prepare.sample((d.text for d in documents), prepare.SAMPLE_BYTES)
    tokenizer = train(texts, options.vocab, options.model_type)
    tokenizer.save(options.out)
    tokens = sum(map(len, tokenizer.encode_batch(texts)))
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)
    print(f"{options.out}: {tokenizer.vocab_size:,} ids, {size / tokens:.2f} bytes per token")


if __name__ == "__main__":
    run(main)
