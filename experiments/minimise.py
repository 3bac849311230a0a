"""Any law that is a residual function of a few parameters: global search, diagnostics, intervals.

A law gives residuals(theta) (P -> n) and starts; `minimise` evaluates the objective at every
start, polishes the best with scipy's trust-region least squares (whose Huber loss is the one of
`search.Objective`), and then says how sure the result is: how many starts reached it, the gap to
the next minimum, the condition number, each parameter's profile, the flattest direction, and 90%
intervals from refits. Refits resample as `experiments.uncertainty` does: observations (or whole
groups of them) with replacement where there are many, else residuals, inflated and Student's.
"""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.errors import UserError
from data.files import write_atomic
from experiments.diagnostics import in_words, rise, soft_direction
from experiments.search import Objective
from experiments.tables import preformatted, table
from experiments.uncertainty import MANY, quantiles

Function = Callable[[np.ndarray], np.ndarray]
Derived = Mapping[str, Callable[[np.ndarray], float]]
POLISHED = 12
SAME = 1e-6  # relative difference of objectives below which two minima are one
NEAR = 0.05  # a minimum that is at most so much worse is tried again in every refit
STEPS = (0.8, 1.6, 2.4, 4, 8, 16)  # of a profile, in standard errors of the curvature
AGAIN = (1e-9, 100)  # tolerance and evaluations of refits, which start at a minimum
EXACT = 1e-20  # mean square of residuals that are rounding alone
LEVEL = 0.9


@dataclass(frozen=True)
class Fit:
    """A fitted form: plain data, JSON round trip."""

    form: str
    params: dict[str, float]
    objective: float
    reached: float  # share of the polished starts within 1e-6 of the best
    others: tuple[tuple[dict[str, float], float], ...] = ()  # other minima, best first
    intervals: Mapping[str, tuple[float, float]] | None = None  # 90%, of derived values too
    derived: Mapping[str, float] | None = None
    warnings: tuple[str, ...] = ()
    diagnostics: Mapping[str, Any] | None = None
    points: int = 0

    @property
    def theta(self) -> np.ndarray:
        return np.array(list(self.params.values()))

    def __str__(self) -> str:
        rows = [["parameter", "value", "90% interval"]]
        for name, value in {**self.params, **(self.derived or {})}.items():
            low, high = (self.intervals or {}).get(name, (np.nan, np.nan))
            rows.append([name, f"{value:.5g}", f"{low:.4g} to {high:.4g}"])
        found = self.diagnostics or {}
        gap = found.get("gap_to_next_minimum")
        lines = [
            self.form,
            table(rows),
            f"objective {self.objective:.8g} on {self.points} points; {self.reached:.0%} of the "
            "polished starts reached it, "
            + ("no other minimum" if gap is None else f"the next minimum is {gap:.2%} worse")
            + f"; condition number {found.get('condition_number', np.nan):.2g}",
            f"flattest direction: {found.get('flat_direction', 'not known')}",
        ]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings])

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return preformatted(str(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, strict JSON."""
        return json.loads(json.dumps(asdict(self), allow_nan=False))

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_atomic(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Fit":
        names = cls.__dataclass_fields__
        values = {k: v for k, v in record.items() if k in names}
        values["others"] = tuple((p, v) for p, v in values["others"])
        values["warnings"] = tuple(values["warnings"])
        values["intervals"] = {k: tuple(v) for k, v in (values["intervals"] or {}).items()}
        return cls(**values)


def minimise(
    residuals: Function,
    axes: Mapping[str, Any],
    delta: float = np.inf,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    starts: np.ndarray | None = None,
    form: str = "",
    polished: int = POLISHED,
) -> Fit:
    """Minimise the sum of Huber losses of residuals(theta) from a grid of starts.

    axes: the starts' values of each parameter, all combinations of them unless `starts` (S, P)
    gives them; its names are the parameters'. UserError: fewer residuals than parameters and one
    more, or no start with a finite objective.
    """
    names = list(axes)
    objective = Objective(delta)
    box = np.array([(bounds or {}).get(n, (-np.inf, np.inf)) for n in names], float).T
    if starts is None:
        starts = np.array(list(itertools.product(*axes.values())), float)
    with np.errstate(all="ignore"):
        values = np.array([objective.values(residuals(s)).sum() for s in starts])
        points = len(residuals(starts[0]))
    if points <= len(names):
        raise UserError(
            f"{points} points cannot fit {len(names)} parameters and measure the noise: at least "
            f"{len(names) + 1} are needed, {len(names) + 1 - points} more"
        )
    values[~np.isfinite(values)] = np.inf
    order = np.argsort(values, kind="stable")[:polished]
    if not np.isfinite(values[order[0]]):
        raise UserError("no start of the search gives a finite loss; are the units right?")
    fits = [polish(residuals, s, delta, box) for s in starts[order[np.isfinite(values[order])]]]
    fits.sort(key=lambda f: f[1])
    best = fits[0][1]
    close = [f for f in fits if f[1] <= best * (1 + SAME) + 1e-300]
    others: list[tuple[dict[str, float], float]] = []
    for theta, value in fits[len(close) :]:
        if not others or value > others[-1][1] * (1 + SAME):
            others.append((_named(names, theta), value))
    warnings = tuple(
        f"{name} ended at the bound {end:.3g} of its search: the data do not determine it"
        for name, x, ends in zip(names, fits[0][0], box.T, strict=True)
        for end in ends
        if np.isfinite(end) and abs(x - end) <= 1e-6 * max(abs(end), 1.0)
    )
    share = len(close) / len(fits)
    params = _named(names, fits[0][0])
    return Fit(form, params, best, share, tuple(others), warnings=warnings, points=points)


def polish(
    residuals: Function,
    start: np.ndarray,
    delta: float,
    box: np.ndarray,
    tolerance: float = 1e-15,
    evaluations: int = 2000,
) -> tuple[np.ndarray, float]:
    """The minimum below a start, within box (2, P), and its objective (inf: no finite start)."""
    from scipy.optimize import least_squares

    start = np.clip(start, box[0] + 1e-9, box[1] - 1e-9)
    with np.errstate(all="ignore"):
        if not np.isfinite(residuals(start)).all():
            return start, np.inf
        done = least_squares(
            residuals,
            start,
            loss="linear" if np.isinf(delta) else "huber",
            f_scale=1.0 if np.isinf(delta) else delta,
            x_scale="jac",
            bounds=box,
            ftol=tolerance,
            xtol=tolerance,
            gtol=tolerance,
            max_nfev=evaluations,
        )
    return done.x, float(Objective(delta).values(residuals(done.x)).sum())


def examined(
    fit: Fit,
    residuals: Function,
    delta: float = np.inf,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    derived: Derived | None = None,
    group: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
    linear: bool = False,
) -> Fit:
    """The fit with diagnostics, intervals and warnings.

    derived: values of theta that get an interval too. group: labels of residuals that share their
    luck. linear: refits and profiles of the linearised residuals, for laws that are slow.
    """
    names, theta = list(fit.params), fit.theta
    box = np.array([(bounds or {}).get(n, (-np.inf, np.inf)) for n in names], float).T
    jacobian = jacobian_at(residuals, theta, box)
    with np.errstate(all="ignore"):
        r = residuals(theta)
    hessian = jacobian.T @ jacobian
    near = [theta] + [
        np.array(list(p.values())) for p, v in fit.others if v < fit.objective * (1 + NEAR)
    ]
    cloud = refits(residuals, near, delta, box, group, draws, seed, linear)
    wanted: dict[str, Callable] = {n: lambda t, i=i: t[i] for i, n in enumerate(names)}
    wanted |= dict(derived or {})
    intervals = {}
    for name, function in wanted.items():
        value = float(function(theta))
        low, high = quantiles(np.array([function(t) for t in cloud]), LEVEL)
        intervals[name] = (min(low, value), max(high, value))
    ends = _curved_ends(hessian, theta, r) if linear else None
    profiles = {
        name: ends[i]
        if ends
        else _profile(residuals, i, theta, delta, box, fit.objective, hessian, r)
        for i, name in enumerate(names)
    }
    diagnostics = {
        "condition_number": condition_number(hessian),
        "gap_to_next_minimum": fit.others[0][1] / max(fit.objective, 1e-300) - 1
        if fit.others
        else None,
        "flat_direction": in_words(names, soft_direction(hessian, r)),
        "profiles": profiles,
        "refits": len(cloud),
    }
    return replace(
        fit,
        intervals=intervals,
        derived={n: float(f(theta)) for n, f in (derived or {}).items()},
        diagnostics=diagnostics,
        warnings=fit.warnings
        + tuple(_open_ends(profiles, len(r)))
        + tuple(_not_unique(diagnostics)),
    )


def _open_ends(profiles: Mapping[str, Any], points: int) -> list[str]:
    found = []
    for name, p in profiles.items():
        if p["low"] is None or p["high"] is None:
            low = "the smallest tried" if p["low"] is None else f"{p['low']:.3g}"
            high = "the largest tried" if p["high"] is None else f"{p['high']:.3g}"
            found.append(
                f"{name} is not identified: any value from {low} to {high} fits within "
                f"{rise(points):.1%} of the best"
            )
    return found


def _not_unique(found: Mapping[str, Any]) -> list[str]:
    gap = found["gap_to_next_minimum"]
    if gap is None or gap >= NEAR:
        return []
    return [f"another minimum is only {gap:.2%} worse: the fit is not unique in practice"]


def condition_number(hessian: np.ndarray) -> float:
    """Of the parameters' curvature (P, P), each in units of its own."""
    scale = np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    return float(min(np.linalg.cond(hessian / np.outer(scale, scale)), 1e300))


def jacobian_at(residuals: Function, theta: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Central differences (n, P), within the box."""
    columns = []
    for i, x in enumerate(theta):
        step = 1e-6 * max(abs(x), 1e-3)
        up, down = theta.copy(), theta.copy()
        up[i], down[i] = min(x + step, box[1, i]), max(x - step, box[0, i])
        with np.errstate(all="ignore"):
            columns.append((residuals(up) - residuals(down)) / (up[i] - down[i]))
    return np.nan_to_num(np.stack(columns, axis=1))


def _profile(
    residuals: Function,
    i: int,
    theta: np.ndarray,
    delta: float,
    box: np.ndarray,
    best: float,
    hessian: np.ndarray,
    r: np.ndarray,
) -> dict[str, float | None]:
    """Where parameter i, the others fitted again, stays within a 90% likelihood range; None: open.

    Followed outward in STEPS, or to the bound of its search.
    """
    covariance = np.linalg.pinv(hessian, rcond=1e-13, hermitian=True)
    floor = EXACT * len(r)  # of an exact fit, whose residuals are rounding
    spread = max(float(r @ r), floor) / len(r)
    error = np.sqrt(max(covariance[i, i], 0) * spread) or 0.1 * max(abs(theta[i]), 1)
    best = max(best, floor / 2)
    limit = rise(len(r))
    keep = np.arange(len(theta)) != i
    ends: dict[str, float | None] = {}
    for side, sign in (("low", -1.0), ("high", 1.0)):
        x, start, excess, ends[side] = theta[i], theta[keep], 0.0, None
        for step in error * np.array(STEPS):
            new = float(np.clip(theta[i] + sign * step, *box[:, i]))
            if new == x:
                break
            held = partial(_held, residuals, i, new)
            inner, value = polish(held, start, delta, box[:, keep], *AGAIN)
            risen = value / best - 1
            if risen > limit:
                share = (np.sqrt(limit) - np.sqrt(max(excess, 0))) / (
                    np.sqrt(risen) - np.sqrt(max(excess, 0))
                )
                ends[side] = float(x + share * (new - x))
                break
            x, start, excess = new, inner, risen
    return ends


def _curved_ends(hessian: np.ndarray, theta: np.ndarray, r: np.ndarray) -> list[dict[str, Any]]:
    """What the curvature at the optimum says of each profile's ends."""
    covariance = np.linalg.pinv(hessian, rcond=1e-13, hermitian=True)
    half = np.sqrt(np.maximum(np.diag(covariance), 0) * float(r @ r) * rise(len(r)))
    return [{"low": float(x - h), "high": float(x + h)} for x, h in zip(theta, half, strict=True)]


def _held(residuals: Function, i: int, value: float, free: np.ndarray) -> np.ndarray:
    return residuals(np.concatenate([free[:i], [value], free[i:]]))


def _picked(residuals: Function, rows: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return residuals(theta)[rows]


def _shifted(residuals: Function, shift: np.ndarray, theta: np.ndarray) -> np.ndarray:
    return residuals(theta) - shift


def refits(
    residuals: Function,
    near: Sequence[np.ndarray],
    delta: float,
    box: np.ndarray,
    group: np.ndarray | None = None,
    draws: int = 200,
    seed: int = 0,
    linear: bool = False,
) -> np.ndarray:
    """Parameters of refits (draws, P), each from every minimum of `near`, the best kept."""
    rng = np.random.default_rng(seed)
    r, jacobian = residuals(near[0]), jacobian_at(residuals, near[0], box)
    n, P = jacobian.shape
    label = np.arange(n) if group is None else np.unique(group, return_inverse=True)[1]
    groups = int(label.max()) + 1
    members = [np.flatnonzero(label == g) for g in range(groups)]
    freedom = max(n - P, 1)
    inflated = (r - r.mean()) * np.sqrt(n / freedom)
    step = np.linalg.pinv(jacobian)
    found = []
    for _ in range(draws):
        if groups >= MANY * P and not linear:
            picks = np.concatenate([members[g] for g in rng.integers(groups, size=groups)])
            again = partial(_picked, residuals, picks)
        else:
            if groups < n:
                luck = inflated * rng.choice([-1.0, 1.0], size=groups)[label]
            else:
                luck = inflated[rng.integers(n, size=n)]
            shift = r + luck * np.sqrt(freedom / rng.chisquare(freedom))
            if linear:
                found.append(np.clip(near[0] + step @ (shift - r), *box))
                continue
            again = partial(_shifted, residuals, shift)
        found.append(
            min((polish(again, t, delta, box, *AGAIN) for t in near), key=lambda f: f[1])[0]
        )
    return np.array(found)


def _named(names: list[str], theta: np.ndarray) -> dict[str, float]:
    return {n: float(x) for n, x in zip(names, theta, strict=True)}
