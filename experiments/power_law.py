"""The form L(N, D) = E + A/N^alpha + B/D^beta: its terms, fit, loss and compute-optimal size.

Tied, alpha and beta are one parameter; theta has it twice, so that all that uses a law works alike.

theta is (ln E, ln A, ln B, alpha, beta), rows of it are bootstrap draws. Hoffmann et al. 2022
(arXiv 2203.15556), section 3.3. N parameters, D tokens, C FLOPs, losses nats/token.
"""

from typing import Any

import numpy as np

from experiments.per_token import PerToken
from experiments.search import Found, Objective, Terms, search

NAMES = ("E", "A", "B", "alpha", "beta")
LARGEST = 690.0  # exp of more is not a finite double


def design(N: np.ndarray, D: np.ndarray, tied: bool = False) -> tuple[Terms, tuple[float, float]]:
    """Terms over (ln E, ln A, ln B, alpha, beta), and the means that ln N and ln D are taken from.

    Centred columns keep the Hessian well conditioned; `uncentre` undoes it. Tied has no beta.
    """
    log_N, log_D = np.log(N), np.log(D)
    centre = (float(log_N.mean()), float(log_D.mean()))
    columns = np.zeros((3, len(N), 4 if tied else 5))
    for k in range(3):
        columns[k, :, k] = 1
    columns[1, :, 3] = centre[0] - log_N
    columns[2, :, -1] = centre[1] - log_D
    return Terms(columns, 3), centre


def fit_theta(
    N: np.ndarray, D: np.ndarray, loss: np.ndarray, objective: Objective, tied: bool = False
) -> tuple[np.ndarray, Found]:
    """The global optimum's theta, and how it was found (in centred terms)."""
    terms, centre = design(N, D, tied)
    found = search(terms, loss, objective, grid=200 if tied else 40)
    return uncentre(found.theta[None], centre)[0], found


def uncentre(theta: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Centred parameters (S 5; tied S 4) as (ln E, ln A, ln B, alpha, beta), S 5."""
    result = theta[:, [0, 1, 2, 3, -1]]
    result[:, 1] += result[:, 3] * centre[0]
    result[:, 2] += result[:, 4] * centre[1]
    return result


def natural(theta: np.ndarray) -> np.ndarray:
    """(ln E, ln A, ln B, alpha, beta) as (E, A, B, alpha, beta); kept finite."""
    return np.concatenate(
        [np.exp(np.clip(theta[..., :3], -LARGEST, LARGEST)), theta[..., 3:]], axis=-1
    )


def mean_loss(theta: np.ndarray, log_N: Any, log_D: Any) -> np.ndarray:
    """E + A/N^alpha + B/D^beta for each row of theta."""
    e, a, b, alpha, beta = np.moveaxis(theta, -1, 0)
    return np.exp(np.logaddexp(e, np.logaddexp(a - alpha * log_N, b - beta * log_D)))


def best_log_N(theta: np.ndarray, C: float, per_token: PerToken) -> np.ndarray:
    """ln N* for each row of theta at C FLOPs, by bisection on the derivative along C = const.

    With C = 6ND it is Hoffmann et al., equation 4: N* = G (C/6)^(beta/(alpha+beta)).
    """
    _, a, b, alpha, beta = np.moveaxis(theta, -1, 0)
    middle = np.log(C / 6) / 2
    low, high = np.full(len(theta), middle - 60), np.full(len(theta), middle + 60)
    for _ in range(60):
        x = (low + high) / 2
        log_D = np.log(C / 6) - x - per_token.log_ratio(x)
        cost = 1 + per_token.slope(x)  # d ln D / d ln N = -cost
        rising = np.log(np.maximum(beta * cost, 1e-300)) + b - beta * log_D
        falling = np.log(np.maximum(alpha, 1e-300)) + a - alpha * x
        low, high = np.where(rising < falling, x, low), np.where(rising < falling, high, x)
    return (low + high) / 2
