"""The chain as a whole: counts add up, a resumed run equals a fresh one, faults stay local."""

import gzip
import html
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import zstandard
from datatrove.pipeline.base import PipelineStep

from data import curation, curation_report, executors, source
from data.embed_labels import benchmarks
from data.errors import UserError
from data.settings import read_config
from tests.data.warcs import http, packed, warc

ROOT = Path(__file__).parent.parent.parent
CONFIG = str(ROOT / "configs" / "curate.py")


def make_sources(folder: Path) -> None:
    """Three files of documents with duplicates, personal data, junk and broken records."""
    folder.mkdir()
    texts = [d.text for d in source.read() if d.kind == "papers" and 900 < len(d.text) < 2500][:40]
    texts += texts[:4] + [f"{t} As reprinted." for t in texts[4:8]]
    texts += ["buy now " * 60, "", f"{texts[9]} Write to a.b@example.org or 93.184.216.34."]
    for part in range(3):
        lines = [
            json.dumps({"text": t, "id": f"{part}-{i}", "licence": "CC0-1.0"})
            for i, t in enumerate(texts[part::3])
        ]
        lines.insert(2, "{broken")
        data = ("\n".join(lines) + "\n").encode()
        (folder / f"{part}.jsonl.gz").write_bytes(gzip.compress(data))
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(data)[:-30])


def config(path: Path, **run):
    c = read_config(f"{CONFIG}:web")
    c.path = str(path)
    c.run.update(tasks=3, workers=2, **run)
    return c


def outcome(out: Path) -> dict[str, bytes]:
    """Every byte that a run is about: documents and report, not logs."""
    names = [out / "report.json", *sorted((out / "documents").iterdir())]
    return {name.name: name.read_bytes() for name in names}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory) -> tuple[Path, Path, dict]:
    folder = tmp_path_factory.mktemp("curation")
    make_sources(folder / "in")
    report = curation.curate(config(folder / "in"), folder / "out")
    return folder / "in", folder / "out", report


def documents(out: Path) -> list[dict]:
    return [
        json.loads(line)
        for file in sorted((out / "documents").iterdir())
        for line in zstandard.decompress(file.read_bytes(), 1 << 28).splitlines()
    ]


def test_rows_in_are_rows_out_and_rows_dropped(fresh) -> None:
    _, out, report = fresh
    dropped = sum(sum(reasons.values()) for reasons in report["dropped"].values())
    assert report["rows_in"] == report["rows_out"] + dropped
    assert report["rows_out"] == len(documents(out)) > 20
    assert report["tokens_out"] == sum(d["tokens"] for d in documents(out))
    assert report["dropped"]["read"]["not JSON"] >= 3
    assert report["dropped"]["exact"]["duplicate"] >= 4
    assert report["duplicate_clusters"]["clusters"] >= 4
    assert report["pii"] == {"EMAIL": 1, "IP": 1}
    assert "Write to <EMAIL> or <IP>." in "\n".join(d["text"] for d in documents(out))


def test_the_page_shows_the_figures_and_asks_for_nothing(fresh) -> None:
    _, out, report = fresh
    page = (out / "report.html").read_text()
    assert f"{report['rows_in']:,} records in" in page and "not JSON" in page
    assert "src=" not in page and "<script" not in page
    assert curation_report.totals(report) in curation_report.table(report)


def test_training_reads_the_result(fresh) -> None:
    _, out, report = fresh
    assert len(list(source.read(str(out / "documents")))) == report["rows_out"]
    assert source.fingerprint(str(out)) == source.fingerprint(str(out / "documents"))


def test_a_second_run_does_nothing_and_another_config_is_refused(fresh) -> None:
    path, out, _ = fresh
    before, started = outcome(out), time.time()
    curation.curate(config(path), out)
    assert outcome(out) == before and time.time() - started < 30
    other = config(path)
    other.minhash.bands = 10
    with pytest.raises(UserError, match="another config"):
        curation.curate(other, out)


def test_a_resumed_run_equals_a_fresh_one(fresh, tmp_path) -> None:
    """Undo a part of each phase, as a kill does, and run again with another number of workers."""
    path, out, _ = fresh
    c = config(path)
    again = tmp_path / "out"
    curation.curate(c, again)
    for logs in (again / "work" / "logs").iterdir():
        for marker in sorted((logs / "completions").iterdir())[1::2]:
            marker.unlink()
    (again / "documents" / "00001.jsonl.zst").rename(again / "documents" / ".00001.jsonl.zst.1.tmp")
    c.run.workers = 1
    curation.curate(c, again)
    assert outcome(again) == outcome(out)


@pytest.mark.slow
def test_a_full_disk_is_a_line_and_the_same_command_goes_on(fresh, tmp_path) -> None:
    """Files may not grow beyond 16 kB, as on a disk that is nearly full; then they may."""
    path, out, _ = fresh
    command = (
        f"{sys.executable} -m data.curate --config={CONFIG}:web --config.path={path} "
        f"--config.run.tasks=3 --config.run.workers=2 --out={tmp_path / 'out'}"
    )

    def run(limit: str) -> subprocess.CompletedProcess:
        shell = ["bash", "-c", f"ulimit -f {limit}; exec {command}"]
        return subprocess.run(shell, cwd=ROOT, capture_output=True, text=True)

    full = run("16")
    assert full.returncode == 2 and "00-read" in full.stderr.splitlines()[-1]
    assert any("File too large" in line or "space" in line for line in full.stderr.splitlines())
    assert "Traceback" not in full.stderr
    written = [file for file in (tmp_path / "out").rglob("documents/*") if file.is_file()]
    assert not any(file.name.startswith(".") for file in written)  # nothing half
    assert run("unlimited").returncode == 0
    assert outcome(tmp_path / "out") == outcome(out)


def test_planted_contamination_is_found_in_the_crawl(tmp_path) -> None:
    """Articles of the crawl with a benchmark's text in them go; the same ones without it stay."""
    (tmp_path / "in").mkdir()
    shutil.copy(curation.CRAWL / "crawl-0.warc.gz", tmp_path / "in")
    truth = map(json.loads, source.read_lines(curation.CRAWL / "truth.jsonl.zst"))
    articles = [row["main_text"] for row in truth if row.get("main_text")][:40:4]
    planted, pages = Counter(), []
    for number, (name, file) in enumerate(sorted(benchmarks().items())):
        article = articles[number].split("\n")
        item = next(d.text for d in source.read(str(file)) if len(d.text.split()) > 20)
        planted[name] += 1
        for kind, lines in (
            ("clean", article),
            ("planted", [*article[:1], " ".join(item.split()), *article[1:]]),
        ):
            body = "".join(f"<p>{html.escape(line)}</p>" for line in lines if line.strip())
            page = f"<html><body><article>{body}</article></body></html>".encode()
            url = f"https://planted.example/{kind}/{name}"
            pages.append(warc(http(page, media="text/html; charset=utf-8"), url=url))
    (tmp_path / "in" / "planted.warc.gz").write_bytes(packed(pages))
    c = config(tmp_path / "in")
    c.stages = ("decontaminate",)
    report = curation.curate(c, tmp_path / "out")
    kept = {d["url"] for d in documents(tmp_path / "out")}
    assert {u for u in kept if "planted.example" in u} == {
        f"https://planted.example/clean/{name}" for name in planted
    }
    assert len(planted) == 9 and report["contamination"] == planted
    assert report["dropped"]["decontaminate"] == {"in a benchmark": 9}


class Fails(PipelineStep):
    """Fails in one task: by an exception, or as if killed."""

    name, type = "fails", "TEST"

    def __init__(self, folder: Path, how: str):
        super().__init__()
        self.folder, self.how = folder, how

    def run(self, data=None, rank: int = 0, world_size: int = 1) -> None:
        if rank == 1 and self.how == "always":
            raise RuntimeError("this task never works")
        first = self.folder / f"tried-{rank}"
        if rank == 1 and self.how == "killed" and not first.exists():
            first.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (self.folder / f"done-{rank}").touch()


@pytest.mark.parametrize("how", ["always", "killed"])
def test_a_failed_task_stops_no_other(tmp_path, how: str) -> None:
    settings = SimpleNamespace(workers=2)
    executor = executors.local([Fails(tmp_path, how)], 5, tmp_path / "logs", settings, None)
    executor.run()
    assert executors.missing(executor) == ([1] if how == "always" else [])
    assert all((tmp_path / f"done-{rank}").exists() for rank in (0, 2, 3, 4))


def test_a_failed_phase_is_one_line_that_names_the_log(tmp_path, monkeypatch) -> None:
    make_sources(tmp_path / "in")
    c = config(tmp_path / "in")
    c.stages = ("url",)
    c.url.domains = str(tmp_path / "none.txt")
    with pytest.raises(UserError, match="cannot read the block list"):
        curation.curate(c, tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"stages": ("gopher_qualty",)}, 'did you mean "gopher_quality"'),
        ({"stages": ("url", "url")}, "twice"),
        ({"quality": {"model": "nothing.npz"}}, "not a classifier"),
        ({"extractor": "lynx"}, "extractor"),
        ({"path": "nowhere"}, "no such file"),
    ],
)
def test_wrong_fields_are_one_line(tmp_path, change: dict, words: str) -> None:
    make_sources(tmp_path / "in")
    c = config(tmp_path / "in")
    c.update(change)
    with pytest.raises(UserError, match=words):
        curation.curate(c, tmp_path / "out")


def test_slurm_submits_arrays_that_wait_for_each_other(tmp_path, monkeypatch) -> None:
    """With a made-up sbatch that notes what it is given."""
    make_sources(tmp_path / "in")
    sbatch = tmp_path / "sbatch"
    calls, scripts = tmp_path / "calls", tmp_path / "scripts"
    sbatch.write_text(
        f'#!/bin/sh\necho "$@" >> {calls}\nfor last; do :; done\ncat "$last" >> {scripts}\n'
        f"echo Submitted batch job $(wc -l < {calls})\n"
    )
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    c = config(tmp_path / "in", executor="slurm")
    c.stages = ("exact",)
    with pytest.raises(UserError, match="partition"):
        curation.curate(c, tmp_path / "out")
    c.run.partition = "cpu"
    assert curation.curate(c, tmp_path / "out") is None
    text = scripts.read_text()
    assert text.count("#SBATCH --partition=cpu") >= 4  # three phases and the report
    assert "afterok:1" in text + calls.read_text()
