"""Choose the embedded labelled sets: what the filters are measured on, and benchmarks to keep out.

    python -m data.embed_labels --from=FOLDER

FOLDER holds the collection that they were chosen from. Only permissive licences are taken; the
same folder gives the same bytes. Readers use `labels(name)` and `benchmarks()`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zstandard

from data.errors import Parser, UserError, run
from data.files import write_atomic
from data.source import read_lines

LABELS = Path(__file__).with_name("labels")
Record = dict[str, Any]

PERMISSIVE = (
    "Public domain", "US Government", "CC BY 4.0", "CC0", "MIT", "Apache-2.0", "BSD", "ISC",
)  # fmt: skip
# The languages of the chain's users, by the code that py3langid gives.
LANGUAGES = {
    "eng": "en", "deu": "de", "fra": "fr", "spa": "es", "ita": "it", "por_PT": "pt", "nld": "nl",
    "pol": "pl", "rus": "ru", "ukr": "uk", "ces": "cs", "swe": "sv", "fin": "fi", "hun": "hu",
    "tur": "tr", "ell_monotonic": "el", "arb": "ar", "heb": "he", "hin": "hi", "tha": "th",
    "vie": "vi", "jpn": "ja", "kor": "ko", "cmn_hans": "zh", "cat": "ca", "ron": "ro",
}  # fmt: skip

# name: (file of the collection, licence, origin)
SETS = {
    "toxicity_tweets": (
        "toxicity/davidson_tweets", "MIT (the tweets are their authors')",
        "t-davidson/hate-speech-and-offensive-language, Davidson et al. 2017",
    ),
    "toxicity_hatecheck": (
        "toxicity/hatecheck", "CC-BY-4.0", "paul-rottger/hatecheck-data, Röttger et al. 2021"
    ),
    "toxicity_words": (
        "toxicity/ldnoobw_blocklist", "CC-BY-4.0",
        "LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words, which C4 used",
    ),
    "pii": ("pii/presidio_synthetic", "MIT", "microsoft/presidio-research, synth_dataset_v2"),
    "languages": (
        "langid/udhr_paragraphs", "Public domain", "Universal Declaration of Human Rights, NLTK"
    ),
    "spam": ("quality/sms_spam", "CC-BY-4.0", "UCI SMS Spam Collection"),
    "near_duplicates": (
        "near_duplicates/pairs", "permissive, given in each record",
        "two versions of one text; exact Jaccard of word 5-grams computed",
    ),
}  # fmt: skip
BENCHMARKS = {
    "gsm8k": ("MIT", "openai/grade-school-math test"),
    "humaneval": ("MIT", "openai/human-eval"),
    "openbook_qa": ("Apache-2.0", "mosaicml/llm-foundry"),
    "commonsense_qa": ("MIT", "mosaicml/llm-foundry"),
    "bigbench_strategy_qa": ("Apache-2.0", "mosaicml/llm-foundry, BIG-bench"),
    "copa": ("BSD-2-Clause", "mosaicml/llm-foundry"),
    "svamp": ("MIT", "mosaicml/llm-foundry"),
    "winogrande": ("CC-BY-4.0", "mosaicml/llm-foundry"),
    "lambada_test": ("CC-BY-4.0", "LAMBADA test, OpenAI's preprocessing"),
}


def labels(name: str) -> list[Record]:
    """Return the rows of an embedded labelled set."""
    return _rows(LABELS / f"{name}.jsonl.zst")


def benchmarks() -> dict[str, Path]:
    """Return name to file of the embedded evaluation sets; their rows have one `text` each."""
    return {f.name.removesuffix(".jsonl.zst"): f for f in sorted((LABELS / "eval").glob("*.zst"))}


def _rows(file: Path) -> list[Record]:
    return [json.loads(line) for line in read_lines(file) if line]


def _language_rows(rows: list[Record]) -> list[Record]:
    return [row | {"lang": LANGUAGES[row["lang"]]} for row in rows if row["lang"] in LANGUAGES]


def _near_duplicates(rows: list[Record]) -> list[Record]:
    rows = [row for row in rows if row["licence"].startswith(PERMISSIVE)]
    rows = [row for row in rows if max(len(row["a"]), len(row["b"])) < 6000]
    return sorted(rows, key=lambda row: str(row["id"]))[:150]


CHOICES: dict[str, Callable[[list[Record]], list[Record]]] = {
    "languages": _language_rows,
    "near_duplicates": _near_duplicates,
}


def benchmark_text(row: Record) -> str:
    """Return all that a benchmark's row says, questions before answers, as one text."""
    return "\n".join(_strings({k: v for k, v in row.items() if k not in ("id", "task_id")}))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [s for part in value for s in _strings(part)] if isinstance(value, list) else []


def _write(file: Path, rows: list[Record]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(file, zstandard.ZstdCompressor(level=19).compress(lines.encode()))


def embed(folder: Path) -> list[str]:
    """Write all sets and return the rows of a table of them."""
    table = []
    for name, (path, licence, origin) in SETS.items():
        rows = CHOICES.get(name, list)(_rows(folder / f"{path}.jsonl.zst"))
        _write(LABELS / f"{name}.jsonl.zst", rows)
        table.append(f"| {name} | {len(rows):,} | {licence} | {origin} |")
    for name, (licence, origin) in BENCHMARKS.items():
        rows = _rows(folder / "eval" / f"{name}.jsonl.zst")
        texts = [{"id": str(i), "text": benchmark_text(row)} for i, row in enumerate(rows)]
        _write(LABELS / "eval" / f"{name}.jsonl.zst", texts)
        table.append(f"| eval/{name} | {len(rows):,} | {licence} | {origin} |")
    return table


def main() -> None:
    parser = Parser(
        prog="python -m data.embed_labels",
        description="Choose the embedded labelled sets and benchmarks.",
        epilog="example: python -m data.embed_labels --from=FOLDER",
    )
    parser.add_argument("--from", dest="folder", type=Path, required=True)
    folder = parser.parse_args().folder
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the one with toxicity/, pii/, eval/ ...")
    header = ["| set | rows | licence | origin |", "|---|---:|---|---|"]
    intro = (
        "# Labelled sets\n\nWhat filters are measured on; eval/ is what stays out of training.\n\n"
    )
    write_atomic(LABELS / "SOURCES.md", intro + "\n".join(header + embed(folder)) + "\n")


if __name__ == "__main__":
    run(main)
