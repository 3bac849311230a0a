"""A fitted scaling law: L(N, D) = E + A/N^alpha + B/D^beta, never without its intervals.

    from experiments.laws import fit, Law
    law = fit("runs.csv")
    law.predict(N=1e9, D=2e10)          # the mean loss, with a 90% interval
    law.predict_run(N=1e9, D=2e10)      # one new run's loss: residual and seed noise included
    law.optimal(C=1e21)                 # N*, D*, D/N and loss

Form and objective: Hoffmann et al. 2022 (arXiv 2203.15556), section 3.3 (sum over runs of the Huber
loss of ln prediction - ln loss). N parameters, D tokens, C FLOPs, losses nats/token. No JAX.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from data.files import write_atomic
from experiments import diagnostics, uncertainty
from experiments.identify import check_identifiable, warn
from experiments.isoflop import LEVEL, IsoFlop, fit_isoflop
from experiments.per_token import PerToken, fit_per_token
from experiments.power_law import (
    LARGEST,
    NAMES,
    best_log_N,
    design,
    fit_theta,
    mean_loss,
    natural,
    uncentre,
)
from experiments.runs import Runs, from_columns, read
from experiments.search import Found, Objective, Terms
from experiments.tables import preformatted, table

FORMULA = "L(N, D) = E + A/N^alpha + B/D^beta"


class Interval(NamedTuple):
    """A value and its 90% interval."""

    value: float
    low: float
    high: float


class Optimum(NamedTuple):
    """The compute-optimal model of a budget."""

    C: float
    N: Interval
    D: Interval
    ratio: Interval  # D/N
    loss: Interval
    decades_beyond: float  # of compute above the largest run of the fit; negative inside


@dataclass(frozen=True)
class Law:
    """A fitted law; `theta` and the rows of `draws` are (ln E, ln A, ln B, alpha, beta)."""

    params: dict[str, float]
    objective: float
    intervals: dict[str, tuple[float, float]]
    warnings: tuple[str, ...]
    conventions: dict[str, str]
    data: dict[str, Any]  # points, fingerprint, ranges of N, D, C
    diagnostics: dict[str, Any]
    covariance: list[list[float]]  # of theta, from the draws
    noise: uncertainty.Noise
    draws: np.ndarray = field(repr=False, compare=False)
    delta: float = 1e-3
    residuals: str = "log"  # of ln loss, or 'plain': of the loss
    per_token: PerToken = PerToken()
    isoflop: IsoFlop | None = None
    holdout: tuple[dict[str, Any], ...] = ()
    level: float = LEVEL
    form: str = "free"  # or 'tied': alpha = beta

    @property
    def theta(self) -> np.ndarray:
        p = self.params
        return np.array([*(_log(p[n]) for n in ("E", "A", "B")), p["alpha"], p["beta"]])

    def predict(self, N: float, D: float) -> Interval:
        """The mean loss of runs of N parameters on D tokens, nats/token."""
        value = float(mean_loss(self.theta, np.log(N), np.log(D)))
        return self._interval(value, mean_loss(self.draws, np.log(N), np.log(D)))

    def predict_run(self, N: float, D: float) -> Interval:
        """One new run's loss: the law's uncertainty and the scatter of single runs around it."""
        value = float(mean_loss(self.theta, np.log(N), np.log(D)))
        scatter = self.noise.draw(len(self.draws))
        return self._interval(value, mean_loss(self.draws, np.log(N), np.log(D)) * np.exp(scatter))

    def optimal(self, C: float) -> Optimum:
        """The N and D that give the least loss for C training FLOPs."""
        if not C > 0:
            raise UserError(f"a compute budget must be positive, got {C:g}")
        rows = np.concatenate([self.theta[None], self.draws])
        log_N = best_log_N(rows, C, self.per_token)
        log_D = np.log(C / 6) - log_N - self.per_token.log_ratio(log_N)
        loss = mean_loss(rows, log_N, log_D)
        with np.errstate(over="ignore"):
            columns = [np.exp(log_N), np.exp(log_D), np.exp(log_D - log_N), loss]
        beyond = float(np.log10(C / self.data["C"][1]))
        N, D, ratio, mean = (self._interval(float(c[0]), c[1:]) for c in columns)
        return Optimum(C, N, D, ratio, mean, beyond)

    def __str__(self) -> str:
        rows = [["parameter", "value", "90% interval"]]
        a = self.params["beta"] / (self.params["alpha"] + self.params["beta"])
        values = self.params | {"a (N* ~ C^a)": a, "b (D* ~ C^b)": 1 - a}
        for name, number in values.items():
            low, high = self.intervals[name.split()[0]]
            rows.append([name, f"{number:.5g}", f"{low:.4g} to {high:.4g}"])
        d = self.data
        lines = [
            f"{FORMULA}, nats/token",
            f"{d['points']} runs, N {d['N'][0]:.3g} to {d['N'][1]:.3g}, D {d['D'][0]:.3g} to "
            f"{d['D'][1]:.3g}, C {d['C'][0]:.3g} to {d['C'][1]:.3g}; {d['held_out']} held out"
            + "".join(f"; left out: {text}" for text in d["left_out"]),
            f"N: {self.conventions['N']}. C: {self.conventions['C']}.",
            "",
            table(rows),
            "",
            f"objective {self.objective:.12g} ({self._objective}); "
            f"{self.diagnostics['share_of_starts_at_best']:.0%} of "
            f"{self.diagnostics['starts_polished']} starts reached it; condition number "
            f"{self.diagnostics['condition_number']:.2g}; single runs scatter "
            f"{self.noise.scale:.2%} around the law",
            f"flattest direction: {self.diagnostics['flat_direction']}",
        ]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])

    @property
    def _objective(self) -> str:
        of = "ln loss" if self.residuals == "log" else "the loss"
        names = {0.0: f"sum of absolute residuals of {of}", np.inf: f"half sum of squares of {of}"}
        return names.get(self.delta, f"sum of Huber of {of}, delta {self.delta:g}")

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return preformatted(str(self))

    def _interval(self, value: float, draws: np.ndarray) -> Interval:
        low, high = uncertainty.quantiles(draws, self.level)
        return Interval(value, min(low, value), max(high, value))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, strict JSON."""
        record = asdict(self) | {
            "delta": self.delta if np.isfinite(self.delta) else "inf",
            "formula": FORMULA,
            "draws": [[float(f"{x:.9g}") for x in row] for row in self.draws],
            "isoflop": None if self.isoflop is None else _isoflop_dict(self.isoflop),
            "noise": self.noise._asdict(),
        }
        return json.loads(json.dumps(record, allow_nan=False))

    def save(self, path: str | Path) -> None:
        """Write law.json."""
        text = json.dumps(self.to_dict(), indent=1, allow_nan=False)
        write_atomic(path, _rows_on_one_line(text) + "\n")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Law":
        values = dict(record)
        values.pop("formula", None)
        iso = values["isoflop"]
        return cls(
            **values
            | {
                "delta": float(values["delta"]),
                "intervals": {k: tuple(v) for k, v in values["intervals"].items()},
                "warnings": tuple(values["warnings"]),
                "noise": uncertainty.Noise(**values["noise"]),
                "draws": np.array(values["draws"], dtype=float).reshape(-1, len(NAMES)),
                "per_token": PerToken(**values["per_token"]),
                "isoflop": None if iso is None else _isoflop(iso),
                "holdout": tuple(values["holdout"]),
            }
        )

    @classmethod
    def load(cls, path: str | Path) -> "Law":
        """Read law.json; UserError where it is not one."""
        try:
            return cls.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise UserError(f"{path}: no such file; experiments.fit writes it") from None
        except (KeyError, TypeError, ValueError, AttributeError, IsADirectoryError) as error:
            raise UserError(f"{path}: not a law.json of experiments.fit ({error!r})") from None


def fit(
    runs: Runs | Mapping[str, Any] | str | Path,
    delta: float = 1e-3,
    bootstrap: int = 1000,
    seed: int = 0,
    tied: bool = False,
    residuals: str = "log",
) -> Law:
    """Fit L = E + A/N^alpha + B/D^beta at its global optimum, with 90% bootstrap intervals.

    runs: a table, columns (N, D, loss, optional C, budget, held_out ...) or a path. delta: where
    the Huber loss of a residual turns from squares to absolute values; 0 is least absolute
    deviations, inf least squares. tied: one exponent, alpha = beta. residuals: 'log', of ln loss,
    or 'plain', of the loss. UserError: the runs cannot determine the law.
    """
    given = _table(runs)
    used = given.fitted
    check_identifiable(used, 4 if tied else 5)
    objective = Objective(delta, residuals == "log")
    terms, centre = design(used.N, used.D, tied)
    theta, found = fit_theta(used.N, used.D, used.loss, objective, tied)
    noise = uncertainty.estimate_noise(used, terms, found.theta)
    centred = uncertainty.resample(
        terms, used.loss, found.theta, objective, noise, bootstrap, seed, group=used.group
    )
    draws = uncentre(centred, centre)
    params = {k: float(v) for k, v in zip(NAMES, natural(theta), strict=True)}
    law = Law(
        params=params,
        objective=found.objective,
        intervals=parameter_intervals(params, draws),
        warnings=(),
        conventions=conventions(given),
        data=describe(given),
        diagnostics=diagnose(found, terms, centre, used.loss, objective),
        covariance=np.cov(draws.T).tolist(),
        noise=noise,
        draws=draws,
        delta=delta,
        residuals=residuals,
        form="tied" if tied else "free",
        per_token=fit_per_token(used),
        isoflop=fit_isoflop(used, seed),
    )
    return _finish(law, given)


def _finish(law: Law, runs: Runs) -> Law:
    """Add what needs the law itself: held-out scores and warnings."""
    held = runs.where(runs.held_out)
    scores = tuple(score(law, held, i) for i in range(len(held)))
    return replace(law, holdout=scores, warnings=tuple(warn(law, runs)))


def _table(runs: Runs | Mapping[str, Any] | str | Path) -> Runs:
    if isinstance(runs, Runs):
        return runs
    return read(runs) if isinstance(runs, str | Path) else from_columns(runs)


def parameter_intervals(
    params: Mapping[str, float], draws: np.ndarray
) -> dict[str, tuple[float, float]]:
    """90% intervals of the parameters and of a and b, the exponents of N* and D* (C = 6ND)."""
    columns = dict(zip(NAMES, natural(draws).T, strict=True))
    columns["a"] = draws[:, 4] / (draws[:, 3] + draws[:, 4])
    columns["b"] = 1 - columns["a"]
    found = {name: uncertainty.quantiles(column, LEVEL) for name, column in columns.items()}
    return {
        name: (min(low, params.get(name, low)), max(high, params.get(name, high)))
        for name, (low, high) in found.items()
    }


def conventions(runs: Runs) -> dict[str, str]:
    """How every quantity is counted."""
    exact = "exact FLOPs of the runs; C/(6ND) is fitted as a function of N and tends to 1"
    return {
        "N": f"parameters, {runs.N_counted}",
        "D": "tokens, as in column D",
        "C": exact if runs.C_counted == "exact" else f"C = {runs.C_counted}",
        "loss": "nats/token",
    }


def describe(runs: Runs) -> dict[str, Any]:
    """What the law was fitted on."""
    used = runs.fitted
    ranges = {k: [float(v.min()), float(v.max())] for k, v in _columns(used).items()}
    return {
        "source": Path(runs.source).name,
        "sha256": used.fingerprint,
        "points": len(used),
        "held_out": int(runs.held_out.sum()),
        "left_out": list(runs.left_out),
        **ranges,
    }


def _columns(runs: Runs) -> dict[str, np.ndarray]:
    return {"N": runs.N, "D": runs.D, "C": runs.C, "D_per_N": runs.D / runs.N}


def diagnose(
    found: Found, terms: Terms, centre: tuple[float, float], loss: np.ndarray, objective: Objective
) -> dict[str, Any]:
    """How the search went, and what the data leave open (see experiments.diagnostics)."""
    # Each parameter as a linear function of the centred theta; A and B in units of the data.
    directions = np.eye(len(found.theta))
    directions[1, 3], directions[2, -1] = centre
    absent = diagnostics.absent_terms(found.theta, terms)
    profiles = {}
    for k, (name, direction) in enumerate(zip(NAMES, directions, strict=False)):
        p = diagnostics.profile(direction, found.theta, terms, loss, objective, found.objective)
        low, high = np.exp(np.clip([p.low, p.high], -LARGEST, LARGEST)) if k < 3 else p[:2]
        profiles[name] = {
            "low": None if p.open_low else float(low),
            "high": None if p.open_high else float(high),
            "rise": p.rise,
        }
    profiles.setdefault("beta", profiles["alpha"])  # tied
    return {
        "grid_points": found.starts,
        "starts_polished": found.polished,
        "share_of_starts_at_best": found.reached,
        "gap_to_next_minimum": found.gap if np.isfinite(found.gap) else None,
        "condition_number": diagnostics.condition(found.theta, terms),
        "flat_direction": _flattest(found.theta, terms, loss, directions),
        "at_bound": [f"{NAMES[k]} = 0" for k in absent],
        "profiles": profiles,
    }


def _flattest(theta: np.ndarray, terms: Terms, loss: np.ndarray, directions: np.ndarray) -> str:
    """How the parameters move together where the objective rises least, in words."""
    names = [f"ln {n}" if n in "EAB" else n for n in NAMES[: len(theta)]]
    return diagnostics.in_words(names, directions @ diagnostics.flattest(theta, terms, loss))


def score(law: Law, held: Runs, i: int) -> dict[str, Any]:
    """A held-out run against the law's prediction for it."""
    prediction = law.predict_run(held.N[i], held.D[i])
    loss = float(held.loss[i])
    return {
        "run_id": held.run_id[i],
        "N": float(held.N[i]),
        "D": float(held.D[i]),
        "C": float(held.C[i]),
        "loss": loss,
        "predicted": prediction.value,
        "interval": [prediction.low, prediction.high],
        "error_percent": 100 * (prediction.value / loss - 1),
        "inside": bool(prediction.low <= loss <= prediction.high),
        "times_largest_C": float(held.C[i]) / law.data["C"][1],
    }


def _log(x: float) -> float:
    return float(np.log(x)) if x > 0 else -LARGEST


def _isoflop_dict(iso: IsoFlop) -> dict[str, Any]:
    return iso._asdict() | {"minima": [m._asdict() for m in iso.minima]}


def _isoflop(record: Mapping[str, Any]) -> IsoFlop:
    from experiments.isoflop import Minimum

    pairs = {
        k: None if record[k] is None else tuple(record[k]) for k in ("a_interval", "b_interval")
    }
    minima = tuple(
        Minimum(**(m | {"coefficients": tuple(m["coefficients"])})) for m in record["minima"]
    )
    return IsoFlop(
        **dict(record) | pairs | {"minima": minima, "warnings": tuple(record["warnings"])}
    )


def _rows_on_one_line(text: str) -> str:
    """JSON with each innermost list of numbers on one line, so that a person can scroll it."""
    return re.sub(r"\[[^\[\]{}\"]*\]", lambda m: " ".join(m.group().split()), text)
