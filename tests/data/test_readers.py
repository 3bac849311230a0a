"""Sources of every kind give documents with their provenance, and count what they skip."""

import gzip
import io
import tarfile

import pytest

from data import html
from data.documents import Skips
from data.errors import UserError
from data.readers import read
from tests.data.warcs import page

PAGE = """<!DOCTYPE html><html><head><title>The &amp; title</title></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/b">Blog</a></li></ul></nav>
<main><article><h1>Of bees</h1><p>%s</p></article></main>
<footer><a rel="license" href="https://creativecommons.org/licenses/by/4.0/">CC</a> (c)</footer>"""
TEXT = "Bees live in hives and make honey of what they find. " * 12


def collect(path, *args, **kwargs):
    skips = Skips()
    return list(read(path, *args, skips=skips, **kwargs)), dict(skips.counts)


def test_a_folder_is_read_in_order_by_suffix(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.warc.gz").write_bytes(gzip.compress(page(1)))
    (tmp_path / "a.html").write_text("<p>a")
    (tmp_path / "z.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "e.html").write_text(" \n")
    found, skipped = collect(tmp_path, licence="CC0-1.0")
    assert [(d.source, d.url) for d in found] == [
        ("a.html", "a.html"),
        ("sub/b.warc.gz", "http://a.example/1"),
    ]
    assert {d.licence for d in found} == {"CC0-1.0"}
    assert skipped == {"unknown type": 1, "empty": 1}
    assert {d.source for d in collect(tmp_path, source="mine")[0]} == {"mine"}


def test_links_out_of_the_folder_are_not_followed(tmp_path):
    (tmp_path / "secret.html").write_text("<p>secret")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.html").symlink_to(tmp_path / "secret.html")
    (tmp_path / "in/dangling.html").symlink_to(tmp_path / "in/none.html")
    found, skipped = collect(tmp_path / "in")
    assert not found and skipped == {"link out of the folder": 1, "unreadable": 1}


def test_archives_in_archives_are_counted_and_never_unpacked(tmp_path):
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped.html"), io.BytesIO())
    packed = gzip.compress(gzip.compress(b'{"text": "twice"}'))
    (tmp_path / "a.jsonl.gz.gz").write_bytes(packed)
    (tmp_path / "b.jsonl.gz").write_bytes(packed)
    before = sorted(tmp_path.parent.rglob("*"))
    found, skipped = collect(tmp_path)
    assert not found and skipped == {"unknown type": 2, "not UTF-8": 1}
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_wrong_paths_and_kinds_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file or folder"):
        collect(tmp_path / "none")
    with pytest.raises(UserError, match='kind "wark".*did you mean "warc"'):
        collect(tmp_path, "wark")


def test_the_main_text_of_a_page():
    pytest.importorskip("resiliparse")
    found = html.extract(PAGE % TEXT)
    assert found.title == "The & title" and found.licence == "CC-BY-4.0"
    assert TEXT.strip() in found.text and "Of bees" in found.text
    assert "Blog" not in found.text and "(c)" not in found.text
    assert html.extract("") == html.Page("", "", "")
    with pytest.raises(UserError, match='did you mean "trafilatura"'):
        html.main_text("<p>x", "trafilatur")


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("http://creativecommons.org/licenses/by-nc-sa/3.0/us/", "CC-BY-NC-SA-3.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://opensource.org/licenses/MIT", "MIT"),
        ("https://www.apache.org/licenses/LICENSE-2.0.html", "Apache-2.0"),
        ("https://a.example/own-terms", "https://a.example/own-terms"),
    ],
)
def test_licences_by_address(address, name):
    assert html.spdx(address) == name
