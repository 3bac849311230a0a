"""Personal data and secrets: found by type, replaced by typed placeholders such as <EMAIL>.

    python -m data.pii evaluate     recall and precision of each type on the labelled rows

Covered: e-mail addresses, phone numbers, public IP addresses (4 and 6), payment cards, IBANs, US
social security numbers, and keys and tokens that have a form of their own. Not covered: names,
postal addresses, dates of birth and identity numbers of other countries, which need a named-entity
model or context.

Presidio's recognisers for cards, IBANs, IPs, social security numbers and phones run, but only on
lines that a cheap expression lets through (whole texts at 0.1 MB/s, so some 30 times faster);
what they miss here has expressions of ours: cards of other lengths, phone formats, keys.
"""

import ipaddress
import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from data.embed_labels import labels
from data.errors import Parser, run

# In case of overlap the first type wins.
TYPES = ("KEY", "EMAIL", "IBAN", "CARD", "SSN", "IP", "PHONE")

EMAIL = re.compile(
    r"(?<![\w.+%-])[^\W_][\w!#$%&'*+/=?^`{|}~-]*(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*@"
    r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}(?![\w-])"
)
KEY = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      (?:AKIA|ASIA)[A-Z0-9]{16}                                       # Amazon
    | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_\w{60,}              # GitHub
    | glpat-[\w-]{20,} | xox[abprs]-[\w-]{10,} | npm_[A-Za-z0-9]{36}  # GitLab, Slack, npm
    | AIza[\w-]{35} | ya29\.[\w-]{20,}                                # Google
    | sk-(?:proj-|ant-)?[\w-]{20,} | hf_[A-Za-z0-9]{30,}              # OpenAI, Anthropic, HF
    | [sr]k_(?:live|test)_[A-Za-z0-9]{16,} | SG\.[\w-]{16,}\.[\w-]{16,}  # Stripe, SendGrid
    | eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}                        # JSON web tokens
    | -----BEGIN\ (?:[A-Z]+\ )*PRIVATE\ KEY-----(?:[^-]*-----END\ (?:[A-Z]+\ )*PRIVATE\ KEY-----)?
    )""",
    re.X,
)
SECRET = re.compile(
    r"""(?i)(?:password|passwd|secret|api[_-]?key|access[_-]?token|auth[_-]?token)["']?\s*[:=]\s*
    ["']([\w+/=.~-]{12,})["']""",
    re.X,
)
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b", re.I)
CARD = re.compile(r"(?<![\w.,+-])\d(?:[ -]?\d){11,18}(?![\w-])")
CARD_GROUPS = re.compile(r"\d{4}(?:[ -]\d{4}){2,3}(?:[ -]\d{3})?|\d{4}[ -]\d{6}[ -]\d{4,5}")
SSN = re.compile(r"(?<![\w.-])\d{3}[- .]\d{2}[- .]\d{4}(?![\w-])")
IP = re.compile(
    r"(?<![\w.:])(?:(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)"
    r"|(?=[\da-f:.]*:[\da-f:.]*:)[\da-f]{0,4}(?::[\da-f]{0,4}){2,7}(?![\w:]))",
    re.I,
)
VERSION = re.compile(r"(?:version|release|v|ver\.?|section|§|build)\s*$", re.I)
PHONE = re.compile(
    r"""(?<![\w.,/+=-])(?<!\d\ )(?:
      \+\ ?\d{1,3}[\s.-]?(?:\(0?\d{0,4}\)[\s.-]?)?\d{1,4}(?:[\s.-]?\d{2,8}){1,5}  # international
    | (?:00?1?\d{0,2}[-.\s])?(?:1[-.\s])?\(\d{2,5}\)[\s.-]?\d{2,4}(?:[\s.-]?\d{2,4}){1,2}
    | (?:(?:00)?1[-.])?\d{3}[-.]\d{3}[-.]\d{4}                        # 555-123-4567
    | 0\d{2,4}[\s-]\d{3,8}(?:[\s-]\d{2,5}){0,3}                       # national, from 0
    )(?:\s?(?:x|ext\.?)\s?\d{1,6})?(?!\w|-\d|\.\d)""",
    re.X,
)
WEAK_PHONE = re.compile(r"(?<![\w.,/+=-])\d{1,4}(?:[ -]\d{2,4}){1,5}(?!\w|-\d|[.,]\d)|\b\d{8,11}\b")
PHONE_CUE = re.compile(
    r"\b(?:tele)?(?:phone|call|tel|mobile|cell|fax|dial|sms|whatsapp|contact|reach|number|ring"
    r"|desk|answering at|messages? to)",
    re.I,
)
AFTER_CUE = re.compile(r"[\s-]{0,2}\(?(?:office|fax|mobile|cell|home|desk)\b", re.I)
CUE_REACH = 60  # characters before a number in which a word such as "call" makes it a phone's
CANDIDATE = re.compile(
    r"@|\d[\d\s().-]{4,}\d|[a-z]{2}\d{2} ?[a-z0-9]{4}|[\da-f]{1,4}:[\da-f]{0,4}:", re.I
)
KEY_LIKELY = re.compile(
    r"PRIVATE KEY|A[KS]IA[A-Z0-9]|gh[pousr]_|github_pat|glpat-|xox[abprs]-|npm_|AIza|ya29|sk-|hf_"
    r"|k_(?:live|test)_|SG\.|eyJ|(?i:passw|secret|api[_-]?key|[hs][_-]?token)"
)


class Span(NamedTuple):
    type: str
    start: int
    end: int


def luhn(number: str) -> bool:
    """Tell whether a card number's check digit holds (ISO/IEC 7812-1)."""
    digits = [int(c) for c in reversed(number)]
    doubled = [d * 2 - 9 * (d > 4) for d in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_card(text: str) -> bool:
    """Tell whether digits are a card's: grouping, issuer's prefix, length and check digit."""
    digits = re.sub(r"\D", "", text)
    if digits != text and not CARD_GROUPS.fullmatch(text):
        return False
    issued = re.match(r"[3-6]|2[1-7]|1800", digits) is not None
    return issued and 12 <= len(digits) <= 19 and len(set(digits)) > 3 and luhn(digits)


def is_iban(text: str) -> bool:
    """Tell whether the check number of an IBAN holds (ISO 13616: modulo 97 is 1)."""
    code = re.sub(r"\W", "", text).upper()
    moved = code[4:] + code[:4]
    return 15 <= len(code) <= 34 and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


def is_public_ip(text: str) -> bool:
    if ":" in text and sum(map(bool, text.split(":"))) < 4:
        return False  # too short an IPv6 address is more often code
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def is_ssn(text: str) -> bool:
    """Tell whether digits can be a US social security number (no group of zeros, no 666)."""
    area, group, serial = re.split(r"\D", text)
    return area not in ("000", "666") and area < "900" and group != "00" and serial != "0000"


def is_phone(text: str) -> bool:
    digits = re.sub(r"\D", "", re.sub(r"(?:x|ext).*", "", text))
    return 7 <= len(digits) <= 15 and len(set(digits)) > 2


def _has_cue(text: str, start: int, end: int) -> bool:
    before = PHONE_CUE.search(text, max(0, start - CUE_REACH), start)
    return bool(before or AFTER_CUE.match(text, end))


def _phones(text: str, start: int, end: int) -> Iterator[Span]:
    for match in PHONE.finditer(text, start, end):
        if is_phone(match.group()):
            yield Span("PHONE", *match.span())
    for match in WEAK_PHONE.finditer(text, start, end):
        if is_phone(match.group()) and _has_cue(text, *match.span()):
            yield Span("PHONE", *match.span())


def _keys(text: str) -> Iterator[Span]:
    yield from (Span("KEY", *m.span()) for m in KEY.finditer(text))
    yield from (Span("KEY", *m.span(1)) for m in SECRET.finditer(text))


CHECKED: dict[str, tuple[re.Pattern[str], Callable[[str], bool]]] = {
    "IBAN": (IBAN, is_iban),
    "CARD": (CARD, is_card),
    "SSN": (SSN, is_ssn),
    "IP": (IP, is_public_ip),
}


def _own(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield what our expressions find in a line of the text."""
    yield from (Span("EMAIL", *m.span()) for m in EMAIL.finditer(text, start, end))
    for kind, (expression, check) in CHECKED.items():
        for match in expression.finditer(text, start, end):
            version = kind == "IP" and VERSION.search(
                text[max(0, match.start() - 12) : match.start()]
            )
            if not version and check(match.group()):
                yield Span(kind, *match.span())
    yield from _phones(text, start, end)


@cache
def _presidio() -> dict[str, tuple[Any, str, float]]:
    """Return our type to (Presidio's recogniser, its entity, lowest score taken).

    Its import takes two seconds, so it waits for the first line that needs it. Its e-mail
    recogniser looks for a list of domains on the network; ours does without.
    """
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
    from presidio_analyzer import predefined_recognizers as found

    return {
        "CARD": (found.CreditCardRecognizer(), "CREDIT_CARD", 0.5),
        "IBAN": (found.IbanRecognizer(), "IBAN_CODE", 0.5),
        "SSN": (found.UsSsnRecognizer(), "US_SSN", 0.5),
        "PHONE": (found.PhoneRecognizer(), "PHONE_NUMBER", 0.4),
    }


NEEDS = {"CARD": CARD, "IBAN": IBAN, "SSN": SSN, "PHONE": re.compile(r"(?:\d[\s().-]{0,2}){7}")}
# Where one of these is near, Presidio's looser matches are taken too; elsewhere they are numbers.
CUES = {
    "CARD": re.compile(r"card|visa|amex|payment", re.I),
    "IBAN": re.compile(r"iban|account|bank", re.I),
    "SSN": re.compile(r"ssn|social", re.I),
    "PHONE": PHONE_CUE,
}


def _by_presidio(text: str, start: int, end: int) -> Iterator[Span]:
    line = text[start:end]
    for kind, needed in NEEDS.items():
        if not needed.search(line) or not CUES[kind].search(line):
            continue
        recogniser, entity, lowest = _presidio()[kind]
        for result in recogniser.analyze(line, [entity], None) or ():
            if result.score >= lowest and _has_room(line, result.start, result.end):
                yield Span(kind, start + result.start, start + result.end)


def _has_room(text: str, start: int, end: int) -> bool:
    """Tell whether a match is no part of a longer number or word."""
    outside = text[max(0, start - 1) : start] + text[end : end + 1]
    return not re.search(r"[\w+]", outside)


def find(text: str) -> list[Span]:
    """Return the personal data in a text, in order and without overlap."""
    found = list(_keys(text)) if KEY_LIKELY.search(text) else []
    start = 0
    for line in text.split("\n"):
        if CANDIDATE.search(line):
            found += _own(text, start, start + len(line))
            found += _by_presidio(text, start, start + len(line))
        start += len(line) + 1
    return _without_overlap(found)


def _without_overlap(spans: Iterable[Span]) -> list[Span]:
    kept: list[Span] = []
    ordered = sorted(spans, key=lambda s: (TYPES.index(s.type), s.start - s.end, s.start))
    for span in ordered:
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept, key=lambda s: s.start)


def replace(text: str, types: Iterable[str] = TYPES) -> tuple[str, Counter[str]]:
    """Return the text with placeholders in place of personal data, and how many of each type."""
    wanted = set(types)
    parts, at, counts = [], 0, Counter[str]()
    for span in find(text):
        if span.type in wanted:
            parts += [text[at : span.start], f"<{span.type}>"]
            at = span.end
            counts[span.type] += 1
    return "".join([*parts, text[at:]]), counts


class Pii:
    """Replaces personal data in documents; `tally` counts by type."""

    def __init__(self, types: Iterable[str] = TYPES):
        self.types = tuple(types)
        self.tally: Counter[str] = Counter()

    def filter(self, document: Any) -> bool:
        document.text, counts = replace(document.text, self.types)
        if counts:
            document.metadata["pii"] = dict(counts)
            self.tally.update(counts)
        return True


# How the labelled rows call the types.
LABELLED = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "IP_ADDRESS": "IP",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
    "US_SSN": "SSN",
}


def evaluate(rows: list[dict[str, Any]] | None = None) -> dict[str, tuple[int, float, float]]:
    """Return type to (labelled spans, recall, precision); a hit overlaps by half of the union."""
    counts: list[Counter[str]] = [Counter() for _ in range(4)]
    labelled, hits, found, right = counts
    for row in labels("pii") if rows is None else rows:
        truth = [
            Span(LABELLED[s["type"]], s["start"], s["end"])
            for s in row["spans"]
            if s["type"] in LABELLED
        ]
        guesses = find(row["text"])
        for span in truth:
            labelled[span.type] += 1
            hits[span.type] += any(_same(span, guess) for guess in guesses)
        for guess in guesses:
            found[guess.type] += 1
            right[guess.type] += any(_same(span, guess) for span in truth)
    return {
        kind: (n, hits[kind] / n, right[kind] / max(found[kind], 1)) for kind, n in labelled.items()
    }


def _same(a: Span, b: Span) -> bool:
    inner = min(a.end, b.end) - max(a.start, b.start)
    outer = max(a.end, b.end) - min(a.start, b.start)
    return a.type == b.type and 2 * inner >= outer


def planted_keys(count: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Return rows with made-up keys of every form covered, in sentences and in code."""
    rng = random.Random(seed)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    def some(n: int) -> str:
        return "".join(rng.choices(letters, k=n))

    rsa = "RSA PRIVATE KEY"
    forms: tuple[Callable[[], str], ...] = (
        lambda: "AKIA" + some(16).upper(),
        lambda: "ghp_" + some(36),
        lambda: "glpat-" + some(20),
        lambda: "xoxb-" + some(24),
        lambda: "AIza" + some(35),
        lambda: "sk-proj-" + some(40),
        lambda: "hf_" + some(34),
        lambda: "sk_live_" + some(24),
        lambda: f"eyJ{some(20)}.eyJ{some(30)}.{some(40)}",
        lambda: f"-----BEGIN {rsa}-----\n{some(64)}\n{some(64)}\n-----END {rsa}-----",
    )
    around = ("Use {} to log in.", 'client = Client("{}")', "export TOKEN={}\n", "{}")
    rows = []
    for i in range(count):
        key, sentence = forms[i % len(forms)](), rng.choice(around)
        start = sentence.index("{}")
        span = {"type": "KEY", "start": start, "end": start + len(key)}
        rows.append({"text": sentence.format(key), "spans": [span]})
    return rows


def main() -> None:
    parser = Parser(
        prog="python -m data.pii",
        description="Recall and precision of the finder of personal data on the labelled rows.",
        epilog="example: python -m data.pii evaluate",
    )
    parser.add_argument("command", choices=("evaluate",))
    parser.parse_args()
    print(f"{'type':<8}{'labelled':>10}{'recall':>10}{'precision':>10}")
    for kind, (count, recall, precision) in sorted(evaluate().items()):
        print(f"{kind:<8}{count:>10,}{recall:>10.3f}{precision:>10.3f}")
    keys = planted_keys()
    hits = sum(find(row["text"])[:1] == [Span(**row["spans"][0])] for row in keys)
    print(f"{'KEY':<8}{len(keys):>10,}{hits / len(keys):>10.3f}         - (made up)")


if __name__ == "__main__":
    run(main)
