"""What a model has memorised of its training text: verbatim extraction, and exposure.

A secret counts as extracted if the likeliest continuation of its prompt begins with it, letter by
letter (Carlini et al. 2021). A canary's exposure is log2 |R| - log2 rank (Carlini et al. 2019): its
rank by likelihood among |R| numbers that might stand in its place; here it and 255 random ones, so
exposure is at most 8 bits, and 1.4 on average for a canary that was never seen.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from data.tokenizer import EOT
from experiments import asking, estimates
from experiments.estimates import Estimate
from experiments.planted import END, Secret, number
from lm.load import Run

CANDIDATES = 256  # |R|
TARGET = 16  # tokens of a passage that have to come verbatim


def exposure(nats: np.ndarray) -> float:
    """log2 |R| - log2 rank in bits, of the first of |R| log-likelihoods; ties count against it."""
    rank = int((nats >= nats[0]).sum())
    return float(np.log2(len(nats)) - np.log2(rank))


def by_chance(candidates: int) -> float:
    """The mean exposure of a canary whose rank is as likely to be any as another."""
    return float(np.mean(np.log2(candidates) - np.log2(np.arange(1, candidates + 1))))


def exposures(
    run: Run, canaries: Sequence[Secret], candidates: int = CANDIDATES, seed: int = 0
) -> list[float]:
    """Each canary's exposure, in bits, among random numbers of its form."""
    rng = random.Random(f"exposure {seed}")
    others: set[str] = set()
    taken = {c.hidden for c in canaries}
    while len(others) < candidates - 1:
        others |= {f" {number(rng)}"} - taken
    # With what ends the line: a piece of the tokenizer may reach from a digit into it.
    answers = [[f"{text}{END}" for text in (c.hidden, *sorted(others))] for c in canaries]
    found = asking.likelihoods(run, [c.prompt for c in canaries], answers)
    return [exposure(nats) for nats in found]


def extracted(run: Run, secrets: Sequence[Secret]) -> list[bool]:
    """Whether greedy writing after each prompt begins with what is hidden."""
    longest = max(len(run.tokenizer.encode(f"{s.hidden}{END}")) for s in secrets)
    written = asking.texts(run, [s.prompt for s in secrets], longest)
    return [text.startswith(s.hidden) for text, s in zip(written, secrets, strict=True)]


def extracted_passages(run: Run, passages: Sequence[Secret], prefix: int, at: int) -> list[bool]:
    """Whether the TARGET tokens from place `at` on follow the `prefix` ones before them."""
    rows = [run.tokenizer.encode(p.hidden) for p in passages]
    wanted = [row[at : at + TARGET] for row in rows]
    written = asking.write(run, [row[at - prefix : at] for row in rows], TARGET)
    return [ids == w and EOT not in w for ids, w in zip(written, wanted, strict=True)]


def by_times(
    secrets: Sequence[Secret],
    values: Sequence[float],
    summary: Callable[[list], Estimate] = estimates.share,
) -> dict[int, Estimate]:
    """Summaries of values by the number of times that their secrets were planted."""
    groups: dict[int, list[float]] = defaultdict(list)
    for secret, value in zip(secrets, values, strict=True):
        groups[secret.times].append(value)
    return {times: summary(group) for times, group in sorted(groups.items())}
