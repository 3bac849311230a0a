"""How fast text is tokenized, per second of one core: ours, and SentencePiece called directly.

    python -m data.bench_tokenizer

The text is the embedded corpus, whole. Each round starts with an empty cache of words.
"""

from data import source
from data.bench_sources import rate
from data.curation import TOKENIZER
from data.errors import Parser, run
from data.prepare import SAMPLE_BYTES, sample
from data.tokenizer import AROUND, Tokenizer, train

SIZES = (1024, 8192)


def measure(limit: int | None = None, rounds: int = 3) -> None:
    """Print the table: `limit` documents, the median of `rounds`."""
    documents = [document for document in source.read()][:limit]
    texts = [document.text for document in documents]
    trained = {f"BPE, {n:,} ids": train(sample(texts, SAMPLE_BYTES), n) for n in SIZES}
    models = {name: tokenizer.model for name, tokenizer in trained.items()}
    models["unigram, 8,192 ids"] = TOKENIZER.read_bytes()
    print(f"{'tokenizer':<20} {'ours, MB/s':>12} {'SentencePiece':>14}")
    for name, model in models.items():

        def ours(model: bytes = model) -> list[list[int]]:
            return Tokenizer(model).encode_batch(texts)

        def library(model: bytes = model) -> list[list[int]]:
            encode = Tokenizer(model)._processor.encode
            return [encode(AROUND.sub("\n", text)) for text in texts]

        speeds = rate(documents, ours, rounds), rate(documents, library, rounds)
        print(f"{name:<20} {speeds[0]:>12.1f} {speeds[1]:>14.1f}")


def main() -> None:
    parser = Parser(prog="python -m data.bench_tokenizer", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="medians of this many (%(default)s)")
    measure(rounds=parser.parse_args().rounds)


if __name__ == "__main__":
    run(main)
