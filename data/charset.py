"""The text of bytes whose encoding is wrong, missing, or right."""

import codecs
import re

from data.errors import optional

BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.I)
XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([\w.:-]+)", re.I)
# Labels that browsers read as a larger set (WHATWG Encoding Standard, section 4.2).
LARGER = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
LARGER |= {
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "uhc": "cp949",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
}
STATEFUL = (b"\x1b$", b"\x1b(")  # ISO-2022 codes look like ASCII


def decode(data: bytes, declared: str = "") -> tuple[str, str]:
    """Return the text of `data` and the encoding that gave it; NUL characters are left out.

    In turn: a byte order mark; UTF-8, if valid, since other text hardly ever is; the charset
    `declared` by a header, then by the page itself; then a guess by byte statistics. The first
    that decodes without an error; if none does, the guess with U+FFFD for what it lacks.
    """
    for mark, name in BOMS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace").replace("\0", ""), name
    if not any(code in data[:4096] for code in STATEFUL):
        try:
            return data.decode("utf-8").replace("\0", ""), "utf-8"
        except UnicodeDecodeError:
            pass
    start = data[:4096]
    found = [pattern.search(start) for pattern in (META, XML)]
    for label in [declared, *(match[1].decode("ascii", "ignore") for match in found if match)]:
        name = python_name(label)
        if name and name != "utf-8":
            try:
                return data.decode(name).replace("\0", ""), name
            except (UnicodeDecodeError, ValueError):
                continue
    name = python_name(_guess(data)) or "cp1252"
    return data.decode(name, "replace").replace("\0", ""), name


def python_name(label: str) -> str:
    """Return Python's name of a text encoding that browsers know by `label`, or ''."""
    try:
        info = codecs.lookup(label)
    except (LookupError, ValueError):
        return ""
    if not info._is_text_encoding or info.name in ("utf-7", "unicode_escape", "punycode", "idna"):
        return ""
    return LARGER.get(info.name, info.name)


def _guess(data: bytes) -> str:
    encoding = optional("resiliparse.parse.encoding", "requirements-data.txt")
    # Its names for browsers turn a detected EUC-KR into UTF-8; LARGER does that job.
    return encoding.detect_encoding(data[: 1 << 16], html5_compatible=False) or ""
