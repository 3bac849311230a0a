"""The token store: documents in order, each once, and the same bytes for any number of workers."""

import json
import random

import numpy as np
import pytest

from data.documents import Document
from data.errors import UserError
from data.overlap import shared, token_weights
from data.store import Store, token_dtype, write
from data.tokenizer import EOT, Tokenizer, train

RANDOM = random.Random(0)
LEXICON = ["".join(RANDOM.choices("abcdefghij", k=RANDOM.randint(2, 7))) for _ in range(400)]
DOCUMENTS = [
    Document(
        " ".join(RANDOM.choices(LEXICON, k=RANDOM.randint(1, 400))) + "\u4e2d", kind="ab"[i % 2]
    )
    for i in range(400)
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train([document.text for document in DOCUMENTS], 400)


def test_documents_are_stored_one_after_another(tokenizer, tmp_path):
    write(tmp_path, DOCUMENTS, tokenizer, workers=1)
    store = Store.open(tmp_path)
    expected = [token for d in DOCUMENTS for token in [EOT, *tokenizer.encode(d.text)]] + [EOT]
    assert store.tokens.tolist() == expected
    assert store.tokens.dtype == np.uint16
    assert len(store) == len(expected)
    assert [tokenizer.decode(store.document(i)) for i in range(len(DOCUMENTS))] == [
        document.text for document in DOCUMENTS
    ]
    assert (store.tokens[store.offsets] == EOT).all()
    assert store.weights is None
    assert not store.tokens.flags.writeable
    manifest = store.manifest
    assert manifest["documents"] == len(DOCUMENTS)
    assert manifest["documents_by_kind"] == {"a": 200, "b": 200}
    assert manifest["text_bytes"] == sum(len(d.text.encode()) for d in DOCUMENTS)
    assert manifest["tokenizer"] == tokenizer.hash
    assert tokenizer.byte_lengths[store.tokens].sum() == manifest["text_bytes"]


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_do_not_change_a_byte(tokenizer, tmp_path, workers):
    many = DOCUMENTS * 4  # several pieces of work
    seen = shared([DOCUMENTS[3].text], [DOCUMENTS[3].text])
    write(tmp_path / "one", many, tokenizer, seen, workers=1)
    write(tmp_path / "more", many, tokenizer, seen, workers=workers)
    for file in sorted((tmp_path / "one").iterdir()):
        assert file.read_bytes() == (tmp_path / "more" / file.name).read_bytes(), file.name
    assert Store.open(tmp_path / "one").hash == Store.open(tmp_path / "more").hash


def test_weights_are_those_of_the_overlap(tokenizer, tmp_path):
    seen = shared([DOCUMENTS[3].text], [DOCUMENTS[3].text])
    write(tmp_path, DOCUMENTS[:6], tokenizer, seen, workers=1)
    store = Store.open(tmp_path)
    lengths = tokenizer.byte_lengths
    expected = [
        token_weights(d.text, lengths[[EOT, *tokenizer.encode(d.text)]], seen)
        for d in DOCUMENTS[:6]
    ]
    np.testing.assert_array_equal(store.weights, [*np.concatenate(expected), 1])
    assert store.manifest["zero_weight_tokens"] == (store.weights == 0).sum() > 50
    assert store.weights[store.offsets].all()


def test_an_empty_store_is_one_end_of_text(tokenizer, tmp_path):
    write(tmp_path, [], tokenizer, workers=1)
    store = Store.open(tmp_path)
    assert store.tokens.tolist() == [EOT]
    assert store.manifest["documents"] == 0


def test_the_hash_follows_the_content(tokenizer, tmp_path):
    hashes = set()
    for i, documents in enumerate((DOCUMENTS[:5], DOCUMENTS[:6], DOCUMENTS[4::-1])):
        write(tmp_path / str(i), documents, tokenizer, workers=1)
        hashes.add(Store.open(tmp_path / str(i)).hash)
    assert len(hashes) == 3


@pytest.mark.parametrize(("vocab_size", "name"), [(65536, "uint16"), (65537, "uint32")])
def test_the_width_of_a_token(vocab_size, name):
    assert token_dtype(vocab_size).name == name


@pytest.mark.parametrize("name", ["tokens.bin", "docs.idx", "weights.bin"])
def test_a_truncated_store_is_refused(tokenizer, tmp_path, name):
    seen = shared([DOCUMENTS[3].text], [DOCUMENTS[3].text])
    write(tmp_path, DOCUMENTS[:6], tokenizer, seen, workers=1)
    with open(tmp_path / name, "r+b") as file:
        file.truncate((tmp_path / name).stat().st_size - 1)
    with pytest.raises(UserError, match=f"{name}: .* damaged, delete"):
        Store.open(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        Store.open(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({"tokens": 1})])
def test_a_damaged_manifest_is_refused(tmp_path, content):
    with pytest.raises(UserError, match="not a token store"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="damaged"):
        Store.open(tmp_path)
