"""How fast sources are read and pages extracted, on the embedded crawl, per second of one core.

python -m data.bench_sources
"""

import time
from collections.abc import Callable, Iterable

from data.documents import Document
from data.embed_crawl import OUT
from data.errors import run
from data.html import main_text
from data.readers import read


def rate(documents: list[Document], work: Callable[[], Iterable[object]], rounds: int) -> float:
    """Return the MB of the documents' text per CPU second of `work`, the best of some rounds."""
    size = sum(len(document.text.encode()) for document in documents) / 1e6
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in work():
            pass
        best = min(best, time.process_time() - start)
    return size / best


def main(rounds: int = 3) -> None:
    pages = [page for file in sorted(OUT.glob("*.warc.gz")) for page in read(file)]
    rows = {
        "WARC to documents": lambda: (d for f in sorted(OUT.glob("*.warc.gz")) for d in read(f)),
        "main text of HTML": lambda: (main_text(page.text) for page in pages),
    }
    print(f"{'source':<20} {'MB/s of HTML':>12}")
    for name, work in rows.items():
        print(f"{name:<20} {rate(pages, work, rounds):>12.1f}")


if __name__ == "__main__":
    run(main)
