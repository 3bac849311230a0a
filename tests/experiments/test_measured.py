"""The long sweep's committed records, and what the README says of them."""

import json
from pathlib import Path

import pytest

from experiments.laws import fit
from experiments.runs import read

ROOT = Path(__file__).parents[2]
LONG = ROOT / "experiments" / "measured" / "long"


@pytest.fixture(scope="module")
def law():
    return fit(read(LONG))


def test_the_records_are_whole():
    plan = json.loads((LONG / "plan.json").read_text())
    records = {p.stem for p in (LONG / "runs").glob("*.json")}
    assert records == {t["run_id"] for t in plan["trials"]} and len(records) == 37
    assert len((LONG / "runs.csv").read_text().splitlines()) == 38


def test_the_kept_law_is_that_of_the_records(law):
    kept = json.loads((LONG / "law.json").read_text())
    for name, value in law.params.items():
        assert kept["params"][name] == pytest.approx(value, rel=1e-6)


def test_the_readme_says_what_the_records_say(law):
    (held,) = law.holdout
    text = (ROOT / "README.md").read_text()
    low, high = held["interval"]
    error = 100 * abs(held["predicted"] / held["loss"] - 1)
    row = (
        f"{held['predicted']:.3f} predicted, {held['loss']:.3f} measured: {error:.1f}% off "
        f"| {low:.3f} to {high:.3f} |"
    )
    assert row in text
    a = law.params["beta"] / (law.params["alpha"] + law.params["beta"])
    low, high = law.intervals["a"]
    assert f"(fitted law) | {a:.3f} | {low:.3f} to {high:.3f} |" in text
