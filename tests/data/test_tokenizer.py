"""The tokenizer: an exact round trip for every string, and a fixed layout of ids."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data import source
from data.errors import UserError
from data.prepare import prepare
from data.tokenizer import (
    AROUND,
    EOT,
    FIRST_SENTINEL,
    LONG_WORD,
    MAX_LINE,
    Tokenizer,
    _common_characters,
    _training_lines,
    main,
    train,
)

SYLLABLES = ["ka", "lo", "mi", "tre", "sun", "pho", "der", "ing", "st", "qu\u00e9"]


def text(seed: int, words: int = 4000) -> str:
    """Made-up words, enough of them for a few hundred pieces."""
    generator = random.Random(seed)
    lexicon = ["".join(generator.choices(SYLLABLES, k=generator.randint(1, 4))) for _ in range(600)]
    ends = itertools.cycle([" "] * 7 + [".\n", "    ", ", ", "\n\n"])
    return "".join(generator.choice(lexicon) + next(ends) for _ in range(words))


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def tokenizer(request) -> Tokenizer:
    return train([text(0), text(1)], 512, request.param)


SPECIAL = ["<pad>", "<eot>", "<unk>", "<cls>", "<sep>", "<mask>", "<extra_id_0>", "<0x41>", "<s>"]
SPECIAL += ["\u2581", "\u2581\u2581 \u2581a", "\u2585", "\u2047", "\0", "\t", "\r\n", "\ud800"]
SPECIAL += ["\udcff", "\ud83d\ude00", "\U0001f600", "e\u0301", "\ufb01", "\ufeff", " ", "   "]
any_text = st.text(st.characters(exclude_categories=[])) | st.lists(
    st.sampled_from([*SPECIAL, *SYLLABLES, "\n", "  "])
).map("".join)


@settings(max_examples=400)
@given(any_text)
@example("".join(SPECIAL))
@example("    def f(x):\n\t\treturn  x \n\n\n")
def test_every_string_round_trips_and_none_gives_a_control_symbol(tokenizer, string):
    ids = tokenizer.encode(string)
    assert tokenizer.decode(ids) == string
    assert all(id_ >= tokenizer.first_byte for id_ in ids)
    assert tokenizer.byte_lengths[ids].sum() == len(string.encode("utf-8", "surrogatepass"))


@settings(max_examples=400)
@given(st.lists(any_text | st.sampled_from([text(0, 20), text(1, 30)]), max_size=4).map("".join))
@example("a  b\u2585 \n\n  \n c\t d\u00e9 \u4e2d\u6587 \u3000 x" * 2)
def test_words_one_by_one_give_what_sentencepiece_makes_of_the_whole(tokenizer, string):
    string = AROUND.sub("", string)
    assert tokenizer.encode(string) == tokenizer._processor.encode(string)


def test_words_one_by_one_give_the_same_on_real_text(tokenizer):
    assert tokenizer._by_words == (tokenizer.scores[-1] == np.floor(tokenizer.scores[-1]))
    texts = [AROUND.sub("", d.text) for d in itertools.islice(source.read(), 0, None, 100)]
    assert tokenizer.encode_batch(texts) == tokenizer._processor.encode(texts)


def test_few_words_are_remembered(tokenizer, monkeypatch):
    monkeypatch.setattr("data.tokenizer.CACHED_WORDS", 10)
    fresh = Tokenizer(tokenizer.model)
    string = text(2, 500) + "x" * 100
    assert fresh.encode(string) == tokenizer.encode(string)
    assert len(fresh._words) <= 10 and all(len(word) <= LONG_WORD for word in fresh._words)


@given(st.lists(any_text, max_size=5))
def test_a_batch_is_its_texts_one_by_one(tokenizer, texts):
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@given(st.lists(st.integers(0, 511)))
def test_any_ids_decode(tokenizer, ids):
    string = tokenizer.decode(ids)
    controls = [id_ for id_ in ids if id_ < tokenizer.first_byte]
    assert tokenizer.decode([i for i in ids if i not in controls]) == string


@pytest.mark.parametrize(("vocab_size", "sentinels"), [(320, 16), (9000, 100)])
def test_the_layout_of_ids(vocab_size, sentinels):
    letters = [chr(0x4E00 + i) for i in range(100)]
    words = [a + b for a in letters for b in letters]
    tokenizer = train([" ".join(words * 3)], vocab_size)
    assert tokenizer.vocab_size == vocab_size
    assert (tokenizer.pad, tokenizer.eot, tokenizer.unk) == (0, 1, 2)
    assert (tokenizer.cls, tokenizer.sep, tokenizer.mask) == (3, 4, 5)
    assert tokenizer.sentinels == range(FIRST_SENTINEL, FIRST_SENTINEL + sentinels)
    assert tokenizer.first_byte == FIRST_SENTINEL + sentinels
    assert [tokenizer.decode([tokenizer.first_byte + b]) for b in b"aZ\n"] == ["a", "Z", "\n"]
    lengths = tokenizer.byte_lengths
    assert (lengths[: tokenizer.first_byte] == 0).all()
    assert (lengths[tokenizer.first_byte :][:256] == 1).all()
    assert (lengths[tokenizer.first_byte + 256 :] > 0).all()


def test_a_newline_is_one_token(tokenizer):
    assert tokenizer.encode("\n") == [tokenizer.first_byte + 10]
    assert tokenizer.encode("\n\n") == [tokenizer.first_byte + 10] * 2


def test_training_is_deterministic_and_compresses():
    texts = [text(0), text(1)]
    first, second = train(texts, 512), train(iter(texts), 512)
    assert first.model == second.model
    assert first.hash == second.hash
    assert len(first.encode(text(2))) < 0.6 * len(text(2))


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.model")
    loaded = Tokenizer.load(tmp_path / "t.model")
    assert loaded.hash == tokenizer.hash
    assert loaded.encode(text(3)) == tokenizer.encode(text(3))


@given(st.text(min_size=1, max_size=50), st.integers(1, 400))
def test_long_lines_are_cut_and_not_skipped(string, times):
    common = _common_characters([string], 100)
    lines = list(_training_lines(string * times, common)) if common else []
    kept = [character for character in string if not re.match("[\0\n\u2581\u2585]", character)]
    assert "".join(lines) == "".join(kept) * times
    assert all(0 < len(line.encode()) <= MAX_LINE for line in lines)


def test_rare_characters_are_left_to_bytes():
    assert _common_characters(["banana \n\u2581", "bb\n\n\n"], 2) == "ab"
    assert list(_training_lines("ab-ba^]\\b", "ab]^\\")) == ["ab", "ba^]\\b"]


def test_text_in_one_long_line_trains():
    joined = text(0).replace("\n", " ")
    assert len(joined) > 4 * MAX_LINE
    assert len(train([joined], 400).encode(joined)) < 0.6 * len(joined)


def test_reserved_characters_in_training_text_do_no_harm():
    marked = text(0).replace("ka", "\u2581\u2585\0ka\ud800")
    tokenizer = train([marked], 400)
    assert tokenizer.decode(tokenizer.encode(marked)) == marked
    assert len(tokenizer.encode("sunkatre")) < 8


@pytest.mark.parametrize(
    ("texts", "vocab_size", "model_type", "problem"),
    [
        (["some text"], 290, "bpe", "too small"),
        (["some text"] * 50, 1024, "bpe", "at most 2"),
        (["some text"] * 50, 1024, "unigram", "at most 2"),
        (["\n\n"], 512, "bpe", "no text"),
        ([], 512, "bpe", "no text"),
        (["some text"], 512, "wordpiece", 'model_type is "wordpiece"'),
    ],
)
def test_impossible_vocabularies(texts, vocab_size, model_type, problem):
    with pytest.raises(UserError, match=problem):
        train(texts, vocab_size, model_type)


def test_the_largest_vocabulary_named_is_one_that_works():
    with pytest.raises(UserError) as caught:
        train([text(0, 300)], 4096)
    most = int(str(caught.value).partition("at most ")[2].split()[0])
    assert train([text(0, 300)], most).vocab_size == most


def test_foreign_models_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.load(tmp_path / "none.model")
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(UserError, match="bad.model: not a SentencePiece model"):
        Tokenizer.load(tmp_path / "bad.model")


def test_a_model_with_another_layout_is_refused(tmp_path):
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text(0).split("\n")),
        model_prefix=str(tmp_path / "other"),
        vocab_size=300,
        minloglevel=2,
    )
    with pytest.raises(UserError, match="another layout of ids"):
        Tokenizer.load(tmp_path / "other.model")


def test_the_constants_are_the_models(tokenizer):
    piece = tokenizer._processor.id_to_piece
    assert [piece(i) for i in range(7)] == SPECIAL[:7]
    assert tokenizer._processor.is_control(EOT)
    assert np.all([tokenizer._processor.is_byte(tokenizer.first_byte + b) for b in range(256)])


def test_the_command_trains_the_tokenizer_of_a_run(tmp_path, capsys):
    for number in range(8):
        (tmp_path / f"{number}.txt").write_text(text(number), "utf-8")
    out, cache = tmp_path / "out" / "tokenizer.model", tmp_path / "cache"
    options = [f"--path={tmp_path}", "--vocab=512", "--valid-share=0.3", f"--out={out}"]
    main(["train", *options])
    assert re.search(r"tokenizer.model: 512 ids, \d\.\d\d bytes per token", capsys.readouterr().out)
    prepared = prepare(str(tmp_path), vocab_size=512, valid_share=0.3, cache=cache, log=str)
    assert Tokenizer.load(out).hash == prepared.tokenizer.hash
