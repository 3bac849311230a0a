"""Bytes of files that may be compressed, damaged or hostile: bounded memory, and on after damage.

`blocks` decompresses a file forward. Where it is damaged it says so to `skip`, gives None in place
of the bytes that were lost, and goes on at the next frame that it finds.
"""

import bz2
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import zstandard

from data.documents import Skip, Skipped

CHUNK = 1 << 20
MAX_FILE = 1 << 25  # bytes of a file that is read as a whole
MAX_LINE = 1 << 26  # bytes; a longer line is no record
BOMB_SIZE, BOMB_RATIO = 1 << 28, 200  # decompressed bytes, and times the compressed ones

Block = bytes | None  # None: bytes are missing here


class Codec(NamedTuple):
    magic: bytes  # with which a frame starts
    start: Callable[[], Any]  # a decompressor of one frame
    piece: int  # compressed bytes at once: the worst give some 32 MB


CODECS = {
    ".gz": Codec(b"\x1f\x8b\x08", lambda: zlib.decompressobj(wbits=31), 1 << 15),
    ".zst": Codec(
        b"\x28\xb5\x2f\xfd",
        lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(),
        1 << 10,
    ),
    ".bz2": Codec(b"BZh", bz2.BZ2Decompressor, 1 << 15),
}
DAMAGE = (zlib.error, zstandard.ZstdError, OSError, EOFError, ValueError)


def stem(file: Path) -> str:
    """Return a file's name in lower case, without the suffix of its compression."""
    name = file.name.lower()
    return name.removesuffix(next((s for s in CODECS if name.endswith(s)), ""))


def blocks(file: Path, skip: Skip) -> Iterator[Block]:
    """Yield a file's bytes, decompressed as its suffix says, None where some were lost.

    What is wrong goes to `skip`: unreadable, damaged, truncated, decompression bomb.
    """
    codec = CODECS.get(file.suffix.lower())
    try:
        with open(file, "rb", buffering=CHUNK) as stream:
            if codec:
                yield from _frames(stream, file, codec, skip)
            else:
                yield from iter(lambda: stream.read(CHUNK), b"")
    except OSError as error:
        skip(Skipped("unreadable", str(file), (error.strerror or str(error)).lower()))
        yield None


def _frames(stream: BinaryIO, file: Path, codec: Codec, skip: Skip) -> Iterator[Block]:
    """Yield what the frames of a file hold; after a damaged one, go to the next magic bytes."""
    frame, start, given, lost = None, 0, 0, False
    while piece := stream.read(codec.piece):
        if frame is None:
            piece = piece.lstrip(b"\0")  # padding between frames
            if not piece:
                continue
            frame, start = codec.start(), stream.tell() - len(piece)
        try:
            for out in _feed(frame, piece):
                given, lost = given + len(out), False
                yield out
        except DAMAGE as error:
            if not lost:  # what only looked like a frame is no news
                skip(Skipped("damaged", f"{file}, byte {start:,}", str(error)))
                yield None
            frame, lost = None, True
            _seek(stream, codec.magic, start + 1)
            continue
        if given > BOMB_SIZE and given > BOMB_RATIO * stream.tell():
            skip(Skipped("decompression bomb", f"{file}, byte {stream.tell():,}"))
            yield None
            return
        if frame.eof:
            stream.seek(-len(frame.unused_data), os.SEEK_CUR)
            frame = None
    if frame is not None:
        skip(Skipped("truncated", str(file), "it ends inside compressed data"))
        yield None


def _feed(frame: Any, piece: bytes) -> Iterator[bytes]:
    """Yield what a piece decompresses to, without empty parts."""
    if isinstance(frame, bz2.BZ2Decompressor):  # without a bound one block can give 45 MB
        out = frame.decompress(piece, CHUNK)
        while out:
            yield out
            out = b"" if frame.eof or frame.needs_input else frame.decompress(b"", CHUNK)
    elif out := frame.decompress(piece):
        yield out


def _seek(stream: BinaryIO, magic: bytes, start: int) -> None:
    """Move a stream to the first `magic` from `start` on, or to its end."""
    stream.seek(start)
    while chunk := stream.read(CHUNK):
        place = chunk.find(magic)
        if place >= 0:
            stream.seek(place - len(chunk), os.SEEK_CUR)
            return
        if len(chunk) == CHUNK:  # the magic may straddle two chunks
            stream.seek(1 - len(magic), os.SEEK_CUR)


class Line(NamedTuple):
    number: int  # from 1, as far as none was lost
    data: bytes


def lines(file: Path, skip: Skip, limit: int = MAX_LINE) -> Iterator[Line]:
    """Yield a file's lines without their newlines; those longer than `limit` go to `skip`.

    A line that damage cuts short is left out: its damage has been counted.
    """
    number, held, parts = 1, 0, list[bytes]()

    def line() -> Iterator[Line]:
        if held > limit:
            skip(Skipped("line too long", f"{file}, line {number}", f"{held:,} bytes"))
        else:
            yield Line(number, b"".join(parts))

    for block in blocks(file, skip):
        if block is None:
            parts, held = [], 0
            continue
        *whole, tail = block.split(b"\n")
        for piece in whole:
            parts.append(piece)
            held += len(piece)
            yield from line()
            number, held, parts = number + 1, 0, []
        held += len(tail)
        parts = [*parts, tail] if held <= limit else []
    if held:
        yield from line()


def contents(file: Path, skip: Skip, limit: int = MAX_FILE) -> bytes | None:
    """Return the whole of a small file, None where it is damaged, empty or over `limit` bytes."""
    parts, held = [], 0
    for block in blocks(file, skip):
        if block is None:
            return None
        parts.append(block)
        held += len(block)
        if held > limit:
            skip(Skipped("too large", str(file), f"over {limit:,} bytes"))
            return None
    data = b"".join(parts)
    if not data.strip(b"\0 \t\r\n"):
        skip(Skipped("empty", str(file)))
        return None
    return data


class Lost(Exception):
    """Bytes are missing from a stream at this place."""


class Cursor:
    """Reads lines and counted bytes forward from `blocks`; Lost where some are missing.

    `offset` counts the decompressed bytes read.
    """

    def __init__(self, source: Iterator[Block]):
        self._source = source
        self._buffer = b""
        self._place = 0
        self.offset = 0

    def _more(self) -> bool:
        """Add a block to the buffer; tell whether there was one."""
        try:
            block = next(self._source)
        except StopIteration:
            return False
        if block is None:
            self._buffer, self._place = b"", 0
            raise Lost
        self._buffer, self._place = self._buffer[self._place :] + block, 0
        return True

    def line(self, limit: int = 1 << 16) -> bytes:
        """Return the next line with its newline, at most `limit` bytes of it; b'' at the end."""
        while (end := self._buffer.find(b"\n", self._place)) < 0:
            if len(self._buffer) - self._place >= limit or not self._more():
                break
        stop = len(self._buffer) if end < 0 else end + 1
        stop = min(stop, self._place + limit)
        line = self._buffer[self._place : stop]
        self.offset, self._place = self.offset + len(line), stop
        return line

    def blank(self) -> None:
        """Pass over empty lines."""
        while True:
            rest = self._buffer[self._place :].lstrip(b"\r\n")
            self.offset += len(self._buffer) - self._place - len(rest)
            self._buffer, self._place = rest, 0
            if rest or not self._more():
                return

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end."""
        parts = []
        while count:
            part = self._buffer[self._place : self._place + count]
            parts.append(part)
            self._place += len(part)
            self.offset += len(part)
            count -= len(part)
            if count and not self._more():
                break
        return b"".join(parts)

    def drop(self, count: int) -> int:
        """Pass over `count` bytes; return how many there were."""
        before = self.offset
        while count and (part := len(self.take(min(count, CHUNK)))):
            count -= part
        return self.offset - before
