"""The benchmarks of sources and tokenizers measure all of the text."""

from data import bench_sources, bench_tokenizer
from data.documents import Document


def test_rate_is_bytes_over_seconds(monkeypatch):
    clock = iter([0.0, 2.0, 5.0, 6.0])
    monkeypatch.setattr(bench_sources.time, "process_time", lambda: next(clock))
    done = []
    work = lambda: (done.append(i) for i in range(3))  # noqa: E731
    assert bench_sources.rate([Document("x" * 4_000_000)], work, 2) == 4.0
    assert len(done) == 6


def test_the_table(capsys):
    bench_sources.main(rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and all(float(line.split()[-1]) > 0 for line in lines[1:])


def test_the_table_of_tokenizers(capsys):
    bench_tokenizer.measure(limit=400, rounds=1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert all(float(cell) > 0 for line in lines[1:] for cell in line.split()[-2:])
