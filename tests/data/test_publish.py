"""Documents published as a TFDS dataset are read back as they were."""

import json
import sys
from pathlib import Path

import pytest

from data import publish, source
from data.errors import UserError

ROWS = [
    {"text": f"text {i}: caf\u00e9\n\nend", "id": f"d{i}", "source": "s", "licence": "MIT",
     "kind": "web", "lang": "en", "url": f"https://a.example/{i}",
     "split": "validation" if i % 5 == 0 else "train"}
    for i in range(23)
]  # fmt: skip


def write(folder: Path, rows: list[dict]) -> str:
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "a.jsonl").write_text(text)
    return str(folder)


def test_what_is_published_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path / "in", ROWS)
    folder = publish.publish(path, "my_crawl", tmp_path / "out")
    assert any("array_record" in file.name for file in folder.iterdir())
    found = list(source.read(f"tfds:my_crawl:{tmp_path / 'out'}"))
    assert sorted(found) == sorted(source.read(path))
    assert "tensorflow" not in sys.modules
    with pytest.raises(UserError, match="is there already"):
        publish.publish(path, "my_crawl", tmp_path / "out")


def test_without_splits_all_is_for_training(tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in ROWS] + [{"text": "a lone \ud800 surrogate"}]
    publish.publish(write(tmp_path / "in", rows), "plain", tmp_path / "out", "2.0.1")
    found = list(source.read(f"tfds:plain:{tmp_path / 'out'}"))
    assert {d.split for d in found} == {""} and len(found) == 24
    assert "a lone ? surrogate" in {d.text for d in found}


@pytest.mark.parametrize(("name", "version"), [("My-Crawl", "1.0.0"), ("a", "1.0")])
def test_a_wrong_name_is_one_line_and_writes_nothing(tmp_path, name: str, version: str) -> None:
    with pytest.raises(UserError, match="name|version"):
        publish.publish(write(tmp_path / "in", ROWS), name, tmp_path / "out", version)
    assert not (tmp_path / "out").exists()
