"""Training throughput on this machine's CPU against Hugging Face transformers' Llama in PyTorch.

    make bench
    python -m experiments.bench_train --runs=5 --json=out/bench.json

Every system trains the same shapes on the same batches of made-up tokens (one causal segment a
row), float32, AdamW (betas 0.9 and 0.95, eps 1e-8, weight decay 0.1), gradients clipped to norm 1.
Ours is `lm.train.Trainer.run` as training calls it, making its batches as it goes; PyTorch's are
made beforehand. Each system sits in processes of its own and they take turns, so that a machine
that slows down slows all of them; ratios are of the same turn. It is timed on two threads (ours:
two XLA devices), and as two processes of one pinned thread each, side by side: how a sweep runs.

Other programs on the machine distort it: PyTorch's two threads wait for each other at every
operation, and lose far more than their share when one of them is held up.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import Parser, UserError, optional, run

VOCAB, BATCH, LENGTH, CALL = 1024, 16, 128, 8
RATE = 1e-3
REQUIREMENTS = "requirements-parity.txt (make bench does it)"


class Shape(NamedTuple):
    """A Llama shape, and the steps that are timed at once."""

    width: int
    layers: int
    mlp: int
    heads: int
    steps: int


SHAPES = (Shape(64, 3, 192, 4, 64), Shape(256, 6, 704, 8, 8))
SYSTEMS = {
    "eager": "PyTorch eager",
    "compile": "torch.compile",
    "plain": "isoflop, plain operations",
    "tuned": "isoflop",
}
Steps = Callable[[int], None]  # trains that many steps and waits for them


def batches() -> Any:
    """The batches of all systems: windows of random ids without an end of text."""
    from data.batch import Batches
    from data.objectives import causal
    from data.store import Store
    from data.tokenizer import EOT

    ids = np.random.default_rng(0).integers(EOT + 1, VOCAB, 2_000_000).astype(np.uint16)
    store = Store(Path("made-up"), {}, ids, np.zeros(0, np.int64))
    return Batches(store, BATCH, causal(LENGTH), seed=0)


def ours(shape: Shape, threads: int, plain: bool) -> Steps:
    """This project's training loop on `threads` XLA devices."""
    from lm.platform import configure

    configure(threads)
    from configs.gpt import get_config
    from data.prepare import Prepared
    from lm import ops
    from lm.config import resolve
    from lm.train import Trainer

    c = get_config("tiny")
    c.update(steps=10**6, batch_size=BATCH, seq_len=LENGTH, learning_rate=RATE)
    c.model.update(width=shape.width, layers=shape.layers, mlp=shape.mlp, heads=shape.heads)
    c.model.tie_embeddings = False
    c.optim.update(schedule="constant", z_loss=0.0, beta1=0.9, beta2=0.95, eps=1e-8)
    c.optim.update(weight_decay=0.1, clip=1.0)
    c.train.steps_per_call = CALL
    c.data.max_epochs = float("inf")
    store = batches().store
    trainer = Trainer(resolve(c), Prepared(None, store, store, {}))  # type: ignore[arg-type]
    state = trainer.init()

    def steps(n: int) -> None:
        nonlocal state
        with ops.plain() if plain else contextlib.nullcontext():
            state = trainer.run(state, int(state.step) + n)

    return steps


def pytorch(shape: Shape, threads: int, compiled: bool) -> Steps:
    """transformers' LlamaForCausalLM with PyTorch's fused AdamW."""
    torch = optional("torch", REQUIREMENTS)
    transformers = optional("transformers", REQUIREMENTS)
    torch.set_num_threads(threads)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=VOCAB,
            hidden_size=shape.width,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.heads,
            max_position_embeddings=LENGTH,
            tie_word_embeddings=False,
            use_cache=False,
        )
    )
    model = model.float().train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1, fused=True
    )

    def loss_of(inputs: Any, targets: Any) -> Any:
        logits = model(input_ids=inputs).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())

    loss_of = torch.compile(loss_of) if compiled else loss_of
    made = map(batches(), range(shape.steps))
    feed = [[torch.from_numpy(x).long() for x in (b.inputs, b.targets)] for b in made]

    def steps(n: int) -> None:
        for i in range(n):
            optimizer.zero_grad(set_to_none=True)
            loss_of(*feed[i % len(feed)]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return steps


def work(system: str, shape: Shape, threads: int, core: int) -> None:
    """A worker: answers each line on stdin, a number of steps, with the seconds that they took."""
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})
    if system in ("eager", "compile"):
        steps = pytorch(shape, threads, compiled=system == "compile")
    else:
        steps = ours(shape, threads, plain=system == "plain")
    steps(2 * CALL)
    print("= 0", flush=True)
    for line in sys.stdin:
        start = time.perf_counter()
        steps(int(line))
        print(f"= {time.perf_counter() - start}", flush=True)


class Worker:
    """A worker's process."""

    def __init__(self, system: str, shape: Shape, threads: int, core: int = -1):
        place = f"{system}:{SHAPES.index(shape)}:{threads}:{core}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "experiments.bench_train", f"--worker={place}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        self.answer()  # set up, compiled and warm

    def ask(self, steps: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        """Seconds; raises UserError where the process died."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith("= "):
                return float(line[2:])
        raise UserError("a process of the benchmark stopped; its message is above")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def groups(shape: Shape, pairs: bool) -> Iterator[dict[str, list[Worker]]]:
    """Each system's processes: one of two threads, or two of one."""
    started: dict[str, list[Worker]] = {}
    try:
        for system in SYSTEMS:
            started[system] = []
            for core in (0, 1) if pairs else (-1,):
                started[system].append(Worker(system, shape, 1 if pairs else 2, core))
        yield started
    finally:
        for worker in sum(started.values(), []):
            worker.close()


def measure(shape: Shape, pairs: bool, runs: int) -> dict[str, list[float]]:
    """Tokens/s of each system, one figure a turn; the first turn is for warming up."""
    speeds: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    with groups(shape, pairs) as started:
        for turn in range(runs + 1):
            for system, workers in started.items():
                for worker in workers:
                    worker.ask(shape.steps)
                tokens = shape.steps * BATCH * LENGTH
                speed = sum(tokens / worker.answer() for worker in workers)
                if turn:
                    speeds[system].append(speed)
            how = "2 processes of 1 thread" if pairs else "1 process of 2 threads"
            print(f"width {shape.width}, {how}: turn {turn} of {runs}", file=sys.stderr)
    return speeds


def ratio(speeds: dict[str, list[float]], system: str, other: str) -> float:
    """Median over the turns of one system's speed as a multiple of another's."""
    return statistics.median(a / b for a, b in zip(speeds[system], speeds[other], strict=True))


def markdown(shape: Shape, pairs: bool, speeds: dict[str, list[float]]) -> str:
    """One shape's table."""
    how = "two processes of one pinned thread, summed" if pairs else "one process, two threads"
    lines = [
        f"**Width {shape.width}, {shape.layers} layers; {how}**",
        "",
        "| | tokens/s | lowest to highest | against eager | against torch.compile |",
        "|---|---:|---:|---:|---:|",
    ]
    for system, name in SYSTEMS.items():
        values = speeds[system]
        lines.append(
            f"| {name} | {statistics.median(values):,.0f} "
            f"| {min(values):,.0f} to {max(values):,.0f} "
            f"| {ratio(speeds, system, 'eager'):.2f} | {ratio(speeds, system, 'compile'):.2f} |"
        )
    return "\n".join(lines)


def machine() -> str:
    """The CPU and the versions, in a line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        name = models[0].partition(":")[2].strip() if models else name
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("jax", "torch", "transformers"))
    return f"{name}, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}"


def warn_if_busy() -> None:
    """Says on stderr where other programs hold the cores that are to be timed."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5:
        print(
            f"warning: load {load:.1f} on {os.cpu_count()} cores: others work here", file=sys.stderr
        )


def main() -> None:
    """The command."""
    parser = Parser(prog="python -m experiments.bench_train", description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=7, help="timed turns of each system (5 or more)"
    )
    parser.add_argument("--width", type=int, default=0, help="only the shape of this width")
    parser.add_argument("--json", default="", metavar="FILE", help="write every figure there too")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        system, shape, threads, core = args.worker.split(":")
        return work(system, SHAPES[int(shape)], int(threads), int(core))
    if args.runs < 1:
        raise UserError(f"--runs={args.runs} must be at least 1")
    shapes = [s for s in SHAPES if args.width in (0, s.width)]
    if not shapes:
        raise UserError(
            f"--width={args.width}: widths are {', '.join(str(s.width) for s in SHAPES)}"
        )
    for package in ("torch", "transformers"):
        optional(package, REQUIREMENTS)
    warn_if_busy()
    print(f"{time.strftime('%Y-%m-%d')}, {machine()}; medians of {args.runs} turns\n")
    record = []
    for shape in shapes:
        for pairs in (False, True):
            speeds = measure(shape, pairs, args.runs)
            record.append({"shape": shape._asdict(), "pairs": pairs, "tokens_per_s": speeds})
            print(markdown(shape, pairs, speeds) + "\n", flush=True)
    if args.json:
        from data.files import write_atomic

        write_atomic(
            Path(args.json), json.dumps({"machine": machine(), "results": record}, indent=2)
        )


if __name__ == "__main__":
    run(main)
