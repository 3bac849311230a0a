"""Make the embedded messy crawl: real and made pages in WARC files, with what is true of each.

    python -m data.embed_crawl --raw=rawweb --text=corpus/train

RAW holds WARC files of openly licensed pages and their manifest; of these the permissively
licensed are taken as they are. TEXT holds *.jsonl.zst records, as `data.embed_corpus` reads; of
its web texts those that the embedded corpus lacks become pages of made-up sites. Some are
repeated, edited, cut short or given planted personal data, and spam, listings and failed
requests are mixed in (`data.mess`). The same folders give the same bytes.
"""

import gzip
import hashlib
import json
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from data import mess, source, warc
from data.embed_corpus import records, size
from data.errors import Parser, UserError, run
from data.files import human_bytes, write_atomic
from data.source import read_lines

OUT = Path(__file__).with_name("crawl")
SHARDS = 4
TEXT = 3_200_000  # bytes of text of the made sites, before repeats
LIMIT = 6_000_000  # bytes of all files
# Sources in TEXT -> the host that shows them.
SITES = {
    "GSA/digitalgov.gov": "digital.example",
    "18F/18f.gsa.gov": "eighteen.example",
    "carpentries/carpentries.org": "lessons.example",
    "rust-lang/blog.rust-lang.org": "compiler.example",
    "golang/website": "gopher.example",
    "alphagov/govuk-developer-docs": "runbook.example",
    "JuliaLang/www.julialang.org": "numeric.example",
}
PERMISSIVE = ("Apache-2.0", "Public domain", "CC0-1.0")  # licences in RAW that are taken
GOV = "real/data.gov.uk-BL-20140325121225.warc.gz"  # Open Government Licence v3.0
GOLD = 250  # made articles whose main text is written down
HTML = (("Content-Type", "text/html; charset=utf-8"),)


class Page(NamedTuple):
    """An HTTP response and what is true of it."""

    url: str
    body: bytes
    truth: dict[str, Any]
    status: str = "200 OK"
    headers: warc.Headers = HTML


def real_pages(folder: Path) -> Iterator[Page]:
    """Yield the permissively licensed pages of a folder of WARC files, bytes unchanged."""
    manifest = _by_url(folder / "open-00000.manifest.jsonl.zst")
    gold = _by_url(folder / "open-00000.gold_main_text.jsonl.zst")
    gov = {"role": "real", "source": "data.gov.uk", "licence": "OGL-UK-3.0"}
    for name in ("open-00000.warc.gz", GOV):
        for record in warc.records(folder / name):
            if record.status is None or (name == GOV and record.media_type != "text/html"):
                continue
            if name == GOV and ("data.gov.uk" not in record.url or record.status[0] != "2"):
                continue
            known = gov if name == GOV else manifest[record.url]
            if name != GOV and known["licence"] not in PERMISSIVE:
                continue
            fields = ("role", "source", "licence", "dup_of", "jaccard5")
            truth = {key: known[key] for key in fields if known.get(key) is not None}
            if record.url in gold:
                truth["main_text"] = gold[record.url]["text"]
            kept = ("content-type", "location")
            headers = tuple(pair for pair in record.http_headers if pair[0].lower() in kept)
            yield Page(record.url, record.payload, truth, record.status, headers)


def _by_url(file: Path) -> dict[str, dict[str, Any]]:
    return {row["url"]: row for row in map(json.loads, read_lines(file))}


def articles(folder: Path) -> list[dict[str, Any]]:
    """Return the web texts that the embedded corpus lacks, evenly over SITES, in a fixed order."""
    have = {document.text for document in source.read()}
    sites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records(folder):
        if record["source"] in SITES and record["text"] not in have and size(record) < 40_000:
            sites[record["source"]].append(record)
    chosen = []
    for name in SITES:
        taken = 0
        for record in sorted(sites[name], key=lambda r: hashlib.sha256(r["id"].encode()).digest()):
            if (taken := taken + size(record)) > TEXT / len(SITES):
                break
            chosen.append(record)
    return chosen


def title_of(record: dict[str, Any]) -> str:
    return record["text"].split("\n", 1)[0].strip("# ")[:80] or record["id"]


def made_pages(chosen: list[dict[str, Any]]) -> Iterator[Page]:
    """Yield the pages of the made sites and what crawls have beside them."""
    rng = random.Random(0)
    words = sorted({w for r in chosen[::7] for w in r["text"].split() if w.isalpha()})
    titles = [title_of(record) for record in chosen]
    for number, record in enumerate(chosen):
        host = SITES[record["source"]]
        url = f"https://{host}/{number}.html"
        text = record["text"]
        truth = {"role": "article", "source": record["source"], "licence": record["licence"]}
        if number % 11 == 0:
            text, planted = mess.with_personal(rng, text)
            truth["personal"] = [list(piece) for piece in planted]
        if number % max(1, len(chosen) // GOLD) == 0:
            truth["main_text"] = text
        body = mess.markup(text)

        def whole(body: str, site: str = host, look: int = number, n: int = number) -> bytes:
            others = random.Random(n).sample(titles, 8)
            licence = chosen[n]["licence"]
            return mess.page(site, titles[n], body, others, licence, look).encode()

        yield Page(url, whole(body), truth)
        copy = {key: value for key, value in truth.items() if key != "main_text"} | {"dup_of": url}
        if number % 12 == 1:
            for mirror in range(2 ** rng.randint(0, 3)):  # few passages are repeated often
                again = copy | {"role": "exact_duplicate"}
                yield Page(f"https://mirror{mirror}.{host}/{number}.html", whole(body), again)
        if number % 12 == 5:
            site = rng.choice(list(SITES.values()))
            again = copy | {"role": "same_text_other_url"}
            yield Page(f"https://{site}/repost/{number}", whole(body, site, number + 1), again)
        if number % 12 == 9:
            share = rng.choice([0.005, 0.01, 0.02, 0.05])
            text = mess.edited(rng, text, words, share)
            again = copy | {"role": "near_duplicate", "edited_share": share}
            yield Page(f"https://{host}/v2/{number}.html", whole(mess.markup(text)), again)
        if number % 40 == 3:
            cut = whole(body)[: rng.randint(300, 2000)]
            yield Page(f"https://{host}/cut/{number}", cut, copy | {"role": "truncated_html"})
        if number % 40 == 7:
            latin = whole(body).decode().replace('<meta charset="utf-8">', "")
            headers = rng.choice([(("Content-Type", "text/html"),), HTML])
            again = copy | {"role": "exact_duplicate", "charset": "cp1252"}
            body_bytes = latin.encode("cp1252", "xmlcharrefreplace")
            yield Page(f"https://{host}/old/{number}", body_bytes, again, headers=headers)
    yield from _rubbish(rng, words, titles)


def _rubbish(rng: random.Random, words: list[str], titles: list[str]) -> Iterator[Page]:
    """Yield what no model should learn from: spam, listings, failures, other media."""

    def plain(url: str, role: str, body: str, *rest: Any) -> Page:
        truth = {"role": role, "source": "made", "licence": "CC0-1.0"}
        return Page(url, body.encode(), truth, *rest)

    for number in range(80):
        site = f"shop{number % 9}.example"
        text = mess.markup(mess.spam(rng, words))
        page = mess.page(site, "Best offers", text, rng.sample(titles, 4), "", number)
        yield plain(f"https://{site}/{number}", "spam", page)
    for number in range(30):
        text = mess.markup(mess.gibberish(rng))
        page = mess.page("data.example", "dump", text, [], "", number)
        yield plain(f"https://data.example/{number}", "gibberish", page)
    for number in range(60):
        site = rng.choice(list(SITES.values()))
        page = mess.listing(site, rng.sample(titles, 60))
        yield plain(f"https://{site}/archive/{number}", "listing_or_thin", page)
    sorry = mess.page("lost.example", "Not found", "<h1>Page not found</h1>", [], "", 0)
    for number in range(20):
        yield plain(f"https://lost.example/{number}", "soft_404", sorry)
        yield plain(f"https://lost.example/gone/{number}", "error", sorry, "404 Not Found")
        to = (("Location", f"https://lost.example/r/{(number + 1) % 20}"), *HTML)
        yield plain(f"https://lost.example/r/{number}", "redirect", "", "301 Moved Permanently", to)
        yield plain(f"https://lost.example/e/{number}", "empty", "\0" * number)
        json_type = (("Content-Type", "application/json"),)
        yield plain(f"https://lost.example/{number}.json", "non_html", "{}", "200 OK", json_type)


def to_warc(page: Page, number: int) -> bytes:
    """Return a page as a gzip member with one WARC record; id and date follow from its number."""
    head = "".join(f"{key}: {value}\r\n" for key, value in page.headers)
    block = f"HTTP/1.1 {page.status}\r\n{head}\r\n".encode() + page.body
    fields = {
        "WARC-Type": "response",
        "WARC-Record-ID": f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, page.url)}>",
        "WARC-Date": f"2024-03-{1 + number % 28:02}T00:00:00Z",
        "WARC-Target-URI": page.url,
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
    }
    lines = "".join(f"{key}: {value}\r\n" for key, value in fields.items())
    record = f"WARC/1.0\r\n{lines}\r\n".encode() + block + b"\r\n\r\n"
    return gzip.compress(record, mtime=0)


def sources_page(pages: list[Page], sizes: dict[str, int]) -> str:
    """Return SOURCES.md."""
    roles = Counter(page.truth["role"] for page in pages)
    groups = Counter((page.truth["source"], page.truth["licence"]) for page in pages)
    return "\n".join(
        [
            "# The embedded messy crawl",
            "",
            "Written by `python -m data.embed_crawl`. Pages of httpd.apache.org, sqlite.org, the",
            "World Factbook and data.gov.uk are real, bytes unchanged (data.gov.uk: it contains",
            "public sector information licensed under the Open Government Licence v3.0). Hosts in",
            ".example are made up: they show texts of the sources below as pages, with repeats,",
            "edits and faults, and planted personal data that belongs to nobody.",
            "`truth.jsonl.zst` says of each URL what it is: `role`, `source`, `licence`, `dup_of`,",
            "`personal` (what was planted), `main_text` (for some) and more.",
            "",
            "The last record of the last file is cut short on purpose.",
            "",
            "| role | pages |",
            "|---|---:|",
            *(f"| {role} | {count:,} |" for role, count in roles.most_common()),
            "",
            "| source | licence | pages |",
            "|---|---|---:|",
            *(
                f"| {name} | {terms} | {count:,} |"
                for (name, terms), count in sorted(groups.items())
            ),
            "",
            "| file | kB |",
            "|---|---:|",
            *(f"| {name} | {count / 1000:,.0f} |" for name, count in sizes.items()),
            "",
        ]
    )


def main(argv: list[str] | None = None) -> None:
    parser = Parser(
        prog="python -m data.embed_crawl",
        description="Make the embedded messy crawl from openly licensed pages and texts.",
        epilog="example: python -m data.embed_crawl --raw=rawweb --text=corpus/train",
    )
    parser.add_argument("--raw", type=Path, required=True, help="WARC files and their manifest")
    parser.add_argument("--text", type=Path, required=True, help="*.jsonl.zst of texts")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    options = parser.parse_args(argv)

    pages = [*real_pages(options.raw), *made_pages(articles(options.text))]
    random.Random(0).shuffle(pages)
    packed = [to_warc(page, number) for number, page in enumerate(pages)]
    content = {f"crawl-{n}.warc.gz": b"".join(packed[n::SHARDS]) for n in range(SHARDS)}
    broken = f"crawl-{SHARDS - 1}.warc.gz"
    content[broken] = content[broken][:-200]
    cut = pages[len(range(SHARDS - 1, len(pages), SHARDS)) * SHARDS - 1].url
    rows = [{"url": p.url} | p.truth | ({"cut": True} if p.url == cut else {}) for p in pages]
    rows.sort(key=lambda row: row["url"])
    truth = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content["truth.jsonl.zst"] = zstandard.compress(truth.encode(), 19)
    sizes = {name: len(data) for name, data in content.items()}
    if sum(sizes.values()) > LIMIT:
        raise UserError(f"{human_bytes(sum(sizes.values()))}, over {human_bytes(LIMIT)}")
    for name, data in content.items():
        write_atomic(options.out / name, data)
    write_atomic(options.out / "SOURCES.md", page := sources_page(pages, sizes))
    print(page)


if __name__ == "__main__":
    run(main)
