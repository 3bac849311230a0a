"""One table of runs, the input of every fit: read, checked, and said how it counts."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError, optional, suggest
from data.files import hash_bytes

REQUIRED = ("N", "D", "loss")
# What exports of experiment trackers and other tables call the same things, in order of preference.
ALIASES = {
    "N": ("summary/N", "num_params", "params", "parameters"),
    "D": ("summary/D", "num_tokens", "tokens"),
    "loss": ("summary/loss", "eval/loss", "eval_loss", "final_loss"),
    "C": ("summary/C", "flops", "compute"),
    "run_id": ("Name", "name"),
}
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
    C_counted: str = "6ND"  # or 'exact': how C was counted
    N_counted: str = "as given"
    source: str = ""
    left_out: tuple[str, ...] = ()  # what was not read into the table, in words

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


def read(path: str | Path) -> Runs:
    """Read a table of runs.

    .csv (a Weights & Biases export too), .jsonl, .json, .parquet, or a sweep's folder (its
    runs.csv, else runs/*.json). UserError: nothing there, a column or a number missing, an
    impossible value, a row twice.
    """
    path = Path(path)
    return from_rows(_rows(path), str(path))


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.is_dir():
        return _folder(path)
    if path.suffix == ".parquet" and path.is_file():
        return optional("pyarrow.parquet", "requirements-data.txt").read_table(path).to_pylist()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such table of runs") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}: is it a CSV file?") from None
    try:
        if path.suffix == ".jsonl":
            return [_object(json.loads(line), path) for line in text.splitlines() if line.strip()]
        if path.suffix == ".json":
            content = json.loads(text)
            rows = content if isinstance(content, list) else [content]
            return [_object(row, path) for row in rows]
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not valid JSON at line {error.lineno}") from None
    return list(csv.DictReader(text.splitlines()))


def _object(row: Any, path: Path) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise UserError(f"{path}: each run has to be a JSON object, found {type(row).__name__}")
    return row


def _folder(path: Path) -> list[dict[str, Any]]:
    if (path / "runs.csv").is_file():
        return _rows(path / "runs.csv")
    records = sorted((path / "runs").glob("*.json")) or sorted(path.glob("*.json"))
    if not records:
        raise UserError(f"{path}: neither runs.csv nor runs/*.json is there: run the sweep first")
    return [row for record in records for row in _rows(record)]


def from_columns(columns: Mapping[str, Sequence[Any]], source: str = "") -> Runs:
    """A table from columns (a dict of lists or arrays, a data frame)."""
    names = list(columns)
    lengths = {len(columns[n]) for n in names}
    if len(lengths) > 1:
        raise UserError("the columns of a table of runs must have one length")
    values = zip(*(list(columns[n]) for n in names), strict=True)
    return from_rows([dict(zip(names, row, strict=True)) for row in values], source)


def from_rows(rows: list[dict[str, Any]], source: str = "") -> Runs:
    """A checked table from one mapping a run.

    Optional: run_id, C, budget, held_out, group (rows of one run: checkpoints, branches), and two
    that leave rows out: lr_factor not 1 (a test of the learning rate) and in_fit 0.
    """
    name = source or "the table"
    if not rows:
        raise UserError(f"{name}: no runs in it")
    rows = [_renamed(row) for row in rows]
    for column in REQUIRED:
        if column not in rows[0]:
            close = suggest(column, [str(k) for k in rows[0]])
            raise UserError(f'{name}: the column "{column}" is missing{close}')
    reasons = [_left_out(row) for row in rows]
    kept = [i for i, reason in enumerate(reasons) if not reason]
    if not kept:
        raise UserError(f"{name}: no runs are left in it ({reasons[0]})")
    counts = {reason: reasons.count(reason) for reason in dict.fromkeys(reasons) if reason}
    left = tuple(f"{count} runs {reason}" for reason, count in counts.items())
    numbers = {c: np.array([_number(rows[i], c, i, name) for i in kept]) for c in REQUIRED}
    N, D = numbers["N"], numbers["D"]
    ids = tuple(str(rows[i].get("run_id") or f"row {i + 1}") for i in kept)
    exact = _present(rows[0], "C")
    C = np.array([_number(rows[i], "C", i, name) for i in kept]) if exact else 6 * N * D
    counted = "exact" if exact and np.abs(C / (6 * N * D) - 1).max() > 0.01 else "6ND"
    budgets = np.array([_optional(rows[i], "budget", 0.0) for i in kept])
    runs = Runs(
        ids,
        N,
        D,
        numbers["loss"],
        C,
        np.array([_flag(rows[i].get("held_out")) for i in kept]),
        budgets if budgets.any() else None,
        np.array([str(rows[i]["group"]) for i in kept]) if _present(rows[0], "group") else None,
        counted,
        "total (embeddings included)" if "N_non_embedding" in rows[0] else "as in column N",
        source,
        left,
    )
    _check(runs, [rows[i] for i in kept], name)
    return runs


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with other names of our columns replaced by ours, where ours are absent."""
    result = dict(row)
    for column, names in ALIASES.items():
        found = next((name for name in names if name in result), None)
        if column not in result and found is not None:
            result[column] = result.pop(found)
    return result


def _left_out(row: Mapping[str, Any]) -> str:
    if _optional(row, "lr_factor", 1.0) != 1.0:
        return "at another learning rate"
    return "" if _optional(row, "in_fit", 1.0) else "with in_fit = 0"


def _present(row: Mapping[str, Any], column: str) -> bool:
    return row.get(column) not in (None, "")


def _number(row: Mapping[str, Any], column: str, index: int, name: str) -> float:
    where = f"{name}, row {index + 1} ({row.get('run_id') or 'no run_id'})"
    try:
        number = float(row[column])
    except (TypeError, ValueError):
        raise UserError(f'{where}: "{column}" is {row[column]!r}, not a number') from None
    if not (number > 0 and math.isfinite(number)):
        raise UserError(f'{where}: "{column}" is {number:g}; it must be positive and finite')
    return number


def _optional(row: Mapping[str, Any], column: str, default: float) -> float:
    try:
        return float(row[column]) if _present(row, column) else default
    except ValueError:
        raise UserError(f'"{column}" is {row[column]!r}, not a number') from None


def _flag(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")


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
    if runs.D.max() < 1e5 and runs.N.max() > 1e4:
        raise UserError(f"{name}: D is at most {runs.D.max():g}; it has to be in tokens")
    if runs.N.max() < 1e3:
        raise UserError(f"{name}: N is at most {runs.N.max():g}; it has to be in parameters")
    if runs.loss.max() > 20:
        raise UserError(
            f"{name}: loss reaches {runs.loss.max():g}; it has to be in nats per token "
            "(is this perplexity? take its logarithm)"
        )
    vocabulary = max((_optional(row, "vocab_size", 0.0) for row in rows), default=0.0)
    if vocabulary and runs.loss.min() > math.log(vocabulary):
        raise UserError(
            f"{name}: every loss is above ln({vocabulary:g}), that of guessing among the "
            "vocabulary; is it in bits? multiply it by ln 2"
        )
    if all(_same_as_bits(row) for row in rows):
        raise UserError(f"{name}: loss equals bits_per_byte; it has to be in nats per token")
    ratio = float(np.median(runs.C / (6 * runs.N * runs.D)))
    if not 0.02 < ratio < 50:
        raise UserError(
            f"{name}: C is {ratio:.2g} times 6ND (median); N has to be in parameters, D in tokens, "
            "C in FLOPs"
        )


def _same_as_bits(row: Mapping[str, Any]) -> bool:
    bits = _optional(row, "bits_per_byte", math.nan)
    return abs(bits / float(row["loss"]) - 1) < 1e-9


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
