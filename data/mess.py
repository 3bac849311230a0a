"""What makes a crawl messy: page chrome, spam, listings, planted personal data, odd encodings.

Everything is drawn from a given random.Random; the words come from the texts themselves. Hosts
are under .example, addresses and numbers from ranges set aside for documentation.
"""

import html
import random
import re
from typing import NamedTuple

SECTIONS = ("Home", "About", "News", "Archive", "Projects", "Events", "Help", "Contact")
COOKIES = "This site uses cookies to improve your experience. Accept all | Settings"
SHARE = "Share this: Twitter Facebook LinkedIn E-mail"
SUBSCRIBE = "Subscribe to our newsletter and never miss a post. Enter your e-mail address"
DEED = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "MIT": "https://spdx.org/licenses/MIT.html",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
}
GOODS = ("watches", "loans", "pills", "casino bonus", "followers", "essay help", "handbags")


class Planted(NamedTuple):
    """Personal data put into a page: made up, and valid where its kind has a checksum."""

    type: str
    value: str


def markup(text: str) -> str:
    """Return a text with Markdown headings, lists and code fences as HTML."""
    out, paragraph, code = list[str](), list[str](), False

    def flush(*then: str) -> None:
        if paragraph:
            out.append("<p>" + "\n".join(paragraph) + "</p>")
            paragraph.clear()
        out.extend(then)

    for line in text.split("\n"):
        if line.lstrip().startswith("```"):
            flush("</code></pre>" if code else "<pre><code>")
            code = not code
        elif code:
            out.append(html.escape(line))
        elif heading := re.match(r"(#{1,5}) +(.+)", line):
            flush(f"<h{len(heading[1])}>{html.escape(heading[2])}</h{len(heading[1])}>")
        elif item := re.match(r"\s*[*-] +(.+)", line):
            flush(f"<ul><li>{html.escape(item[1])}</li></ul>")
        elif line.strip():
            paragraph.append(html.escape(line))
        else:
            flush()
    flush()
    return "\n".join(out)


def page(site: str, title: str, body: str, others: list[str], licence: str, look: int) -> str:
    """Return a whole page: `look` chooses among layouts; `others` are titles that it links to."""
    links = "".join(
        f'<li><a href="/{n}.html">{html.escape(t)}</a></li>' for n, t in enumerate(others)
    )
    menu = "".join(f'<li><a href="/{s.lower()}">{s}</a></li>' for s in SECTIONS)
    deed = DEED.get(licence, "")
    rights = f'<a rel="license" href="{deed}">Licence: {licence}</a>' if deed else ""
    head = (
        f'<head><meta charset="utf-8"><title>{html.escape(title)} | {site}</title>'
        "<style>body{font:16px serif}</style><script>var t=Date.now();</script></head>"
    )
    if look % 3 == 0:
        middle = (
            f"<header><h2>{site}</h2><nav><ul>{menu}</ul></nav></header><main><article>{body}"
            f"</article></main><aside><h3>Related posts</h3><ul>{links}</ul></aside>"
        )
    elif look % 3 == 1:
        middle = (
            f'<div id="top"><ul class="menu">{menu}</ul></div><div class="sidebar"><ul>{links}</ul>'
            f'</div><div class="content">{body}<div class="share">{SHARE}</div></div>'
        )
    else:
        middle = (
            f'<table width="100%"><tr><td class="nav"><ul>{menu}</ul></td><td>{body}</td>'
            f"<td class=nav><ul>{links}</ul></td></tr></table>"
        )
    return (
        f'<!DOCTYPE html>\n<html lang="en">{head}<body><div class="cookie-banner">{COOKIES}</div>'
        f'{middle}<footer class="footer"><p>{SUBSCRIBE}</p><p>{rights} {site}</p></footer>'
        "</body></html>"
    )


def listing(site: str, titles: list[str]) -> str:
    """Return a page that has links only."""
    items = "\n".join(
        f'<li><a href="/p/{n}">{html.escape(t)}</a></li>' for n, t in enumerate(titles)
    )
    return page(site, "Archive", f"<ul>{items}</ul>", titles[:5], "", 0)


def spam(rng: random.Random, words: list[str]) -> str:
    """Return text that sells: the same phrases again and again between drawn words."""
    goods = rng.choice(GOODS)
    phrases = [f"buy cheap {goods} online", f"best {goods} 2024", f"{goods} free shipping!!!"]
    lines = []
    for _ in range(rng.randint(15, 40)):
        some = " ".join(rng.choices(words, k=rng.randint(0, 4)))
        lines.append(f"{rng.choice(phrases)} {some} {rng.choice(phrases)}")
    return "\n\n".join(lines)


def gibberish(rng: random.Random) -> str:
    """Return letters, digits and signs without words."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789{}#@&%$;=|<>"
    return "\n\n".join("".join(rng.choices(letters, k=300)) for _ in range(rng.randint(4, 12)))


def edited(rng: random.Random, text: str, words: list[str], share: float) -> str:
    """Return a text with about `share` of its words replaced, dropped or doubled."""

    def change(match: re.Match[str]) -> str:
        if rng.random() >= share:
            return match[0]
        return rng.choice(["", f"{match[0]} {match[0]}", rng.choice(words)])

    return re.sub(r"[A-Za-z]+", change, text)


def luhn(digits: str) -> str:
    """Return the digit that makes digits + it pass the Luhn check (ISO/IEC 7812-1)."""
    values = [int(d) * (2 - i % 2) for i, d in enumerate(reversed(digits))]
    return str(-sum(v - 9 * (v > 9) for v in values) % 10)


def iban(country: str, account: str) -> str:
    """Return an IBAN with its check digits (ISO 13616, modulo 97)."""
    number = "".join(str(int(c, 36)) for c in f"{account}{country}00")
    return f"{country}{98 - int(number) % 97:02}{account}"


def personal(rng: random.Random) -> list[Planted]:
    """Return made-up personal data, one of each type."""
    name = rng.choice(["maria", "j.smith", "lee", "o.kowalski", "amina"]) + str(rng.randint(1, 999))
    card = "4" + "".join(rng.choices("0123456789", k=14))
    account = "37040044" + "".join(rng.choices("0123456789", k=10))
    net = rng.choice(["192.0.2", "198.51.100", "203.0.113"])
    return [
        Planted("email", f"{name}@mail.{rng.choice(['example.com', 'example.org'])}"),
        Planted("phone", f"+1 {rng.randint(201, 989)}-555-01{rng.randint(0, 99):02}"),
        Planted("ip", f"{net}.{rng.randint(1, 254)}"),
        Planted("card", card + luhn(card)),
        Planted("iban", iban("DE", account)),
        Planted("ssn", f"{rng.randint(100, 665)}-{rng.randint(10, 99)}-{rng.randint(1000, 9999)}"),
    ]


def with_personal(rng: random.Random, text: str) -> tuple[str, list[Planted]]:
    """Return a text with one to three pieces of personal data in sentences, and what they are."""
    said = {
        "email": "Write to {} for details.",
        "phone": "Call {} before noon.",
        "ip": "The request came from {} last night.",
        "card": "It was charged to card {} by mistake.",
        "iban": "Please transfer the fee to {} this week.",
        "ssn": "His social security number is {} on the form.",
    }
    planted = rng.sample(personal(rng), rng.randint(1, 3))
    paragraphs = text.split("\n\n")
    for piece in planted:
        place = rng.randrange(1, len(paragraphs) + 1)
        paragraphs.insert(place, said[piece.type].format(piece.value))
    return "\n\n".join(paragraphs), planted
