"""What a sweep will train, and what that costs, before anything runs.

    python -m experiments.plan --config=configs/sweep.py:tiny
    python -m experiments.plan --config=configs/sweep.py:long --chip=v5e --mfu=0.4 --price=1.20
    python -m experiments.plan --config=configs/sweep.py:gpu --tokens=3000000000

A *rung* is one model size, seed and learning rate: a trunk on the rate's plateau, branched into
a cooldown for each number of tokens (Hagele et al. 2024). A *trial* is one such branch. The text is
prepared first (once, cached), because epochs are counted against it; --tokens=N plans without.
"""

import json
import math
import sys
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import gpt
from data.errors import UserError, run, suggest
from data.files import hash_bytes, human_count
from experiments.tables import duration, table
from lm.chips import CHIPS
from lm.config import load, model_config, resolve, result_fields
from lm.flops import parameters
from lm.objective import sizes

DEVICES = ("cpu", "gpu", "tpu")
FEWEST_STEPS = 20  # a run shorter than this has no warm-up, plateau and cooldown to speak of


class Data(NamedTuple):
    """What the plan has to know about a text."""

    tokens: int  # different training tokens
    tokenizer: str  # hashes
    store: str


class Trial(NamedTuple):
    """One branch of a rung: one run record."""

    run_id: str
    steps: int
    decay_start: int  # the step at which it leaves the trunk
    budget: float  # the FLOPs it was laid out for; 0.0 for none of the grid's
    held_out: bool
    D: int  # tokens
    C: float  # FLOPs of a run from scratch
    C_spent: float  # FLOPs that it adds to the trunk trained so far


class Rung(NamedTuple):
    """One model at one seed and learning rate, its trials from the shortest to the longest."""

    name: str
    config: dict[str, Any]  # resolved, of the longest trial
    N: int
    N_non_embedding: int
    flops_per_token: float
    tokens_per_step: int
    seed: int
    lr_factor: float
    trials: tuple[Trial, ...]

    @property
    def steps_to_run(self) -> int:
        """Steps of the trunk and of all cooldowns."""
        return round(sum(t.C_spent for t in self.trials) / self.flops_per_step)

    @property
    def flops_per_step(self) -> float:
        return self.flops_per_token * self.tokens_per_step


class Cost(NamedTuple):
    """What a plan takes."""

    hours: float  # of one core or chip
    wall_hours: float
    dollars: float
    basis: str  # what the figures rest on, in words


class Cell(NamedTuple):
    """A wanted number of steps of one shape."""

    steps: int
    budget: float
    held_out: bool


def data_facts(prepared: Any) -> Data:
    """The facts of prepared data that decide a plan and a run's identity."""
    return Data(len(prepared.train), prepared.tokenizer.hash, prepared.hash)


def check_plan(sweep: ConfigDict) -> None:
    """Raises UserError for what is wrong with a sweep whatever its text: before any is read."""
    if sweep.device not in DEVICES:
        hint = suggest(sweep.device, DEVICES)
        raise UserError(f"device={sweep.device!r} is not one of {', '.join(DEVICES)}{hint}")
    if not sweep.seeds:
        raise UserError("seeds=() leaves nothing to train: name one at least")
    if not all(isinstance(row, tuple | list) and len(row) == 2 for row in sweep.ladder):
        raise UserError(f"ladder={sweep.ladder} is not pairs of (width, layers)")
    for name in ("workers", "retries", "held_out", "price"):
        if not sweep[name] >= 0:
            raise UserError(f"{name}={sweep[name]} must be at least 0")
    if not 0 < sweep.mfu <= 1:
        raise UserError(f"mfu={sweep.mfu} must be a share of the peak, above 0")
    estimate(make_plan(sweep, Data(sys.maxsize, "", "")), sweep, worker_count(sweep))


def make_plan(sweep: ConfigDict, data: Data) -> list[Rung]:
    """Lays out the grid, the held-out run and the checks of a sweep.

    Raises:
      UserError: an empty grid, or a run that would read the text more than data.max_epochs times.
    """
    if not sweep.ladder or not sweep.budgets or min(sweep.budgets) <= 0:
        raise UserError("a sweep needs a ladder and budgets above 0")
    if len(set(map(tuple, sweep.ladder))) < len(sweep.ladder):
        raise UserError("ladder names a (width, layers) twice")
    shapes = sorted((_shape(sweep.base, *shape) for shape in sweep.ladder), key=lambda s: s.N)
    cells = {s.name: _grid(sweep, s) for s in shapes}
    grid = [s for s in shapes if cells[s.name]]
    if not grid:
        low, high = sweep.tokens_per_parameter
        raise UserError(
            f"no model of the ladder has {low:g} to {high:g} tokens per parameter at any budget: "
            "change ladder, budgets or tokens_per_parameter"
        )
    rungs = [
        _rung(s, cells[s.name], seed, 1.0, sweep.seeds[0], data)
        for seed in sweep.seeds[1:]
        for s in grid
    ]
    if sweep.held_out:  # with the first seed only
        shape, cell = _held_out(sweep, shapes)
        cells[shape.name] = sorted([*cells[shape.name], cell])
    first = sweep.seeds[0]
    rungs = [
        _rung(s, cells[s.name], first, 1.0, first, data) for s in shapes if cells[s.name]
    ] + rungs
    rungs += _checks(sweep, {s.name: s for s in (grid[0], grid[-1])}, cells, data)
    for rung in rungs:
        _check_epochs(rung, data.tokens)
    return rungs


class _Shape(NamedTuple):
    name: str
    config: ConfigDict  # not resolved
    N: int
    N_non_embedding: int
    flops_per_token: float
    tokens_per_step: int


def _shape(base: ConfigDict, width: int, layers: int) -> _Shape:
    config = gpt.rung(ConfigDict(base.to_dict()), width, layers)
    resolved = resolve(config)
    n = parameters(model_config(resolved))
    return _Shape(f"{width}x{layers}", config, n.total, n.non_embedding, *sizes(resolved))


def _steps(shape: _Shape, flops: float) -> int:
    return round(flops / (shape.flops_per_token * shape.tokens_per_step))


def _ratio(shape: _Shape, steps: int) -> float:
    return steps * shape.tokens_per_step / shape.N


def _grid(sweep: ConfigDict, shape: _Shape) -> list[Cell]:
    low, high = sweep.tokens_per_parameter
    cells = [Cell(_steps(shape, budget), budget, False) for budget in sorted(sweep.budgets)]
    return [c for c in cells if c.steps >= FEWEST_STEPS and low <= _ratio(shape, c.steps) <= high]


def _held_out(sweep: ConfigDict, shapes: list[_Shape]) -> tuple[_Shape, Cell]:
    """The run beyond the fit: the shape whose tokens per parameter are nearest held_out_ratio."""
    flops = sweep.held_out * max(sweep.budgets)
    usable = [s for s in shapes if _steps(s, flops) >= FEWEST_STEPS]
    if not usable:
        raise UserError(f"held_out={sweep.held_out:g} asks for a run too short for every model")

    def distance(shape: _Shape) -> float:
        return abs(math.log(_ratio(shape, _steps(shape, flops)) / sweep.held_out_ratio))

    shape = min(usable, key=distance)
    return shape, Cell(_steps(shape, flops), flops, True)


def _checks(
    sweep: ConfigDict, ends: dict[str, _Shape], cells: dict[str, list[Cell]], data: Data
) -> list[Rung]:
    """The smallest and the largest model at other rates and seeds, to a middle number of steps."""
    rungs = []
    for name, shape in ends.items():
        grid = [c for c in cells[name] if not c.held_out]
        middle = grid[(len(grid) - 1) // 2]
        variants = [(sweep.seeds[0], factor) for factor in sweep.lr_check if factor != 1]
        variants += [(seed, 1.0) for seed in sweep.noise_seeds if seed not in sweep.seeds]
        for seed, factor in variants:
            # Warm-up is the rung's own: only the rate, or the seed, is another.
            shared = min(c.steps for c in cells[name])
            rungs.append(_rung(shape, [middle], seed, factor, sweep.seeds[0], data, shared))
    return rungs


def _rung(
    shape: _Shape,
    cells: list[Cell],
    seed: int,
    lr_factor: float,
    first_seed: int,
    data: Data,
    shortest: int = 0,
) -> Rung:
    config = ConfigDict(shape.config.to_dict())
    config.seed = seed
    config.learning_rate = config.learning_rate * lr_factor
    # All branches share the warm-up, so it may depend on the shortest run only.
    config.steps = shortest or min(c.steps for c in cells)
    config.optim.warmup = resolve(config).optim.warmup
    config.steps = max(c.steps for c in cells)
    name = shape.name
    name += f" rate x{lr_factor:g}" if lr_factor != 1 else ""
    name += f" seed {seed}" if seed != first_seed else ""
    resolved = resolve(config)
    return Rung(
        name,
        resolved.to_dict(),
        shape.N,
        shape.N_non_embedding,
        shape.flops_per_token,
        shape.tokens_per_step,
        seed,
        lr_factor,
        _trials(shape, resolved, sorted(set(cells)), data),
    )


def _trials(shape: _Shape, config: ConfigDict, cells: list[Cell], data: Data) -> tuple[Trial, ...]:
    from lm.optim import make_schedule  # imports JAX

    trials, trunk = [], 0
    for cell in cells:
        own = at_steps(config.to_dict(), cell.steps)
        decay_start = int(make_schedule(own, cell.steps).decay_start)
        tokens = cell.steps * shape.tokens_per_step
        flops = shape.flops_per_token * shape.tokens_per_step
        trials.append(
            Trial(
                run_id(own, data),
                cell.steps,
                decay_start,
                cell.budget,
                cell.held_out,
                tokens,
                flops * cell.steps,
                flops * (cell.steps - trunk),
            )
        )
        trunk = decay_start
    return tuple(trials)


def at_steps(config: dict[str, Any], steps: int) -> ConfigDict:
    """A rung's resolved config, for one of its trials."""
    c = ConfigDict(config)
    c.steps = steps
    return resolve(c)


def run_id(config: ConfigDict, data: Data) -> str:
    """A hash of all that decides a run's numbers: its config, steps included, and its data."""
    decides = result_fields(config) | {"tokenizer": data.tokenizer, "store": data.store}
    return hash_bytes(json.dumps(decides, sort_keys=True).encode())[:12]


def _check_epochs(rung: Rung, tokens: int) -> None:
    allowed = rung.config["data"]["max_epochs"]
    longest = rung.trials[-1]
    if longest.D / tokens > allowed:
        raise UserError(
            f"{rung.name} would read {longest.D:,} tokens, {longest.D / tokens:.1f} epochs of the "
            f"{tokens:,} there are, and base.data.max_epochs allows {allowed:g}: "
            "use more text, smaller budgets, or allow more epochs"
        )


def estimate(rungs: list[Rung], sweep: ConfigDict, workers: int) -> Cost:
    """Hours and money of rungs: on the chip that the config names, or on this machine's CPU."""
    from experiments.progress import Speed, makespan

    if sweep.chip:
        if sweep.chip not in CHIPS:
            raise UserError(f"chip={sweep.chip!r} is not one of {', '.join(CHIPS)}")
        chip = CHIPS[sweep.chip]
        price = sweep.price or chip.dollars_per_hour
        if price is None:
            raise UserError(
                f"{sweep.chip} has no list price: give one with --price=DOLLARS_AN_HOUR"
            )
        hours = sum(t.C_spent for r in rungs for t in r.trials) / (sweep.mfu * chip.flops) / 3600
        basis = f"one {sweep.chip} at {sweep.mfu:.0%} of its bfloat16 peak, ${price:g} an hour"
        return Cost(hours, hours, hours * price, basis)
    speed = Speed()
    hours = sum(speed.rung_seconds(r) for r in rungs) / 3600
    wall = makespan([0.0] * workers, [speed.rung_seconds(r) for r in rungs]) / 3600
    basis = (
        f"{workers} CPU core{'s' * (workers > 1)} at about {speed.typical_gflops:.0f} GFLOP/s "
        f"each, ${sweep.price:g} a core-hour; start-up and compilation included"
    )
    return Cost(hours, wall, hours * sweep.price, basis)


def rung_rows(rungs: list[Rung], tokens: int) -> list[list[str]]:
    """The table of rungs: header first."""
    rows = [["model", "N", "N non-emb.", "D", "D/N", "epochs", "FLOPs", "FLOPs spent", "trials"]]
    for r in rungs:
        first, last = r.trials[0], r.trials[-1]
        several = len(r.trials) > 1
        rows.append(
            [
                r.name,
                human_count(r.N),
                human_count(r.N_non_embedding),
                (f"{human_count(first.D)}-" if several else "") + human_count(last.D),
                (f"{first.D / r.N:.1f}-" if several else "") + f"{last.D / r.N:.1f}",
                f"{last.D / tokens:.2f}",
                (f"{first.C:.1e}-" if several else "") + f"{last.C:.1e}",
                f"{sum(t.C_spent for t in r.trials):.2e}",
                f"{len(r.trials)}" + (" (1 held out)" if any(t.held_out for t in r.trials) else ""),
            ]
        )
    return rows


def describe(rungs: list[Rung], sweep: ConfigDict, data: Data, workers: int) -> str:
    """The plan for people: a table of rungs, and what it costs."""
    cost = estimate(rungs, sweep, workers)
    trials = [t for r in rungs for t in r.trials]
    scratch, spent = sum(t.C for t in trials), sum(t.C_spent for t in trials)
    lines = [
        table(rung_rows(rungs, data.tokens)),
        "N counts all parameters; D tokens; an epoch is "
        f"{data.tokens:,} tokens. {len(trials)} trials, {spent:.3g} FLOPs "
        f"({scratch:.3g} without shared trunks: {1 - spent / scratch:.0%} saved).",
        f"Estimated: {duration(cost.wall_hours * 3600)}, ${cost.dollars:.2f} ({cost.basis}).",
    ]
    held = [(r, t) for r in rungs for t in r.trials if t.held_out]
    for rung, trial in held[:1]:
        lines.append(
            f"Held out of the fit: {rung.name} at {trial.C:.3g} FLOPs, {sweep.held_out:g} times "
            f"the largest budget (the model with D/N nearest to {sweep.held_out_ratio:g})."
        )
    return "\n".join(lines)


def worker_count(sweep: ConfigDict) -> int:
    """Processes to train with side by side."""
    from lm.platform import available_cores

    return sweep.workers or (available_cores() if sweep.device == "cpu" else 1)


def main() -> None:
    """The command."""
    flags_help = {
        "chip": ("", "price on this chip of lm/chips.py instead of the CPU, e.g. v5e"),
        "mfu": ("", "expected share of its peak, e.g. 0.4"),
        "price": ("", "dollars an hour of a chip or core"),
        "tokens": ("", "plan for this many training tokens, without preparing the text"),
    }
    sweep, flags = load(sys.argv, __doc__ or "", **flags_help)
    if flags.chip:
        sweep.chip, sweep.price = flags.chip, 0.0
    for name in ("mfu", "price"):
        if getattr(flags, name):
            sweep[name] = _number(name, getattr(flags, name))
    check_plan(sweep)
    if flags.tokens:
        data = Data(int(_number("tokens", flags.tokens)), "", "")
    else:
        from lm.train import prepare_data

        data = data_facts(prepare_data(resolve(sweep.base)))
    print(describe(make_plan(sweep, data), sweep, data, worker_count(sweep)))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--{name}={text} is not a number") from None


if __name__ == "__main__":
    run(main)
