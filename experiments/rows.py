"""Rows of a table of runs from files of several kinds, before anything is checked about them."""

import ast
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError, optional, suggest

# What exports of experiment trackers and other tables call the same things, in order of preference.
ALIASES = {
    "N": ("num_params", "params", "parameters"),
    "D": ("num_tokens", "tokens"),
    "loss": ("eval/loss", "eval_loss", "final_loss"),
    "C": ("flops", "compute"),
    "U": ("unique_tokens",),
    "run_id": ("Name", "name"),
}


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.is_dir():
        return folder_rows(path)
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


def folder_rows(path: Path) -> list[dict[str, Any]]:
    if (path / "runs.csv").is_file():
        return rows_of(path / "runs.csv")
    return records_of(path)


def records_of(path: Path) -> list[dict[str, Any]]:
    records = sorted((path / "runs").glob("*.json")) or sorted(path.glob("*.json"))
    if not records:
        raise UserError(f"{path}: neither runs.csv nor runs/*.json is there: run the sweep first")
    return [row for record in records for row in rows_of(record)]


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with other names of our columns replaced by ours, where ours are absent.

    Trackers put what a run ended with and how it was set up into mappings, or their text in a CSV
    cell, or before a slash: summary/loss.
    """
    result: dict[str, Any] = {}
    for key, cell in row.items():
        inside = _mapping(cell) if key in ("summary", "config") else {}
        result |= inside or {str(key).removeprefix("summary/").removeprefix("config/"): cell}
    for column, names in ALIASES.items():
        found = next((name for name in names if name in result), None)
        if column not in result and found is not None:
            result[column] = result.pop(found)
    return result


def _mapping(cell: Any) -> dict[str, Any]:
    if not isinstance(cell, str):
        return cell if isinstance(cell, dict) else {}
    try:
        found = ast.literal_eval(cell)
    except (ValueError, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}


def left_out(row: Mapping[str, Any]) -> str:
    if optional_number(row, "lr_factor", 1.0) != 1.0:
        return "at another learning rate"
    return "" if optional_number(row, "in_fit", 1.0) else "with in_fit = 0"


def present(row: Mapping[str, Any], column: str) -> bool:
    return row.get(column) not in (None, "")


def optional_number(row: Mapping[str, Any], column: str, default: float) -> float:
    try:
        return float(row[column]) if present(row, column) else default
    except ValueError:
        raise UserError(f'"{column}" is {row[column]!r}, not a number') from None


def flag(value: Any) -> bool:
    return str(value).strip().lower() in ("1", "1.0", "true", "yes")


def read_columns(path: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of any table, for laws of something else than N and D.

    Rows with in_fit 0 or held_out 1 are left out. A column is float64 where all its cells are
    numbers, text else. UserError: a column that is missing, or has an empty cell.
    """
    rows = [renamed(r) | r for r in rows_of(Path(path))]
    rows = [r for r in rows if not left_out(r) and not flag(r.get("held_out"))]
    if not rows:
        raise UserError(f"{path}: no runs in it")
    for name in names:
        if name not in rows[0]:
            close = suggest(name, [str(k) for k in rows[0]])
            raise UserError(f'{path}: the column "{name}" is missing{close}')
        empty = next((i for i, row in enumerate(rows) if not present(row, name)), None)
        if empty is not None:
            raise UserError(f'{path}, row {empty + 1}: "{name}" is empty')
    return {name: _column([row[name] for row in rows]) for name in names}


def _column(cells: list[Any]) -> np.ndarray:
    try:
        return np.array([float(cell) for cell in cells])
    except (TypeError, ValueError):
        return np.array([str(cell) for cell in cells])
