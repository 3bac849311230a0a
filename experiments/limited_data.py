"""The best model for a budget when only so many different tokens exist: size against epochs.

    python -m experiments.limited_data law.json --compute=1e22 --unique=2e10

Muennighoff et al. 2023 (arXiv 2305.16264) with a fitted law's E, A, B and exponents, C = 6ND. Their
runs do not settle how fast repeats lose their value, so the answer is given for both minima of
their fit: the published one, and the global one.
"""

from typing import NamedTuple

import numpy as np

from data.errors import Parser, UserError, run
from data.files import human_count
from experiments import repeated_data
from experiments.laws import Interval, Law, natural
from experiments.tables import table
from experiments.uncertainty import quantiles

DECAYS = {"as published": (15.387756, 5.309743), "global optimum": (95.365, 1.7059)}
SEARCHED = np.exp(np.linspace(-6, 6, 1201))  # multiples of the N* of unlimited data


class Best(NamedTuple):
    """The optimum under one assumption about repeats."""

    decay: str
    N: Interval
    D: Interval
    epochs: Interval
    loss: Interval


def optimal(law: Law, C: float, unique: float) -> list[Best]:
    """The N and D = C/(6N) of least loss with `unique` different tokens, for each decay.

    Intervals are the law's; the decay's own uncertainty is the difference between the rows.
    """
    if not (C > 0 and unique > 0):
        raise UserError("the budget and the unique tokens must be positive")
    rows = natural(np.concatenate([law.theta[None], law.draws]))
    N = SEARCHED * law.optimal(C).N.value
    D = C / (6 * N)
    found = []
    for name, (R_D, R_N) in DECAYS.items():
        picked = []
        for row in rows:
            losses = repeated_data.loss(
                N, D, np.array(unique), R_D, R_N, repeated_data.Constants(*row)
            )
            i = int(np.argmin(losses))
            picked.append((N[i], D[i], max(D[i] / unique, 1.0), losses[i]))
        columns = (_interval(column, law.level) for column in np.array(picked).T)
        found.append(Best(name, *columns))
    return found


def _interval(values: np.ndarray, level: float) -> Interval:
    low, high = quantiles(values[1:], level)
    return Interval(float(values[0]), min(low, float(values[0])), max(high, float(values[0])))


def show(found: list[Best], unique: float) -> str:
    """The choice for people."""
    rows = [["repeats decay", "N", "90%", "D", "epochs", "90%", "loss", "90%"]]
    for b in found:
        N = f"{human_count(b.N.low)}-{human_count(b.N.high)}"
        epochs = f"{b.epochs.low:.3g}-{b.epochs.high:.3g}"
        loss = f"{b.loss.low:.3f}-{b.loss.high:.3f}"
        sizes = [human_count(b.N.value), N, human_count(b.D.value)]
        rows.append([b.decay, *sizes, f"{b.epochs.value:.3g}", epochs, f"{b.loss.value:.3f}", loss])
    return f"with {human_count(unique)} unique tokens:\n{table(rows)}"


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.limited_data",
        description=__doc__,
    )
    parser.add_argument("law", help="law.json, as experiments.fit writes it")
    parser.add_argument("--compute", type=float, required=True, help="budget in FLOPs")
    parser.add_argument("--unique", type=float, required=True, help="different tokens there are")
    flags = parser.parse_args()
    print(show(optimal(Law.load(flags.law), flags.compute, flags.unique), flags.unique))


if __name__ == "__main__":
    run(main)
