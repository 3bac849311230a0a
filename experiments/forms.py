"""Other laws: Kaplan's, a broken power law, the critical batch size, learning rates.

Each is a residual function and a grid of starts for `experiments.minimise`, which searches, and
says how sure the result is. N parameters, D tokens, losses nats/token.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from data.errors import UserError
from experiments.diagnostics import rise
from experiments.minimise import Fit, examined, minimise


def kaplan_loss(p: Mapping[str, float], N: Any, D: Any) -> Any:
    """L = ((Nc/N)^(aN/aD) + Dc/D)^aD, Kaplan et al. 2020 (arXiv 2001.08361), equation 1.5.

    N without embeddings. It has no irreducible loss: extrapolated far enough it goes to zero.
    """
    size = np.exp((p["log_Nc"] - np.log(N)) * p["alpha_N"] / p["alpha_D"])
    return (size + np.exp(p["log_Dc"] - np.log(D))) ** p["alpha_D"]


def fit_kaplan(
    N: np.ndarray, D: np.ndarray, loss: np.ndarray, delta: float = 1e-3, draws: int = 200
) -> Fit:
    """Fit Kaplan's form; published: alpha_N .076, alpha_D .103, Nc 6.4e13, Dc 1.8e13.

    Derived: Nc, Dc, and the exponent a of N* ~ C^a that the form has under C = 6ND.
    """
    names = ("log_Nc", "log_Dc", "alpha_N", "alpha_D")

    def residuals(theta: np.ndarray) -> np.ndarray:
        return np.log(kaplan_loss(dict(zip(names, theta, strict=True)), N, D)) - np.log(loss)

    axes = {
        "log_Nc": np.linspace(20, 40, 6),
        "log_Dc": np.linspace(20, 40, 6),
        "alpha_N": (0.05, 0.08, 0.15, 0.3),
        "alpha_D": (0.05, 0.1, 0.2, 0.4),
    }
    bounds = {"log_Nc": (0.0, 300.0), "log_Dc": (0.0, 300.0)}
    bounds |= {k: (1e-3, 3.0) for k in ("alpha_N", "alpha_D")}
    form = "L = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D (Kaplan et al. 2020)"
    found = minimise(residuals, axes, delta, bounds, form=form)
    derived = {
        "Nc": lambda t: float(np.exp(t[0])),
        "Dc": lambda t: float(np.exp(t[1])),
        "a": lambda t: t[3] / (t[2] + t[3]),
    }
    return examined(found, residuals, delta, bounds, derived, draws=draws)


def broken_power_law(p: Mapping[str, float], x: Any) -> Any:
    """y = a + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f): Caballero et al. 2023 (arXiv 2210.14891).

    One break; log_b, log_d are logarithms; f is how sharp the break is, c0 + c1 the slope after it.
    """
    z = (np.log(x) - p["log_d"]) / p["f"]
    log_term = p["log_b"] - p["c0"] * np.log(x) - p["c1"] * p["f"] * np.logaddexp(0, z)
    return p["a"] + np.exp(log_term)


def fit_broken(x: np.ndarray, y: np.ndarray, draws: int = 200) -> Fit:
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
    form = "y = a + b x^-c0 (1 + (x/d)^(1/f))^(-c1 f) (Caballero et al. 2023)"
    found = minimise(residuals, axes, np.inf, box, form=form)
    straight = minimise(
        lambda theta: residuals(np.array([*theta, 0.0, lx.mean(), 1.0])),
        {k: axes[k] for k in ("a", "log_b", "c0")},
        np.inf,
        {"a": box["a"]},
    )
    derived = {"b": lambda t: float(np.exp(t[1])), "d": lambda t: float(np.exp(t[4]))}
    found = examined(found, residuals, np.inf, box, derived, draws=draws, linear=True)
    if straight.objective <= found.objective * (1 + rise(len(x))) + 1e-20 * len(x):
        none = "no break is visible: a single power law does as well"
        return replace(found, warnings=(none, *found.warnings))
    return found


def fit_critical_batch(batch: np.ndarray, steps: np.ndarray) -> Fit:
    """Critical batch size from runs at several batches to one loss; derived: B_critical.

    McCandlish et al. 2018 (arXiv 1812.06162), equation 5.1: (S/S_min - 1)(E/E_min - 1) = 1 for S
    steps and E = S x batch examples, so S = S_min + E_min/batch; relative least squares.
    B_critical = E_min/S_min, in the examples' unit.
    """
    if len(np.unique(batch)) < 3:
        raise UserError("a critical batch size needs runs at 3 or more batch sizes")
    design = np.stack([np.ones_like(batch, float), 1 / batch], axis=1) / steps[:, None]
    start = np.linalg.lstsq(design, np.ones(len(steps)), rcond=None)[0]
    if not (start > 0).all():
        raise UserError(
            "steps do not follow S_min (1 + B_crit/B): the batches are all on one side of the "
            "critical one; try smaller and larger batches"
        )

    def residuals(theta: np.ndarray) -> np.ndarray:
        return design @ np.exp(theta) - 1

    axes = {"log_S_min": (float(np.log(start[0])),), "log_E_min": (float(np.log(start[1])),)}
    form = "S = S_min + E_min/batch (McCandlish et al. 2018)"
    found = minimise(residuals, axes, form=form)
    derived = {
        "S_min": lambda t: float(np.exp(t[0])),
        "E_min": lambda t: float(np.exp(t[1])),
        "B_critical": lambda t: float(np.exp(t[1] - t[0])),
    }
    return examined(found, residuals, derived=derived)


def fit_power(y: np.ndarray, **variables: np.ndarray) -> Fit:
    """y = k prod x^e by least squares in logarithms: learning rates or batch sizes over N, D.

    As in Li et al. 2025 (arXiv 2503.04715) and DeepSeek 2024 (arXiv 2401.02954). Parameters: log_k
    and the exponents by name; derived: k.
    """
    columns = [np.ones(len(y)), *(np.log(v) for v in variables.values())]
    design = np.stack(columns, axis=1)
    solution, _, rank, _ = np.linalg.lstsq(design, np.log(y), rcond=None)
    if rank < len(columns):
        raise UserError(f"{', '.join(variables)} do not vary independently: no separate exponents")

    def residuals(theta: np.ndarray) -> np.ndarray:
        return design @ theta - np.log(y)

    axes = {name: (float(x),) for name, x in zip(["log_k", *variables], solution, strict=True)}
    form = "y = k " + " ".join(f"{name}^e" for name in variables)
    return examined(minimise(residuals, axes, form=form), residuals,
                    derived={"k": lambda t: float(np.exp(t[0]))}, linear=True)  # fmt: skip
