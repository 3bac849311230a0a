"""Other laws: Kaplan's, a broken power law, the critical batch size, learning rates.

Every fit is a global search: the objective at a whole grid of starts, then a trust-region descent
from the best of them (scipy's least_squares, whose Huber loss is the one of `search.Objective`).
"""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from experiments.diagnostics import rise
from experiments.search import Objective

Function = Callable[[np.ndarray], np.ndarray]
POLISHED = 12


class Fit(NamedTuple):
    """A fitted form: parameters in order, objective, and how the search went."""

    params: dict[str, float]
    objective: float
    reached: float  # share of the polished starts within 1e-6 of the best
    others: tuple[tuple[dict[str, float], float], ...]  # other minima: parameters, objective
    warnings: tuple[str, ...] = ()


def minimise(
    residuals: Function,
    axes: Mapping[str, Any],
    delta: float = np.inf,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> Fit:
    """Minimise the sum of Huber losses of residuals(theta) over a grid of starts, then polish.

    axes: the starts' values of each parameter. residuals takes theta (P) and returns n numbers.
    """
    from scipy.optimize import least_squares

    names = list(axes)
    objective = Objective(delta)
    box = np.array([(bounds or {}).get(n, (-np.inf, np.inf)) for n in names], float).T
    starts = np.array(list(itertools.product(*axes.values())), float)
    with np.errstate(all="ignore"):
        values = np.array([objective.values(residuals(s)).sum() for s in starts])
    values[~np.isfinite(values)] = np.inf
    order = np.argsort(values, kind="stable")[:POLISHED]
    if not np.isfinite(values[order[0]]):
        raise UserError("no start of the search gives a finite loss; are the units right?")
    fits = []
    for start in starts[order[np.isfinite(values[order])]]:
        with np.errstate(all="ignore"):
            done = least_squares(
                residuals,
                np.clip(start, box[0] + 1e-9, box[1] - 1e-9),
                loss="linear" if np.isinf(delta) else "huber",
                f_scale=1.0 if np.isinf(delta) else delta,
                x_scale="jac",
                bounds=box,
                ftol=1e-15,
                xtol=1e-15,
                gtol=1e-15,
                max_nfev=2000,
            )
        fits.append((float(objective.values(residuals(done.x)).sum()), done.x))
    fits.sort(key=lambda f: f[0])
    best = fits[0][0]
    close = [f for f in fits if f[0] <= best * (1 + 1e-6) + 1e-300]
    others: list[tuple[dict[str, float], float]] = []
    for value, theta in fits[len(close) :]:
        if not others or value > others[-1][1] * (1 + 1e-6):
            others.append((_named(names, theta), value))
    warnings = tuple(
        f"{name} ended at the bound {end:.3g} of its search: the data do not determine it"
        for name, x, ends in zip(names, fits[0][1], box.T, strict=True)
        for end in ends
        if abs(x - end) <= 1e-6 * max(abs(end), 1.0)
    )
    return Fit(_named(names, fits[0][1]), best, len(close) / len(fits), tuple(others), warnings)


def _named(names: list[str], theta: np.ndarray) -> dict[str, float]:
    return {n: float(x) for n, x in zip(names, theta, strict=True)}


def kaplan_loss(p: Mapping[str, float], N: Any, D: Any) -> Any:
    """L = ((Nc/N)^(aN/aD) + Dc/D)^aD, Kaplan et al. 2020 (arXiv 2001.08361), equation 1.5.

    N without embeddings. It has no irreducible loss: extrapolated far enough it goes to zero.
    """
    size = np.exp((p["log_Nc"] - np.log(N)) * p["alpha_N"] / p["alpha_D"])
    return (size + np.exp(p["log_Dc"] - np.log(D))) ** p["alpha_D"]


def fit_kaplan(N: np.ndarray, D: np.ndarray, loss: np.ndarray, delta: float = 1e-3) -> Fit:
    """Fit Kaplan's form; published: alpha_N .076, alpha_D .103, Nc 6.4e13, Dc 1.8e13."""
    names = ("log_Nc", "log_Dc", "alpha_N", "alpha_D")

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.log(kaplan_loss(dict(zip(names, theta, strict=True)), N, D)) - np.log(loss)

    axes = {
        "log_Nc": np.linspace(20, 40, 6),
        "log_Dc": np.linspace(20, 40, 6),
        "alpha_N": (0.05, 0.08, 0.15, 0.3),
        "alpha_D": (0.05, 0.1, 0.2, 0.4),
    }
    return minimise(residuals, axes, delta, {k: (1e-3, 3.0) for k in ("alpha_N", "alpha_D")})


def broken_power_law(p: Mapping[str, float], x: Any) -> Any:
    """y = a + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f): Caballero et al. 2023 (arXiv 2210.14891).

    One break; log_b, log_d are logarithms; f is how sharp the break is, c0 + c1 the slope after it.
    """
    z = (np.log(x) - p["log_d"]) / p["f"]
    log_term = p["log_b"] - p["c0"] * np.log(x) - p["c1"] * p["f"] * np.logaddexp(0, z)
    return p["a"] + np.exp(log_term)


def fit_broken(x: np.ndarray, y: np.ndarray) -> Fit:
    """Fit one break by least squares of ln y; warns where a power law alone does as well."""
    names = ("a", "log_b", "c0", "c1", "log_d", "f")
    lx = np.log(x)

    def residuals(theta: np.ndarray) -> np.ndarray:
        value = broken_power_law(dict(zip(names, theta, strict=True)), x)
        return np.log(np.maximum(value, 1e-300)) - np.log(y)

    slope = -np.polyfit(lx, np.log(y), 1)[0]
    axes = {
        "a": (0.0, 0.5 * y.min()),
        "log_b": [np.log(np.median(y)) + s * lx.mean() for s in (0.0, slope, 2 * slope)],
        "c0": (0.0, slope, 2 * slope),
        "c1": (-slope, 0.0, slope, 2 * slope),
        "log_d": np.linspace(lx.min(), lx.max(), 5),
        "f": (0.1, 0.5),
    }
    box = {"a": (0.0, float(y.min())), "f": (0.01, 5.0), "log_d": (lx.min(), lx.max())}
    found = minimise(residuals, axes, np.inf, box)
    straight = minimise(
        lambda theta: residuals(np.array([*theta, 0.0, lx.mean(), 1.0])),
        {k: axes[k] for k in ("a", "log_b", "c0")},
        np.inf,
        {"a": box["a"]},
    )
    if straight.objective <= found.objective * (1 + rise(len(x))) + 1e-20 * len(x):
        return found._replace(warnings=("no break is visible: a single power law does as well",))
    return found


class CriticalBatch(NamedTuple):
    """Steps S and examples E to one loss: (S/S_min - 1)(E/E_min - 1) = 1."""

    S_min: float
    E_min: float
    B_critical: float  # E_min / S_min, in the examples' unit


def fit_critical_batch(batch: np.ndarray, steps: np.ndarray) -> CriticalBatch:
    """Critical batch size from runs at several batches to one loss.

    McCandlish et al. 2018 (arXiv 1812.06162), equation 5.1: S = S_min (1 + B_crit/B), a line in
    1/B, fitted with relative weights.
    """
    if len(np.unique(batch)) < 3:
        raise UserError("a critical batch size needs runs at 3 or more batch sizes")
    design = np.stack([np.ones_like(batch, float), 1 / batch], axis=1) / steps[:, None]
    S_min, E_min = np.linalg.lstsq(design, np.ones(len(steps)), rcond=None)[0]
    if not (S_min > 0 and E_min > 0):
        raise UserError(
            "steps do not follow S_min (1 + B_crit/B): the batches are all on one side of the "
            "critical one; try smaller and larger batches"
        )
    return CriticalBatch(float(S_min), float(E_min), float(E_min / S_min))


def fit_power(y: np.ndarray, **variables: np.ndarray) -> dict[str, float]:
    """y = k prod x^e by least squares in logarithms: learning rates or batch sizes over N, D.

    As in Li et al. 2025 (arXiv 2503.04715) and DeepSeek 2024 (arXiv 2401.02954). Returns `k` and
    the exponents by name.
    """
    columns = [np.ones(len(y)), *(np.log(v) for v in variables.values())]
    solution, _, rank, _ = np.linalg.lstsq(np.stack(columns, axis=1), np.log(y), rcond=None)
    if rank < len(columns):
        raise UserError(f"{', '.join(variables)} do not vary independently: no separate exponents")
    return {"k": float(np.exp(solution[0]))} | {
        name: float(e) for name, e in zip(variables, solution[1:], strict=True)
    }
