"""Articles of MediaWiki XML dumps (pages-articles), as plain text."""

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

from data.documents import Document, Skip, Skipped
from data.streams import blocks

MAX_PAGE = 1 << 25
OPEN, CLOSE = b"<page>", b"</page>"
COMMENT = re.compile(r"<!--.*?-->", re.S)
DROPPED = re.compile(
    r"<(ref|gallery|math|chem|score|timeline|imagemap|syntaxhighlight|source|code|pre|table)\b"
    r"[^>]*?(?:/>|>.*?</\1\s*>)",
    re.S | re.I,
)
TEMPLATE = re.compile(r"\{\{[^{}]*\}\}|\{\{\{[^{}]*\}\}\}")
TABLE = re.compile(r"^[ :]*\{\|(?:(?!\{\|).)*?^[ ]*\|\}", re.S | re.M)
MEDIA = re.compile(r"\[\[(?:File|Image|Category|Datei|Bild|Kategorie|Fichier)\s*:", re.I)
LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
EXTERNAL = re.compile(r"\[(?:https?:)?//[^\s\]]+ *([^\]]*)\]")
HEADING = re.compile(r"^(={1,6}) *(.+?) *\1 *$", re.M)
LAST = re.compile(
    r"^== *(?:See also|References|Notes|External links|Further reading|Bibliography) *=="
    r".*?(?=^==[^=]|\Z)",
    re.S | re.M | re.I,
)
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
MAGIC = re.compile(r"__[A-Z]+__")
DEPTH = 40  # of templates in templates


def dump(file: Path, name: str, skip: Skip) -> Iterator[Document]:
    """Yield the articles of a dump; redirects, other namespaces and damaged pages go to `skip`."""
    for number, (where, page) in enumerate(_pages(file, skip), 1):
        try:
            root = ElementTree.fromstring(page)
        except (ElementTree.ParseError, ValueError) as error:
            skip(Skipped("not XML", where, str(error)))
            continue
        title = root.findtext("title") or ""
        text = root.findtext("revision/text") or ""
        if (root.findtext("ns") or "0") != "0":
            skip(Skipped("other namespace", where, title))
        elif root.find("redirect") is not None or text[:10].upper().startswith("#REDIRECT"):
            skip(Skipped("redirect", where, title))
        elif not (plain := to_text(text)):
            skip(Skipped("empty", where, title))
        else:
            id = root.findtext("id") or str(number)
            place = f"{name}:{id}"
            metadata = {"title": title, "revision": root.findtext("revision/id") or ""}
            yield Document(
                f"# {title}\n\n{plain}", place, kind="encyclopedia", url=title, metadata=metadata
            )


def _pages(file: Path, skip: Skip) -> Iterator[tuple[str, bytes]]:
    """Yield the <page> elements of a file with their places; a damaged one costs only itself."""
    buffer, offset, searched = b"", 0, 0
    for block in blocks(file, skip):
        if block is None:
            buffer, searched = b"", 0
            continue
        buffer += block
        while True:
            start = buffer.find(OPEN)
            if start < 0:
                keep = min(len(buffer), len(OPEN) - 1)
                offset, buffer = offset + len(buffer) - keep, buffer[len(buffer) - keep :]
                break
            end = buffer.find(CLOSE, max(start, searched))
            where = f"{file}, byte {offset + start:,}"
            if end < 0:
                if len(buffer) - start > MAX_PAGE:
                    skip(Skipped("too large", where, f"a page of over {MAX_PAGE:,} bytes"))
                    offset, buffer, searched = offset + len(buffer), b"", 0
                else:
                    searched = max(start, len(buffer) - len(CLOSE))
                break
            stop = end + len(CLOSE)
            page = buffer[start:stop]
            offset, buffer, searched = offset + stop, buffer[stop:], 0
            yield where, page[page.rfind(OPEN) :]  # a page that never closed is left behind
    if OPEN in buffer:
        skip(Skipped("truncated", f"{file}, byte {offset:,}", "ends inside a page"))


def to_text(wikitext: str) -> str:
    """Return the prose of wikitext: headings as in Markdown, links as their words, no templates."""
    text = unescape(wikitext.replace("\0", ""))
    text = DROPPED.sub("", COMMENT.sub("", text))
    for pattern in (TEMPLATE, TABLE):
        for _ in range(DEPTH):
            shorter = pattern.sub("", text)
            if len(shorter) == len(text):
                break
            text = shorter
    text = _without_media(text)
    text = LINK.sub(r"\1", LINK.sub(r"\1", text))
    text = EXTERNAL.sub(r"\1", text)
    text = TAG.sub("", MAGIC.sub("", LAST.sub("", text)))
    text = re.sub(r"'{2,5}", "", text)
    text = re.sub(r"^[*#:;]+ *", "- ", text, flags=re.M)
    text = HEADING.sub(lambda m: "#" * len(m[1]) + " " + m[2], text)
    text = re.sub(r"\(\s*[;,\s]*\)", "", text)
    text = re.sub(r"[ \t]+$", "", text, flags=re.M)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _without_media(text: str) -> str:
    """Drop [[File:...]] and [[Category:...]], whose captions may hold links."""
    out, place = [], 0
    while found := MEDIA.search(text, place):
        out.append(text[place : found.start()])
        depth, at = 1, found.end()
        while depth and (mark := re.compile(r"\[\[|\]\]").search(text, at)):
            depth += 1 if mark[0] == "[[" else -1
            at = mark.end()
        place = at if not depth else found.end()
    out.append(text[place:])
    return "".join(out)
