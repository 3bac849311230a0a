"""Where a run's time goes: the stopwatch, goodput over restarts, the trace."""

import pytest

from lm import goodput as module
from lm.goodput import FILE, Goodput, Line, Stopwatch, goodput, read, text_of
from lm.profile import SKIPPED, TRACED, Profile


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test turns by hand."""
    now = [100.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    return now


def test_seconds_of_an_inner_block_are_its_own(clock):
    watch = Stopwatch()
    with watch.time("compute"):
        clock[0] += 1
        with watch.time("data"):
            clock[0] += 2
            assert watch.so_far() == {"compute": 1, "data": 2}
        clock[0] += 4
        assert watch.so_far() == {"compute": 5, "data": 2}
    clock[0] += 8
    assert watch.so_far() == {"compute": 5, "data": 2}


def test_waiting_counts_until_each_item_is_there_only(clock):
    def slow():
        for i in range(3):
            clock[0] += 10
            yield i

    watch = Stopwatch()
    for i in watch.waiting("data", slow()):
        clock[0] += i
    assert watch.so_far() == {"data": 30}


def write(path, *starts):
    rows = [text_of(line, start=i == 0) for lines in starts for i, line in enumerate(lines)]
    path.write_text("".join(rows))


FIRST = [
    Line(1000, 0, {}),
    Line(1020, 100, {"compute": 8, "data": 1}),  # 11 s of start-up
    Line(1032, 200, {"compute": 18, "data": 2, "checkpoint": 1}),
]
SECOND = [Line(1040, 150, {}), Line(1060, 300, {"compute": 15, "evaluation": 2})]


def test_goodput_over_a_restart_by_hand(tmp_path):
    """Killed at step 200, resumed at 150: half of the ten seconds from 100 to 200 are lost."""
    write(tmp_path / FILE, FIRST, SECOND)
    found = goodput(read(tmp_path / FILE))
    assert found == Goodput(
        wall=60, productive=13 + 15, lost=5, startup=11 + 3,
        data=2, checkpoint=1, evaluation=2, down=8, starts=2,
    )  # fmt: skip
    parts = found._asdict()
    assert sum(v for k, v in parts.items() if k not in ("wall", "starts")) == found.wall
    assert "goodput 46.7% of 60.0 s over 2 starts" in str(found)


def test_a_half_written_line_is_dropped(tmp_path):
    write(tmp_path / FILE, FIRST)
    (tmp_path / FILE).write_text((tmp_path / FILE).read_text() + '{"start": fal')
    write(tmp_path / "whole", FIRST)
    assert read(tmp_path / FILE) == read(tmp_path / "whole") == [FIRST]


def test_a_trace_is_what_xprof_reads(tmp_path):
    import jax

    said = []
    profile = Profile(tmp_path, said.append)
    for _ in range(SKIPPED + TRACED + 2):
        jax.jit(lambda x: x @ x)(jax.numpy.ones((64, 64))).block_until_ready()
        profile()
    profile.close()
    (trace,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert trace.stat().st_size > 1000 and b"/host:CPU" in trace.read_bytes()
    assert len(said) == 1 and f"profile of {TRACED} calls" in said[0]
