"""Loss against learning rate for several widths: does one rate serve them all?

    python -m experiments.lr_width --out=out/lr_width
    python -m experiments.lr_width --out=out/lr_width --widths=32,64,128 --tokens=2000000

Trains each width at each rate twice, once under the rule for width (lm/optim.py) and once at the
same rate for all parameters, on the full sweep's settings with two layers, and draws both.
"""

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import json
from pathlib import Path
from typing import Any, NamedTuple

from configs import sweep
from configs.gpt import rung
from data.errors import Parser, UserError, run
from data.files import write_atomic
from experiments.tables import table
from lm.config import resolve
from lm.train import Trainer, prepare_data

LAYERS = 2


class Point(NamedTuple):
    """One run: its width, rate, whether the rule was on, and its validation loss (nats/token)."""

    width: int
    rate: float
    rule: bool
    loss: float


def train_point(width: int, rate: float, rule: bool, tokens: int, base: Any) -> Point:
    """Trains one width at one rate. Without the rule a model's own width is its base width."""
    c = rung(base.copy_and_resolve_references(), width, LAYERS)
    c.learning_rate = rate
    c.steps = tokens // (c.batch_size * c.seq_len)
    if not rule:
        c.optim.base_width = width
    config = resolve(c)
    trainer = Trainer(config, prepare_data(config, log=lambda _: None))
    state = trainer.run(trainer.init(), config.steps)
    return Point(width, rate, rule, trainer.evaluate(state).loss)


def best_rate(points: list[Point], width: int, rule: bool) -> float:
    """The rate of the lowest loss of a width."""
    return min(
        (p for p in points if p.width == width and p.rule == rule), key=lambda p: p.loss
    ).rate


def draw(points: list[Point], path: Path) -> None:
    """Two panels, with the rule and without: a curve for each width, its best rate marked."""
    import matplotlib.pyplot as plt

    from experiments.style import STYLE, shades

    widths = sorted({p.width for p in points})
    titles = {True: "Under the rule for width", False: "The same rate for all"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), sharey=True, layout="constrained")
        for ax, rule in zip(axes, (True, False), strict=True):
            for width, colour in zip(widths, shades(len(widths)), strict=True):
                own = sorted(p for p in points if p.width == width and p.rule == rule)
                rates, losses = [p.rate for p in own], [p.loss for p in own]
                ax.plot(rates, losses, "o-", color=colour, ms=5, label=f"width {width}")
                ax.plot(best_rate(points, width, rule), min(losses), "D", color=colour, ms=9)
            ax.set_xscale("log", base=2)
            ax.set_xticks(rates, [f"{rate:g}" for rate in rates])
            ax.minorticks_off()
            ax.set(xlabel="learning rate at width 64", title=titles[rule])
        axes[1].set_xlabel("learning rate")
        axes[0].set_ylabel("validation loss (nats/token)")
        axes[0].legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)


def main() -> None:
    """The command."""
    parser = Parser(prog="python -m experiments.lr_width", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for points and figure")
    parser.add_argument(
        "--widths", default="32,64,128", help="separated by commas, multiples of 16"
    )
    parser.add_argument("--rates", default="0.001,0.002,0.004,0.008,0.016")
    parser.add_argument("--tokens", type=int, default=500_000, help="of each run")
    args = parser.parse_args()
    try:
        widths = [int(w) for w in args.widths.split(",")]
        rates = [float(r) for r in args.rates.split(",")]
    except ValueError as e:
        raise UserError(f"--widths and --rates are numbers separated by commas ({e})") from e
    base = sweep.get_config("tiny").base
    points = []
    for rule in (True, False):
        for width in widths:
            for rate in rates:
                points.append(train_point(width, rate, rule, args.tokens, base))
                print(f"width {width}, rate {rate:g}, rule {rule}: {points[-1].loss:.4f}")
    write_atomic(args.out / "points.json", json.dumps([p._asdict() for p in points], indent=1))
    draw(points, args.out / "lr_width.png")
    rows = [["width", "best rate under the rule", "best rate without"]]
    rows += [
        [f"{w}", *(f"{best_rate(points, w, rule):g}" for rule in (True, False))] for w in widths
    ]
    print(table(rows))
    print(args.out / "lr_width.png")


if __name__ == "__main__":
    run(main)
