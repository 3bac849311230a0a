"""WARC records written by hand, for tests of what reads them."""

import gzip


def warc(
    body: bytes,
    url="http://a.example/",
    type="response",
    media="application/http; msgtype=response",
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {type}\r\nWARC-Target-URI: {url}\r\n"
        f"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: {media}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def http(body: bytes, status="200 OK", media="text/html", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {media}"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def page(number: int, text: str = "") -> bytes:
    body = f"<html><body><p>{text or f'page {number}'}</p></body></html>".encode()
    return warc(http(body), url=f"http://a.example/{number}")


def packed(records: list[bytes]) -> bytes:
    """A member a record, as archives have it."""
    return b"".join(gzip.compress(record, mtime=0) for record in records)
