"""Run records: one JSON file a trial, the sweep's only ledger, and the table made from them."""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.files import write_atomic

Record = dict[str, Any]

# What runs.csv has of each record; N counts all parameters, C is exact, times are in seconds.
COLUMNS = (
    "run_id",
    "model",
    "objective",
    "N",
    "N_non_embedding",
    "D",
    "C",
    "C_6ND",
    "C_spent",
    "budget",
    "held_out",
    "loss",
    "bits_per_byte",
    "learning_rate",
    "lr_factor",
    "seed",
    "steps",
    "seconds",
    "dollars",
    "chip",
)


def record_path(folder: Path, run_id: str) -> Path:
    """Where a trial's record is kept in a sweep's folder."""
    return folder / "runs" / f"{run_id}.json"


def model_path(folder: Path, run_id: str) -> Path:
    """Where a trial's model is kept, in a sweep that keeps them."""
    return folder / "models" / run_id


def write_record(folder: Path, record: Record) -> None:
    """Writes one record, whole or not at all.

    Raises:
      ValueError: its loss is not a number; such a trial has failed and leaves no record.
    """
    if not math.isfinite(record["loss"]):
        raise ValueError(f"loss {record['loss']}")
    write_atomic(
        record_path(folder, record["run_id"]), json.dumps(record, indent=1, sort_keys=True) + "\n"
    )


def read_records(folder: Path) -> list[Record]:
    """All records of a sweep's folder by size, tokens, rate and seed.

    Raises:
      UserError: a file that is not a record.
    """
    records = []
    for path in sorted((folder / "runs").glob("*.json")):
        try:
            record = json.loads(path.read_text())
            missing = [c for c in COLUMNS if c not in record]
        except (ValueError, TypeError, OSError) as e:
            raise UserError(f"{path} is not a run record ({e}): remove it to train it again") from e
        if missing:
            raise UserError(f"{path} has no {missing[0]}: remove it to train it again")
        records.append(record)
    order = ("held_out", "N", "N_non_embedding", "D", "lr_factor", "seed", "run_id")
    return sorted(records, key=lambda r: tuple(r[k] for k in order))


def runs_csv(records: list[Record]) -> str:
    """The table of runs as CSV text."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(r | {"held_out": int(r["held_out"])} for r in records)
    return out.getvalue()


def write_runs_csv(folder: Path) -> list[Record]:
    """Makes runs.csv from the records, and returns them."""
    records = read_records(folder)
    write_atomic(folder / "runs.csv", runs_csv(records))
    return records
