"""One HTML file that opens offline: figures inside it, no request, all text escaped."""

import base64
from collections.abc import Iterable
from html import escape
from pathlib import Path

STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5b6472; --page: #fbfbf9; --card: #fff;
  --line: #dfe2e6; --warn: #9a3412; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ec; --soft: #a3acb8; --page: #14181f;
  --card: #1c222b; --line: #343c48; --warn: #fdba74; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; color: var(--ink);
  background: var(--page); font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p, li { max-width: 46rem; } .soft, figcaption { color: var(--soft); font-size: .92rem; }
.warn { color: var(--warn); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th { color: var(--soft); font-weight: 600; }
figure { margin: 1rem 0 1.6rem; }
figure img { width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; padding: .4rem; }
pre { overflow-x: auto; font-size: .82rem; background: var(--card); padding: .8rem;
  border: 1px solid var(--line); border-radius: 8px; }
"""


def page(title: str, body: Iterable[str], head: str = "") -> str:
    """A whole document; `body` are pieces of HTML, `head` more for the head, `title` is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n{head}</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; `kind` '' or a class of the style: 'soft', 'warn'."""
    return f'<p class="{escape(kind)}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def bullets(items: Iterable[str], kind: str = "") -> str:
    return (
        f'<ul class="{escape(kind)}">' + "".join(f"<li>{escape(i)}</li>" for i in items) + "</ul>"
    )


def table(rows: list[list[str]]) -> str:
    """Rows of text cells, header first."""
    head = "".join(f"<th>{escape(c)}</th>" for c in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(c)}</td>" for c in row) + "</tr>\n" for row in rows[1:]
    )
    inside = f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"
    return f'<div class="wide"><table>{inside}</table></div>'


def figure(path: Path, caption: str) -> str:
    """A PNG inside the page, with its caption also as the alternative text."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def preformatted(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"
