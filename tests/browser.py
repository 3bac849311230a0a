"""A real Chromium for tests of pages: asks a page something, and hears its complaints."""

import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="no Chromium on this machine (on Debian: apt install chromium)"
)
# A page of its own size cannot be narrower than a window may be; a frame can.
FRAME = """<!doctype html><pre id="said"></pre>
<iframe src="{src}" style="width:{width}px;height:900px;border:0"></iframe>
<script>onmessage = (e) => {{ document.getElementById("said").textContent = e.data }}</script>"""
# Waits until the charts are drawn, then evaluates; what it finds goes up to the frame's page.
ASK = """<script>(async () => {{
  const wait = (ms) => new Promise((r) => setTimeout(r, ms));
  while (document.documentElement.dataset.drawn !== "yes") await wait(50);
  await wait(200);
  const found = await (async () => {{ {script} }})();
  parent.postMessage(JSON.stringify(found), "*");
}})()</script></body>"""


def ask(
    page: Path, script: str, folder: Path, fragment: str = "", width: int = 1280
) -> tuple[str, list[str]]:
    """JSON of what a script returns in the page once it is drawn, and the console's messages."""
    text = page.read_text("utf-8")
    end = text.rindex("</body>")
    (folder / "page.html").write_text(text[:end] + ASK.format(script=script) + text[end + 7 :])
    (folder / "frame.html").write_text(FRAME.format(src=f"page.html{fragment}", width=width))
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={folder / 'profile'}", "--window-size=1400,1000",
         "--virtual-time-budget=20000", "--enable-logging=stderr", "--dump-dom",
         (folder / "frame.html").as_uri()],
        capture_output=True, text=True, timeout=120, env=os.environ | {"HOME": str(folder)},
    )  # fmt: skip
    said = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.S)
    assert said and said[1], f"the page did not answer:\n{done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return unescape(said[1]), console
