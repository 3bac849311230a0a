"""Records of WARC and WET files, as Common Crawl and web archives publish them (ISO 28500).

`records` gives every record that is whole; `documents` makes documents of web pages (their HTML,
for an extractor) and of WET conversions (their text).
"""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from data.charset import decode
from data.documents import Document, Skip, Skipped, refuse
from data.streams import Cursor, Lost, blocks

MAX_RECORD = 1 << 25  # bytes of a record, and of a page once decompressed
MAX_HEADERS = 500
HTML = ("text/html", "application/xhtml+xml")

Headers = tuple[tuple[str, str], ...]


class Record(NamedTuple):
    """A WARC record; `status` and `http_headers` are those of an HTTP response, else None, ()."""

    type: str
    headers: Headers
    payload: bytes  # the body, with transfer and content encodings undone
    where: str
    status: str | None = None  # '200 OK'
    http_headers: Headers = ()

    @property
    def url(self) -> str:
        return header(self.headers, "WARC-Target-URI").strip("<>")

    @property
    def media_type(self) -> str:
        """The media type in lower case, without parameters."""
        kind = header(self.headers if self.status is None else self.http_headers, "Content-Type")
        return kind.partition(";")[0].strip().lower()

    @property
    def charset(self) -> str:
        """The declared charset, or ''."""
        kind = header(self.headers if self.status is None else self.http_headers, "Content-Type")
        return kind.lower().partition("charset=")[2].partition(";")[0].strip(" \"'")


def header(headers: Headers, name: str) -> str:
    """Return the first header of a name, in any case, or ''."""
    return next((value for key, value in headers if key.lower() == name.lower()), "")


def records(file: Path, skip: Skip = refuse) -> Iterator[Record]:
    """Yield the records of a file, .gz and .zst decompressed.

    To `skip` go, beside what `data.streams.blocks` finds: what is no WARC, records that are
    truncated, too large, or whose HTTP part cannot be read.
    """
    cursor = Cursor(blocks(file, skip))
    while True:
        try:
            where = _next_record(cursor, file, skip)
            if where is None:
                return
            headers = _headers(cursor)
            length = header(headers, "Content-Length")
            if not length.isascii() or not length.isdigit():
                skip(Skipped("not WARC", where, "a record without Content-Length"))
                continue
            count = int(length)
            if count > MAX_RECORD:
                skip(Skipped("too large", where, f"{count:,} bytes"))
                cursor.drop(count)
                continue
            block = cursor.take(count)
        except Lost:
            continue
        if len(block) < count:
            skip(Skipped("truncated", where, f"{len(block):,} of {count:,} bytes"))
            return
        record = Record(header(headers, "WARC-Type"), headers, block, where)
        if record.type == "response" and record.media_type == "application/http":
            yield from _http(record, skip)
        else:
            yield record


def _next_record(cursor: Cursor, file: Path, skip: Skip) -> str | None:
    """Move behind the next version line and return its place; None at the end of the file."""
    told = False
    while True:
        cursor.blank()
        offset = cursor.offset
        line = cursor.line()
        if not line:
            return None
        where = f"{file}, byte {offset:,}"
        if line.startswith(b"WARC/"):
            return where
        if not told:
            skip(Skipped("not WARC", where, repr(line[:40])))
            told = True


def _headers(cursor: Cursor) -> Headers:
    """Read header lines up to the empty one; a line that starts with a blank goes on the last."""
    lines: list[str] = []
    while len(lines) < MAX_HEADERS and (line := cursor.line().rstrip(b"\r\n")):
        text = line.decode("utf-8", "replace")
        if text[0] in " \t" and lines:
            lines[-1] += " " + text.strip()
        else:
            lines.append(text)
    pairs = (line.partition(":") for line in lines)
    return tuple((key.strip(), value.strip()) for key, colon, value in pairs if colon)


def _http(record: Record, skip: Skip) -> Iterator[Record]:
    """Yield the record with its HTTP response parsed."""
    cursor = Cursor(iter([record.payload]))
    protocol, _, status = cursor.line().decode("latin-1").strip().partition(" ")
    if not protocol.startswith("HTTP/") or not status[:3].isdigit():
        skip(Skipped("not HTTP", record.where, record.url))
        return
    headers = _headers(cursor)
    body = record.payload[cursor.offset :]
    try:
        if "chunked" in header(headers, "Transfer-Encoding").lower():
            body = _dechunk(body)
        for encoding in reversed(header(headers, "Content-Encoding").lower().split(",")):
            body = _inflate(body, encoding.strip())
    except (ValueError, zlib.error) as error:
        skip(Skipped(str(error), record.where, record.url))
        return
    yield record._replace(payload=body, status=status, http_headers=headers)


def _dechunk(body: bytes) -> bytes:
    """Undo chunked coding (RFC 9112, 7.1); archives may keep its header without the coding."""
    parts, place = list[bytes](), 0
    while place < len(body):
        end = body.find(b"\n", place)
        size = body[place : end if end >= 0 else None].partition(b";")[0].strip()
        try:
            count = int(size, 16)
        except ValueError:
            if not parts:
                return body
            raise ValueError("bad chunked encoding") from None
        if end < 0 or count < 0:
            raise ValueError("bad chunked encoding")
        if not count:
            break
        parts.append(body[end + 1 : end + 1 + count])
        place = body.find(b"\n", end + 1 + count) + 1 or len(body)
    return b"".join(parts)


def _inflate(body: bytes, encoding: str) -> bytes:
    """Undo a content coding; archives often keep the header of one that is undone already."""
    if encoding in ("gzip", "x-gzip") and body[:2] == b"\x1f\x8b":
        wbits = 31
    elif encoding == "deflate" and body[:1] == b"\x78":
        wbits = 15
    elif encoding == "br" and b"<" not in body[:1000]:
        raise ValueError("unknown content encoding")
    else:
        return body
    try:
        inflater = zlib.decompressobj(wbits=wbits)
        out = inflater.decompress(body, MAX_RECORD)
    except zlib.error:
        raise ValueError("damaged content encoding") from None
    if inflater.unconsumed_tail:
        raise ValueError("decompression bomb")
    return out


# Documents ------------------------------------------------------------------------------------


def documents(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the HTML pages and WET texts of a file; requests and metadata are no documents.

    Of a page `text` is the HTML, decoded, and metadata has media_type 'text/html' and charset;
    of a WET record it is the text. To `skip` go redirects, errors, other media, revisits and
    empty pages.
    """
    for record in records(file, skip):
        if record.type == "conversion":
            reason = "" if record.payload.strip() else "empty"
        elif record.type == "revisit":
            reason = "revisit"
        elif record.type in ("response", "resource"):
            reason = _unusable(record)
        else:
            continue
        if reason:
            detail = " ".join(filter(None, [record.status, record.media_type, record.url]))
            skip(Skipped(reason, record.where, detail))
            continue
        yield _document(record, name)


def _unusable(record: Record) -> str:
    """Return why a response is not a page, or ''."""
    if record.status is not None and record.status[0] == "3":
        return "redirect"
    if record.status is not None and record.status[0] != "2":
        return "HTTP error"
    if not record.payload.strip(b"\0 \t\r\n"):
        return "empty"
    if record.media_type in HTML or (not record.media_type and _looks_like_html(record.payload)):
        return ""
    return "not HTML"


def _looks_like_html(payload: bytes) -> bool:
    start = payload[:1024].lower()
    return b"<html" in start or b"<!doctype html" in start or b"<body" in start


def _document(record: Record, name: str) -> Document:
    text, charset = decode(record.payload, record.charset)
    date = header(record.headers, "WARC-Date")
    kind = "text/plain" if record.type == "conversion" else "text/html"
    metadata = {"media_type": kind, "charset": charset} | ({"date": date} if date else {})
    lang = header(record.headers, "WARC-Identified-Content-Language").partition(",")[0]
    if lang:
        metadata["identified_lang"] = lang
    id = header(record.headers, "WARC-Record-ID").strip("<>").removeprefix("urn:uuid:")
    if not id:
        id = hashlib.sha256(f"{record.url}\0{date}".encode()).hexdigest()[:32]
    return Document(text, id, source=name, kind="web", url=record.url, metadata=metadata)
