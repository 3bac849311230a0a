"""The linear classifier, and the embedded toxicity filter on its held-out rows."""

import numpy as np
import pytest
from datatrove.data import Document

from data import linear, toxicity
from data.errors import UserError
from data.linear import Linear


def test_held_out_figures_reach_what_is_promised() -> None:
    figures = toxicity.evaluate(("test",))
    ours, words = figures["classifier, test"], figures["word list, test"]
    assert ours["precision"] >= 0.97 and ours["recall"] >= 0.96
    assert ours["clean_flagged"] <= 0.001 and ours["clean"] > 5000 and ours["tweets"] > 4000
    assert words["precision"] > 0.98 and words["recall"] < ours["recall"]


def test_a_row_has_one_part() -> None:
    """By its text, or for a paragraph by its document, so none is trained on and tested on."""
    parts = [toxicity.part_of(str(i)) for i in range(5000)]
    assert parts == [toxicity.part_of(str(i)) for i in range(5000)]
    assert 900 < parts.count("test") < 1100 and parts.count("train") > 2850


def test_a_document_is_dropped_by_its_share_and_tagged_in_any_case() -> None:
    bad = "you stupid bitch shut the fuck up"
    clean = "The committee met on Tuesday to discuss the budget for the coming year."
    mixed = Document("\n".join([clean] * 19 + [bad]), "x")
    assert toxicity.Toxicity().filter(mixed) is True
    assert 0 < mixed.metadata["toxicity"] < 0.1 and mixed.metadata["toxic_words"] == 2
    assert toxicity.Toxicity().filter(Document(bad, "x")) == (False, "toxic_paragraphs")
    assert toxicity.Toxicity(drop=False).filter(Document(bad, "x")) is True


def test_listed_phrases_are_whole_words() -> None:
    assert toxicity.listed("Scunthorpe, a classic assessment") == 0
    assert toxicity.listed("What the FUCK") == 1


def test_gradient_descent_finds_the_optimum() -> None:
    """Against scikit-learn's definition: the gradient of the penalised loss vanishes."""
    texts = [f"good word{i % 7} fine" for i in range(40)] + [f"bad word{i % 7}" for i in range(40)]
    labels = np.arange(80) < 40
    model = linear.train(texts, labels, penalty=1e-3)
    scores = model.score(texts)
    assert (scores[labels] > 0.5).all() and (scores[~labels] < 0.5).all()
    assert abs((scores - labels).mean()) < 1e-3  # the bias is not penalised
    again = linear.train(texts, labels, penalty=1e-3)
    np.testing.assert_array_equal(model.weights, again.weights)


def test_texts_are_scored_as_if_alone() -> None:
    model = toxicity.classifier()
    texts = ["one text", "", "x", "a third one, longer than the others", "ünïcode \ud800 漢字"]
    together = model.score(texts)
    np.testing.assert_allclose(together, [model.score([t])[0] for t in texts], rtol=1e-12)


def test_save_and_load(tmp_path) -> None:
    model = Linear(np.random.default_rng(0).normal(size=1 << linear.BITS), 0.5)
    model.save(tmp_path / "m.npz")
    loaded = Linear.load(tmp_path / "m.npz")
    np.testing.assert_allclose(model.score(["some text"]), loaded.score(["some text"]), atol=1e-3)
    (tmp_path / "m.npz").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a classifier"):
        Linear.load(tmp_path / "m.npz")


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 5, 50).astype(float), rng.random(50) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels] for b in scores[~labels]]
    assert linear.auc(scores, labels) == pytest.approx(np.mean(pairs))


def test_a_quality_classifier_is_trained_from_the_command_line(tmp_path, capsys) -> None:
    from data.embed_labels import labels

    rows = labels("spam")
    for name, spam in (("spam", True), ("ham", False)):
        folder = tmp_path / name
        folder.mkdir()
        texts = [row["text"] for row in rows if row["spam"] == spam][:400]
        for i, text in enumerate(texts):
            (folder / f"{i}.txt").write_text(text)
    linear.main(
        [
            "train",
            f"--positive={tmp_path}/ham",
            f"--negative={tmp_path}/spam",
            f"--out={tmp_path}/q.npz",
        ]
    )
    printed = capsys.readouterr().out
    assert float(printed.split("held-out fifth ")[1].split()[0]) > 0.97
    linear.main(["score", f"--model={tmp_path}/q.npz", f"--text={tmp_path}/ham"])
    assert "keeps 50%" in capsys.readouterr().out
    with pytest.raises(UserError, match="too little"):
        linear.main(
            ["train", f"--positive={tmp_path}/ham", f"--negative={tmp_path}/spam", "--limit=1",
             f"--out={tmp_path}/q.npz"]
        )  # fmt: skip
