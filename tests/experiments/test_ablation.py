"""The data ablation: what is held out, which passages are asked for, what the intervals say."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from configs import ablation as config
from data.documents import Document
from data.errors import UserError
from data.tokenizer import EOT, train
from experiments import ablation, ablation_data
from experiments.ablation_train import ALL, EQUAL, Trial

ROOT = Path(__file__).parent.parent.parent


def test_no_copy_of_a_held_out_page_is_trained_on() -> None:
    pages = ablation_data.truth()
    documents, barred = ablation_data.held_out(pages, 0.1)
    assert 20 < len(documents) < 60
    group = {page["url"]: page.get("dup_of", page["url"]) for page in pages}
    chosen = {d.id for d in documents}
    assert barred == {url for url, first in group.items() if first in chosen}
    assert len(barred) > len(chosen)
    assert not any(d.url for d in documents)  # the text is the truth's, not the chain's


def test_passages_are_where_they_are_said_to_be() -> None:
    rng = np.random.default_rng(0)

    def text() -> str:
        words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(200)]
        return " ".join(words)

    one, two, gone = text(), text(), text()
    tokenizer = train([one, two, gone], 512)
    documents = {
        "raw": [Document(t, str(i)) for i, t in enumerate([one, two, two, two + " end", gone])],
        "deduplicated": [Document(t, "") for t in (one, two, gone)],
        "curated": [Document(t, "") for t in (two, one)],
    }
    repeated, single = ablation_data.passages(documents, tokenizer, 10)
    assert [p.copies for p in repeated] == [3] and [p.copies for p in single] == [1]
    assert tokenizer.decode(repeated[0].ids) in two and tokenizer.decode(single[0].ids) in one
    documents["deduplicated"].append(Document(two, ""))
    assert ablation_data.passages(documents, tokenizer, 10)[0] == []


def test_a_sample_has_the_tokens_asked_for_and_whole_documents() -> None:
    documents = [np.array([EOT, *[10 + i] * i], np.uint16) for i in range(1, 40)]
    whole = ablation_data.training_store(documents)
    assert len(whole) == sum(map(len, documents)) + 1 and whole.tokens[-1] == EOT
    assert [len(whole.document(i)) for i in range(39)] == list(range(1, 40))
    some = [ablation_data.training_store(documents, 200, seed) for seed in (0, 0, 1)]
    assert [len(s) for s in some] == [201] * 3
    assert np.array_equal(some[0].tokens, some[1].tokens)
    assert not np.array_equal(some[0].tokens, some[2].tokens)


def test_intervals_are_students() -> None:
    found = ablation.mean([1.0, 2.0, 3.0])
    assert found.mean == 2 and found.half == pytest.approx(4.302653 / math.sqrt(3))  # t(2, 0.975)
    assert math.isnan(ablation.mean([1.0]).half)


def test_changes_are_paired_by_seed() -> None:
    """A version that is 0.1 better whatever the seed has an interval of no width."""
    results = {
        Trial(version, text, seed): {"held_out": 3 + seed - 0.1 * (version == "clean")}
        for version in ("raw", "clean")
        for text in (ALL, EQUAL)
        for seed in (0, 1, 2)
    }
    rows = ablation.summarise(results)
    assert [r["held_out_change"].mean for r in rows] == pytest.approx([0, 0, -0.1, -0.1])
    assert rows[2]["held_out_change"].half < 1e-9 < rows[2]["held_out"].half


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": 0}, "tokens=0"),
        ({"seeds": (1, 1)}, "different numbers"),
        ({"held_out": 1.0}, "held_out=1"),
        ({"base": {"objective": "masked"}}, "only causal"),
        ({"base": {"model": {"heads": 5}}}, "heads"),
    ],
)
def test_wrong_fields_are_one_line(change: dict, words: str) -> None:
    c = config.get_config()
    c.update(change)
    with pytest.raises(UserError, match=words):
        ablation.check(c)


def test_another_ablation_is_refused(tmp_path: Path) -> None:
    c = config.get_config()
    ablation.claim(tmp_path, c)
    c.workers = 7
    ablation.claim(tmp_path, c)
    c.tokens = 9
    with pytest.raises(UserError, match="tokens: 800000 there, 9 here"):
        ablation.claim(tmp_path, c)


def command(folder: Path, *more: str) -> subprocess.CompletedProcess:
    arguments = ["--config=configs/ablation.py", f"--workdir={folder}", *more]
    return subprocess.run(
        [sys.executable, "-m", "experiments.ablation", *arguments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip


def test_a_wrong_base_config_claims_no_folder(tmp_path: Path) -> None:
    done = command(tmp_path / "out", "--config.base.model.heads=5")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_command_trains_measures_and_goes_on(tmp_path: Path) -> None:
    small = (
        "--config.tokens=20000", "--config.seeds=(0,1)", "--config.passages=5",
        "--config.stages.filtered=('gopher_quality',)", "--config.stages.curated=('exact',)",
        "--config.stages.deduplicated=('exact',)", "--config.base.model.width=16",
    )  # fmt: skip
    done = command(tmp_path / "out", *small)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())
    assert len(rows) == 8 and (tmp_path / "out" / "ablation.png").stat().st_size > 10_000
    sizes = {(r["version"], r["text"]): r["unique_tokens"]["mean"] for r in rows}
    assert len({size for (_, text), size in sizes.items() if text == EQUAL}) == 1
    assert sizes["raw", ALL] > sizes["deduplicated", ALL] >= min(sizes.values())
    assert all(4 < r["held_out"]["mean"] < 9 for r in rows)
    gone = sorted((tmp_path / "out" / "runs").iterdir())[3]
    before = gone.read_text()
    gone.unlink()
    assert command(tmp_path / "out", *small).returncode == 0
    assert gone.read_text() == before
