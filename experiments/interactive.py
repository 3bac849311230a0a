"""One HTML file with live charts that opens offline: plotly.js inside it once, nothing fetched.

plotly.js comes from the pinned `plotly` package, which has the whole library only (4.8 MB);
compressed inside the page it takes 2 MB, and the browser unpacks it.
"""

import base64
import functools
import gzip
from collections.abc import Iterable
from html import escape
from importlib.resources import files
from pathlib import Path

from data import page as html
from experiments.charts import Chart, Part, render

HERE = Path(__file__).parent / "page"
# The browser itself refuses any request, should a page ever hold one.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
Section = tuple[str, list[Part]]


@functools.cache
def packed_library() -> str:
    """plotly.min.js of the installed package: gzip, base64."""
    code = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(code, mtime=0)).decode()


def document(title: str, sections: Iterable[Section]) -> str:
    """The page: a table of contents, the sections, the library, the script that draws."""
    body, contents, charts = [], [], 0
    for k, (name, parts) in enumerate(sections):
        contents.append(f'<li><a href="#section-{k}">{escape(name)}</a></li>')
        body.append(f'<section id="section-{k}" aria-labelledby="heading-{k}">')
        body.append(f'<h2 id="heading-{k}">{escape(name)}</h2>')
        for part in parts:
            body.append(render(part, f"chart-{charts}") if isinstance(part, Chart) else part)
            charts += isinstance(part, Chart)
        body.append("</section>")
    top = [
        '<header><a class="skip" href="#main">Skip to the report</a>',
        html.heading(title, 1),
        '<button type="button" id="theme">Theme: as the system</button></header>',
        f'<nav aria-label="Contents"><ul>{"".join(contents)}</ul></nav><main id="main">',
    ]
    end = [
        '</main><footer class="soft">Charts: plotly.js, copyright Plotly, MIT licence.</footer>',
        f'<script type="application/octet-stream" id="plotly">{packed_library()}</script>',
        f"<script>{(HERE / 'report.js').read_text('utf-8')}</script>",
    ]
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<style>{(HERE / 'report.css').read_text('utf-8')}</style>\n"
    )
    return html.page(title, [*top, *body, *end], head)
