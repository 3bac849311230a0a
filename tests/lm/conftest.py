"""A small text that tests of training share."""

import json
import random

import pytest


@pytest.fixture(scope="session")
def text(tmp_path_factory):
    """A folder of small documents with something to learn in them."""
    folder = tmp_path_factory.mktemp("text")
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefgh", k=rng.randint(2, 6))) for _ in range(80)]
    documents = [" ".join(rng.choices(words, k=rng.randint(5, 200))) for _ in range(400)]
    lines = [json.dumps({"text": t, "id": str(i)}) for i, t in enumerate(documents)]
    (folder / "documents.jsonl").write_text("\n".join(lines))
    return folder
