"""Over-training: loss and task error of models far beyond the compute-optimal D/N.

Gadre et al. 2024 (arXiv 2403.08540), equations 4 and 5: L(C, M) = E + (a M^eta + b M^-eta) C^-eta
with M = D/N and C = 6ND, which is E + A/N^(2 eta) + B/D^(2 eta) with A = a 6^-eta and B = b 6^-eta:
one exponent for both terms, so that the loss falls equally fast at every M. Average task error
follows the loss: Err = epsilon - k exp(-gamma L). Losses nats/token, errors 0 to 1.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments.laws import Law, fit
from experiments.minimise import Fit, examined, minimise
from experiments.runs import Runs


def fit_tied(runs: Runs | Mapping[str, Any] | str | Path, bootstrap: int = 1000) -> Law:
    """The law with one exponent as they fit it: least squares of the loss itself."""
    return fit(runs, np.inf, bootstrap, tied=True, residuals="plain")


def a_b_eta(law: Law) -> tuple[float, float, float]:
    """The paper's a, b and eta of a tied law."""
    eta = law.params["alpha"] / 2
    return law.params["A"] * 6**eta, law.params["B"] * 6**eta, eta


def error_at(p: Mapping[str, float], loss: Any) -> Any:
    """Average task error at a loss."""
    return p["epsilon"] - p["k"] * np.exp(-p["gamma"] * loss)


def fit_error(loss: np.ndarray, error: np.ndarray, draws: int = 200) -> Fit:
    """The error law by least squares: epsilon, k, gamma.

    Starts: a grid of gamma, given which epsilon and k are linear. UserError: fewer than 4 runs.
    """
    grid = np.geomspace(0.01, 20, 60)

    def linear(gamma: float) -> np.ndarray:
        columns = np.stack([np.ones_like(loss), -np.exp(-gamma * loss)], 1)
        return np.linalg.lstsq(columns, error, rcond=None)[0]

    starts = np.array([[*linear(g), g] for g in grid])
    names = ("epsilon", "k", "gamma")

    def residuals(theta: np.ndarray) -> np.ndarray:
        return error_at(dict(zip(names, theta, strict=True)), loss) - error

    box = {"gamma": (1e-3, 50.0)}
    form = "Err = epsilon - k exp(-gamma L) (Gadre et al. 2024)"
    found = minimise(residuals, dict.fromkeys(names), np.inf, box, starts, form)
    return examined(found, residuals, np.inf, box, draws=draws)
