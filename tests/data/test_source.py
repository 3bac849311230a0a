"""Reading text: every format gives the same documents, and whatever is wrong is named."""

import gzip
import json
from pathlib import Path

import pytest
import zstandard

from data.documents import Document
from data.errors import UserError
from data.source import fingerprint, read, text_files

TEXTS = ["first\n", "z\u00fcrich \u4e2d\u6587", "line\nline\n\n", "x" * 100_000]


def lines(texts=TEXTS) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


PACKED = {
    "a.jsonl": lines(),
    "a.jsonl.gz": gzip.compress(lines()),
    "a.jsonl.zst": zstandard.compress(lines()),
}


@pytest.mark.parametrize("name", PACKED)
def test_every_format_gives_the_same_documents(tmp_path, name):
    (tmp_path / name).write_bytes(PACKED[name])
    documents = list(read(str(tmp_path)))
    assert [document.text for document in documents] == TEXTS
    assert [document.id for document in documents] == [f"{name}:{i}" for i in range(1, 5)]
    assert documents == [d._replace(id=d.id) for d in read(str(tmp_path / name))]


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", None)])
def test_compressed_files_of_several_frames(tmp_path, name, pack):
    pack = pack or zstandard.compress
    (tmp_path / name).write_bytes(pack(lines(TEXTS[:1])) + pack(lines(TEXTS[1:])))
    assert [document.text for document in read(str(tmp_path))] == TEXTS


def test_folders_are_read_in_order_and_other_files_left_alone(tmp_path):
    for name in ("b.txt", "a/z.txt", "a.txt", ".hidden.txt", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    assert [d.id for d in read(str(tmp_path))] == ["a.txt", "a/z.txt", "b.txt"]


def test_fields_of_a_record(tmp_path):
    record = {"text": "t", "id": 7, "source": "s", "licence": "MIT", "kind": "web", "lang": "en"}
    record |= {"split": "valid", "unknown": [1]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record) + "\n\n" + json.dumps({"text": ""}))
    expected = Document("t", "7", "s", "MIT", "web", "en", "validation")
    assert list(read(str(tmp_path))) == [expected]


def test_a_long_text_file_is_cut_at_line_ends_and_loses_nothing(tmp_path):
    text = "".join(f"line {i} \u00e4\n" for i in range(150_000))
    (tmp_path / "book.txt").write_text(text, encoding="utf-8")
    documents = list(read(str(tmp_path / "book.txt")))
    assert len(documents) > 20
    assert "".join(document.text for document in documents) == text
    assert all(document.text.endswith("\n") for document in documents)
    assert len({document.id for document in documents}) == len(documents)


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfabc")
    (tmp_path / "b.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "abc"}')
    assert [document.text for document in read(str(tmp_path))] == ["abc", "abc"]


def fails(path: Path, *parts: str) -> None:
    with pytest.raises(UserError) as caught:
        list(read(str(path)))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def test_missing_empty_and_foreign_paths(tmp_path):
    fails(tmp_path / "none", str(tmp_path / "none"), "no such file or folder")
    fails(tmp_path, "no text files")
    (tmp_path / "a.txt").write_text("")
    fails(tmp_path, "no documents")
    (tmp_path / "a.md").write_text("text")
    fails(tmp_path / "a.md", "text comes as .txt")


def test_not_utf8_names_file_and_byte(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc\xff")
    fails(tmp_path, "a.txt", "not UTF-8", "byte 3")
    (tmp_path / "a.txt").write_bytes(b"0123456\n" * 200_000 + b"abc\xff")
    fails(tmp_path, "a.txt", "byte 1,600,003")
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.jsonl").write_bytes(lines(TEXTS[:1]) + b'{"text": "\xff"}\n')
    fails(tmp_path, "b.jsonl", f"byte {len(lines(TEXTS[:1])) + 10}")
    (tmp_path / "b.jsonl").unlink()
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b"\xff"))
    fails(tmp_path, "c.jsonl.gz", "byte 0 once decompressed")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{broken", "not JSON"),
        ('{"body": "x"}', 'no field "text"'),
        ('{"text": 3}', 'no field "text" that holds a string'),
        ("[1]", 'no field "text"'),
        ('{"text": "x", "split": "dev"}', 'split is "dev"'),
    ],
)
def test_a_bad_record_names_file_and_line(tmp_path, line, problem):
    (tmp_path / "a.jsonl").write_bytes(lines(TEXTS[:2]) + line.encode())
    fails(tmp_path, "a.jsonl, line 3", problem)


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.999])
def test_truncated_and_damaged_archives(tmp_path, name, kept):
    whole = gzip.compress(lines() * 9) if name.endswith("gz") else zstandard.compress(lines() * 9)
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    fails(tmp_path, name, "truncated")
    (tmp_path / name).write_bytes(b"no archive at all")
    fails(tmp_path, name, "damaged")


def test_an_unreadable_file(tmp_path):
    (tmp_path / "a.txt").symlink_to(tmp_path / "gone.txt")
    fails(tmp_path, "a.txt", "cannot be read")


def test_a_forbidden_file(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")

    def forbidden(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("data.source.open", forbidden, raising=False)
    fails(tmp_path, "a.txt", "cannot be read (permission denied)")


def test_the_fingerprint_follows_names_and_contents(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    first = fingerprint(str(tmp_path))
    (tmp_path / "notes.md").write_text("not text to train on")
    assert fingerprint(str(tmp_path)) == first
    (tmp_path / "a.txt").write_text("y")
    second = fingerprint(str(tmp_path))
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert len({first, second, fingerprint(str(tmp_path))}) == 3


ALLOWED = {"Public domain", "CC0-1.0", "CC-BY-4.0", "CC-BY", "MIT", "Apache-2.0"}
ALLOWED |= {"BSD-2-Clause", "BSD-3-Clause"}
KINDS = {"books", "code", "conversations", "encyclopedia", "papers", "web", "multilingual"}


def test_the_embedded_corpus():
    files, _ = text_files()
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    sizes = dict.fromkeys(KINDS, 0)
    seen = set()
    for document in read():
        assert document.licence in ALLOWED
        assert document.source and document.id and document.text
        sizes[document.kind] += len(document.text.encode())
        seen.add(document.text)
    total = sum(sizes.values())
    assert len(seen) == sum(1 for _ in read())
    assert total > 40e6
    assert all(
        size / total > (0.05 if kind == "multilingual" else 0.1) for kind, size in sizes.items()
    )
