"""Refusals and warnings in words: what runs cannot determine at all, and what they leave open."""

from typing import TYPE_CHECKING

import numpy as np

from data.errors import UserError
from experiments.power_law import NAMES, mean_loss
from experiments.runs import Runs

if TYPE_CHECKING:
    from experiments.laws import Law


MISFIT = 2.0  # residual scatter over that of repeated seeds from which on the form is doubted


def check_identifiable(runs: Runs, parameters: int = 5) -> None:
    """Refuse runs that cannot determine the parameters, saying what is missing."""
    n = len(runs)
    if n <= parameters:
        raise UserError(
            f"{n} runs cannot fit {parameters} parameters and measure the noise: "
            f"at least {parameters + 1} are needed, {parameters + 1 - n} more"
        )
    for letter, values in (("N", runs.N), ("D", runs.D)):
        distinct = len(np.unique(values))
        if distinct < 3:
            raise UserError(
                f"the runs have {distinct} different value(s) of {letter}; E and the exponent of "
                f"{letter} need at least 3"
            )
    if np.ptp(np.log(runs.D / runs.N)) < 0.1:
        raise UserError(
            "D/N is the same in all runs, so the effects of N and D cannot be told apart: "
            "add runs at another D/N"
        )


def warn(law: "Law", runs: Runs) -> list[str]:
    """What the data do not pin down, in words."""
    found = [f"{text}: that term is absent from the fit" for text in law.diagnostics["at_bound"]]
    names = NAMES if law.form == "free" else NAMES[:4]
    found += [text for name in names if (text := _unidentified(name, law))]
    if law.params["E"] < 0.01 * runs.loss.min():
        found.append("E is at its lower bound, 0: the losses do not show where they level off")
    if law.form == "tied":
        found.append("alpha = beta is assumed, and so that N* and D* grow alike with C (a = 1/2)")
    gap = law.diagnostics["gap_to_next_minimum"]
    if gap is not None and gap < 0.05:
        found.append(f"another minimum is only {gap:.2%} worse: the fit is not unique in practice")
    used = runs.fitted
    if len(used) < 3 * len(names):
        found.append(f"{len(used)} runs for {len(names)} parameters: take the intervals as rough")
    spread = float((used.D / used.N).max() / (used.D / used.N).min())
    if spread < 4 and law.form == "free":
        found.append(f"D/N varies only {spread:.2g}-fold, so alpha and beta are hard to tell apart")
    if misfit := _misfit(law, used):
        found.append(misfit)
    if law.per_token.error > 0.05:
        found.append(
            f"C/(6ND) is not a smooth function of N: off by up to {law.per_token.error:.0%}"
        )
    if law.isoflop is not None:
        found += [f"isoFLOP parabolas: {w}" for w in law.isoflop.warnings]
    return found


def _misfit(law: "Law", used: Runs) -> str:
    """One line where runs scatter more around the law than repeated seeds do, else ''."""
    seeds = law.noise.seed_scale
    if seeds is None or law.noise.scale < MISFIT * seeds:
        return ""
    law_loss = mean_loss(law.theta, np.log(used.N), np.log(used.D))
    off = np.log(used.loss / law_loss)
    worst = int(np.argmax(np.abs(off)))
    return (
        f"the law does not hold over all these runs: they lie {law.noise.scale:.2%} off it where "
        f"repeated seeds differ by {seeds:.2%}, most of all N = {used.N[worst]:.3g}, D = "
        f"{used.D[worst]:.3g} ({off[worst]:+.1%}); leave out the smallest or shortest runs, and "
        "trust no extrapolation before its roll-out is good"
    )


def _unidentified(name: str, law: "Law") -> str:
    """One line on a parameter that its profile or its bootstrap leaves open, else ''."""
    p, best = law.diagnostics["profiles"][name], law.params[name]
    low, high = law.intervals[name]
    if p["low"] is None or p["high"] is None:
        start = "the smallest tried" if p["low"] is None else f"{p['low']:.3g}"
        end = "the largest tried" if p["high"] is None else f"{p['high']:.3g}"
        return (
            f"{name} is not identified: any value from {start} to {end} fits within "
            f"{p['rise']:.1%} of the best"
        )
    wide, hopeless = (10, 1000) if name in "AB" else (2, 5)
    factor = max(high / max(low, 1e-300), p["high"] / max(p["low"], 1e-300))
    if factor < wide:
        return ""
    words = "is not identified" if factor > hopeless else "is not pinned down"
    return (
        f"{name} = {best:.3g} {words}: values from {p['low']:.3g} to {p['high']:.3g} "
        f"fit within {p['rise']:.1%} of the best; 90% interval {low:.3g} to {high:.3g}"
    )
