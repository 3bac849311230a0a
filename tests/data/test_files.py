"""Atomic files: complete or absent, whatever goes wrong on the way."""

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from data import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_atomic_makes_parents_and_replaces(tmp_path):
    target = tmp_path / "a" / "b.txt"
    files.write_atomic(target, "first")
    files.write_atomic(target, "zwei \u00e4")
    assert target.read_bytes() == "zwei \u00e4".encode()
    assert names(target.parent) == ["b.txt"]


def test_write_atomic_keeps_the_old_content_when_the_disk_is_full(tmp_path, monkeypatch):
    target = tmp_path / "a.txt"
    files.write_atomic(target, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="space") as caught:
        files.write_atomic(target, "new")
    assert caught.value.filename == str(target)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_atomic_dir_appears_whole_or_not_at_all(tmp_path):
    with files.atomic_dir(tmp_path / "built") as building:
        (building / "sub").mkdir()
        (building / "sub" / "x").write_text("1")
        assert not (tmp_path / "built").exists()
    assert (tmp_path / "built" / "sub" / "x").read_text() == "1"
    with pytest.raises(ZeroDivisionError), files.atomic_dir(tmp_path / "failed"):
        _ = 1 / 0
    assert names(tmp_path) == ["built"]


def test_atomic_dir_keeps_the_folder_that_was_first(tmp_path):
    with files.atomic_dir(tmp_path / "built") as ours:
        (ours / "x").write_text("ours")
        with files.atomic_dir(tmp_path / "built") as theirs:
            (theirs / "x").write_text("theirs")
    assert (tmp_path / "built" / "x").read_text() == "theirs"
    assert names(tmp_path) == ["built"]


def test_a_killed_build_leaves_nothing_at_its_name(tmp_path):
    code = (
        "import os, sys; from data.files import atomic_dir\n"
        "with atomic_dir(sys.argv[1]) as d: (d / 'x').write_text('1'); os.kill(os.getpid(), 9)"
    )
    target = tmp_path / "built"
    done = subprocess.run([sys.executable, "-c", code, str(target)], cwd=Path(__file__).parents[2])
    assert done.returncode == -9
    assert not target.exists()
    assert all(name.startswith(".") for name in names(tmp_path))


def test_one_process_at_a_time_writes_to_a_folder(tmp_path):
    code = (
        "import sys; from data.errors import run; from data.files import only_writer\n"
        "def main():\n    with only_writer(sys.argv[1]): pass\n"
        "run(main)"
    )
    other = [sys.executable, "-c", code, str(tmp_path / "run")]
    options = {"cwd": Path(__file__).parents[2], "capture_output": True, "text": True}
    with files.only_writer(tmp_path / "run"):
        done = subprocess.run(other, **options)
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"error: {tmp_path / 'run'}: another process is writing there; "
            "wait for it or choose another folder"
        ]
    assert subprocess.run(other, **options).returncode == 0


def test_hashes(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "x").write_bytes(data)
    assert files.hash_file(tmp_path / "x") == files.hash_bytes(data)
    assert files.hash_bytes(data) == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("count", "bytes_", "plain"),
    [(0, "0 B", "0"), (999, "999 B", "999"), (12_345, "12.3 kB", "12.3k"), (4e6, "4.0 MB", "4.0M")]
    + [(999_990, "1.0 MB", "1.0M"), (1.25e9, "1.2 GB", "1.2B")],
)
def test_sizes_for_people(count, bytes_, plain):
    assert files.human_bytes(count) == bytes_
    assert files.human_count(count) == plain
