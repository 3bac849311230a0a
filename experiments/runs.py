"""One table of runs, the input of every fit: read, checked, and said how it counts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError, suggest
from data.files import hash_bytes
from experiments.rows import flag, left_out, optional_number, present, records_of, renamed, rows_of

REQUIRED = ("N", "D", "loss")
IN_BITS = ("bits_per_token", "bits_per_byte", "loss_bits", "bpb")
PERPLEXITY = ("perplexity", "ppl")
PARAMETERS = {"total": "N", "non-embedding": "N_non_embedding"}
DERIVED = "6ND, derived"  # C_counted where the table has no C
SAME_BUDGET = 0.1  # relative width within which C counts as one budget


@dataclass(frozen=True)
class Runs:
    """Arrays of one length. N parameters, D tokens, loss nats/token, C training FLOPs."""

    run_id: tuple[str, ...]
    N: np.ndarray
    D: np.ndarray
    loss: np.ndarray
    C: np.ndarray
    held_out: np.ndarray  # bool: kept out of the fit, scored afterwards
    budget: np.ndarray | None = None  # FLOPs that each run was laid out for
    group: np.ndarray | None = None  # rows of one label share a run, and so its luck
    C_counted: str = DERIVED  # or '6ND' (the column says so), or 'exact'
    N_counted: str = "as given"
    source: str = ""
    left_out: tuple[str, ...] = ()  # what was not read into the table, in words
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)  # other columns of numbers

    def __len__(self) -> int:
        return len(self.N)

    def where(self, mask: np.ndarray) -> "Runs":
        """The rows that a boolean mask picks."""
        return replace(
            self,
            run_id=tuple(np.array(self.run_id, dtype=object)[mask]),
            **{k: getattr(self, k)[mask] for k in ("N", "D", "loss", "C", "held_out")},
            budget=None if self.budget is None else self.budget[mask],
            group=None if self.group is None else self.group[mask],
            extra={name: column[mask] for name, column in self.extra.items()},
        )

    @property
    def fitted(self) -> "Runs":
        """The rows that a law is fitted on."""
        return self.where(~self.held_out)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over N, D, loss and C as float64, rows sorted."""
        rows = np.stack([self.N, self.D, self.loss, self.C], axis=1)
        return hash_bytes(np.ascontiguousarray(rows[np.lexsort(rows.T)]).tobytes())


def read(path: str | Path, parameters: str = "total") -> Runs:
    """Read a table of runs.

    .csv (a Weights & Biases export too), .jsonl, .json, .parquet, or a sweep's folder (its
    runs.csv, else runs/*.json). parameters: 'total', column N, or 'non-embedding', column
    N_non_embedding. UserError: nothing there, a column or a number missing, an impossible value, a
    row twice.
    """
    path = Path(path)
    return from_rows(rows_of(path), str(path), parameters)


def read_curves(folder: str | Path) -> Runs:
    """The training curves of a sweep's folder as checkpoints: one group a run, for approach 1.

    Runs of the grid only (the sweep's rate, its first seed, not held out); of runs that share a
    trunk the longest has it, the others begin in their cooldown. A checkpoint's loss is the
    training loss, its D and C are in proportion to its step. UserError: no records with curves.
    """
    grid = [r for r in records_of(Path(folder)) if "curve" in r]
    grid = [r for r in grid if r["lr_factor"] == 1 and not r["held_out"]]
    if not grid:
        raise UserError(f"{folder}: no records with training curves in runs/*.json")
    first = min(r["seed"] for r in grid)
    longest = {r["N"]: max(g["steps"] for g in grid if g["N"] == r["N"]) for r in grid}
    rows = {
        (r["N"], step, loss): {
            "run_id": f"{r['run_id']} step {step}",
            "group": r["run_id"],
            "N": r["N"],
            "D": r["D"] * step / r["steps"],
            "C": r["C"] * step / r["steps"],
            "loss": loss,
            "step": step,
        }
        for r in sorted(grid, key=lambda r: r["steps"])
        if r["seed"] == first
        for step, loss in zip(r["curve"]["step"], r["curve"]["loss"], strict=True)
        if r["steps"] == longest[r["N"]] or step > r["curve"].get("decay_start", 0)
    }  # a cooldown's first steps may still be its trunk's: of rows that are equal the last stays
    return from_rows(sorted(rows.values(), key=lambda r: (r["group"], r["step"])), str(folder))


def own_curves(path: str | Path) -> Runs | None:
    """The curves of a sweep's folder, None where `path` is no folder or has none."""
    try:
        return read_curves(path) if Path(path).is_dir() else None
    except UserError:
        return None


def from_columns(columns: Mapping[str, Sequence[Any]], source: str = "") -> Runs:
    """A table from columns (a dict of lists or arrays, a data frame)."""
    names = list(columns)
    lengths = {len(columns[n]) for n in names}
    if len(lengths) > 1:
        raise UserError("the columns of a table of runs must have one length")
    values = zip(*(list(columns[n]) for n in names), strict=True)
    return from_rows([dict(zip(names, row, strict=True)) for row in values], source)


def from_rows(rows: list[dict[str, Any]], source: str = "", parameters: str = "total") -> Runs:
    """A checked table from one mapping a run.

    Optional: run_id, C, budget, held_out, group (rows of one run: checkpoints, branches), and two
    that leave rows out: lr_factor not 1 (a test of the learning rate) and in_fit 0. What else is
    numbers (step, U, epochs, task metrics) is kept in `extra`.
    """
    name = source or "the table"
    if not rows:
        raise UserError(f"{name}: no runs in it")
    rows = [renamed(row) for row in rows]
    _check_columns(rows[0], PARAMETERS[parameters], name)
    total = "N" in rows[0] and "N_non_embedding" in rows[0]
    if parameters != "total":
        rows = [row | {"N": row[PARAMETERS[parameters]]} for row in rows]
    reasons = [left_out(row) for row in rows]
    kept = [i for i, reason in enumerate(reasons) if not reason]
    if not kept:
        raise UserError(f"{name}: no runs are left in it ({reasons[0]})")
    counts = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons) if reason}
    left = tuple(f"{count} runs {reason}" for reason, count in counts.items())
    numbers = {c: np.array([_number(rows[i], c, i, name) for i in kept]) for c in REQUIRED}
    N, D = numbers["N"], numbers["D"]
    ids = tuple(str(rows[i].get("run_id") or f"row {i + 1}") for i in kept)
    exact, grouped = (any(present(rows[i], c) for i in kept) for c in ("C", "group"))
    C = np.array([_number(rows[i], "C", i, name) for i in kept]) if exact else 6 * N * D
    counted = DERIVED
    if exact:
        counted = "6ND" if np.abs(C / (6 * N * D) - 1).max() < 0.01 else "exact"
    budgets = np.array([optional_number(rows[i], "budget", 0.0) for i in kept])
    runs = Runs(
        ids,
        N,
        D,
        numbers["loss"],
        C,
        np.array([flag(rows[i].get("held_out")) for i in kept]),
        budgets if budgets.any() else None,
        np.array([_label(rows[i], i, name) for i in kept]) if grouped else None,
        counted,
        _counted(parameters, total),
        source,
        left,
        _extra([rows[i] for i in kept]),
    )
    _check(runs, [rows[i] for i in kept], name)
    return runs


def _check_columns(row: Mapping[str, Any], parameters: str, name: str) -> None:
    """The columns that every fit needs are there, and their names do not tell of bits."""
    for column in (parameters, "D", "loss"):
        if column in row:
            continue
        bits = next((c for c in IN_BITS if c in row), None)
        if column == "loss" and bits:
            raise UserError(
                f'{name}: the column "loss" is missing, and "{bits}" is in bits; give nats per '
                "token (bits per token times ln 2)"
            )
        close = suggest(column, [str(k) for k in row])
        raise UserError(f'{name}: the column "{column}" is missing{close}')


def _counted(parameters: str, total: bool) -> str:
    if parameters == "total":
        return "total (embeddings included)" if total else "as in column N"
    return "without embeddings"


def _extra(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Columns that the table does not use itself and that hold a number in every row."""
    own = {*REQUIRED, "C", "run_id", "budget", "held_out", "group", "in_fit", "lr_factor"}
    found = {}
    for name in rows[0]:
        if name in own or isinstance(rows[0][name], dict | list):
            continue
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _where(row: Mapping[str, Any], index: int, name: str) -> str:
    return f"{name}, row {index + 1} ({row.get('run_id') or 'no run_id'})"


def _label(row: Mapping[str, Any], index: int, name: str) -> str:
    if not present(row, "group"):
        raise UserError(f'{_where(row, index, name)}: "group" is empty; name the run of every row')
    return str(row["group"])


def _number(row: Mapping[str, Any], column: str, index: int, name: str) -> float:
    where = _where(row, index, name)
    if not present(row, column):
        raise UserError(f'{where}: "{column}" is empty')
    try:
        number = float(row[column])
    except (TypeError, ValueError):
        raise UserError(f'{where}: "{column}" is {row[column]!r}, not a number') from None
    if not (number > 0 and math.isfinite(number)):
        raise UserError(f'{where}: "{column}" is {number:g}; it must be positive and finite')
    return number


def _check(runs: Runs, rows: list[dict[str, Any]], name: str) -> None:
    """Refuse what would spoil any fit: a row twice, units that cannot be right."""
    seen: dict[Any, str] = {}
    for row in zip(runs.N, runs.D, runs.loss, strict=True):
        run_id = runs.run_id[len(seen)]
        if row in seen:
            raise UserError(f"{name}: {seen[row]} and {run_id} are the same run twice; drop one")
        seen[row] = run_id
    repeated = {i for i in runs.run_id if runs.run_id.count(i) > 1}
    if repeated:
        raise UserError(f"{name}: run_id {min(repeated)} appears more than once")
    if runs.D.max() < 1e5:
        raise UserError(
            f"{name}: D is at most {runs.D.max():g}; it has to be in tokens, not in millions or "
            "billions of them"
        )
    if runs.N.min() < 1e3:
        raise UserError(
            f"{name}: N is as small as {runs.N.min():g}; it has to be in parameters, not in "
            "millions or billions of them"
        )
    if runs.loss.max() > 20:
        raise UserError(
            f"{name}: loss reaches {runs.loss.max():g}; it has to be in nats per token "
            "(is this perplexity? take its logarithm)"
        )
    vocabulary = max((optional_number(row, "vocab_size", 0.0) for row in rows), default=0.0)
    if vocabulary and runs.loss.min() > math.log(vocabulary):
        raise UserError(
            f"{name}: every loss is above ln({vocabulary:g}), that of guessing among the "
            "vocabulary; is it in bits? multiply it by ln 2"
        )
    for bits in IN_BITS:
        if all(_same(row, optional_number(row, bits, math.nan)) for row in rows):
            raise UserError(
                f"{name}: loss equals {bits}; it has to be in nats per token (bits per token "
                "times ln 2)"
            )
    for column in PERPLEXITY:
        if all(_same(row, math.log2(max(optional_number(row, column, 1), 1))) for row in rows):
            raise UserError(
                f"{name}: loss is the binary logarithm of {column}, so in bits; multiply it by ln 2"
            )
    tokens = float(np.median(runs.D / runs.N))
    if not 1e-2 < tokens < 1e6:
        raise UserError(
            f"{name}: there are {tokens:.2g} tokens a parameter (median); is D in tokens, N in "
            "parameters, neither in millions or billions?"
        )
    ratio = float(np.median(runs.C / (6 * runs.N * runs.D)))
    if not 0.02 < ratio < 50:
        raise UserError(
            f"{name}: C is {ratio:.2g} times 6ND (median); N has to be in parameters, D in tokens, "
            "C in FLOPs"
        )


def _same(row: Mapping[str, Any], value: float) -> bool:
    """The row's loss is this value, written with four digits or more."""
    return abs(value / float(row["loss"]) - 1) < 1e-4


def budgets(runs: Runs) -> list[np.ndarray]:
    """Rows of each isoFLOP group, smallest budget first: by `budget`, else by clusters of C.

    A group has 3 runs or more; without a budget column its C agree within a tenth.
    """
    if runs.budget is not None:
        names = [b for b in np.unique(runs.budget) if b > 0]
        groups = [np.flatnonzero(runs.budget == b) for b in names]
    else:
        order = np.argsort(runs.C)
        jumps = np.flatnonzero(np.diff(np.log(runs.C[order])) > SAME_BUDGET) + 1
        groups = np.split(order, jumps)
        groups = [g for g in groups if np.ptp(np.log(runs.C[g])) <= 2 * SAME_BUDGET]
    return [g for g in groups if len(np.unique(runs.N[g])) >= 3]
