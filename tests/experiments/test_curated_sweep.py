"""From raw files to a law: what curation writes is what a sweep trains on."""

import json
import subprocess
from pathlib import Path

import pytest

from data import curation, source
from data.errors import UserError
from experiments.sweep import run_sweep
from lm.config import resolve
from lm.train import prepare_data
from tests.data.test_curation import config, make_sources
from tests.experiments.sweeps import small

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("target", ["sweep", "sweep-long"])
def test_make_hands_the_text_on(target: str) -> None:
    def lines(*more: str) -> str:
        make = ["make", "-n", target, *more]
        return subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "--config.base.data.path='some where/curated'" in lines("DATA=some where/curated")
    assert "data.path" not in lines()


@pytest.mark.slow
def test_a_sweep_trains_on_a_curated_folder(tmp_path: Path) -> None:
    make_sources(tmp_path / "in")
    report = curation.curate(config(tmp_path / "in"), tmp_path / "curated")
    assert report is not None
    assert len(list(source.read(str(tmp_path / "curated")))) == report["rows_out"]
    sweep = small(tmp_path / "unused", tmp_path / "cache")
    sweep.base.data.path = str(tmp_path / "curated")
    assert run_sweep(sweep, tmp_path / "sweep") == 0
    records = [json.loads(p.read_text()) for p in (tmp_path / "sweep" / "runs").glob("*.json")]
    assert len(records) == 4
    prepared = prepare_data(resolve(sweep.base))
    for record in records:
        assert record["data_hash"] == prepared.hash
        assert record["curve"]["loss"][-1] < record["curve"]["loss"][0]
    (tmp_path / "curated" / "report.json").unlink()
    with pytest.raises(UserError, match="not finished"):
        list(source.read(str(tmp_path / "curated")))
