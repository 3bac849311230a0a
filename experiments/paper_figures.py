"""Figures of published scaling-law papers, drawn again from the runs that their authors released.

Each function returns a figure and a list of published against own numbers; experiments.figures
writes them. What the papers needed but did not publish (Chinchilla's training curves, for its
approach 1) is not imitated.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from experiments import akima, downstream, overtraining, repeated_data
from experiments.isoflop import IsoFlop, fit_isoflop
from experiments.laws import Law, design, fit, mean_loss, uncentre
from experiments.published_data import load, where
from experiments.runs import Runs, from_columns
from experiments.search import Objective, newton, search
from experiments.style import ACCENT, FRONTIER, INK, SOFT, counts, flops, shades

HOFFMANN = np.array([*np.log([1.69337, 406.4, 410.72]), 0.339171, 0.284908])  # their TeX source
BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)  # of Chinchilla's figure 3


class Row(NamedTuple):
    """A number as published, and ours."""

    what: str
    published: float
    ours: float


class Drawn(NamedTuple):
    """A figure and what it compares."""

    figure: Figure
    rows: list[Row]
    note: str


@cache
def epoch_law() -> Law:
    """The law of Epoch's 240 points, with the 4,000 resamples that their notebook drew."""
    table = _epoch()
    law = fit({name: column.tolist() for name, column in table.items()}, bootstrap=100)
    terms, centre = design(table["N"], table["D"])
    generator = np.random.RandomState(42)
    picks = [generator.choice(240, 240) for _ in range(4000)]
    weights = np.array([np.bincount(p, minlength=240) for p in picks], dtype=float)
    start = search(terms, table["loss"], Objective()).theta
    theta, _ = newton(np.tile(start, (4000, 1)), terms, np.log(table["loss"]), weights, Objective())
    return replace(law, draws=uncentre(theta, centre))


def _epoch() -> dict[str, np.ndarray]:
    table = load("epoch_chinchilla")
    return where(table, table["in_fit"] == 1)


def epoch_by_budget() -> Runs:
    """Epoch's points within 30% of the paper's nine budgets, each with the nearest as its own."""
    table = _epoch()
    distance = np.abs(np.log(table["C"])[:, None] - np.log(BUDGETS))
    table["budget"] = np.array(BUDGETS)[distance.argmin(axis=1)]
    columns = where(table, distance.min(axis=1) < 0.3)
    return from_columns({name: column.tolist() for name, column in columns.items()})


def chinchilla_isoflop() -> Drawn:
    """Chinchilla's figure 3: isoFLOP parabolas and N* against C."""
    runs = epoch_by_budget()
    iso = fit_isoflop(runs)
    assert iso is not None and runs.budget is not None and iso.a is not None and iso.k_N
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    present = np.unique(runs.budget)
    for budget, colour in zip(present, shades(len(present)), strict=True):
        rows = runs.where(runs.budget == budget)
        left.plot(rows.N, rows.loss, "o", color=colour, ms=3.5, label=flops(budget))
        for m in iso.minima:
            if abs(np.log(m.C / budget)) < 0.15:
                x = np.linspace(np.log(rows.N.min()), np.log(rows.N.max()), 60)
                left.plot(np.exp(x), np.polyval(m.coefficients, x), color=colour, lw=1.2)
                if m.N and not m.problem:
                    left.plot(m.N, m.loss, "D", color=colour, mec="white", ms=7)
                    right.plot(m.C, m.N, "D", color=colour, mec="white", ms=8)
    left.legend(title="budget (FLOPs)", fontsize=7.5, title_fontsize=8, ncols=2)
    left.set(xscale="log", xlabel="parameters N", ylabel="loss (nats/token)")
    left.set_title("IsoFLOP curves of Chinchilla's runs")
    C = np.geomspace(3e18, 1e24, 50)
    right.plot(C, iso.k_N * C**iso.a, color=FRONTIER, label=f"N* ~ C^{iso.a:.3f}")
    right.plot(5.76e23, 70e9, "o", color=ACCENT)
    right.annotate("Chinchilla", (5.76e23, 70e9), (-8, 0), textcoords="offset points",
                   ha="right", va="center", color=ACCENT)  # fmt: skip
    right.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)", ylabel="N*")
    right.legend(loc="upper left")
    right.set_title("Minima and their power law")
    for axis in (left.xaxis, right.yaxis):
        counts(axis)
    rows_ = [
        Row("a, isoFLOP minima (paper: approach 2)", 0.49, iso.a),
        Row("D* of 67e9 parameters (paper, table A3)", 1.7e12, _tokens_of(67e9, iso)),
    ]
    note = (
        f"{len(runs)} of 240 points lie within 30% of the paper's nine budgets and are used; their "
        "losses were read off a colour bar. " + "; ".join(iso.warnings)
    )
    return Drawn(figure, rows_, note)


def _tokens_of(N: float, iso: IsoFlop) -> float:
    """D* of the budget whose N* is N."""
    assert iso.k_N and iso.k_D and iso.a and iso.b
    return iso.k_D * (N / iso.k_N) ** (iso.b / iso.a)


def chinchilla_surface() -> Drawn:
    """Chinchilla's figure 4: the fitted loss over N and C, and slices of it."""
    law, table = epoch_law(), _epoch()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    C, N = np.geomspace(1e18, 1e24, 200), np.geomspace(3e7, 2e11, 200)
    loss = mean_loss(law.theta, np.log(N)[:, None], np.log(C / 6)[None] - np.log(N)[:, None])
    levels = np.linspace(1.9, 5, 26)
    drawn = left.contour(C, N, loss, levels=levels, cmap="viridis", linewidths=0.8)
    figure.colorbar(drawn, ax=left, label="loss (nats/token)", format="%.1f")
    left.scatter(table["C"], table["N"], c=table["loss"], cmap="viridis", s=14, ec=INK, lw=0.3,
                 vmin=1.9, vmax=5)  # fmt: skip
    grid = np.geomspace(1e18, 1e24, 40)
    ours = [law.optimal(float(c)) for c in grid]
    left.plot(grid, [o.N.value for o in ours], color=FRONTIER, lw=2, label="efficient frontier")
    left.fill_between(grid, [o.N.low for o in ours], [o.N.high for o in ours], color=FRONTIER,
                      alpha=0.2, lw=0)  # fmt: skip
    left.plot(5.76e23, 70e9, "o", color=ACCENT, label="Chinchilla 70B")
    left.legend(loc="lower right")
    left.set(xscale="log", yscale="log", xlabel="training compute C (FLOPs)", ylabel="N")
    left.set_title("Parametric fit L(N, D)")
    counts(left.yaxis)
    for budget, colour in zip(BUDGETS, shades(len(BUDGETS)), strict=True):
        x = np.log(N[(budget / 6 / N > 2e8) & (budget / 6 / N < 3e12)])
        right.plot(np.exp(x), mean_loss(law.theta, x, np.log(budget / 6) - x), color=colour)
        near = np.abs(np.log(table["C"] / budget)) < 0.3
        right.plot(table["N"][near], table["loss"][near], "o", color=colour, ms=3)
    right.set(xscale="log", xlabel="parameters N", ylabel="loss (nats/token)", ylim=(1.9, 5))
    right.set_title("Slices at fixed compute")
    counts(right.xaxis)
    at, theirs = law.optimal(5.76e23), _hoffmann_law(law).optimal(5.76e23)
    rows = [
        Row("a, parametric (paper: approach 3)", 0.46, law.params["beta"] / _sum(law)),
        Row("N* at 5.76e23 FLOPs (paper, approach 3: 40e9)", 40e9, at.N.value),
        Row("the same from Hoffmann's constants", 40e9, theirs.N.value),
    ]
    return Drawn(figure, rows, "The paper's approach 3 stopped before its minimum: see epoch.")


def _sum(law: Law) -> float:
    return law.params["alpha"] + law.params["beta"]


def epoch() -> Drawn:
    """Epoch's replication: parameters, bootstrap, a region that excludes Hoffmann's values."""
    law = epoch_law()
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    cloud = law.draws[:, 3:]
    left.plot(*cloud.T, ".", color=FRONTIER, ms=2, alpha=0.25, label="4,000 bootstrap fits")
    centre, spread = law.theta[3:], np.cov(cloud.T)
    angle = np.linspace(0, 2 * np.pi, 200)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    for level, style in ((0.9, "-"), (0.99, "--")):
        radius = np.sqrt(-2 * np.log(1 - level))
        ring = centre[:, None] + radius * np.linalg.cholesky(spread) @ circle
        left.plot(*ring, style, color=INK, lw=1, label=f"{level:.0%} region")
    left.plot(*centre, "D", color=FRONTIER, mec="white", ms=8, label="this fit")
    left.plot(0.34781, 0.36585, "s", color=SOFT, mec="white", ms=7, label="Epoch, published")
    left.plot(*HOFFMANN[3:], "o", color=ACCENT, mec="white", ms=8, label="Hoffmann et al.")
    left.legend(loc="lower right", fontsize=8)
    left.set(xlabel="alpha", ylabel="beta")
    left.set_title("Exponents and their confidence region")
    C = np.geomspace(1e18, 1e26, 60)
    best = [law.optimal(float(c)).ratio for c in C]
    right.fill_between(C, [r.low for r in best], [r.high for r in best], color=FRONTIER, alpha=0.2)
    right.plot(C, [r.value for r in best], color=FRONTIER, label="this fit, 90% band")
    theirs = _hoffmann_law(law)
    right.plot(C, [theirs.optimal(float(c)).ratio.value for c in C], color=ACCENT,
               label="Hoffmann's constants")  # fmt: skip
    right.plot(5.76e23, 20, "o", color=INK)
    right.annotate("Chinchilla 70B", (5.76e23, 20), (-6, -12), textcoords="offset points",
                   ha="right")  # fmt: skip
    right.set(xscale="log", yscale="log", ylim=(3, 300))
    right.set(xlabel="training compute C (FLOPs)", ylabel="optimal tokens per parameter")
    right.legend(loc="upper left")
    right.set_title("What the constants imply")
    difference = HOFFMANN - law.theta
    natural = _natural(law.draws)
    table = {name: column.tolist() for name, column in _epoch().items()}
    lad = fit(table, delta=0, bootstrap=100)
    gap = HOFFMANN - lad.theta  # from the constants that Epoch printed
    chi2 = float(gap @ np.linalg.solve(np.cov(law.draws.T), gap))
    rows = [
        Row("objective (sum of Huber, delta 1e-3)", 0.00101827401770388, law.objective),
        *(Row(f"{k} at absolute values (Epoch's table)", v, lad.params[k]) for k, v in EPOCH_LAD),
        *(
            Row(f"bootstrap standard error of {k}", v, float(natural[:, i].std()))
            for i, (k, v) in enumerate(EPOCH_ERRORS)
        ),
        Row("chi-squared (5) of Hoffmann's values, from Epoch's", 238.402, chi2),
    ]
    note = (
        "Epoch's printed constants are the least-absolute-deviations fit of the same points. "
        f"Hoffmann's beta lies {abs(difference[4]) / cloud[:, 1].std():.1f} standard errors away."
    )
    return Drawn(figure, rows, note)


EPOCH_LAD = (("A", 482.01), ("B", 2085.43), ("E", 1.81686), ("alpha", 0.34781), ("beta", 0.36585))
EPOCH_ERRORS = (
    ("E", 0.0256601), ("A", 124.522), ("B", 1293.286), ("alpha", 0.0154006), ("beta", 0.0206032),
)  # fmt: skip


def _natural(theta: np.ndarray) -> np.ndarray:
    return np.concatenate([np.exp(theta[:, :3]), theta[:, 3:]], axis=1)


def _hoffmann_law(law: Law) -> Law:
    values = _natural(HOFFMANN[None])[0].tolist()
    return replace(law, params=dict(zip(law.params, values, strict=True)))


def porian() -> Drawn:
    """From Kaplan's exponent to Chinchilla's: all fifteen exponents, published and ours."""
    runs, fits = load("porian_isoflop"), load("porian_published_fits")
    figure, ax = plt.subplots(figsize=(8.6, 5.4), layout="constrained")
    rows = []
    for i, config in enumerate(fits["config"]):
        table = where(runs, runs["config"] == config)
        noise = 0.002 if config.startswith("rw") else 0.01
        ours = akima.fit_exponent(table["C"], table["N"], table["loss"], noise)
        published, low, high = (float(fits[k][i]) for k in ("n_exponent", "ci_lo", "ci_hi"))
        ax.plot([low, high], [i - 0.14] * 2, color=SOFT, lw=2)
        ax.plot(published, i - 0.14, "o", color=SOFT, label="published, 95%" if i == 0 else None)
        ax.plot([ours.low, ours.high], [i + 0.14] * 2, color=FRONTIER, lw=2)
        ax.plot(ours.a, i + 0.14, "D", color=FRONTIER, label="ours, 95%" if i == 0 else None)
        rows.append(Row(f"a, {config}", published, ours.a))
    for value, name in ((0.88, "Kaplan"), (0.5, "Chinchilla")):
        ax.axvline(value, color=ACCENT, ls=":", lw=1)
        ax.annotate(name, (value, -0.8), (-3, 0), textcoords="offset points", ha="right",
                    color=ACCENT)  # fmt: skip
    ax.set_yticks(range(len(rows)), [label(str(c)) for c in fits["config"]], fontsize=8)
    ax.set_ylim(len(rows) - 0.5, -1.2)
    ax.set(xlabel="exponent a of N* ~ C^a")
    ax.legend(loc="lower right")
    ax.set_title("From Kaplan's exponent to Chinchilla's")
    note = "0.88: Kaplan et al. at a fixed batch size; 0.73 is after their batch-size correction."
    return Drawn(figure, rows, note)


def label(config: str) -> str:
    """'rw/base/long/kaplan/kaplan/train' in words."""
    data, rates, warmup, decay, count, _ = config.split("/")
    tuned = ", tuned" if rates == "tuned" else ""
    counted = {"kaplan": "no head", "standard": "with head", "attention": "with attention"}[count]
    return f"{data.upper()}: {counted}, {warmup} warm-up, {decay} decay{tuned}"


def gadre() -> Drawn:
    """Gadre's extrapolations of loss and of task error, from five small runs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    table = load("gadre_overtraining")
    table = where(table, table["train_set"] == "rpj")
    small = np.isin(table["model"], GADRE_SMALL)
    five = small & (table["M"] == 20) | (table["model"] == GADRE_SMALL[0]) & (table["M"] == 320)
    six = five | (table["model"] == "open_lm_1b") & (table["M"] == 20)
    law = overtraining.fit_tied({k: table[k][five] for k in ("N", "D", "loss")}, bootstrap=300)
    error = overtraining.fit_error(table["loss"][six], table["err_avg17"][six])
    for M, colour in zip((20, 640), (FRONTIER, ACCENT), strict=True):
        N = np.geomspace(8e6, 1e10, 50)
        along = mean_loss(law.theta, np.log(N), np.log(M * N))
        left.plot(6 * M * N**2, along, color=colour, label=f"law, D/N = {M}")
    left.plot(table["C"], table["loss"], "o", color=SOFT, ms=4, label="all runs")
    left.plot(table["C"][five], table["loss"][five], "o", color=INK, ms=6, label="fitted")
    left.set(xscale="log", xlabel="training compute C (FLOPs)", ylabel="C4 loss (nats/token)")
    left.set_title("Loss")
    left.legend(fontsize=8)
    x = np.linspace(2.3, 6.2, 80)
    right.plot(x, overtraining.error_at(error.params, x), color=FRONTIER)
    right.plot(table["loss"], table["err_avg17"], "o", color=SOFT, ms=4)
    right.plot(table["loss"][six], table["err_avg17"][six], "o", color=INK, ms=6)
    right.set(xlabel="C4 loss (nats/token)", ylabel="average error of 17 tasks")
    right.set_title("Task error from loss")
    rows = []
    for model, M, loss_error, task_error in GADRE_ERRORS:
        run = where(table, (table["model"] == model) & (table["M"] == M))
        loss = law.predict(float(run["N"][0]), float(run["D"][0])).value
        left.plot(run["C"], loss, "D", color=ACCENT, mfc="none", ms=9, mew=1.6)
        task = float(overtraining.error_at(error.params, loss))
        right.plot(run["loss"], task, "D", color=ACCENT, mfc="none", ms=9, mew=1.6)
        relative = 100 * abs(loss / run["loss"][0] - 1), 100 * abs(task / run["err_avg17"][0] - 1)
        rows.append(Row(f"loss error of {model} at D/N {M} (%)", loss_error, float(relative[0])))
        rows.append(Row(f"task error of {model} at D/N {M} (%)", task_error, float(relative[1])))
    return Drawn(figure, rows, "Diamonds: predicted. 5 runs, 4 parameters: the margin is thin.")


GADRE_SMALL = ("d=96_l=8_h=4", "d=512_l=8_h=4", "d=576_l=24_h=8", "d=1024_l=24_h=8")
GADRE_ERRORS = (("open_lm_1b", 640, 0.7103, 3.6365), ("open_lm_7b", 20, 0.7320, 0.0464))


def repeated() -> Drawn:
    """The data-constrained fit's objective over R_D* and R_N*, with both minima."""
    table = load("datablations")
    table = where(table, table["in_fit"] == 1)
    runs = table["N"], table["D"], table["U"]
    found = repeated_data.fit(runs[0], runs[1], runs[2], table["loss"])
    figure, ax = plt.subplots(figsize=(7.4, 5), layout="constrained")
    R_D, R_N = np.geomspace(2, 1500, 70), np.geomspace(0.4, 40, 60)
    surface = np.array([[_objective(runs, table["loss"], x, y) for x in R_D] for y in R_N])
    excess = 100 * (surface / found.objective - 1)
    levels = [0.05, 0.1, 0.2, 0.4, 1, 2, 5, 10, 20]
    drawn = ax.contourf(R_D, R_N, excess, levels=[0, *levels], cmap="viridis_r", extend="max")
    figure.colorbar(drawn, ax=ax, label="objective above its minimum (%)", ticks=levels)
    ax.plot(found.R_D, found.R_N, "*", color=ACCENT, mec="white", ms=16, label="global minimum")
    ax.plot(15.387756, 5.309743, "o", color=INK, mec="white", ms=9, label="published (local)")
    ax.set(xscale="log", yscale="log", xlabel="R_D* (repetitions)", ylabel="R_N*")
    ax.legend(loc="upper right", labelcolor="white")
    ax.grid(False)
    ax.set_title("What repeated tokens are worth: a flat valley")
    local = min(found.minima, key=lambda m: abs(m[0] - 15.387756))
    rows = [
        Row("R_D* of the published (local) minimum", 15.387756, local[0]),
        Row("R_N* of the published (local) minimum", 5.309743, local[1]),
        Row("R_D*: published against the global minimum", 15.387756, found.R_D),
        Row("R_N*: published against the global minimum", 5.309743, found.R_N),
        Row("objective: published against the global minimum", 0.0158259, found.objective),
    ]
    return Drawn(figure, rows, "; ".join(found.warnings))


def _objective(runs: tuple[np.ndarray, ...], observed: np.ndarray, R_D: float, R_N: float) -> float:
    N, D, U = runs
    residual = np.log(repeated_data.loss(N, D, U, R_D, R_N)) - np.log(observed)
    return float(Objective().values(residual).sum())


def olmo() -> Drawn:
    """OLMo ladder's two-step predictions of the 13B model's accuracy."""
    table = load("olmo_ladder")
    train = where(table, table["mode"] == "train")
    target = where(table, table["run_id"] == "peteish13_eval_final")
    figure, ax = plt.subplots(figsize=(7.6, 4.6), layout="constrained")
    rows = []
    for i, (task, published) in enumerate(OLMO.items()):
        law = downstream.fit(
            train["run_id"], train["N"], train["D"], train[f"bpb_{task}"], train[f"acc_{task}"]
        )
        ours = 100 * law.accuracy(13202396160, 5000088518656)
        actual = 100 * float(target[f"acc_{task}"][-5:].mean())
        ax.plot([actual, ours], [i, i], color=SOFT, lw=1)
        ax.plot(actual, i, "o", color=INK, ms=7, label="measured" if i == 0 else None)
        ax.plot(ours, i, "D", color=FRONTIER, ms=7, label="predicted" if i == 0 else None)
        rows.append(Row(f"predicted accuracy on {task} (%)", published, ours))
    ax.set_yticks(range(len(rows)), [t.rsplit("_", 1)[0].replace("_", " ") for t in OLMO])
    ax.invert_yaxis()
    ax.set(xlabel="accuracy of the 13B model on 5T tokens (%)")
    ax.legend()
    ax.set_title("Two-step predictions from models up to 1.3B")
    return Drawn(figure, rows, "Published: the authors' scripts, to one decimal.")


OLMO = {
    "mmlu_test": 51.3, "hellaswag_val": 85.3, "arc_challenge_test": 52.7, "arc_easy_test": 77.2,
    "piqa_val": 82.1, "csqa_val": 77.6, "socialiqa_val": 59.9, "openbookqa_test": 44.9,
}  # fmt: skip
