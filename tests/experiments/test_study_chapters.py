"""The report's chapters on emergence and limits: every number is there, and text is text."""

import json

from experiments.chapters import chapters
from experiments.charts import Chart, csv_text
from experiments.emergence_report import report
from experiments.interactive import document
from tests.experiments.test_emergence import make_folder, sudden

EVIL = "<script>alert(1)</script>"
SHARE, OTHER = [0.25, 0.125, 0.5, 16], [0.75, 0.5, 0.875, 16]


def made_up_limits() -> dict:
    one = {"canary": {"0": SHARE, "4": OTHER}, "exposure": {"0": SHARE, "4": OTHER}}
    side = {"requests answered": SHARE, EVIL: OTHER, "asked": 16}
    return {
        "missing": [], "tokens": {"raw": 157151}, "model": EVIL, "verdict": ["One.", EVIL],
        "memorised": {"raw": one, "deduplicated": one}, "base": side, "tuned": side,
        "toxic": {"raw": {"any": SHARE}, "scrubbed": {"any": OTHER}},
        "classifier": {"recall": OTHER, "false_alarms": [0.01, 0.0, 0.02, 9], "auc": 0.9},
    }  # fmt: skip


def charts(parts) -> dict[str, Chart]:
    return {p.name: p for p in parts if isinstance(p, Chart)}


def words(parts) -> str:
    return "".join(p for p in parts if isinstance(p, str))


def test_limits_show_every_number_with_its_interval(tmp_path):
    (tmp_path / "limits.json").write_text(json.dumps(made_up_limits()))
    ((title, parts),) = chapters(tmp_path)
    found = charts(parts)
    assert set(found) == {"planted-canary", "planted-exposure", "behaviour", "toxic"}
    assert "deduplicated,4,0.75,0.5,0.875,16\n" in csv_text(found["planted-canary"].rows)
    trace, _ = found["behaviour"].traces
    assert trace["x"] == [0.25, 0.75] and trace["error_x"]["array"] == [0.25, 0.125]
    page = document(title, [(title, parts)])
    assert EVIL not in page and "75% of toxic texts (50% to 88%)" in page


def test_limits_of_a_model_that_cannot_be_asked(tmp_path):
    made = {k: v for k, v in made_up_limits().items() if k not in ("base", "tuned")}
    made["verdict"] = ["Missing: no tokenizer."]
    (tmp_path / "limits.json").write_text(json.dumps(made))
    ((_, parts),) = chapters(tmp_path)
    assert "behaviour" not in charts(parts) and "toxic" in charts(parts)
    assert "Missing: no tokenizer." in words(parts)


def test_emergence_shows_answers_verdicts_and_measures(tmp_path):
    make_folder(tmp_path, sudden)
    report(tmp_path)
    ((_, parts),) = chapters(tmp_path)
    found = charts(parts)
    assert set(found) == {"ability-arithmetic", "ability-induction", "measures-induction-4"}
    assert "arithmetic 1: not seen at this scale" in words(parts)
    assert "induction 4: crossed" in words(parts)
    rows = found["ability-induction"].rows
    answers = [json.loads(p.read_text()) for p in sorted((tmp_path / "answers").iterdir())]
    right = sorted(a["cells"]["induction 4"]["right"] for a in answers)
    assert sorted(row[rows[0].index("right")] for row in rows[1:]) == right
    assert [line["y0"] for line in found["ability-arithmetic"].layout["shapes"]] == [0.1]
    assert len(found["measures-induction-4"].traces) == 4


def test_emergence_of_one_seed_and_few_models_says_so(tmp_path):
    make_folder(tmp_path, sudden, seeds=(0,), sizes=(20_000,), budgets=(1e11, 2e11))
    report(tmp_path)
    ((_, parts),) = chapters(tmp_path)
    assert "one seed only" in words(parts) and "too few for curves" in words(parts)
    assert "ability-induction" in charts(parts)
