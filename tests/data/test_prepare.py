"""From text to stores: the split, the cache, and the same result however it is made."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data import prepare as module
from data.batch import Batches
from data.errors import UserError
from data.objectives import causal
from data.prepare import prepare, sample
from data.source import read
from data.split import draw
from data.tokenizer import EOT

ROOT = Path(__file__).parents[2]
RANDOM = random.Random(1)
LEXICON = ["".join(RANDOM.choices("abcdefghij", k=RANDOM.randint(2, 7))) for _ in range(400)]


def sentence(words: int) -> str:
    return " ".join(RANDOM.choices(LEXICON, k=words))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """300 documents of two kinds; some texts are in several documents."""
    folder = tmp_path_factory.mktemp("text")
    quotes = [sentence(20) for _ in range(5)]
    for kind in "ab":
        with open(folder / f"{kind}.jsonl", "w") as file:
            for i in range(150):
                text = sentence(100) + ("\n" + quotes[i % 5] if i % 3 == 0 else "")
                file.write(json.dumps({"text": text, "kind": kind, "source": "s"}) + "\n")
    return folder


def made(folder, cache, **options):
    options = {"vocab_size": 400, "valid_share": 0.1, "workers": 1, "log": lambda _: None} | options
    return prepare(str(folder), cache=cache, **options)


def texts(prepared, store) -> list[str]:
    return [prepared.tokenizer.decode(store.document(i)) for i in range(len(store.offsets))]


def test_every_document_is_in_one_of_the_stores(folder, tmp_path):
    lines = []
    prepared = made(folder, tmp_path, log=lines.append)
    train, valid = texts(prepared, prepared.train), texts(prepared, prepared.valid)
    assert sorted(train + valid) == sorted(document.text for document in read(str(folder)))
    kinds = {document.text: document.kind for document in read(str(folder))}
    for kind in "ab":
        validating, training = (
            [draw(t).split for t in side if kinds[t] == kind] for side in (valid, train)
        )
        assert 12 <= len(validating) <= 18
        assert max(validating) < min(training)
    assert prepared.tokenizer.vocab_size == 400
    (line,) = lines
    assert line == prepared.summary()
    for part in ("300 documents", "tokens", "bytes", "validation", "weight 0"):
        assert part in line


def test_quoted_text_weighs_nothing(folder, tmp_path):
    prepared = made(folder, tmp_path)
    zero = (prepared.valid.weights == 0).sum()
    assert prepared.valid.manifest["zero_weight_tokens"] == zero
    assert prepared.train.weights is None
    for i, text in enumerate(texts(prepared, prepared.valid)):
        start = prepared.valid.offsets[i]
        ids = prepared.valid.document(i)
        weights = prepared.valid.weights[start + 1 : start + 1 + len(ids)]
        kept = prepared.tokenizer.decode(ids[weights > 0])
        quoted = text.partition("\n")[2]
        assert (len(kept) <= len(text) - len(quoted)) if quoted else kept == text


def test_a_second_call_reads_the_cache(folder, tmp_path, monkeypatch):
    first = made(folder, tmp_path)
    monkeypatch.setattr(module, "_build", None)
    again = made(folder, tmp_path)
    assert again.hash == first.hash
    assert again.tokenizer.hash == first.tokenizer.hash
    assert len(list(tmp_path.iterdir())) == 1


def test_workers_and_runs_do_not_change_the_result(folder, tmp_path):
    prepared = [made(folder, tmp_path / str(n), workers=n) for n in (1, 2)]
    assert prepared[0].hash == prepared[1].hash
    assert prepared[0].tokenizer.model == prepared[1].tokenizer.model
    folders = [next((tmp_path / str(n)).iterdir()) for n in (1, 2)]
    assert folders[0].name == folders[1].name
    for file in sorted(folders[0].rglob("*")):
        if file.is_file():
            other = folders[1] / file.relative_to(folders[0])
            assert file.read_bytes() == other.read_bytes(), file.name


def test_text_that_is_too_large_to_hold_gives_the_same(folder, tmp_path, monkeypatch):
    held = made(folder, tmp_path / "held", limit_bytes=60_000)
    monkeypatch.setattr(module, "HELD_BYTES", 1000)
    assert module.hold(read(str(folder)), 1000) is None
    assert made(folder, tmp_path / "streamed", limit_bytes=60_000).hash == held.hash


def test_every_setting_makes_another_folder(folder, tmp_path):
    made(folder, tmp_path)
    for options in ({"vocab_size": 401}, {"valid_share": 0.2}, {"limit_bytes": 40_000}):
        made(folder, tmp_path, **options)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_limit_keeps_the_share_of_each_kind(folder, tmp_path):
    prepared = made(folder, tmp_path, limit_bytes=60_000)
    kinds = [prepared.train.manifest["documents_by_kind"], prepared.valid.manifest]
    size = prepared.train.manifest["text_bytes"] + kinds[1]["text_bytes"]
    assert 60_000 <= size < 63_000
    by_kind = {k: kinds[0].get(k, 0) + kinds[1]["documents_by_kind"].get(k, 0) for k in "ab"}
    assert abs(by_kind["a"] - by_kind["b"]) < 10
    whole = made(folder, tmp_path)
    part, all_of_it = (
        {text for store in (p.train, p.valid) for text in texts(p, store)}
        for p in (prepared, whole)
    )
    assert part < all_of_it
    assert set(texts(prepared, prepared.train)) < set(texts(whole, whole.train))


def test_splits_named_in_the_records_are_kept(tmp_path):
    with open(tmp_path / "a.jsonl", "w") as file:
        for i in range(60):
            split = "validation" if i % 2 else "train"
            file.write(json.dumps({"text": f"{i} " + sentence(50), "split": split}) + "\n")
    prepared = made(tmp_path, tmp_path / "cache")
    assert all(int(t.split()[0]) % 2 for t in texts(prepared, prepared.valid))
    assert len(prepared.valid.offsets) == len(prepared.train.offsets) == 30


def test_one_long_file_is_enough(tmp_path):
    (tmp_path / "book.txt").write_text("\n".join(sentence(12) for _ in range(25_000)))
    prepared = made(tmp_path / "book.txt", tmp_path / "cache", valid_share=1e-9)
    assert len(prepared.valid.offsets) == 1
    assert len(prepared.train.offsets) > 10
    assert Batches(prepared.train, 4, causal(64), seed=0)(0).inputs.shape == (4, 64)


def test_no_validation_at_all(folder, tmp_path):
    prepared = made(folder, tmp_path, valid_share=0)
    assert prepared.valid.tokens.tolist() == [EOT]
    assert prepared.train.manifest["documents"] == 300


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"valid_share": 1.0}, "valid_share=1.0"),
        ({"valid_share": -0.1}, "valid_share=-0.1"),
        ({"vocab_size": 100}, "vocab_size=100 is too small"),
        ({"vocab_size": 60_000}, "vocab_size=60000 is too large"),
        ({"model_type": "wordpiece"}, "wordpiece"),
    ],
)
def test_impossible_settings_leave_nothing_behind(folder, tmp_path, options, problem):
    with pytest.raises(UserError, match=problem):
        made(folder, tmp_path / "cache", **options)
    assert not list((tmp_path / "cache").glob("*")) and not list((tmp_path / "cache").glob(".*"))


def test_a_lone_short_document_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("some text " * 200)
    with pytest.raises(UserError, match="none trains"):
        made(tmp_path, tmp_path / "cache")


def test_the_sample_is_bounded_even_and_fixed():
    many = [sentence(RANDOM.randint(5, 60)) for _ in range(2000)]
    chosen = sample(iter(many), 20_000)
    assert 20_000 <= sum(map(len, chosen)) < 20_400
    assert chosen == sample(reversed(many), 20_000)
    places = np.array([many.index(text) for text in chosen])
    assert 0.35 < (places < 1000).mean() < 0.65
    assert sorted(sample(many, 10**9)) == sorted(many)
    assert sample(["x" * 100], 10) == ["x" * 100]


def test_this_room_needs_no_jax():
    code = (
        "import sys, pkgutil, importlib, data\n"
        "for m in pkgutil.iter_modules(data.__path__): importlib.import_module('data.' + m.name)\n"
        "foreign = {'jax', 'flax', 'lm', 'experiments', 'configs'} & set(sys.modules)\n"
        "assert not foreign, foreign"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_embedded_corpus_in_small(tmp_path):
    prepared = prepare(vocab_size=512, cache=tmp_path, limit_bytes=2e6, log=lambda _: None)
    kinds = prepared.train.manifest["documents_by_kind"]
    assert len(kinds) == 7
    size = prepared.train.manifest["text_bytes"] + prepared.valid.manifest["text_bytes"]
    assert 2e6 <= size < 2.3e6
    tokens = len(prepared.train) + len(prepared.valid)
    assert 1.5 < size / tokens < 3
