"""Which runs to train next, so that N* at a target budget becomes certain soonest.

    python -m experiments.next_run law.json --target=1e20 --allowance=2e17

The law's bootstrap draws are a sample of what the truth may be. In each, N* at the target and the
loss of every candidate run are known, so their covariance over the draws says how much measuring a
candidate would tell about N*: its variance falls by cov^2 / (var of the candidate's loss + noise).
Runs are chosen one after another, the covariance updated after each (linear Gaussian design:
Chaloner & Verdinelli 1995), for every number of runs that the allowance may be shared among, so the
answer also says whether one large run is worth more than several small ones.
"""

import math
from typing import NamedTuple

import numpy as np

from data.errors import Parser, UserError, run
from data.files import human_count
from experiments.laws import Law, best_log_N, mean_loss
from experiments.tables import table

SIZES = 40  # candidate sizes at each cost
TRIMMED = 0.01  # share of the wildest draws left out at each end
WIDTH_90 = 2 * 1.645  # width of a 90% interval in standard deviations


class NextRun(NamedTuple):
    """A run to train: parameters, tokens, and its FLOPs."""

    N: float
    D: float
    C: float


class Design(NamedTuple):
    """Runs to train next, with the width of N*'s 90% interval (as a factor) before and after."""

    runs: tuple[NextRun, ...]
    before: float
    after: float


def design(
    law: Law,
    target: float,
    allowance: float,
    most: int = 6,
    tokens_per_parameter: tuple[float, float] | None = None,
) -> Design:
    """Choose up to `most` runs that together cost `allowance` FLOPs and pin N* at `target` FLOPs.

    tokens_per_parameter bounds D/N of a candidate, by default to what the law's runs had: the
    design goes to the ends of what is allowed, and there the law's form has to be right. UserError
    where nothing fits the bounds.
    """
    low, high = tokens_per_parameter or law.data["D_per_N"]
    if not (target > 0 and allowance > 0):
        raise UserError("the target and the allowance must be positive numbers of FLOPs")
    draws = _usual(law, target)
    designs = []
    for count in range(1, most + 1):
        candidates = _candidates(law, allowance / count, (low, high))
        if len(candidates):
            designs.append(_greedy(law, draws, target, candidates, count))
    if not designs:
        raise UserError(
            f"no model with {low:.3g} to {high:.3g} tokens per parameter costs {allowance:.3g} "
            "FLOPs; give another allowance or other bounds on D/N"
        )
    return min(designs, key=lambda d: d.after)


def _usual(law: Law, target: float) -> np.ndarray:
    """The draws without those whose N* is wildest: a variance must not hang on one draw."""
    log_N = best_log_N(law.draws, target, law.per_token)
    low, high = np.quantile(log_N, [TRIMMED, 1 - TRIMMED])
    return law.draws[(log_N >= low) & (log_N <= high)]


def _candidates(law: Law, cost: float, bounds: tuple[float, float]) -> list[NextRun]:
    """Runs of one cost, their sizes log-spaced over every allowed D/N."""
    found = []
    for log_N in np.linspace(np.log(1e3), np.log(1e13), 2000):
        per_token = 6 * np.exp(log_N + float(law.per_token.log_ratio(log_N)))
        D = cost / per_token
        if bounds[0] <= D / np.exp(log_N) <= bounds[1]:
            found.append(NextRun(float(np.exp(log_N)), float(D), cost))
    if not found:
        return []
    places = np.unique(np.linspace(0, len(found) - 1, SIZES).round().astype(int))
    return [found[i] for i in places]


def _greedy(
    law: Law, draws: np.ndarray, target: float, candidates: list[NextRun], count: int
) -> Design:
    log_N = best_log_N(draws, target, law.per_token)
    log_loss = [np.log(mean_loss(draws, np.log(c.N), np.log(c.D))) for c in candidates]
    cov = np.cov(np.stack([log_N, *log_loss]))
    noise = law.noise.scale**2
    before, chosen = cov[0, 0], []
    for _ in range(count):
        gain = cov[0, 1:] ** 2 / (np.diag(cov)[1:] + noise)
        pick = int(np.argmax(gain)) + 1
        cov = cov - np.outer(cov[pick], cov[pick]) / (cov[pick, pick] + noise)
        chosen.append(candidates[pick - 1])
    widths = [math.exp(WIDTH_90 * math.sqrt(max(v, 0.0))) for v in (before, cov[0, 0])]
    return Design(tuple(sorted(chosen)), widths[0], widths[1])


def show(found: Design, target: float) -> str:
    """A design for people."""
    rows = [["N", "D", "D/N", "FLOPs"]]
    rows += [
        [human_count(r.N), human_count(r.D), f"{r.D / r.N:.3g}", f"{r.C:.3g}"] for r in found.runs
    ]
    return (
        f"{table(rows)}\n90% interval of N* at {target:.3g} FLOPs: a factor "
        f"{found.before:.3g} wide now, about {found.after:.3g} with these runs"
    )


def parse_ratio(text: str) -> tuple[float, float]:
    """'2,500' as two numbers; UserError where it is something else."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--ratio={text}: give two numbers, as in 2,500") from None
    if not 0 < low < high:
        raise UserError(f"--ratio={text}: the first must be positive and below the second")
    return low, high


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.next_run",
        description=__doc__,
    )
    parser.add_argument("law", help="law.json, as experiments.fit writes it")
    parser.add_argument("--target", type=float, required=True, help="budget to be planned, FLOPs")
    parser.add_argument("--allowance", type=float, required=True, help="FLOPs for the next runs")
    parser.add_argument(
        "--ratio", default="", help="D/N allowed, e.g. 2,500 (default: the range of the law's runs)"
    )
    parser.add_argument("--most", type=int, default=6, help="runs at most (%(default)s)")
    flags = parser.parse_args()
    ratio = parse_ratio(flags.ratio) if flags.ratio else None
    found = design(Law.load(flags.law), flags.target, flags.allowance, flags.most, ratio)
    print(show(found, flags.target))


if __name__ == "__main__":
    run(main)
