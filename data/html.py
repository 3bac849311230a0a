"""The main text of a web page, by resiliparse (fast) or trafilatura (slow, stricter)."""

import re
from html import unescape
from typing import NamedTuple

from data.errors import UserError, optional, suggest

ADD_ON = "requirements-data.txt"
EXTRACTORS = ("resiliparse", "trafilatura")
HEAD = 1 << 16  # characters in which a title is looked for
# What a page says about its licence by rel=license -> SPDX.
LICENCES = (
    (re.compile(r"creativecommons\.org/publicdomain/zero/"), "CC0-1.0"),
    (
        re.compile(r"creativecommons\.org/(?:publicdomain/mark|licenses/publicdomain)"),
        "Public domain",
    ),
    (re.compile(r"creativecommons\.org/licenses/(by(?:-nc)?(?:-sa|-nd)?)/(\d\.\d)"), "CC-"),
    (re.compile(r"apache\.org/licenses/LICENSE-2\.0"), "Apache-2.0"),
    (re.compile(r"gnu\.org/(?:copyleft/|licenses/)fdl"), "GFDL"),
    (re.compile(r"nationalarchives\.gov\.uk/doc/open-government-licence"), "OGL-UK-3.0"),
    (re.compile(r"(?:spdx|opensource)\.org/licenses?/([\w.-]+?)(?:\.html|/|$)"), ""),
)
TAG = re.compile(r"<(?:a|link)\b[^>]{0,1000}>", re.I)
REL = re.compile(r"rel\s*=\s*[\"']?[^\"'>]*\blicense\b", re.I)
HREF = re.compile(r"href\s*=\s*[\"']?([^\"'\s>]+)", re.I)
TITLE = re.compile(r"<title[^>]*>([^<]{1,1000})", re.I)


class Page(NamedTuple):
    text: str  # the main text, paragraphs as lines
    title: str
    licence: str  # as the page declares it by rel=license, in SPDX where known; else ''


def extract(html: str, method: str = "resiliparse") -> Page:
    """Return the main text of a page, its title and its declared licence; any input will do."""
    return Page(main_text(html, method), title(html), licence(html))


def main_text(html: str, method: str = "resiliparse") -> str:
    """Return the text of a page without navigation, banners and footers, '' if there is none."""
    if method == "resiliparse":
        module = optional("resiliparse.extract.html2text", ADD_ON)
        return module.extract_plain_text(html, main_content=True, alt_texts=False).strip()
    if method == "trafilatura":
        module = optional("trafilatura", ADD_ON)
        return module.extract(html, favor_precision=True, include_comments=False) or ""
    known = ", ".join(EXTRACTORS)
    raise UserError(f'extractor "{method}" is not one of: {known}{suggest(method, EXTRACTORS)}')


def title(html: str) -> str:
    found = TITLE.search(html[:HEAD])
    return " ".join(unescape(found[1]).split()) if found else ""


def licence(html: str) -> str:
    """Return the licence that a page links with rel=license, '' if none."""
    if "license" not in html:
        return ""
    for tag in TAG.finditer(html):
        if REL.search(tag[0]) and (address := HREF.search(tag[0])):
            return spdx(unescape(address[1]))
    return ""


def spdx(address: str) -> str:
    """Return the SPDX name of a licence's address, else the address."""
    for pattern, name in LICENCES:
        if found := pattern.search(address):
            parts = [part.upper() for part in found.groups()] if name == "CC-" else found.groups()
            return name + "-".join(parts) if pattern.groups else name
    return address
