"""WARC and WET: every whole record comes out, everything else is counted, whatever the bytes."""

import gzip
import random
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from data import streams
from data.documents import Skips
from data.warc import MAX_RECORD, documents, records
from tests.data.warcs import http, packed, page, warc

PAGES = [page(n) for n in range(6)]


def read(path, data: bytes, name="a.warc"):
    (path / name).write_bytes(data)
    skips = Skips()
    found = list(documents(path / name, name, skips))
    return [d.url.rpartition("/")[2] for d in found], dict(skips.counts), found


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.warc", b"".join(PAGES)),
        ("a.warc.gz", packed(PAGES)),
        ("a.warc.gz", gzip.compress(b"".join(PAGES))),
        ("a.warc.zst", zstandard.compress(b"".join(PAGES))),
        ("a.warc.zst", b"".join(map(zstandard.compress, PAGES))),
    ],
)
def test_every_packing_gives_the_same_documents(tmp_path, name, data):
    urls, skipped, found = read(tmp_path, data, name)
    assert urls == list("012345") and not skipped
    assert found[2].text == "<html><body><p>page 2</p></body></html>"
    assert found[2].metadata["date"] == "2024-01-01T00:00:00Z"
    assert len({d.id for d in found}) == 6


def test_an_independent_reader_reads_the_same(tmp_path):
    fastwarc = pytest.importorskip("fastwarc.warc")
    (tmp_path / "a.warc.gz").write_bytes(packed(PAGES))
    with open(tmp_path / "a.warc.gz", "rb") as file:
        theirs = [
            (record.headers["WARC-Target-URI"], record.reader.read())
            for record in fastwarc.ArchiveIterator(file, parse_http=True)
        ]
    assert [(r.url, r.payload) for r in records(tmp_path / "a.warc.gz")] == theirs


def test_what_is_no_page_is_counted_by_reason(tmp_path):
    data = [
        page(0),
        warc(b"", type="request"),
        warc(b"format: WARC", type="warcinfo", media="application/warc-fields"),
        warc(http(b"", "301 Moved", Location="/x"), "http://a.example/r"),
        warc(http(b"<html>no", "404 Not Found")),
        warc(http(b"{}", media="application/json")),
        warc(http(b" \0\r\n ")),
        warc(b"", type="revisit"),
        warc(b"no http at all"),
        warc(b"plain text", "http://a.example/wet", "conversion", "text/plain"),
    ]
    urls, skipped, _ = read(tmp_path, packed(data), "a.warc.gz")
    assert urls == ["0", "wet"]
    assert skipped == {
        "redirect": 1, "HTTP error": 1, "not HTML": 1, "empty": 1, "revisit": 1, "not HTTP": 1,
    }  # fmt: skip


def test_transfer_and_content_encodings(tmp_path):
    html = b"<html>" + b"text " * 100
    chunks = (
        b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in (html[:100], html[100:])) + b"0\r\n\r\n"
    )
    bodies = [
        http(chunks, Transfer_Encoding="chunked"),
        http(html, Transfer_Encoding="chunked"),  # undone already, the header left
        http(gzip.compress(html), Content_Encoding="gzip"),
        http(zlib.compress(html), Content_Encoding="deflate"),
        http(html, Content_Encoding="gzip"),
        http(gzip.compress(gzip.compress(html)), Content_Encoding="gzip, gzip"),
    ]
    _, skipped, found = read(tmp_path, b"".join(map(warc, bodies)))
    assert [d.text.encode() for d in found] == [html] * 6 and not skipped


def test_bombs_are_left_out(tmp_path, monkeypatch):
    bomb = gzip.compress(b"0" * (MAX_RECORD + 1))
    urls, skipped, _ = read(tmp_path, warc(http(bomb, Content_Encoding="gzip")) + page(1))
    assert urls == ["1"] and skipped == {"decompression bomb": 1}
    urls, skipped, _ = read(tmp_path, warc(b"x" * (MAX_RECORD + 1)) + page(1))
    assert urls == ["1"] and skipped == {"too large": 1}
    monkeypatch.setattr(streams, "BOMB_SIZE", 1 << 20)
    for name, pack in (("a.warc.gz", gzip.compress), ("a.warc.zst", zstandard.compress)):
        urls, skipped, _ = read(tmp_path, pack(page(0) + b"\n" * (1 << 26)), name)
        assert urls == ["0"] and skipped == {"decompression bomb": 1}


def test_a_damaged_member_costs_only_itself(tmp_path):
    members = [gzip.compress(p, mtime=0) for p in PAGES]
    members[2] = members[2][:30] + b"\xff" * 20 + members[2][50:]
    urls, skipped, _ = read(tmp_path, b"".join(members), "a.warc.gz")
    assert urls == list("01345") and skipped == {"damaged": 1}
    members[2] = b"garbage between members"
    urls, skipped, _ = read(tmp_path, b"".join(members), "a.warc.gz")
    assert urls == list("01345") and skipped == {"damaged": 1}


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.warc.zst"])
def test_a_cut_file_gives_what_is_whole(tmp_path, name):
    pack = {"z": gzip.compress, "t": zstandard.compress, "c": bytes}[name[-1]]
    members = [pack(p) for p in PAGES]
    urls, skipped, _ = read(tmp_path, b"".join(members[:3]) + members[3][:-30], name)
    assert urls == list("012") and skipped == {"truncated": 1}


def test_records_go_on_after_bytes_that_are_none(tmp_path):
    data = page(0) + b"junk\njunk\n" + page(1) + PAGES[2].replace(b"Content-Length", b"X") + page(3)
    urls, skipped, _ = read(tmp_path, data)
    assert urls == ["0", "1", "3"] and skipped["not WARC"] >= 2


def test_charsets(tmp_path):
    pytest.importorskip("resiliparse")
    text = (
        "<html><meta charset='{}'>d\u00e9j\u00e0 vu, na\u00efve caf\u00e9 \u2013 \u00fcber</html>"
    )
    korean = "<html>\ud55c\uad6d\uc5b4 \ubb38\uc11c\uc785\ub2c8\ub2e4. " * 20
    cases = [
        (text.encode(), "text/html", "utf-8"),
        (text.encode(), "text/html; charset=iso-8859-1", "utf-8"),  # wrong: valid UTF-8
        (text.encode("cp1252"), "text/html; charset=iso-8859-1", "cp1252"),
        (text.format("windows-1252").encode("cp1252"), "text/html", "cp1252"),
        (text.encode("cp1252"), "text/html; charset=no-such", "cp1252"),
        (text.encode("utf-16"), "text/html", "utf-16-le"),
        (korean.encode("euc-kr"), "text/html; charset=euc-kr", "cp949"),
        (korean.encode("euc-kr"), "text/html", "cp949"),
        (korean.encode("iso2022_kr"), "text/html; charset=iso-2022-kr", "iso2022_kr"),
    ]
    for body, media, expected in cases:
        _, _, (document,) = read(tmp_path, warc(http(body, media=media)))
        assert document.metadata["charset"] == expected, media
        assert "\ufffd" not in document.text
        assert document.text in (text, text.format("windows-1252"), korean)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_bytes_are_read_to_the_end(tmp_path_factory, data):
    """Fuzz: a good file with bytes changed, cut or inserted."""
    pytest.importorskip("resiliparse")
    folder = tmp_path_factory.mktemp("fuzz")
    name = data.draw(st.sampled_from(["a.warc", "a.warc.gz", "a.warc.zst"]))
    pack = {"z": gzip.compress, "t": zstandard.compress, "c": bytes}[name[-1]]
    whole = bytearray(b"".join(map(pack, PAGES)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole)))
        junk = data.draw(st.binary(max_size=40))
        whole[at : at + data.draw(st.integers(0, 60))] = junk
    urls, skipped, found = read(folder, bytes(whole), name)
    assert len(urls) <= 6 + sum(skipped.values())
    if name != "a.warc":  # checksums: what comes out of a compressed member is as it went in
        assert set(d.text for d in found) <= {
            f"<html><body><p>page {n}</p></body></html>" for n in range(6)
        }


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300))
def test_foreign_bytes_are_read_to_the_end(tmp_path_factory, junk):
    folder = tmp_path_factory.mktemp("fuzz")
    for name in ("a.warc", "a.warc.gz", "a.warc.zst", "a.warc.bz2"):
        _, skipped, found = read(folder, junk, name)
        assert not found
        assert skipped or not junk.strip(b"\0\r\n \t\x0b\x0c")


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    rng = random.Random(0)
    text = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=20_000))

    def peak(count: int) -> int:
        with open(tmp_path / "a.warc.gz", "wb") as out:
            for n in range(count):
                out.write(gzip.compress(page(n, text), 1))
        tracemalloc.start()
        assert sum(1 for _ in documents(tmp_path / "a.warc.gz", "a", Skips())) == count
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(5)
    assert peak(500) < 1.5 * peak(50)
