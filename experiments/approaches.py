"""Every estimator behind `experiments.fit --approach=NAME`, but for the parametric law itself.

Each takes a path to a table of runs and the command's options, and returns text for people and
plain data for the file. What it reads and whose law it is stands beside its name in APPROACHES.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from experiments import akima, downstream, forms, overtraining, repeated_data, schedule_law
from experiments.envelope import fit_envelope
from experiments.identify import check_identifiable
from experiments.isoflop import fit_isoflop
from experiments.minimise import Fit
from experiments.rows import read_columns
from experiments.runs import Runs, budgets, read, read_curves
from experiments.tables import table

Found = tuple[str, dict[str, Any]]


class Options(NamedTuple):
    """What the command line may say."""

    delta: float = 1e-3
    bootstrap: int = 1000
    seed: int = 0
    parameters: str = "total"
    x: str = "C"
    y: str = "loss"
    noise: float = 0.002  # standard deviation of losses, for akima


def span(interval: tuple[float, float]) -> str:
    """'0.48 to 0.52'."""
    return f"{interval[0]:.4g} to {interval[1]:.4g}"


def curves(path: str | Path, parameters: str = "total") -> Runs:
    """Checkpoints for approach 1: a table with a `group` column, or a sweep's records."""
    folder = Path(path)
    return read_curves(folder) if folder.is_dir() else read(folder, parameters)


def envelope(path: str, options: Options) -> Found:
    used = curves(path, options.parameters).fitted
    e = fit_envelope(used, draws=min(options.bootstrap, 500), seed=options.seed)
    record = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in e._asdict().items()}
    text = f"N* = {e.k:.4g} C^{e.a:.4f}, a {span(e.interval)} (90%), {e.sizes} sizes win"
    return text, record | {"sha256": used.fingerprint}


def parabolas(path: str, options: Options) -> Found:
    used = read(path, options.parameters).fitted
    iso = fit_isoflop(used, options.seed, options.bootstrap)
    if iso is None:
        raise UserError(_no_groups(path))
    if all(m.problem for m in iso.minima):
        raise UserError(
            f"{path}: no budget has a minimum inside the models tried: "
            + "; ".join(f"C = {m.C:.3g}: {m.problem}" for m in iso.minima)
        )
    rows = [["C", "runs", "N*", "D*", "loss", "problem"]]
    for m in iso.minima:
        cells = ["-" if x is None else f"{x:.4g}" for x in (m.N, m.D, m.loss)]
        rows.append([f"{m.C:.3g}", str(m.points), *cells, m.problem])
    lines = [table(rows)]
    if iso.a is not None:
        ends = "" if iso.a_interval is None else f", a {span(iso.a_interval)} (90%)"
        lines.append(f"N* = {iso.k_N:.4g} C^{iso.a:.4f}{ends}")
    lines += [f"warning: {w}" for w in iso.warnings]
    record = iso._asdict() | {"minima": [m._asdict() for m in iso.minima]}
    return "\n".join(lines), record | {"sha256": used.fingerprint}


def interpolated(path: str, options: Options) -> Found:
    used = read(path, options.parameters).fitted
    groups = budgets(used)
    if not groups:
        raise UserError(_no_groups(path))
    C = np.empty(len(used))
    for group in groups:
        C[group] = np.exp(np.log(used.C[group]).mean())
    rows = np.sort(np.concatenate(groups))
    found = akima.fit_exponent(
        C[rows], used.N[rows], used.loss[rows], options.noise, options.bootstrap, options.seed
    )
    cells = [["C", "N*", "sd of ln N*", "draws inside", "problem"]]
    for m in found.minima:
        numbers = ["-", "-"] if m.problem else [f"{m.N:.4g}", f"{m.spread:.3f}"]
        cells.append([f"{m.C:.3g}", *numbers, f"{m.valid:.0%}", m.problem])
    text = f"{table(cells)}\nN* = {found.k:.4g} C^{found.a:.4f}, a {found.low:.4g} to "
    text += f"{found.high:.4g} (95%; losses taken to scatter by {options.noise:g} nats)"
    minima = [
        {k: None if v != v else v for k, v in m._asdict().items()} for m in found.minima
    ]  # no minimum: null, not NaN
    return text, found._asdict() | {"minima": minima, "sha256": used.fingerprint}


def kaplan(path: str, options: Options) -> Found:
    used = read(path, options.parameters).fitted
    check_identifiable(used, 4)
    draws = min(options.bootstrap, 200)
    return _shown(forms.fit_kaplan(used.N, used.D, used.loss, options.delta, draws))


def overtrained(path: str, options: Options) -> Found:
    """The tied law by least squares, and task error (column y) from its loss."""
    used = read(path, options.parameters).fitted
    law = overtraining.fit_tied(used, options.bootstrap)
    text, record = str(law), law.to_dict()
    if options.y == "loss":
        return text + "\nno task error: name its column with --y", record
    if options.y not in used.extra:
        raise UserError(f'{path}: there is no column of numbers "{options.y}"')
    error = overtraining.fit_error(used.loss, used.extra[options.y])
    return f"{text}\n\n{error}", record | {"error": error.to_dict()}


def repeated(path: str, options: Options) -> Found:
    used = read(path, options.parameters).fitted
    if "U" not in used.extra:
        raise UserError(f'{path}: the column "U", unique tokens, is missing')
    single = used.extra["U"] >= used.D * (1 - 1e-9)
    constants, origin = repeated_data.C4, "the published fit to C4"
    found = repeated_data.fit(
        used.N, used.D, used.extra["U"], used.loss, constants, draws=min(options.bootstrap, 200)
    )
    text = (
        f"{found}\nE, A, B and exponents are held at {origin}; "
        f"{int(single.sum())} of {len(used)} runs repeat nothing"
    )
    return text, found._asdict() | {"constants": constants._asdict()}


def broken(path: str, options: Options) -> Found:
    columns = _numbers(read_columns(path, [options.x, options.y]), path)
    return _shown(forms.fit_broken(columns[options.x], columns[options.y]))


def two_step(path: str, options: Options) -> Found:
    """Column x: the task's loss, column y: its accuracy, both along runs named by run_id."""
    columns = read_columns(path, ["run_id", "N", "D", options.x, options.y])
    run, accuracy = columns["run_id"], columns[options.y]
    if accuracy.dtype.kind != "f" or not ((accuracy >= 0) & (accuracy <= 1)).all():
        raise UserError(f'{path}: "{options.y}" must be an accuracy from 0 to 1 in every row')
    positive = _numbers({name: columns[name] for name in ("N", "D", options.x)}, path)
    N, D = positive["N"], positive["D"]
    law = downstream.fit(run, N, D, positive[options.x], accuracy)
    e, a, b, alpha, beta = law.theta
    s, found = law.sigmoid, law.task_loss.diagnostics
    last = int(np.argmax(N * D))
    ends = law.interval(N[last], D[last])
    lines = [
        f"task loss = {np.exp(e):.4g} + {np.exp(a):.4g}/N^{alpha:.4f} + "
        f"{np.exp(b):.4g}/D^{beta:.4f}; objective {law.task_loss.objective:.6g}, reached by "
        f"{found['share_of_starts_at_best']:.0%} of {found['starts_polished']} starts; condition "
        f"number {found['condition_number']:.2g}; flattest direction: {found['flat_direction']}",
        str(law.sigmoid_fit),
        f"at the largest run, N {N[last]:.3g}, D {D[last]:.3g}: accuracy "
        f"{law.accuracy(N[last], D[last]):.4f} ({ends[0]:.4f} to {ends[1]:.4f}, 90%), measured "
        f"{accuracy[last]:.4f}",
    ]
    lines += [f"warning: task loss: {w}" for w in law.task_loss.warnings]
    draws = np.hstack([law.task_loss.draws, law.sigmoids])
    low, high = np.quantile(draws, [0.05, 0.95], axis=0)
    names = ["log_E", "log_A", "log_B", "alpha", "beta", *(f"sigmoid_{n}" for n in s._fields)]
    values = [*law.theta.tolist(), *s]
    return "\n".join(lines), {
        "params": dict(zip(names, values, strict=True)),
        "intervals": dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True)),
        "objective": law.task_loss.objective,
        "task_loss": {k: v for k, v in law.task_loss.to_dict().items() if k != "conventions"},
        "accuracy": law.sigmoid_fit.to_dict(),
    }


def critical_batch(path: str, options: Options) -> Found:
    columns = _numbers(read_columns(path, ["batch", "steps"]), path)
    return _shown(forms.fit_critical_batch(columns["batch"], columns["steps"]))


def power(path: str, options: Options) -> Found:
    y = "learning_rate" if options.y == "loss" else options.y
    columns = _numbers(read_columns(path, [y, "N", "D"]), path)
    return _shown(forms.fit_power(columns[y], N=columns["N"], D=columns["D"]))


def schedules(path: str, options: Options) -> Found:
    columns = read_columns(path, ["run_id", "step", "lr", "loss"])
    run = columns.pop("run_id")
    step, rate, loss = _numbers(columns, path).values()
    logged = [
        schedule_law.Curve(step[run == r], rate[run == r], loss[run == r]) for r in np.unique(run)
    ]
    return _shown(schedule_law.fit_schedule(logged, options.delta))


def _shown(fit: Fit) -> Found:
    return str(fit), fit.to_dict()


def _numbers(columns: dict[str, np.ndarray], path: str) -> dict[str, np.ndarray]:
    """The columns, all positive numbers; UserError where not."""
    for name, column in columns.items():
        if column.dtype.kind != "f":
            raise UserError(f'{path}: "{name}" has cells that are not numbers')
        if not (np.isfinite(column).all() and (column > 0).all()):
            raise UserError(f'{path}: "{name}" must be positive and finite in every row')
    return columns


def _no_groups(path: str) -> str:
    return (
        f"{path}: no isoFLOP groups: approach 2 needs budgets with 3 sizes or more, by a `budget` "
        "column or by C within a tenth"
    )


class Approach(NamedTuple):
    """An estimator, and one line of what it reads and is."""

    fit: Callable[[str, Options], Found]
    help: str


APPROACHES = {
    "1": Approach(
        envelope, "envelope of training curves: rows of one `group`, or a sweep's folder"
    ),
    "2": Approach(parabolas, "isoFLOP minima by parabolas (`budget`, or C within a tenth)"),
    "akima": Approach(interpolated, "isoFLOP minima by interpolation (Porian et al. 2024)"),
    "kaplan": Approach(kaplan, "Kaplan's form of N and D, without a floor"),
    "overtraining": Approach(overtrained, "one exponent, and task error --y from loss (Gadre)"),
    "repeated": Approach(repeated, "repeated tokens: N, D, U, loss (Muennighoff et al. 2023)"),
    "broken": Approach(broken, "broken power law of --y over --x (Caballero et al. 2023)"),
    "downstream": Approach(two_step, "task loss --x, then accuracy --y, of checkpoints (Bhagia)"),
    "batch": Approach(critical_batch, "critical batch size from `batch`, `steps` (McCandlish)"),
    "rate": Approach(power, "k N^a D^b of learning_rate, or of --y (Li et al. 2025)"),
    "schedule": Approach(
        schedules, "loss along schedules: run_id, step, lr, loss (Luo et al. 2025)"
    ),
}
