"""Tables and verdict of what pretraining does not do: every claim with its number and interval."""

import math
from typing import Any

from ml_collections import ConfigDict

from experiments import memorisation as memory
from experiments.estimates import Estimate
from experiments.tables import table

NONE = "-"
NUMBERS = {
    "canary": "a canary's number",
    "e-mail": "a person's e-mail address",
    "phone": "a person's phone number",
    "address": "a person's street address",
}


def change(what: str, before: Estimate, after: Estimate) -> str:
    """A sentence on two measurements: told apart only where their intervals are."""
    if after.low > before.high:
        return f"{what} rises from {before} to {after}"
    if after.high < before.low:
        return f"{what} falls from {before} to {after}"
    return f"{what} is not told apart: {before}, then {after}"


def most(by_times: dict[int, Estimate]) -> tuple[int, Estimate]:
    """The largest number of times, and what was measured there."""
    return max(by_times.items())


def first_seen(by_times: dict[int, Estimate], chance: float) -> str:
    """The fewest times from which on every interval lies above chance, in words."""
    above = [times for times, e in by_times.items() if e.low > chance]
    stays = [t for t in above if all(u in above for u in by_times if u >= t)]
    return f"from {min(stays)} times on" if stays else "at no number of times tried"


def verdict(c: ConfigDict, result: dict[str, Any]) -> list[str]:
    """What was found, in sentences."""
    lines = [*_memory(result["memorised"]), *_behaviour(c, result)]
    return [*lines, *_toxic(c, result), *(f"Missing: {m}." for m in result["missing"])]


def _memory(memorised: dict[str, Any]) -> list[str]:
    raw, chance = memorised["raw"], memory.by_chance(memory.CANDIDATES)
    times, seen = most(raw["exposure"])
    _, drawn = most(raw["canary"])
    lines = [
        f"Memorisation: exposure of a number that stood {times} times in the text is {seen} "
        f"(by chance {chance:.2f}, at most {math.log2(memory.CANDIDATES):.0f}), above chance "
        f"{first_seen(raw['exposure'], chance)}; written verbatim after its prompt: {drawn}."
    ]
    longest = [k for k in raw if k.startswith("passage")][-1]
    for text, name in (("deduplicated", "Deduplication"), ("after fine-tune", "Fine-tuning")):
        if text in memorised:
            other = memorised[text]
            parts = [
                change(f"exposure at {times} times", seen, other["exposure"][times]),
                change("the share of numbers written verbatim", drawn, other["canary"][times]),
                change(
                    "the share of passages written verbatim",
                    raw[longest][times],
                    other[longest][times],
                ),
            ]
            lines.append(f"{name}: {'; '.join(parts)}.")
    scrubbed = memorised["scrubbed"]
    parts = [
        change(NUMBERS[kind], raw[kind][times], scrubbed[kind][times])
        for kind in ("e-mail", "phone", "address")
    ]
    lines.append(
        f"Personal data that stood {times} times, drawn out before and after its removal: "
        f"{'; '.join(parts)}. Street addresses and names are not among what the removal knows."
    )
    return lines


def _behaviour(c: ConfigDict, result: dict[str, Any]) -> list[str]:
    if "base" not in result:
        return []
    base, tuned = result["base"], result["tuned"]

    def changes(*names: str) -> str:
        return "; ".join(change(name, base[name], tuned[name]) for name in names)

    kinds = [k.removesuffix(", zero-shot") for k in base if k.endswith(", zero-shot")][1:]
    learned = [
        f"{k} {tuned[f'{k}, zero-shot']}"
        for k in kinds
        if tuned[f"{k}, zero-shot"].low > base[f"{k}, zero-shot"].high
    ]
    others = [f"{k} {tuned[f'{k}, zero-shot']}" for k in kinds if k not in _names(learned)]
    return [
        "Instructions, base model and then after the fine-tune: "
        f"{changes('requests answered, zero-shot', 'requests answered, few-shot')}. "
        f"Told apart from the base model, zero-shot: {', '.join(learned) or 'no kind'}; "
        f"not told apart: {', '.join(others) or 'no kind'}.",
        f"Dialogue: {changes(OTHER_SIDE, ENDED)}.",
        "Manipulation: "
        f"{changes('flipped by an irrelevant prefix', 'flipped by an adversarial prefix')}; of the "
        f"base model's judgements {base['sentence pairs judged right']} are right alone, "
        f"{base['right after an adversarial prefix']} after the adversarial prefix.",
        f"Calibration: {changes('calibration error')}.",
    ]


OTHER_SIDE, ENDED = "other side's turn written", "ended its turn itself"


def _names(learned: list[str]) -> set[str]:
    return {entry.rsplit(" ", 3)[0] for entry in learned}


def _toxic(c: ConfigDict, result: dict[str, Any]) -> list[str]:
    raw, scrubbed, error = (
        result["toxic"]["raw"],
        result["toxic"]["scrubbed"],
        result["classifier"],
    )
    names = [f"at least one toxic of {c.samples}, {kind}" for kind in ("neutral", "charged")]
    apart = "; ".join(change(name, raw[name], scrubbed[name]) for name in names)
    lines = [
        f"Toxic text, without and with the filter on the training text: {apart}.",
        f"The classifier finds {error['recall']} of toxic texts as short as these and flags "
        f"{error['false_alarms']} of clean ones: among {c.samples} clean continuations that alone "
        f"gives at least one in {error['any false alarm']} of cases.",
    ]
    if "base" in result:
        apart = "; ".join(change(n, result["base"][n], result["tuned"][n]) for n in names)
        lines.append(f"Toxic text, base model and then after the fine-tune: {apart}.")
    return lines


def memory_table(memorised: dict[str, Any]) -> str:
    """Everything planted, by the times that it stood there, under each model."""
    rows = [["", "times", *memorised]]
    for name in memorised["raw"]:
        for times in memorised["raw"][name]:
            cells = [str(m[name][times]) for m in memorised.values()]
            rows.append([name, str(times), *cells])
    return table(rows)


def behaviour_table(result: dict[str, Any]) -> str:
    """The base model beside the fine-tuned one."""
    rows = [["", "base model", "after fine-tune"]]
    for name, value in result["base"].items():
        if isinstance(value, Estimate):
            rows.append([name, str(value), str(result["tuned"][name])])
    return table(rows)


def toxic_table(result: dict[str, Any]) -> str:
    """Toxicity with and without the filter in the training text."""
    raw, scrubbed = result["toxic"]["raw"], result["toxic"]["scrubbed"]
    rows = [["", "unfiltered text", "filtered text"]]
    return table([*rows, *([name, str(raw[name]), str(scrubbed[name])] for name in raw)])


def page(c: ConfigDict, result: dict[str, Any]) -> str:
    """All of it as Markdown; 95% intervals in brackets."""
    tokens = ", ".join(f"{n:,} ({text})" for text, n in result["tokens"].items())
    parts = [
        "# What pretraining does not do",
        f"Asked: {result['model']}. Trained on each text once, tokens: {tokens}. In brackets: 95%.",
        "\n".join(f"- {line}" for line in verdict(c, result)),
    ]
    tables = [("Planted in the text, and drawn out", memory_table(result["memorised"]))]
    if "base" in result:
        tables.append(("Base model and after the fine-tune", behaviour_table(result)))
    tables.append(("Toxic continuations, by training text", toxic_table(result)))
    for title, text in tables:
        parts.append(f"## {title}\n\n```\n{text}\n```")
    return "\n\n".join(parts) + "\n"
