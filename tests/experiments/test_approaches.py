"""`experiments.fit --approach=NAME`: every estimator from a table on disk, and what it refuses."""

import csv
import json

import numpy as np
import pytest

from data.errors import UserError
from experiments import fit as command
from experiments.approaches import APPROACHES
from experiments.laws import Law
from experiments.runs import read_curves
from tests.experiments.test_laws import TRUTH, sweep
from tests.experiments.test_validation import curves

A = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])


def write(path, columns):
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def run(path, tmp_path, monkeypatch, *flags):
    out = tmp_path / "out.json"
    argv = ["fit", str(path), f"--out={out}", "--bootstrap=100", *flags]
    monkeypatch.setattr("sys.argv", argv)
    command.main()
    return json.loads(out.read_text())


def loss_of(N, D):
    return TRUTH["E"] + TRUTH["A"] / N ** TRUTH["alpha"] + TRUTH["B"] / D ** TRUTH["beta"]


def test_envelope_of_a_table(tmp_path, monkeypatch):
    c = curves()
    columns = {"N": c.N, "D": c.D, "loss": c.loss, "group": c.group}
    path = write(tmp_path / "curves.csv", columns)
    found = run(path, tmp_path, monkeypatch, "--approach=1")
    assert found["a"] == pytest.approx(A, abs=0.01)


def test_envelope_of_a_sweeps_folder(tmp_path):
    """Records share a trunk: the longest run of a size has it, the others only their cooldown."""
    (tmp_path / "runs").mkdir()
    for i, (steps, seed, held) in enumerate([(100, 0, False), (50, 0, False), (50, 1, False),
                                             (200, 0, True)]):  # fmt: skip
        step = list(range(10, steps + 1, 10))
        record = {
            "run_id": f"r{i}", "N": 1e6, "D": 1e5 * steps, "C": 7e11 * steps, "steps": steps,
            "seed": seed, "lr_factor": 1.0, "held_out": held,
            "curve": {"step": step, "loss": [5 - 0.01 * s - 0.1 * i for s in step],
                      "decay_start": 0.8 * steps},
        }  # fmt: skip
        (tmp_path / "runs" / f"r{i}.json").write_text(json.dumps(record))
    found = read_curves(tmp_path)
    assert sorted(found.extra["step"][found.group == "r0"]) == list(range(10, 101, 10))
    assert found.extra["step"][found.group == "r1"].tolist() == [50]
    assert set(found.group) == {"r0", "r1"}
    assert pytest.approx(7e11 * found.extra["step"]) == found.C
    with pytest.raises(UserError, match="no records with training curves|runs.csv nor"):
        read_curves(tmp_path / "runs" / "elsewhere")


def test_isoflop_minima_both_ways(tmp_path, monkeypatch):
    grid = sweep(sizes=9, noise=0.0005)
    path = write(tmp_path / "runs.csv", grid)
    assert run(path, tmp_path, monkeypatch, "--approach=2")["a"] == pytest.approx(A, abs=0.03)
    found = run(path, tmp_path, monkeypatch, "--approach=akima", "--noise=0.0005")
    assert found["a"] == pytest.approx(A, abs=0.03)
    assert found["low"] < found["a"] < found["high"]


def test_no_interior_minimum_is_refused(tmp_path, monkeypatch):
    """Models all smaller than the optimum: the loss only falls with N."""
    C = np.repeat([1e20, 1e21], 5)
    N = np.tile(np.geomspace(1e7, 1e8, 5), 2)
    path = write(tmp_path / "runs.csv", {"N": N, "D": C / 6 / N, "loss": loss_of(N, C / 6 / N)})
    for approach in ("2", "akima"):
        with pytest.raises(UserError, match="minimum inside"):
            run(path, tmp_path, monkeypatch, f"--approach={approach}")
    scattered = {"N": N, "D": np.geomspace(1e8, 1e12, 10), "loss": loss_of(N, 1e10)}
    path = write(tmp_path / "scattered.csv", scattered)
    with pytest.raises(UserError, match="no isoFLOP groups"):
        run(path, tmp_path, monkeypatch, "--approach=2")


def test_the_parametric_law_and_its_tied_form_make_a_law(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "runs.csv", sweep(noise=0.002))
    for flags in (("--approach=3",), ("--approach=tied", "--delta=inf", "--residuals=plain")):
        run(path, tmp_path, monkeypatch, *flags)
        law = Law.load(tmp_path / "out.json")
        assert law.optimal(1e20).N.low < law.optimal(1e20).N.high
    assert law.form == "tied" and law.params["alpha"] == law.params["beta"]
    assert "half sum of squares of the loss" in capsys.readouterr().out


def test_kaplans_form(tmp_path, monkeypatch):
    path = write(tmp_path / "runs.csv", sweep(noise=0.002))
    found = run(path, tmp_path, monkeypatch, "--approach=kaplan")
    low, high = found["intervals"]["a"]
    assert low < found["derived"]["a"] < high


@pytest.mark.parametrize("approach", ["kaplan", "tied", "overtraining"])
def test_runs_that_cannot_tell_n_from_d_are_refused(approach, tmp_path, monkeypatch):
    grid = sweep()
    path = write(tmp_path / "one.csv", grid | {"N": np.full(24, 1e7)})
    with pytest.raises(UserError, match=r"1 different value\(s\) of N"):
        run(path, tmp_path, monkeypatch, f"--approach={approach}")
    path = write(tmp_path / "ratio.csv", grid | {"D": 20 * grid["N"]})
    with pytest.raises(UserError, match="D/N is the same"):
        run(path, tmp_path, monkeypatch, f"--approach={approach}")


def test_overtraining_with_task_error(tmp_path, monkeypatch):
    grid = sweep(noise=0.002)
    grid["error"] = 0.85 - 2.1 * np.exp(-0.7 * grid["loss"])
    path = write(tmp_path / "runs.csv", grid)
    found = run(path, tmp_path, monkeypatch, "--approach=overtraining", "--y=error")
    assert found["error"]["params"]["gamma"] == pytest.approx(0.7, rel=1e-3)
    with pytest.raises(UserError, match='no column of numbers "eror"'):
        run(path, tmp_path, monkeypatch, "--approach=overtraining", "--y=eror")


def test_repeated_tokens(tmp_path, monkeypatch):
    from experiments.repeated_data import loss

    rng = np.random.default_rng(0)
    N, U = np.exp(rng.uniform(np.log([1e7, 1e8]), np.log([5e9, 2e10]), (30, 2))).T
    D = U * np.exp(rng.uniform(0, np.log(60), 30))
    seen = loss(N, D, U, 12.0, 4.0) * np.exp(rng.normal(0, 0.001, 30))
    path = write(tmp_path / "runs.csv", {"N": N, "D": D, "U": U, "loss": seen})
    found = run(path, tmp_path, monkeypatch, "--approach=repeated")
    low, high = found["intervals"]["R_D"]
    assert low < 12 < high < 30
    path = write(tmp_path / "none.csv", {"N": N, "D": D, "loss": seen})
    with pytest.raises(UserError, match='"U", unique tokens, is missing'):
        run(path, tmp_path, monkeypatch, "--approach=repeated")


def test_broken_power_law_of_named_columns(tmp_path, monkeypatch):
    x = np.geomspace(1, 1e4, 40)
    y = 2 * x**-0.1 * (1 + (x / 100) ** (1 / 0.3)) ** (-0.4 * 0.3)
    path = write(tmp_path / "t.csv", {"flops": x, "err": y})
    found = run(path, tmp_path, monkeypatch, "--approach=broken", "--x=flops", "--y=err")
    assert found["derived"]["d"] == pytest.approx(100, rel=0.01)
    with pytest.raises(UserError, match='"err2" is missing'):
        run(path, tmp_path, monkeypatch, "--approach=broken", "--y=err2", "--x=flops")


def test_task_loss_then_accuracy(tmp_path, monkeypatch):
    rows = []
    for i, (N, D) in enumerate([(n, n * m) for n in (1e8, 3e8, 1e9) for m in (20, 60, 200)]):
        for share in np.linspace(0.2, 1, 10):
            bpb = 0.45 + 38 / N**0.226 + 100 / (share * D) ** 0.236
            rows.append((f"r{i}", N, share * D, bpb, 1 - 0.75 / (1 + np.exp(-4 * (bpb - 0.9)))))
    columns = dict(zip(("run_id", "N", "D", "bpb", "acc"), zip(*rows, strict=True), strict=True))
    path = write(tmp_path / "evals.csv", columns)
    found = run(path, tmp_path, monkeypatch, "--approach=downstream", "--x=bpb", "--y=acc")
    assert found["params"]["sigmoid_k"] == pytest.approx(4, rel=0.05)
    low, high = found["intervals"]["sigmoid_L0"]
    assert low <= found["params"]["sigmoid_L0"] <= high
    assert found["task_loss"]["diagnostics"]["profiles"].keys() >= {"alpha", "beta"}
    assert found["accuracy"]["diagnostics"]["profiles"].keys() == {"a", "L0", "k", "b"}
    path = write(tmp_path / "percent.csv", columns | {"acc": 100 * np.array(columns["acc"])})
    with pytest.raises(UserError, match='"acc" must be an accuracy from 0 to 1'):
        run(path, tmp_path, monkeypatch, "--approach=downstream", "--x=bpb", "--y=acc")


def test_critical_batch_and_learning_rates(tmp_path, monkeypatch):
    batch = np.array([8.0, 32, 128, 512])
    path = write(tmp_path / "b.csv", {"batch": batch, "steps": 1000 * (1 + 256 / batch)})
    found = run(path, tmp_path, monkeypatch, "--approach=batch")
    assert found["derived"]["B_critical"] == pytest.approx(256)
    grid = sweep()
    rate = 1.79 * grid["N"] ** -0.713 * grid["D"] ** 0.307
    path = write(tmp_path / "r.csv", {"N": grid["N"], "D": grid["D"], "learning_rate": rate})
    found = run(path, tmp_path, monkeypatch, "--approach=rate")
    assert found["params"]["D"] == pytest.approx(0.307)
    path = write(tmp_path / "bad.csv", {"batch": [8, 16, 32], "steps": [1, -2, 3]})
    with pytest.raises(UserError, match='"steps" must be positive'):
        run(path, tmp_path, monkeypatch, "--approach=batch")


def test_schedules(tmp_path, monkeypatch):
    from experiments.schedule_law import Curve, predict

    theta = np.array([2.6, np.log(0.6), 0.45, np.log(400), np.log(2.0), 0.6, 0.65])
    step = np.arange(200.0, 4200, 200)
    rows: dict[str, list] = {"run_id": [], "step": [], "lr": [], "loss": []}
    for name, end in (("constant", 3e-4), ("linear", 3e-5), ("half", 1.5e-4)):
        rate = np.linspace(3e-4, end, len(step))
        seen = predict(theta, Curve(step, rate, step))
        for key, values in zip(rows, ([name] * len(step), step, rate, seen), strict=True):
            rows[key] += list(values)
    path = write(tmp_path / "curves.csv", rows)
    found = run(path, tmp_path, monkeypatch, "--approach=schedule")
    assert found["objective"] < 1e-6
    assert found["params"]["alpha"] == pytest.approx(0.45, abs=0.1)
    path = write(tmp_path / "nan.csv", rows | {"loss": [np.nan, *rows["loss"][1:]]})
    with pytest.raises(UserError, match='"loss" must be positive and finite'):
        run(path, tmp_path, monkeypatch, "--approach=schedule")


def test_unknown_approaches_and_columns_are_one_line(tmp_path, monkeypatch):
    path = write(tmp_path / "runs.csv", sweep())
    with pytest.raises(UserError, match=r'no approach "kaplam" \(did you mean "kaplan"'):
        run(path, tmp_path, monkeypatch, "--approach=kaplam")
    with pytest.raises(UserError, match='"group" column'):
        run(path, tmp_path, monkeypatch, "--approach=1")
    with pytest.raises(UserError, match='the column "batch" is missing'):
        run(path, tmp_path, monkeypatch, "--approach=batch")
    assert set(APPROACHES) >= {"1", "2", "kaplan"}
