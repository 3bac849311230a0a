"""The tokenizer laboratory counts right, for every make of tokenizer."""

import base64
import json

import pytest
import sentencepiece

from data import token_lab
from data.errors import UserError
from data.tokenizer import main, train

TEXTS = {"prose": "the cat sat on the mat\n" * 400, "rare": "\u4e2d\u6587 \U0001f600 {1:2}\n" * 400}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(token_lab, "contents", lambda files: dict(TEXTS))


def test_counts_of_bytes_are_the_bytes():
    counted = token_lab.count(token_lab.load("bytes"), "rare", TEXTS["rare"])
    assert counted.tokens == counted.bytes == len(TEXTS["rare"].encode())
    assert counted.characters == len(TEXTS["rare"]) and counted.words == 3 * 400
    assert counted.exact and counted.bytes_per_token == 1


def test_pieces_join_to_the_text():
    for text in (*TEXTS.values(), "", "no newline" * 1000, "\n" * 9000):
        assert "".join(token_lab.cut(text)) == text


def test_our_model_and_a_foreign_one(tmp_path):
    ours = train([TEXTS["prose"] * 3, "abcdefghij klmnopqrstuvwxyz" * 9], 320)
    ours.save(tmp_path / "ours.model")
    coder = token_lab.load(str(tmp_path / "ours.model"))
    counted = token_lab.count(coder, "rare", TEXTS["rare"])
    assert counted.tokens == len(ours.encode(TEXTS["rare"])) and counted.exact

    lines = iter(TEXTS["prose"].splitlines())
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_prefix=str(tmp_path / "other"), vocab_size=14, minloglevel=2
    )
    other = token_lab.load(str(tmp_path / "other.model"))
    counted = token_lab.count(other, "prose", TEXTS["prose"])
    assert counted.tokens > 0 and not counted.exact  # it drops newlines, and the table says so


def test_tiktoken_ranks(tmp_path):
    pytest.importorskip("tiktoken")
    tokens = [bytes([i]) for i in range(256)] + [b"th", b"the", b" c", b" ca", b" cat"]
    lines = (base64.b64encode(t) + b" %d" % rank for rank, t in enumerate(tokens))
    (tmp_path / "tiny.tiktoken").write_bytes(b"\n".join(lines))
    coder = token_lab.load(str(tmp_path / "tiny.tiktoken"))
    assert coder.encode("the cat") == [257, 260]
    assert token_lab.count(coder, "rare", TEXTS["rare"]).exact


def test_hugging_face_tokenizers(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet)
    made.train_from_iterator([TEXTS["prose"]], trainer)
    made.save(str(tmp_path / "tokenizer.json"))
    coder = token_lab.load(str(tmp_path / "tokenizer.json"))
    counted = token_lab.count(coder, "prose", TEXTS["prose"])
    assert counted.exact and counted.bytes_per_token > 2


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("gpt5", "no such tokenizer; give bytes"),
        ("bad.model", "not a SentencePiece model"),
        ("bad.json", "not a Hugging Face tokenizer|not installed"),
        ("bad.tiktoken", "not a file of tiktoken ranks|not installed"),
    ],
)
def test_wrong_tokenizers_are_one_line(tmp_path, spec, problem):
    for name in ("bad.model", "bad.json", "bad.tiktoken"):
        (tmp_path / name).write_bytes(b"!!! no such thing")
    path = str(tmp_path / spec) if spec.startswith("bad") else spec
    with pytest.raises(UserError, match=problem):
        token_lab.load(path)


def test_the_command_writes_table_figure_and_reasons(tmp_path, capsys):
    main(["compare", "bytes", "--out", str(tmp_path / "out")])
    text = capsys.readouterr().out
    assert "bytes: all content alike" in text and "distinct words" in text
    rows = json.loads((tmp_path / "out/tokens.json").read_text())
    assert {row["content"] for row in rows} == set(TEXTS)
    assert (tmp_path / "out/tokens.png").read_bytes().startswith(b"\x89PNG")
    main(["count", "bytes"])
    assert "distinct words" not in capsys.readouterr().out


def test_makeup_of_a_text():
    made = token_lab.makeup("ab 12\u4e2d.")
    assert made["bytes/char"] == 9 / 7 and made["digits"] == 2 / 7 and made["marks"] == 1 / 7
    assert made["letters"] == 3 / 7 and made["word length"] == 2.5
