"""What a law says to do: well-known models judged, budgets turned into configs, hours and dollars.

    python -m experiments.decisions law.json
    python -m experiments.decisions law.json --compute=1e19,1e21 --mfu=0.4

The table of models is the GPT-3 against Chinchilla question in numbers: how far each lies from the
law's frontier, and how much less compute would have reached its loss. It uses C = 6ND and the
law's own data, so losses are not the models' own; how far off the frontier they are is the point.
"""

from typing import NamedTuple

import numpy as np

from data.errors import Parser, UserError, run
from data.files import human_count
from experiments.frontier import parse_budgets
from experiments.known_models import GPT4_CLASS, MODELS, KnownModel
from experiments.laws import Interval, Law, Optimum, best_log_N, mean_loss
from experiments.per_token import PerToken
from experiments.tables import table
from experiments.uncertainty import quantiles
from lm.chips import CHIPS

SIX_N_D = PerToken()


class Judged(NamedTuple):
    """A model against the frontier of its own compute C = 6ND."""

    model: KnownModel
    C: float
    loss: Interval
    N: Interval  # the optimum's
    D: Interval
    excess: Interval  # loss above the optimum's
    wasted: Interval  # share of C that the optimum for the same loss would have saved


def judge(law: Law, model: KnownModel) -> Judged:
    """One model, with intervals over the law's draws."""
    rows = np.concatenate([law.theta[None], law.draws])
    C = 6 * model.N * model.D
    loss = mean_loss(rows, np.log(model.N), np.log(model.D))
    log_N = best_log_N(rows, C, SIX_N_D)
    log_D = np.log(C / 6) - log_N
    columns = (
        loss,
        np.exp(log_N),
        np.exp(log_D),
        loss - mean_loss(rows, log_N, log_D),
        1 - compute_for(rows, loss, C) / C,
    )
    return Judged(model, C, *(_interval(column, law.level) for column in columns))


def compute_for(theta: np.ndarray, loss: np.ndarray, most: float) -> np.ndarray:
    """The least C = 6ND that reaches a loss, for each row of theta and up to `most`; bisection."""
    low, high = np.full(len(theta), np.log(most) - 14), np.full(len(theta), np.log(most))
    for _ in range(40):
        middle = (low + high) / 2
        log_N = best_log_N(theta, np.exp(middle), SIX_N_D)
        reached = mean_loss(theta, log_N, middle - np.log(6) - log_N) <= loss
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return np.exp(high)


def _interval(values: np.ndarray, level: float) -> Interval:
    low, high = quantiles(values[1:], level)
    return Interval(float(values[0]), min(low, float(values[0])), max(high, float(values[0])))


class Config(NamedTuple):
    """A concrete config of this project for an optimum."""

    width: int
    layers: int
    N: int
    steps: int
    batch_size: int
    seq_len: int

    @property
    def command(self) -> str:
        """The command that trains it."""
        heads = f" --config.model.heads={self.width // 128}" if self.width >= 1024 else ""
        return (
            f"python -m lm.train --config=configs/gpt.py:ladder-{self.width}x{self.layers} "
            f"--config.steps={self.steps} --config.batch_size={self.batch_size} "
            f"--config.seq_len={self.seq_len}{heads} --workdir=DIR"
        )


def layers_of(width: int) -> int:
    """Layers of a width: width/layers grows from 10 in the smallest models to Llama's 128."""
    return max(2, round(width / min(128.0, 8 + width / 8)))


def config_for(optimum: Optimum, seq_len: int) -> Config:
    """The rung of the ladder nearest to N*, and the steps that read D*.

    Tokens a step follow 0.58 D^0.571 (Li et al. 2025, arXiv 2503.04715, as published), as a power
    of two of sequences. UserError where the step would be below one sequence.
    """
    from configs import gpt
    from lm.config import model_config, resolve
    from lm.flops import parameters

    def size(width: int) -> int:
        config = gpt.get_config(f"ladder-{width}x{layers_of(width)}")
        return parameters(model_config(resolve(config))).total

    # Multiples of the heads that the ladder gives a width.
    widths = [*range(16, 128, 16), *range(128, 1024, 32), *range(1024, 16385, 128)]
    low, high = 0, len(widths) - 1
    while high - low > 1:  # the size grows with the width
        middle = (low + high) // 2
        low, high = (middle, high) if size(widths[middle]) < optimum.N.value else (low, middle)
    width = min((widths[low], widths[high]), key=lambda w: abs(np.log(size(w) / optimum.N.value)))
    batch = 2 ** round(np.log2(max(0.58 * optimum.D.value**0.571 / seq_len, 0.51)))
    steps = round(optimum.D.value / (batch * seq_len))
    if steps < 1:
        raise UserError(
            f"D* = {human_count(optimum.D.value)} is less than one step of {batch} x {seq_len} "
            "tokens; give a smaller --seq-len"
        )
    return Config(width, layers_of(width), size(width), steps, int(batch), seq_len)


def prices(C: float, mfu: float) -> list[tuple[str, float, float | None]]:
    """(chip, chip-hours, dollars at list price) of C FLOPs on every chip type."""
    hours = {name: C / (mfu * chip.flops) / 3600 for name, chip in CHIPS.items()}
    return [
        (name, hours[name], None if chip.dollars_per_hour is None else
         hours[name] * chip.dollars_per_hour)
        for name, chip in CHIPS.items()
    ]  # fmt: skip


def show_models(law: Law) -> str:
    """Well-known models against the frontier."""
    rows = [
        ["model", "C", "N", "N*", "90%", "D/N", "D*/N*", "loss above optimum", "C wasted", "90%"]
    ]
    for model in MODELS:
        j = judge(law, model)
        rows.append(
            [model.name, f"{j.C:.2g}", human_count(model.N), human_count(j.N.value),
             f"{human_count(j.N.low)}-{human_count(j.N.high)}", f"{model.D / model.N:.1f}",
             f"{j.D.value / j.N.value:.1f}", f"{j.excess.value:.4f}",
             f"{j.wasted.value:.0%}", f"{j.wasted.low:.0%}-{j.wasted.high:.0%}"]
        )  # fmt: skip
    optimum = law.optimal(GPT4_CLASS.C)
    rows.append(
        [f"{GPT4_CLASS.name} (estimate)", f"{GPT4_CLASS.C:.2g}", "-", human_count(optimum.N.value),
         f"{human_count(optimum.N.low)}-{human_count(optimum.N.high)}", "-",
         f"{optimum.ratio.value:.1f}", "-", "-", "-"]
    )  # fmt: skip
    sources = "; ".join(f"{m.name}: {m.source}" for m in (*MODELS, GPT4_CLASS))
    return f"{table(rows)}\nN and D as stated by {sources}."


def show_budget(law: Law, C: float, mfu: float, seq_len: int) -> str:
    """One budget: the optimum, a config for it, and its cost on every chip."""
    optimum = law.optimal(C)
    config = config_for(optimum, seq_len)
    rows = [["chip", "chip-hours", "dollars"]]
    for name, hours, dollars in prices(C, mfu):
        rows.append([name, f"{hours:,.3g}", "-" if dollars is None else f"{dollars:,.3g}"])
    loss = optimum.loss
    return "\n".join(
        [
            f"C = {C:.3g} ({_place(law, optimum)}): N* = {human_count(optimum.N.value)}, "
            f"D* = {human_count(optimum.D.value)}, "
            f"predicted loss {loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f})",
            f"nearest config: {human_count(config.N)} parameters",
            f"  {config.command}",
            table(rows),
        ]
    )


def _place(law: Law, optimum: Optimum) -> str:
    if optimum.decades_beyond > 0:
        return f"{optimum.decades_beyond:.1f} decades beyond the data"
    return "below the data" if law.data["C"][0] > optimum.C else "inside the data"


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m experiments.decisions",
        description=__doc__,
    )
    parser.add_argument("law", help="law.json, as experiments.fit writes it")
    parser.add_argument("--compute", default="", help="budgets in FLOPs, e.g. 1e19,1e21")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the peak (%(default)s)")
    parser.add_argument("--seq-len", type=int, default=1024, help="tokens (%(default)s)")
    flags = parser.parse_args()
    if not 0 < flags.mfu <= 1:
        raise UserError(f"--mfu={flags.mfu:g} has to be above 0 and at most 1")
    if flags.seq_len < 1:
        raise UserError(f"--seq-len={flags.seq_len} has to be positive")
    law = Law.load(flags.law)
    print(show_models(law))
    for C in parse_budgets(flags.compute) if flags.compute else []:
        print("\n" + show_budget(law, C, flags.mfu, flags.seq_len))


if __name__ == "__main__":
    run(main)
