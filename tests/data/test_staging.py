"""Text in cloud storage is copied once, whole or not at all. A local folder stands for a bucket."""

import os
from pathlib import Path

import pytest
from etils import epath

from data import source, staging
from data.errors import UserError
from data.prepare import prepare


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch) -> Path:
    folder = tmp_path / "bucket"
    (folder / "in" / "deep").mkdir(parents=True)
    for name in ("a.txt", "deep/b.txt", "deep/note.md", ".hidden.txt"):
        (folder / "in" / name).write_text(f"{name}: some words of text " * 300)
    monkeypatch.setattr(
        staging, "remote", lambda path: epath.Path(path.replace("gs://b", str(folder)))
    )
    return folder


def names(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def test_what_is_local_stays_where_it_is(tmp_path: Path) -> None:
    for path in ("", "some/folder", "tfds:lm1b", "tfds:lm1b:some/folder"):
        assert staging.local(path, tmp_path / "cache") == path
    assert not (tmp_path / "cache").exists()


def test_a_folder_is_copied_once_and_again_where_it_changed(bucket: Path, tmp_path: Path) -> None:
    first = staging.local("gs://b/in", tmp_path / "cache")
    assert names(first) == ["a.txt", "deep/b.txt"]
    (bucket / "in" / ".hidden.txt").unlink()
    assert source.fingerprint(first) == source.fingerprint(str(bucket / "in"))
    before = os.stat(Path(first) / "a.txt").st_ino
    assert staging.local("gs://b/in", tmp_path / "cache") == first
    assert os.stat(Path(first) / "a.txt").st_ino == before
    (bucket / "in" / "a.txt").write_text("other text")
    second = staging.local("gs://b/in", tmp_path / "cache")
    assert second != first and (Path(second) / "a.txt").read_text() == "other text"
    assert names(staging.local("gs://b/in/deep/b.txt", tmp_path / "cache")) == ["b.txt"]


def test_a_copy_that_fails_leaves_nothing(bucket: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(data, file, size) -> None:
        file.write(b"half")
        raise OSError(5, "the network is gone")

    monkeypatch.setattr(staging.shutil, "copyfileobj", fail)
    with pytest.raises(UserError, match="the network is gone"):
        staging.local("gs://b/in", tmp_path / "cache")
    assert names(str(tmp_path / "cache")) == []
    with pytest.raises(UserError, match="no text files"):
        staging.local("gs://b/none", tmp_path / "cache")


def test_a_corpus_is_prepared_from_the_copy(bucket: Path, tmp_path: Path) -> None:
    for i in range(20):
        (bucket / "in" / f"{i}.txt").write_text(" ".join(f"w{i * j % 97}" for j in range(400)))
    options = {"vocab_size": 320, "workers": 1, "log": str, "valid_share": 0.2}
    (bucket / "in" / ".hidden.txt").unlink()
    there = prepare("gs://b/in", cache=tmp_path / "cache", **options)
    here = prepare(str(bucket / "in"), cache=tmp_path / "other", **options)
    assert there.hash == here.hash
