"""The report: from folders alone, whole or half, offline; its numbers are the law's."""

import base64
import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data.errors import UserError
from experiments.chapters import KINDS, chapters
from experiments.charts import Chart, csv_text, data_json
from experiments.frontier import cells
from experiments.interactive import document
from experiments.laws import Law
from experiments.outcome import find, summary
from experiments.records import record_path
from experiments.report import finish, sections
from lm.chips import CHIPS
from tests.browser import ask, needs_chromium
from tests.experiments.sweeps import made_up_folder

ROOT = Path(__file__).parents[2]
LONG = ROOT / "experiments" / "measured" / "long"
EVIL = "<script>alert(1)</script><b>x</b>"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    made_up_folder(folder)
    return finish(folder, began=time.monotonic())


@pytest.fixture(scope="module")
def page(finished):
    return (finished.folder / "report.html").read_text("utf-8")


def tables_of(page: str) -> str:
    """The page without its library, data and CSV."""
    return re.sub(r"<script.*?</script>|base64,[A-Za-z0-9+/=]+", "", page, flags=re.S)


def test_a_finished_sweep_leaves_everything(finished, page):
    names = {p.name for p in finished.folder.iterdir()}
    assert {"runs", "runs.csv", "law.json", "frontier.json", "report.html", "figures"} <= names
    figures = {p.stem for p in (finished.folder / "figures").glob("*.png")}
    assert figures == {"isoflop", "frontier", "surface", "predicted", "curves", "learning_rate"}
    assert "not complete" not in page


def test_the_page_is_small_and_asks_nothing_of_the_network(page):
    assert len(page.encode()) < 6e6
    assert page.count('id="plotly"') == 1
    assert "default-src 'none'" in page
    rest = re.sub(r'<script type="application/octet-stream".*?</script>', "", page, flags=re.S)
    assert not re.search(r"https?:|<link|@import|url\(|\bsrc=", rest)


def test_numbers_agree_everywhere(finished, page):
    law = Law.load(finished.folder / "law.json")
    frontier = json.loads((finished.folder / "frontier.json").read_text())
    page, text = tables_of(page), summary(finished, 1.0)
    shown = [f"{law.params[name]:.4g}" for name in ("E", "A", "B", "alpha", "beta")]
    shown += [f"{row['ratio']['value']:.4g}" for row in frontier["rows"]]
    shown += [f"{law.holdout[0]['predicted']:.4f}", f"{law.holdout[0]['error_percent']:+.2f}%"]
    for number in shown:
        assert number in page and number in text
    assert len(law.holdout) == 1 and law.data["held_out"] == 1
    assert abs(law.holdout[0]["error_percent"]) < 2


def test_every_chart_has_its_numbers_as_csv_and_a_name(page):
    links = re.findall(r'href="data:text/csv;charset=utf-8;base64,([^"]*)"', page)
    plots = re.findall(r'<div class="plot"[^>]*role="img" aria-label="([^"]+)"', page)
    assert len(links) == len(plots) == page.count("<figure") >= 7
    for link in links:
        rows = list(csv.reader(io.StringIO(base64.b64decode(link).decode())))
        assert len(rows) > 1 and len({len(row) for row in rows}) == 1


def test_what_is_in_a_csv_is_what_the_runs_were(finished, page):
    (link,) = re.findall(r'download="isoflop.csv" href="data:[^,]*,([^"]*)"', page)
    rows = list(csv.DictReader(io.StringIO(base64.b64decode(link).decode())))
    own = [r for r in finished.records if r["lr_factor"] == 1]
    assert [float(r["loss"]) for r in rows] == [r["loss"] for r in own]
    assert [int(r["N"]) for r in rows] == [r["N"] for r in own]


def test_the_page_is_the_same_when_built_again_from_the_folder(finished, page):
    again = find(finished.folder)
    assert again.law == finished.law
    assert tables_of(
        document("Compute-optimal scaling: a report", sections([finished.folder]))
    ) == (tables_of(page))


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def report(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "experiments.report", *map(str, words)],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip


def test_half_a_sweep_says_what_is_missing_and_is_only_read(tmp_path):
    folder = tmp_path / "half"
    records = made_up_folder(folder, share=0.5)
    before = files_of(folder)
    done = report(folder, f"--out={tmp_path / 'out.html'}")
    assert done.returncode == 0, done.stderr
    missing = len(records) - round(0.5 * len(records))
    text = (tmp_path / "out.html").read_text()
    assert f"{missing} of {len(records)} runs are missing" in text.replace("\n", " ")
    assert files_of(folder) == before
    inside = report(folder, f"--out={folder / 'report.html'}")
    assert inside.returncode == 2 and "only read" in inside.stderr
    assert files_of(folder) == before


def test_too_few_runs_for_a_law_are_shown_without_one(tmp_path):
    made_up_folder(tmp_path, share=0.1)
    found = finish(tmp_path, began=time.monotonic())
    text = (tmp_path / "report.html").read_text()
    assert found.law is None and "No law can be fitted yet" in text
    assert "One seed only" in text and "Trunks and their cooldowns" in text
    assert not (tmp_path / "law.json").exists()


def test_a_law_without_its_runs_and_other_folders(tmp_path, finished):
    law = tmp_path / "law"
    law.mkdir()
    (law / "law.json").write_bytes((finished.folder / "law.json").read_bytes())
    (law / "tokens.json").write_text(json.dumps([
        {"tokenizer": EVIL, "content": "code", "tokens": 10, "characters": 30, "words": 5,
         "bytes": 40, "exact": True, "mb_per_second": 1.0},
    ]))  # fmt: skip
    found = dict(chapters(law))
    assert set(found) == {"Law", "Tokenizers"}
    text = document("t", list(found.items()))
    assert "The runs are not here" in text and "4.00" in text
    assert EVIL not in text and "&lt;script&gt;alert(1)" in text


def test_a_broken_part_leaves_the_rest(tmp_path, finished):
    (tmp_path / "law.json").write_bytes((finished.folder / "law.json").read_bytes())
    (tmp_path / "tokens.json").write_text('[{"tokenizer": 3}]')
    found = dict(chapters(tmp_path))
    assert any("not what was expected" in str(p) for p in found["Tokenizers"])
    assert any(isinstance(p, Chart) for p in found["Law"])


@pytest.mark.parametrize("folder", ["", "absent"])
def test_a_folder_with_nothing_is_one_line(tmp_path, folder):
    with pytest.raises(UserError, match="holds nothing|no such folder"):
        chapters(tmp_path / folder)
    assert len({k.title for k in KINDS}) == len(KINDS)


def test_an_empty_sweep_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"runs/\*\.json"):
        find(tmp_path)


def test_json_inside_a_page_is_inert_and_finite():
    text = data_json({"x": ["</script>", float("inf"), float("nan"), 1 / 3]})
    assert "<" not in text
    assert json.loads(text) == {"x": ["</script>", None, None, 0.333333]}


def test_a_csv_starts_no_formula():
    assert csv_text([["=1+1", "-x", "a,b", -2.5]]) == "'=1+1,'-x,\"a,b\",-2.5\n"


# In a browser -----------------------------------------------------------------------------------

READ = """const read = (s) => Object.fromEntries([...document.querySelectorAll("[data-read]")]
  .map((e) => [e.dataset.read, e.textContent]));"""
TRY_IT = (
    READ
    + """
const slider = document.querySelector("input[type=range]");
const go = (n) => { slider.value = n; slider.dispatchEvent(new Event("input", {bubbles: true})); };
const first = read();
go(slider.max);
const last = read();
document.querySelector('[data-go="1e+22"]').click();
const button = read();
document.getElementById("theme").click();
const light = getComputedStyle(document.body).backgroundColor;
document.getElementById("theme").click();
await new Promise((r) => setTimeout(r, 300));
const dark = getComputedStyle(document.body).backgroundColor;
const label = slider.labels[0].textContent + slider.getAttribute("aria-valuetext");
const named = (e) => (e.labels && e.labels.length) || e.textContent.trim() || e.closest(".plot");
const controls = [...document.querySelectorAll("input, select, button, a")];
const unnamed = controls.filter((e) => !named(e)).length;
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
return {first, last, button, light, dark, label, unnamed, ids: ids.length - new Set(ids).size,
  drawn: document.querySelectorAll(".plot .main-svg").length > 0,
  empty: [...document.querySelectorAll(".plot")].filter((p) => !p.querySelector("svg")).length};
"""
)


@needs_chromium
def test_in_a_browser_the_slider_reads_what_the_frontier_says(finished, tmp_path):
    said, console = ask(finished.folder / "report.html", TRY_IT, tmp_path, "#compute=1e21")
    found = json.loads(said)
    assert console == []
    assert found["drawn"] and found["empty"] == 0
    assert found["unnamed"] == 0 and found["ids"] == 0
    assert "Training compute" in found["label"] and "FLOPs" in found["label"]
    assert found["light"] != found["dark"]
    law = Law.load(finished.folder / "law.json")
    printed = subprocess.run(
        [sys.executable, "-m", "experiments.frontier", finished.folder / "law.json",
         "--compute=1e21,1e22,1e27"],
        capture_output=True, text=True, cwd=ROOT,
    ).stdout  # fmt: skip
    for C, read in ((1e21, found["first"]), (1e22, found["button"]), (1e27, found["last"])):
        optimum = law.optimal(C)
        expected = cells(optimum)
        names = ["C", "N*", "N* interval", "D*", "D* interval", "D/N", "D/N interval", "loss"]
        assert [read[n] for n in [*names, "loss interval"]] == expected[:9]
        (line,) = [row for row in printed.splitlines() if row.startswith(expected[0])]
        assert all(cell in line for cell in expected)
        hours = C / (0.4 * CHIPS["h100"].flops) / 3600
        assert number(read["weeks"]) == pytest.approx(hours / 64 / 168, rel=0.006)
        assert number(read["dollars"]) == pytest.approx(hours * 3.0, rel=0.006)
        low, high = map(number, read["dollars interval"].split(" to "))
        assert low < number(read["dollars"]) < high
        held = [-(-n * 16 // CHIPS["h100"].hbm_bytes) for n in optimum.N]
        assert number(read["chips to hold it"]) == pytest.approx(held[0], rel=0.006)
        bounds = [number(x) for x in read["chips to hold it interval"].split(" to ")]
        assert bounds == pytest.approx(held[1:], rel=0.006)


def number(text: str) -> float:
    return float(text.replace(",", ""))


@needs_chromium
@pytest.mark.parametrize("width", [390])
def test_on_a_phone_nothing_overflows_and_markup_stays_text(tmp_path, width):
    folder = tmp_path / "sweep"
    for record in made_up_folder(folder)[:6]:
        evil = record | {"model": EVIL, "chip": EVIL, "tokenizer_hash": EVIL}
        record_path(folder, record["run_id"]).write_text(json.dumps(evil))
    path = tmp_path / "report.html"
    path.write_text(document(EVIL, [(EVIL, sections([folder])[0][1])]))
    assert "<script>alert" not in path.read_text()
    script = """return {wide: document.documentElement.scrollWidth, inner: innerWidth,
      title: document.querySelector("h1").textContent,
      bold: document.querySelectorAll("main td b, h1 b, h2 b").length,
      legend: [...document.querySelectorAll(".legendtext")].map((e) => e.textContent)}"""
    said, console = ask(path, script, tmp_path, width=width)
    found = json.loads(said)
    assert console == []
    assert found["inner"] == width and found["wide"] <= width
    assert found["title"] == EVIL and found["bold"] == 0
    assert any(text.startswith(EVIL) for text in found["legend"])
