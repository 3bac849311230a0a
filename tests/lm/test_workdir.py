"""Runs in a bucket: a stand-in for one in memory, behind the very paths that gs:// has."""

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from data.errors import UserError
from experiments.sweep import run_sweep
from lm import goodput, workdir
from lm import train as training
from lm.checkpoint import Checkpoints
from lm.goodput import Line
from lm.log import lines_until
from lm.workdir import Lines, at
from tests.experiments.sweeps import grid


class Bucket(MemoryFileSystem):
    """gs:// in memory; nothing can be appended to, as in a bucket."""

    protocol = ("gs", "gcs")
    store: dict = {}
    pseudo_dirs = [""]

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.removeprefix("gs://").removeprefix("gcs://"))

    def _open(self, path, mode="rb", **kwargs):
        assert "a" not in mode
        return super()._open(path, mode, **kwargs)


@pytest.fixture(autouse=True)
def bucket(monkeypatch):
    monkeypatch.setitem(_registry, "gcs", Bucket)
    monkeypatch.setattr(Bucket, "store", {})
    return Bucket


@pytest.fixture(params=["local", "gs"])
def folder(request, tmp_path):
    return at(tmp_path if request.param == "local" else "gs://ours/run")


def test_lines_are_added_to_what_is_there(folder):
    for word in ("one\n", "two\n"):
        lines = Lines(folder / "a.txt")
        lines.write(word)
        lines.close()
    assert (folder / "a.txt").read_text() == "one\ntwo\n"


def test_lines_in_a_bucket_are_written_now_and_then(bucket, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(workdir.time, "monotonic", lambda: now[0])
    path = at("gs://ours/run") / "a.txt"
    lines = Lines(path)
    lines.write("one\n")
    assert not path.exists()
    now[0] = workdir.REWRITE + 1
    lines.write("two\n")
    assert path.read_text() == "one\ntwo\n"


def test_a_log_is_cut_back_and_goodput_read(folder):
    lines = Lines(folder / "metrics.jsonl")
    for step in (1, 2, 3):
        lines.write(f'{{"step": {step}}}\n')
    lines.close()
    assert len(lines_until(folder / "metrics.jsonl", 2)) == 2
    ledger = Lines(folder / goodput.FILE)
    for line in (Line(0.0, 0, {}), Line(10.0, 5, {"compute": 5.0})):
        ledger.write(goodput.text_of(line, start=line.step == 0))
    ledger.close()
    assert goodput.goodput(goodput.read(folder / goodput.FILE)).share == 0.5


def test_checkpoints_of_a_bucket_stay_in_it(monkeypatch):
    import orbax.checkpoint as ocp

    asked = []
    monkeypatch.setattr(ocp, "CheckpointManager", lambda folder, **_: asked.append(str(folder)))
    Checkpoints("gs://ours/run/checkpoints")
    assert asked == ["gs://ours/run/checkpoints"]


def test_a_run_in_a_bucket_leaves_what_a_local_one_does(bucket, text, tmp_path, monkeypatch):
    """Checkpoints apart: those are TensorStore's to write, and it has a client of its own."""
    from configs.gpt import get_config

    c = get_config("tiny")
    c.update(steps=8, batch_size=8, seq_len=16)
    c.model.update(layers=1, width=16, heads=2)
    c.data.update(path=str(text), vocab_size=300, valid_share=0.1, cache=str(tmp_path / "cache"))
    c.train.update(log_every=2, eval_every=0)

    class Local(Checkpoints):
        def __init__(self, folder, keep):
            super().__init__(tmp_path / "kept", keep)

    monkeypatch.setattr(training, "Checkpoints", Local)
    training.train(c, "gs://ours/run")
    found = {path.removeprefix("/ours/run/") for path in bucket.store}
    assert found == {"config.json", "tokenizer.model", "metrics.jsonl", "goodput.jsonl"}
    training.train(c, "gs://ours/run")  # belongs to the same run, and is done
    c.learning_rate = 1.0
    with pytest.raises(UserError, match="gs://ours/run/config.json belongs to another run"):
        training.train(c, "gs://ours/run")


def test_what_nothing_reads_is_told():
    with pytest.raises(UserError, match="gcsfs for gs://"):
        at("s3://ours/run")


def test_a_sweep_in_a_bucket_is_refused():
    with pytest.raises(UserError, match="a sweep needs a folder"):
        run_sweep(grid(), at("gs://ours/sweep"))
