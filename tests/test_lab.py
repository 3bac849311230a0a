"""docs/lab.ipynb: it runs from start to end, and what is stored in it is what the library says."""

import hashlib
import math
import subprocess
from pathlib import Path

import nbclient
import nbformat
import pytest

from data.files import human_count
from experiments.laws import fit

ROOT = Path(__file__).parent.parent
LAB = ROOT / "docs" / "lab.ipynb"


@pytest.fixture(scope="module")
def stored():
    return nbformat.read(LAB, as_version=4)


def printed(cell) -> str:
    """The text of a cell's outputs."""
    text = ""
    for output in cell.get("outputs", []):
        text += output.get("text", "") or output.get("data", {}).get("text/plain", "")
    return text


def pictures(notebook) -> int:
    return sum(
        "image/png" in o.get("data", {}) for c in notebook.cells for o in c.get("outputs", [])
    )


def test_outputs_are_stored_and_in_order(stored):
    code = [c for c in stored.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert not any(o.output_type == "error" for c in code for o in c.outputs)
    assert pictures(stored) == sum("plt.show()" in c.source for c in code) >= 4


def test_stored_numbers_are_those_of_the_library(stored):
    text = "\n".join(map(printed, stored.cells))
    law = fit(ROOT / "experiments" / "published" / "epoch_chinchilla.csv")
    for C in (1e21, 1e22, 1e23, 1e24):
        o = law.optimal(C)
        span = f"{human_count(o.N.low)}-{human_count(o.N.high)}"
        assert f"{human_count(o.N.value)}  " in text and span in text
        # Hoffmann et al. 2022, equation 4, with the constants that are taught.
        A, alpha, B, beta = 400, 0.34, 400, 0.28
        G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
        ratio = (C / 6) ** (1 - 2 * beta / (alpha + beta)) / G**2
        assert f"asks for {ratio:.0f} tokens" in text or f"ask for {ratio:.0f} tokens" in text
        assert f"{human_count(math.sqrt(C / 120))} " in text
    gpt3, chinchilla = law.predict(175e9, 300e9), law.predict(70e9, 1.4e12)
    assert f"{gpt3.value:.3f}  {gpt3.low:.3f} to {gpt3.high:.3f}" in text
    assert f"GPT-3 minus Chinchilla: {gpt3.value - chinchilla.value:.3f} nats/token" in text
    assert "rank 3" in text


def tracked() -> dict[str, str]:
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    paths = [ROOT / n for n in names if n and (ROOT / n).is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


@pytest.mark.slow
def test_it_runs_from_start_to_end_and_changes_no_file(stored, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # a reader has no simulated devices
    before = tracked()
    notebook = nbformat.read(LAB, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": str(LAB.parent)}}
    )
    client.execute()  # raises where a cell does
    assert tracked() == before
    assert pictures(notebook) == pictures(stored)
    text = "\n".join(map(printed, notebook.cells))
    assert "parameters, 614,400 tokens" in text and "nats/token, " in text
