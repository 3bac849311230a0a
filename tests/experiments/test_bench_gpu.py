"""The GPU benchmark without a GPU: it says so, and its programs call the fused kernel."""

import subprocess
import sys

import pytest

from experiments import bench_gpu


@pytest.mark.parametrize(
    "name",
    ["bert-base", *(pytest.param(n, marks=pytest.mark.slow) for n in ("gpt2-124m", "gpt-1.3b"))],
)
def test_every_attention_of_a_step_is_cudnns(name):
    """Forward and backward, in the program lowered for CUDA."""
    wanted, calls = bench_gpu.lowered_calls(bench_gpu.CASES[name])
    assert list(wanted) == ["cudnn"]
    scanned = bench_gpu.CASES[name].changes.get("model.scan")
    assert calls >= 2 * (1 if scanned else wanted["cudnn"])


@pytest.mark.slow
def test_without_a_gpu_it_says_so_and_checks_all_programs():
    command = [sys.executable, "-m", "experiments.bench_gpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("no GPU here: nothing is measured")
    assert len(rest) == len(bench_gpu.CASES) and all(line.startswith("ok  ") for line in rest)


def test_a_fallback_is_told(monkeypatch, capsys):
    monkeypatch.setattr(bench_gpu, "lowered_calls", lambda _: ({"cudnn": 12}, 23))
    assert not bench_gpu.check_lowered(["bert-base"])
    assert capsys.readouterr().out.startswith("FAIL  bert-base")


def test_a_row_has_rate_mfu_and_memory():
    found = {"tokens_per_second": 1234.5, "mfu_full": 0.5, "mfu_visible": 0.4, "peak_bytes": 2**31}
    assert bench_gpu.row("a", "packed", found) == ["a", "packed", "1,234", "50.0%", "40.0%", "2.0"]
    assert bench_gpu.row("a", "packed", None)[2] == "failed"
