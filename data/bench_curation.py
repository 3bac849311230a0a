"""How fast and in how much memory curation runs, against datatrove as it comes.

    python -m data.bench_curation                 the filter chain and MinHash, per core
    python -m data.bench_curation --memory        resident memory on 10 MB, 100 MB and 1 GB

Speeds are per second of CPU time of one process, so other work on the machine moves them little.
"""

import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import zstandard
from datatrove.data import Document
from datatrove.pipeline.dedup import minhash
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
from datatrove.utils.logging import logger
from datatrove.utils.text import split_into_parts

from data import source
from data.errors import Parser, run
from data.heuristics import C4, FineWeb, GopherQuality, GopherRepetition
from data.minhash import Cluster, RensaSignature, minhash_config
from data.pii import Pii
from data.stages import FixText

PROSE = ("web", "books", "papers", "conversations", "encyclopedia")
RULES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "Gopher repetition": (GopherRepetitionFilter, GopherRepetition),
    "Gopher quality": (GopherQualityFilter, GopherQuality),
    "C4": (C4QualityFilter, C4),
    "FineWeb": (FineWebQualityFilter, FineWeb),
}
Chain = Sequence[Callable[[Document], bool]]


def texts(kinds: Sequence[str], count: int) -> list[str]:
    """Return documents of the embedded corpus, spread evenly over the kinds."""
    found = [d.text for d in source.read() if d.kind in kinds and len(d.text) < 20_000]
    return found[:: max(1, len(found) // count)][:count]


def megabytes(some: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in some) / 1e6


def step(rule: Any) -> Callable[[Document], bool]:
    """Return a rule as a function that tells whether a document stays."""

    def apply(document: Document) -> bool:
        verdict = rule.filter(document)
        return verdict[0] if isinstance(verdict, tuple) else verdict

    return apply


def formatting(formatter: Any) -> Callable[[Document], bool]:
    """Return a formatter of datatrove's as such a function."""

    def apply(document: Document) -> bool:
        document.text = formatter.format(document.text)
        return True

    return apply


def stock_chain() -> Chain:
    """datatrove's blocks as they come. Its URL filter is left out: it needs 0.9 GB of lists."""
    rules = [step(theirs()) for theirs, _ in RULES.values()]
    return [*rules, formatting(FTFYFormatter()), formatting(PIIFormatter())]


def our_chain() -> Chain:
    return [step(rule) for rule in (*(ours() for _, ours in RULES.values()), FixText(), Pii())]


def speed(chain: Chain, some: Sequence[str]) -> tuple[float, list[bool]]:
    """Return MB/s a CPU second and which texts were kept."""
    split_into_parts.cache_clear()  # datatrove's cache of words
    start, kept = time.process_time(), []
    for text in some:
        document = Document(text, "")
        kept.append(all(part(document) for part in chain))
    return megabytes(some) / (time.process_time() - start), kept


def compare_chains(count: int) -> None:
    prose = texts(PROSE, count)
    stock, ours = stock_chain(), our_chain()
    for chain in (stock, ours):  # a first text pays for imports and compiled expressions
        for part in chain:
            part(Document("Café. The cat that sat on it has to call (555) 123-4567.\n" * 9, ""))
    theirs, kept_by_them = speed(stock, prose)
    mine, kept_by_us = speed(ours, prose)
    print(f"filter chain, {len(prose):,} prose documents, {megabytes(prose):.1f} MB, MB/s a core")
    print(f"  datatrove {theirs:.2f}   ours {mine:.2f}   ratio {mine / theirs:.1f}")
    same = sum(a == b for a, b in zip(kept_by_them, kept_by_us, strict=True)) / len(prose)
    print(f"  same documents kept: {same:.1%} ({sum(kept_by_us)} of {len(prose)})")


def compare_rules(count: int) -> None:
    print(
        f"\n{'decisions that agree':<22}{'prose':>10}{'code':>10}{'datatrove MB/s':>18}{'ours':>8}"
    )
    prose, code = texts(PROSE, count), texts(("code",), count)
    for name, (stock, ours) in RULES.items():
        shares = []
        for some in (prose, code):
            theirs, kept_by_them = speed([step(stock())], some)
            mine, kept_by_us = speed([step(ours())], some)
            same = [a == b for a, b in zip(kept_by_them, kept_by_us, strict=True)]
            shares.append((sum(same) / len(same), theirs, mine))
        (a, theirs, mine), (b, _, _) = shares
        print(f"{name:<22}{a:>10.1%}{b:>10.1%}{theirs:>18.2f}{mine:>8.2f}")


def four_stages(
    signature: Any, cluster: Any, some: Sequence[str], folder: Path, config: Any
) -> float:
    """Run MinHash end to end on one task and return MB/s a CPU second."""
    bands = config.num_buckets
    start = time.process_time()
    signature.run((Document(text, str(i)) for i, text in enumerate(some)), 0, 1)
    for band in range(bands):
        match = minhash.MinhashDedupBuckets(
            str(folder / "signed"), str(folder / "matches"), config=config, lines_to_buffer=5000
        )
        match.run(None, band, bands)
    cluster.run(None)
    keep = minhash.MinhashDedupFilter(str(folder / "clusters"))
    list(keep.run((Document(text, "") for text in some), 0, 1))
    return megabytes(some) / (time.process_time() - start)


def compare_minhash(count: int) -> None:
    print("\nMinHash end to end, MB/s a core")
    for bands, rows in ((14, 8), (20, 6)):
        with tempfile.TemporaryDirectory() as name:
            config, folder = minhash_config(bands, rows), Path(name) / "stock"
            signature = minhash.MinhashDedupSignature(str(folder / "signed"), config)
            cluster = minhash.MinhashDedupCluster(
                str(folder / "matches"), str(folder / "clusters"), config=config
            )
            few = texts(PROSE, count // 10)
            theirs = four_stages(signature, cluster, few, folder, config)
            folder = Path(name) / "ours"
            ours = RensaSignature(folder / "signed", bands, rows)
            cluster = Cluster(folder / "matches", folder / "clusters")
            mine = four_stages(ours, cluster, texts(PROSE, count), folder, config)
            print(f"  {bands} bands of {rows}: datatrove {theirs:.2f}   ours {mine:.2f}")


# Memory ---------------------------------------------------------------------------------------


def made_up(folder: Path, size: float, files: int = 8) -> None:
    """Write about `size` bytes of the corpus repeated with changes, as .jsonl.zst."""
    originals = texts(PROSE, 3000)
    rng = random.Random(0)

    def lines() -> Iterator[bytes]:
        while True:
            words = rng.choice(originals).split(" ")
            for _ in range(1 + len(words) // 8):
                words[rng.randrange(len(words))] = f"w{rng.getrandbits(30):x}"
            yield json.dumps({"text": " ".join(words), "id": f"{rng.getrandbits(60):x}"}).encode()

    source_lines = lines()
    folder.mkdir(parents=True)
    for i in range(files):
        written = 0
        with (
            open(folder / f"{i}.jsonl.zst", "wb") as file,
            zstandard.ZstdCompressor(1).stream_writer(file) as out,
        ):
            while written < size / files:
                line = next(source_lines)
                out.write(line + b"\n")
                written += len(line)


def memory(sizes: Sequence[float], stages: Sequence[str]) -> None:
    """Run the chain on growing inputs; print time and the largest process's resident memory."""
    print(
        f"{'input':>10}{'CPU s':>8}{'wall s':>8}{'MB/s a core':>13}  largest process, and its phase"
    )
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            made_up(Path(name) / "in", size)
            wall = time.time()
            command = [
                *(sys.executable, "-m", "data.curate", "--config=configs/curate.py:web"),
                *(f"--out={name}/out", f"--config.path={name}/in"),
                *([f"--config.stages={tuple(stages)}"] if stages else []),
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            files = (Path(name) / "out" / "work" / "logs").glob("*/usage/*.json")
            usage = [(file.parts[-3], json.loads(file.read_text())) for file in files]
            used = sum(task["cpu_s"] for _, task in usage)
            largest, phase = max((task["peak_mb"], phase) for phase, task in usage)
            print(
                f"{size / 1e6:>7.0f} MB{used:>8.0f}{time.time() - wall:>8.0f}"
                f"{size / 1e6 / used:>13.2f}  {largest:,.0f} MB in {phase}",
                flush=True,
            )


def main() -> None:
    parser = Parser(
        prog="python -m data.bench_curation",
        description="Measure curation against datatrove as it comes.",
        epilog="example: python -m data.bench_curation --documents=300",
    )
    parser.add_argument("--documents", type=int, default=400, help="default: %(default)s")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e7, 1e8, 1e9], help="bytes")
    parser.add_argument("--stages", nargs="+", default=[], help="of the chain; default: all")
    options = parser.parse_args()
    if options.memory:
        memory(options.sizes, options.stages)
        return
    logger.remove()  # datatrove's
    if importlib.util.find_spec("spacy") is None:
        print(
            "spaCy, datatrove's tokenizer, is not installed: pip install -r requirements-data.txt"
        )
        return
    compare_chains(options.documents)
    compare_rules(options.documents)
    compare_minhash(10 * options.documents)


if __name__ == "__main__":
    run(main)
