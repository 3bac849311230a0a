"""The cheapest model of a given quality once it also has to serve tokens.

    python -m experiments.inference law.json --like=13e9 --tokens=2e12

Sardana et al. 2024 (arXiv 2401.00448), equation 3: of all (N, D) with the same loss, the one with
the least 6 N D + 2 N T FLOPs, T tokens served over its life. The more it serves, the smaller and
longer trained it should be. The quality is that of the compute-optimal model of --like parameters.
N parameters, D and T tokens.
"""

from typing import NamedTuple

import numpy as np

from data.errors import Parser, UserError, run
from data.files import human_count
from experiments.laws import Interval, Law, mean_loss
from experiments.tables import table
from experiments.uncertainty import quantiles

GOLDEN = (np.sqrt(5) - 1) / 2


class Served(NamedTuple):
    """Arrays with one entry for each law."""

    loss: np.ndarray  # of the compute-optimal model that is to be matched
    N: np.ndarray
    D: np.ndarray
    flops: np.ndarray  # training and inference
    saving: np.ndarray  # share of the FLOPs that the compute-optimal model would take


def compute_optimal_tokens(theta: np.ndarray, N: float) -> np.ndarray:
    """D for which N is compute-optimal under C = 6ND, for each row of theta (as in Law.draws)."""
    _, a, b, alpha, beta = np.moveaxis(theta, -1, 0)
    # At the optimum alpha A/N^alpha = beta B/D^beta (Hoffmann et al. 2022, equation 4).
    return np.exp((np.log(beta / alpha) + b - a + alpha * np.log(N)) / beta)


def optimal(theta: np.ndarray, like: float, tokens: float) -> Served:
    """The cheapest model as good as the compute-optimal one of `like` parameters.

    tokens: served over its life. theta: rows of (ln E, ln A, ln B, alpha, beta). A golden-section
    search over ln N between the smallest model that can reach the loss and `like` itself.
    """
    e, a, b, alpha, beta = np.moveaxis(theta, -1, 0)
    D_like = compute_optimal_tokens(theta, like)
    loss = mean_loss(theta, np.log(like), np.log(D_like))
    rest = loss - np.exp(e)

    def log_D(log_N: np.ndarray) -> np.ndarray:
        left = np.maximum(rest - np.exp(a - alpha * log_N), 1e-300)
        return (b - np.log(left)) / beta

    def cost(log_N: np.ndarray) -> np.ndarray:
        return log_N + np.logaddexp(np.log(6) + log_D(log_N), np.log(2 * tokens))

    low, high = (a - np.log(rest)) / alpha, np.full(len(theta), np.log(like))
    for _ in range(80):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        smaller = cost(left) < cost(right)
        low, high = np.where(smaller, low, left), np.where(smaller, right, high)
    log_N = (low + high) / 2
    flops = np.exp(cost(log_N))
    saving = 1 - flops / (6 * like * D_like + 2 * like * tokens)
    return Served(loss, np.exp(log_N), np.exp(log_D(log_N)), flops, saving)


def for_inference(law: Law, like: float, tokens: float) -> dict[str, Interval]:
    """The fields of Served with the law's intervals; FLOPs by C = 6ND."""
    if not (like > 0 and tokens >= 0):
        raise UserError("parameters must be positive and tokens not negative")
    found = optimal(np.concatenate([law.theta[None], law.draws]), like, tokens)
    return {
        name: Interval(float(values[0]), *quantiles(values[1:], law.level))
        for name, values in found._asdict().items()
    }


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.inference",
        description=__doc__,
    )
    parser.add_argument("law", help="law.json, as experiments.fit writes it")
    parser.add_argument(
        "--like", type=float, required=True, help="parameters of the model to match"
    )
    parser.add_argument(
        "--tokens", type=float, required=True, help="tokens to be served, e.g. 2e12"
    )
    flags = parser.parse_args()
    law = Law.load(flags.law)
    found = for_inference(law, flags.like, flags.tokens)
    formats = {"saving": "{:.1%}".format, "loss": "{:.4f}".format, "flops": "{:.3g}".format}
    rows = [["", "value", "90% interval"]]
    for name in ("N", "D", "flops", "saving", "loss"):
        write = formats.get(name, human_count)
        i = found[name]
        rows.append([name, write(i.value), f"{write(i.low)} to {write(i.high)}"])
    print(table(rows))


if __name__ == "__main__":
    run(main)
