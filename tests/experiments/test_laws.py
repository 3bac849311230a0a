"""Fitted laws against the published numbers, synthetic truth, and bad input."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import UserError
from experiments import laws, uncertainty
from experiments.laws import Law, fit
from experiments.runs import from_rows, read
from experiments.search import Objective, search

ROOT = Path(__file__).parents[2]
EPOCH = ROOT / "experiments/published/epoch_chinchilla.csv"
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TRUTH = {"E": 1.7, "A": 400.0, "B": 1200.0, "alpha": 0.34, "beta": 0.31}


def sweep(noise: float = 0.0, seed: int = 0, sizes: int = 6, budgets: int = 4) -> dict:
    """A grid of N x budgets, its losses from TRUTH with log-normal noise."""
    C = np.repeat(np.geomspace(1e17, 1e19, budgets), sizes)
    best = np.sqrt(C / 6 / 20)
    N = best * np.tile(np.geomspace(1 / 4, 4, sizes), budgets)
    D = C / (6 * N)
    law = TRUTH["E"] + TRUTH["A"] / N ** TRUTH["alpha"] + TRUTH["B"] / D ** TRUTH["beta"]
    scatter = np.random.default_rng(seed).normal(0, noise, len(N)) if noise else 0.0
    return {"N": N, "D": D, "loss": law * np.exp(scatter)}


@pytest.fixture(scope="module")
def epoch() -> Law:
    return fit(EPOCH, bootstrap=4000)


def test_epoch_optimum(epoch):
    """The true minimum of the replication's objective, to the digits that float64 allows."""
    assert epoch.data["points"] == 240
    assert epoch.objective == pytest.approx(0.00101827401770388, rel=1e-9)
    assert epoch.params["alpha"] == pytest.approx(0.3473105, abs=1e-6)
    assert epoch.params["beta"] == pytest.approx(0.3671724, abs=1e-6)
    assert epoch.params["A"] == pytest.approx(477.8259, rel=1e-5)
    assert epoch.params["B"] == pytest.approx(2143.417, rel=1e-5)
    assert epoch.params["E"] == pytest.approx(1.817218, rel=1e-5)
    assert epoch.diagnostics["share_of_starts_at_best"] > 0.5


def test_epoch_standard_errors(epoch):
    """Besiroglu et al. 2024: 4,000 resamples; another random stream moves A and B by more."""
    found = dict(zip(laws.NAMES, laws.natural(epoch.draws).std(axis=0), strict=True))
    assert found["E"] == pytest.approx(0.0256601, rel=0.08)
    assert found["alpha"] == pytest.approx(0.0154006, rel=0.08)
    assert found["beta"] == pytest.approx(0.0206032, rel=0.08)
    assert found["A"] == pytest.approx(124.522, rel=0.15)
    assert found["B"] == pytest.approx(1293.286, rel=0.15)
    a = epoch.draws[:, 4] / (epoch.draws[:, 3] + epoch.draws[:, 4])
    assert a.std() == pytest.approx(0.01998, rel=0.08)


def test_published_epoch_values_are_the_absolute_value_fit():
    law = fit(EPOCH, delta=0, bootstrap=100)
    assert law.params["A"] == pytest.approx(482.01, rel=1e-4)
    assert law.params["B"] == pytest.approx(2085.43, rel=1e-4)
    assert law.objective == pytest.approx(1.1294946535, rel=1e-7)


@pytest.mark.parametrize(
    ("delta", "A", "B", "E", "alpha", "beta"),
    [
        (1e-4, 478.7, 2065, 1.8158, 0.3474, 0.3654),
        (1e-2, 538.8, 2906, 1.8381, 0.3544, 0.3815),
        (np.inf, 593.3, 4876, 1.8646, 0.3603, 0.4059),
    ],
)
def test_epoch_under_other_deltas(delta, A, B, E, alpha, beta):
    found = fit(EPOCH, delta=delta, bootstrap=100).params
    assert [found[k] for k in ("A", "B", "E")] == pytest.approx([A, B, E], rel=5e-4)
    assert [found[k] for k in ("alpha", "beta")] == pytest.approx([alpha, beta], abs=6e-5)


def test_epoch_by_squares_of_the_loss_itself():
    """Squares of plain losses below 1e21 FLOPs: what the package ml-scalefit publishes."""
    runs = read(EPOCH)
    law = fit(runs.where(runs.C < 1e21), np.inf, bootstrap=100, residuals="plain")
    p = law.params
    assert law.data["points"] == 217
    assert p["E"] == pytest.approx(1.905092, rel=1e-5)
    assert p["A"] * 1e6 ** -p["alpha"] == pytest.approx(4.00052, rel=1e-4)
    assert p["B"] * 1e9 ** -p["beta"] == pytest.approx(1.05095, rel=1e-4)
    assert [p["alpha"], p["beta"]] == pytest.approx([0.351058, 0.458742], abs=2e-5)
    assert 2 * law.objective == pytest.approx(0.0624143, rel=1e-5)
    assert Law.from_dict(law.to_dict()) == law  # delta is inf, which JSON does not have


def test_noise_free_recovery():
    law = fit(sweep(), bootstrap=100)
    for name, value in TRUTH.items():
        assert law.params[name] == pytest.approx(value, rel=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    E=st.floats(0.5, 3), alpha=st.floats(0.15, 0.8), beta=st.floats(0.15, 0.8),
    a=st.floats(0.1, 1.5), b=st.floats(0.1, 1.5),
)  # fmt: skip
def test_recovery_of_any_truth(E, alpha, beta, a, b):
    """a and b are the two terms' sizes at the middle of the grid, so that each matters."""
    grid = sweep()
    N0, D0 = (np.exp(np.log(grid[k]).mean()) for k in ("N", "D"))
    A, B = a * N0**alpha, b * D0**beta
    loss = E + A / grid["N"] ** alpha + B / grid["D"] ** beta
    terms, centre = laws.design(grid["N"], grid["D"])
    found = search(terms, loss, Objective(1e-3))
    theta = laws.uncentre(found.theta[None], centre)[0]
    assert theta[3:] == pytest.approx([alpha, beta], rel=1e-5)
    assert np.exp(theta[0]) == pytest.approx(E, rel=1e-5)


def test_optimum_is_the_least_loss_on_its_budget(epoch):
    best = epoch.optimal(1e22)
    losses = [
        epoch.predict(best.N.value * f, 1e22 / (6 * best.N.value * f)).value
        for f in (0.5, 0.98, 1.0, 1.02, 2.0)
    ]
    assert np.argmin(losses) == 2
    assert losses[2] == pytest.approx(best.loss.value, rel=1e-12)
    assert best.N.low < best.N.value < best.N.high
    assert best.N.value * best.D.value * 6 == pytest.approx(1e22, rel=1e-9)
    assert best.decades_beyond < 0 < epoch.optimal(1e23).decades_beyond


def test_round_trip(tmp_path):
    law = fit(sweep(noise=0.003), bootstrap=200)
    law.save(tmp_path / "law.json")
    again = Law.load(tmp_path / "law.json")
    assert again == law
    assert again.to_dict() == law.to_dict()
    assert again.optimal(1e21).N.low == pytest.approx(law.optimal(1e21).N.low, rel=1e-6)
    assert json.loads((tmp_path / "law.json").read_text())["params"].keys() == set(laws.NAMES)


def test_run_interval_is_wider_than_the_mean_interval():
    law = fit(sweep(noise=0.003), bootstrap=500)
    mean, run = law.predict(1e8, 1e10), law.predict_run(1e8, 1e10)
    assert run.low < mean.low < mean.value < mean.high < run.high


def test_held_out_rows_are_scored_and_not_fitted():
    grid = sweep(noise=0.002)
    extended = {
        **{k: np.append(v, x) for (k, v), x in zip(grid.items(), (3e8, 1e10, 9.0), strict=True)},
        "held_out": [0] * len(grid["N"]) + [1],
    }
    law, plain = fit(extended, bootstrap=100), fit(grid, bootstrap=100)
    assert law.params == plain.params
    (score,) = law.holdout
    assert score["error_percent"] < -50 and not score["inside"]


def test_exact_compute_is_used_where_the_table_has_it():
    """FLOPs per token of 6N (1 + N0/N)^..: the optimum then spends C in those FLOPs."""
    grid = sweep()
    per_token = 6 * grid["N"] * (1 + 3e6 / grid["N"]) ** (1 / 3)
    law = fit({**grid, "C": per_token * grid["D"]}, bootstrap=100)
    best = law.optimal(1e18)
    spent = 6 * best.N.value * (1 + 3e6 / best.N.value) ** (1 / 3) * best.D.value
    assert spent == pytest.approx(1e18, rel=0.01)
    far = law.optimal(1e26)
    assert 6 * far.N.value * far.D.value == pytest.approx(1e26, rel=0.01)


def test_unidentified_parameters_are_named():
    """With D so large that B/D^beta is nothing, no B or beta can be told from another."""
    grid = sweep()
    D = grid["D"] * 1e4
    loss = 1.7 + 400 / grid["N"] ** 0.34
    law = fit({"N": grid["N"], "D": D, "loss": loss * (1 + 1e-4 * np.sin(D))}, bootstrap=100)
    assert any(
        "B is not identified" in w or "B = " in w and "not identified" in w for w in law.warnings
    )
    assert not any(w.startswith(("alpha", "A ")) for w in law.warnings)


def test_a_form_that_does_not_hold_is_told_from_noise():
    """Seeds that agree while the smallest models lie off the law: a misfit, not scatter."""
    grid = sweep(noise=0.001)
    seeds = {k: np.concatenate([v, v[:6], v[:6]]) for k, v in grid.items()}
    luck = np.random.default_rng(1).normal(0, 0.001, len(seeds["loss"]))
    fair = seeds | {"loss": seeds["loss"] * np.exp(luck)}
    bent = fair | {"loss": fair["loss"] * np.where(fair["N"] < 2e7, 1.05, 1.0)}
    assert not any("does not hold" in w for w in fit(fair, bootstrap=100).warnings)
    assert any("does not hold" in w for w in fit(bent, bootstrap=100).warnings)


def test_seed_noise_is_inside_the_intervals():
    """Seeds that scatter more than the fit's residuals show it: the intervals grow with them."""

    def width(spread: float) -> float:
        grid = sweep(noise=0.001)
        pairs = {k: np.concatenate([v, v[:8]]) for k, v in grid.items()}
        pairs["loss"] = pairs["loss"].copy()
        pairs["loss"][:8] *= np.exp(spread)
        pairs["loss"][24:] *= np.exp(-spread)
        law = fit(pairs, bootstrap=300)
        assert law.noise.scale >= law.noise.seed_scale == pytest.approx(spread * 2**0.5, rel=0.2)
        low, high = law.intervals["alpha"]
        return high - low

    assert width(0.02) > 3 * width(0.002)


def test_the_flattest_direction_raises_the_squares_by_what_it_says():
    law = fit(sweep(noise=0.003), np.inf, bootstrap=100)
    move = [float(part.split()[-1]) for part in law.diagnostics["flat_direction"].split(", ")]
    runs = laws.from_columns(sweep(noise=0.003))
    log_N, log_D = np.log(runs.N), np.log(runs.D)

    def squares(theta: np.ndarray) -> float:
        return float(np.sum((np.log(laws.mean_loss(theta, log_N, log_D)) - np.log(runs.loss)) ** 2))

    there = squares(law.theta + 0.1 * np.array(move)) / squares(law.theta) - 1
    assert there < 0.05  # along it hardly anything changes ...
    steep = np.abs(np.array(move)) * [1, 1, -1, 1, 1]
    assert squares(law.theta + 0.1 * steep) / squares(law.theta) - 1 > 10 * there


def test_checkpoints_of_one_run_count_once():
    """Ten copies of noise in each run must not make the interval sqrt(10) narrower."""
    base = sweep(noise=0.01, sizes=8, budgets=4)
    n, copies = len(base["N"]), 10
    jitter = np.tile(np.linspace(1, 1.001, copies), n)
    many = {k: np.repeat(v, copies) * (jitter if k == "D" else 1.0) for k, v in base.items()}
    many["group"] = np.repeat(np.arange(n), copies)
    clustered = fit(many, bootstrap=400)
    naive = fit({k: v for k, v in many.items() if k != "group"}, bootstrap=400)
    single = fit(base, bootstrap=400)

    def width(law: Law) -> float:
        low, high = law.intervals["alpha"]
        return high - low

    assert 0.5 < width(clustered) / width(single) < 1.6
    assert width(naive) < 0.55 * width(clustered)


@pytest.mark.slow
def test_intervals_cover():
    """90% intervals contain the truth in 85 to 95% of 500 simulated sweeps of 24 points."""
    trials, objective = 500, Objective(np.inf)
    truth = np.array([*np.log([TRUTH[k] for k in ("E", "A", "B")]), 0.34, 0.31])
    hits = []
    for seed in range(trials):
        runs = laws.from_columns(sweep(noise=0.003, seed=seed))
        terms, centre = laws.design(runs.N, runs.D)
        theta = search(terms, runs.loss, objective, polish=4).theta
        noise = uncertainty.estimate_noise(runs, terms, theta)
        draws = uncertainty.resample(terms, runs.loss, theta, objective, noise, 200, seed)
        draws = np.column_stack([laws.uncentre(draws, centre), np.zeros(200)])
        draws[:, 5] = laws.best_log_N(draws[:, :5], 1e20, laws.PerToken())
        best = laws.best_log_N(truth[None], 1e20, laws.PerToken())
        low, high = np.quantile(draws, [0.05, 0.95], axis=0)
        hits.append((low <= [*truth, *best]) & ([*truth, *best] <= high))
    shares = dict(zip([*laws.NAMES, "N*"], np.mean(hits, axis=0), strict=True))
    assert all(0.85 <= share <= 0.95 for share in shares.values()), shares


BAD = {
    "too few": ({"N": [1e6, 2e6, 3e6], "D": [1e8] * 3, "loss": [4, 3.9, 3.8]}, "at least 6"),
    "one N": ({**sweep(), "N": np.full(24, 1e7)}, "different value"),
    "constant D/N": ({**sweep(), "D": 20 * sweep()["N"]}, "D/N is the same"),
    "negative loss": ({**sweep(), "loss": -sweep()["loss"]}, '"loss" is -'),
    "NaN loss": ({**sweep(), "loss": [np.nan] * 24}, '"loss" is nan'),
    "missing column": ({"N": [1e6], "loss": [3.0]}, 'the column "D" is missing'),
    "a row twice": ({k: np.append(v, v[-1]) for k, v in sweep().items()}, "same run twice"),
    "D in billions": ({**sweep(), "D": sweep()["D"] / 1e9}, "in tokens"),
    "perplexity": ({**sweep(), "loss": np.exp(sweep()["loss"])}, "nats per token"),
    "bits": ({**sweep(), "loss": sweep()["loss"] / np.log(2), "vocab_size": [8] * 24}, "in bits"),
    "bits per byte": ({**sweep(), "bits_per_byte": sweep()["loss"]}, "bits_per_byte"),
    "D in millions": ({**sweep(), "D": sweep()["D"] / 1e6 * 20}, "in tokens"),
    "bits per token": (
        {k: v for k, v in (sweep() | {"bits_per_token": sweep()["loss"]}).items() if k != "loss"},
        "in bits",
    ),
    "bits beside perplexity": (
        {**sweep(), "loss": sweep()["loss"] / np.log(2), "perplexity": np.exp(sweep()["loss"])},
        "binary logarithm of perplexity",
    ),
    "N in millions": ({**sweep(), "N": sweep()["N"] / 1e6}, "in parameters"),
    "large N in millions": (
        {**sweep(), "N": sweep()["N"] * 1e3 / 1e6, "D": sweep()["D"] * 1e2},
        "tokens a parameter",
    ),
    "N in millions, D in billions": (
        {**sweep(), "N": sweep()["N"] / 1e6, "D": sweep()["D"] / 1e9},
        "in tokens",
    ),
    "C in some rows only": (
        {**sweep(), "C": ["", *(6 * sweep()["N"] * sweep()["D"])[1:]]},
        'row 1 .*"C" is empty',
    ),
    "a group in some rows only": ({**sweep(), "group": ["a"] * 23 + [None]}, '"group" is empty'),
    "C in other units": ({**sweep(), "C": sweep()["N"]}, "times 6ND"),
    "nothing": ({"N": [], "D": [], "loss": []}, "no runs"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name):
    columns, message = BAD[name]
    with pytest.raises(UserError, match=message):
        fit(columns, bootstrap=100)


def test_a_row_without_a_column_is_refused():
    rows = [dict(zip(sweep(), row, strict=True)) for row in zip(*sweep().values(), strict=True)]
    del rows[7]["D"]
    with pytest.raises(UserError, match='row 8 .*"D" is empty'):
        from_rows(rows)


def test_left_out_rows_are_told():
    assert read(EPOCH).left_out == ("5 runs with in_fit = 0",)


def test_tables_of_other_kinds_read_alike(tmp_path):
    """CSV, JSON lines and Parquet, and a tracker's names for the columns, give the same runs."""
    grid = {k: v.tolist() for k, v in sweep().items()}
    rows = [dict(zip(grid, row, strict=True)) for row in zip(*grid.values(), strict=True)]
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    named = "Name,num_params,tokens,eval/loss\n" + "\n".join(
        f"run{i},{r['N']!r},{r['D']!r},{r['loss']!r}" for i, r in enumerate(rows)
    )
    (tmp_path / "export.csv").write_text("\ufeff" + named + "\n", encoding="utf-8")
    paths = ["runs.jsonl", "export.csv"]
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        pass
    else:
        pyarrow.parquet.write_table(pyarrow.table(grid), tmp_path / "runs.parquet")
        paths.append("runs.parquet")
    expected = laws.from_columns(grid).fingerprint
    assert {read(tmp_path / p).fingerprint for p in paths} == {expected}
    assert read(tmp_path / "export.csv").run_id[0] == "run0"


def test_exports_with_summary_and_config_in_one_cell(tmp_path):
    """Weights & Biases' own snippet writes a table of name, summary and config as mappings."""
    grid = {k: v.tolist() for k, v in sweep().items()}
    lines = ["name,summary,config"]
    for i, (N, D, loss) in enumerate(zip(*grid.values(), strict=True)):
        lines.append(
            f"run{i},\"{{'eval/loss': {loss!r}, '_step': 9}}\",\"{{'N': {N!r}, 'D': {D!r}}}\""
        )
    (tmp_path / "project.csv").write_text("\n".join(lines) + "\n")
    runs = read(tmp_path / "project.csv")
    assert runs.fingerprint == laws.from_columns(grid).fingerprint
    assert runs.run_id[3] == "run3" and runs.extra["_step"].tolist() == [9.0] * 24


def test_what_is_counted_is_said_and_can_be_chosen():
    grid = sweep()
    both = {
        **grid,
        "N_non_embedding": grid["N"] * 0.7,
        "U": grid["D"],
        "accuracy": grid["loss"] / 9,
    }
    rows = [dict(zip(both, row, strict=True)) for row in zip(*both.values(), strict=True)]
    total, inner = from_rows(rows), from_rows(rows, parameters="non-embedding")
    assert pytest.approx(0.7 * total.N) == inner.N
    assert (total.N_counted, inner.N_counted) == (
        "total (embeddings included)",
        "without embeddings",
    )
    assert total.C_counted == "6ND, derived" and {"U", "accuracy"} <= set(total.extra)
    stated = laws.from_columns({**grid, "C": 6 * grid["N"] * grid["D"]})
    exact = laws.from_columns({**grid, "C": 5 * grid["N"] * grid["D"]})
    assert (stated.C_counted, exact.C_counted) == ("6ND", "exact")
    with pytest.raises(UserError, match='"N_non_embedding" is missing'):
        from_rows([{k: r[k] for k in ("N", "D", "loss")} for r in rows], parameters="non-embedding")


def test_a_law_shows_itself(epoch):
    assert "0.34731" in str(epoch) and "90% interval" in epoch._repr_html_()


REFITS = """
import sys, time
from experiments import laws, uncertainty
from experiments.search import Objective, search
runs, objective = laws.read(sys.argv[1]), Objective(1e-3)
terms, _ = laws.design(runs.N, runs.D)
start = time.process_time()
theta = search(terms, runs.loss, objective).theta
noise = uncertainty.estimate_noise(runs, terms, theta)
draws = uncertainty.resample(terms, runs.loss, theta, objective, noise, 4000)
print(len(draws), time.process_time() - start)
"""


def test_four_thousand_refits_take_seconds():
    """CPU time of one thread: idle threads of the linear algebra would count while they wait."""
    done = subprocess.run(
        [sys.executable, "-c", REFITS, str(EPOCH)],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {name: "1" for name in THREADS},
    )  # fmt: skip
    count, seconds = done.stdout.split()
    assert count == "4000" and float(seconds) < 10


def test_noise_counts_lost_freedom():
    """Residual scatter, corrected for 5 parameters, is unbiased for the noise that was put in."""
    scales = []
    for seed in range(60):
        grid = sweep(noise=0.01, seed=seed)
        terms, _ = laws.design(grid["N"], grid["D"])
        theta = search(terms, grid["loss"], Objective(np.inf)).theta
        runs = laws.from_columns(grid)
        scales.append(uncertainty.estimate_noise(runs, terms, theta).scale)
    assert np.sqrt(np.mean(np.square(scales))) == pytest.approx(0.01, rel=0.06)


def test_commands(tmp_path):
    """fit writes a law that frontier reads; both end with exit code 2 and one line on bad input."""

    def command(*args: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", *args], cwd=ROOT, capture_output=True, text=True
        )

    law, rows = tmp_path / "law.json", tmp_path / "frontier.json"
    done = command("experiments.fit", str(EPOCH), f"--out={law}", "--bootstrap=200")
    assert done.returncode == 0 and "0.34731" in done.stdout
    assert "Roll-out" in done.stdout and "2: isoFLOP minima" in done.stdout
    done = command("experiments.frontier", str(law), "--compute=1e21,1e24", f"--json={rows}")
    assert done.returncode == 0 and "1.9 decades" in done.stdout
    first, second = json.loads(rows.read_text())["rows"]
    assert first["decades_beyond"] < 0 < second["decades_beyond"]
    assert second["N"]["low"] < second["N"]["value"] < second["N"]["high"]
    not_a_law = ("experiments.frontier", str(EPOCH), "--compute=1e21")
    for args in (("experiments.fit", "absent.csv"), not_a_law):
        failed = command(*args)
        assert failed.returncode == 2
        assert failed.stderr.startswith("error: ") and failed.stderr.count("\n") == 1


def test_library_needs_no_jax_and_starts_quickly():
    code = (
        "import time; t = time.process_time(); import experiments.laws, sys; "
        "print(time.process_time() - t, 'jax' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    seconds, jax = out.stdout.split()
    assert jax == "False" and float(seconds) < 1.0
