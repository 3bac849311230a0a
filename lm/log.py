"""What a run says while it runs: metrics, TensorBoard, progress, spikes; and its signals."""

import collections
import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data.files import write_atomic
from lm.chips import peak
from lm.distributed import AnyProcess, is_first
from lm.flops import parameters
from lm.goodput import FILE as GOODPUT
from lm.goodput import KINDS, Line, Stopwatch, goodput, read, text_of
from lm.objective import flops_per_token
from lm.workdir import Lines, is_remote

SPIKE_WINDOW = 64  # steps that a loss is compared with
SPIKE_NATS = 1.0  # above their median: far outside the noise of any batch worth training on


class RunLog:
    """Context manager around a run; catches SIGINT and SIGTERM and raises its `interrupted` flag.

    Of several processes only the first writes and speaks.

    A log that reaches beyond the step resumed from is cut back to it first: a killed and resumed
    run leaves the same lines as an uninterrupted one, times aside. `began` is when the process
    started with it, by the clock on the wall.
    """

    def __init__(self, workdir: Any, trainer: Any, start: int, began: float):
        from tensorboardX import SummaryWriter

        self.trainer, self.config = trainer, trainer.config
        self.start, self.interrupted = start, False
        self._first = is_first()
        self.path = workdir / "metrics.jsonl" if self._first else Path(os.devnull)
        if self._first:
            write_atomic(self.path, "".join(lines_until(self.path, start)))
        self._file = Lines(self.path)
        board, local = str(workdir / "tensorboard"), not is_remote(workdir)
        on_disk = self._first and local  # event files are appended to, which a bucket cannot do
        self._board = SummaryWriter(board, purge_step=start + 1, write_to_disk=on_disk)
        self._recent: collections.deque[float] = collections.deque(maxlen=SPIKE_WINDOW)
        self._peak = peak(trainer.devices)
        self._clock = self._began = time.perf_counter()
        self._since, self._step = start, start
        self.clock = Stopwatch()
        self._told: dict[str, float] = {}
        self._ledger = Lines(workdir / GOODPUT if self._first else Path(os.devnull))
        self._ledger.write(text_of(Line(began, start, {}), start=True))
        self._live = sys.stderr.isatty() and self._first

    def __enter__(self) -> "RunLog":
        self._old = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        c, t = self.trainer.model.config, self.trainer
        n = parameters(c)
        self.say(
            f"{n.total:,} parameters ({n.non_embedding:,} without embeddings), "
            f"{t.tokens_per_step:,} tokens a step, {self.config.steps:,} steps = "
            f"{t.tokens_per_step * self.config.steps:,} tokens, "
            f"{t.flops_per_token * t.tokens_per_step * self.config.steps:.3g} FLOPs"
        )
        if self.start:
            self.say(f"resuming at step {self.start}")
        return self

    def __exit__(self, *_: object) -> None:
        self._note()
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._end_line()
        self._file.close()
        self._ledger.close()
        self._board.close()

    def _on_signal(self, number: int, _: object) -> None:
        if self.interrupted:  # the second one means it
            raise KeyboardInterrupt
        self.interrupted = True
        self.say(
            "stopping after this call; again to stop at once and lose the steps since the last save"
        )

    def step(self, step: int, metrics: dict) -> None:
        """Takes the metrics of a finished step (counted from 1)."""
        if metrics.get("skipped"):
            self._event(step, "skipped", metrics["loss"])
        elif self._is_spike(metrics["loss"]):
            self._event(step, "spike", metrics["loss"])
        if not metrics.get("skipped"):
            self._recent.append(metrics["loss"])
        self._step = step
        if step % self.config.train.log_every == 0 or step in (1, self.config.steps):
            self._write(step, metrics | self._speed(step) | self._seconds())
            self._note()

    def _is_spike(self, loss: float) -> bool:
        full = len(self._recent) == SPIKE_WINDOW
        return full and loss > statistics.median(self._recent) + SPIKE_NATS

    def _event(self, step: int, event: str, loss: float) -> None:
        examples = self.trainer.examples(step - 1)
        self._file.write(
            json.dumps({"step": step, "event": event, "loss": loss, "examples": examples}) + "\n"
        )
        self.say(f"step {step}: {event}, loss {loss:.3f}, examples {examples}")

    def _speed(self, step: int) -> dict[str, float]:
        """Tokens/s since the last line, and MFU under both attention conventions."""
        now = time.perf_counter()
        rate = (step - self._since) * self.trainer.tokens_per_step / max(now - self._clock, 1e-9)
        self._clock, self._since = now, step
        speed = {"tokens_per_second": rate}
        if self._peak:
            c = self.trainer.model.config
            for kind in ("full", "visible"):
                flops = flops_per_token(c, self.trainer.objective, kind)
                speed[f"mfu_{kind}"] = rate * flops / self._peak.flops
        return speed

    def _seconds(self) -> dict[str, float]:
        """Seconds by kind since the last line."""
        now = self.clock.so_far()
        old, self._told = self._told, now
        return {f"seconds_{k}": round(now.get(k, 0.0) - old.get(k, 0.0), 6) for k in KINDS}

    def _note(self) -> None:
        """A line for the goodput of the run."""
        self._ledger.write(text_of(Line(time.time(), self._step, self.clock.so_far())))

    def _write(self, step: int, metrics: dict) -> None:
        row = {"step": step, "tokens": step * self.trainer.tokens_per_step, **metrics}
        self._file.write(json.dumps(row) + "\n")
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        remaining = (time.perf_counter() - self._began) / max(step - self.start, 1)
        eta = remaining * (self.config.steps - step)
        self._line(
            f"step {step:>6}/{self.config.steps}  loss {metrics['loss']:.4f}  "
            f"lr {metrics['learning_rate']:.2e}  {metrics['tokens_per_second']:,.0f} tokens/s  "
            + (f"MFU {metrics['mfu_full']:.0%}  " if self._peak else "")
            + f"ETA {eta:.0f} s"
        )

    def evaluation(self, step: int, e: Any) -> None:
        """Takes an evaluation."""
        row = {"eval_loss": e.loss, "eval_bits_per_byte": e.bits_per_byte, "eval_tokens": e.tokens}
        self._file.write(
            json.dumps({"step": step, "tokens": step * self.trainer.tokens_per_step, **row}) + "\n"
        )
        for name, value in row.items():
            if value is not None:
                self._board.add_scalar(name, value, step)
        self.say(f"step {step}: validation {losses(e)}")
        self._clock = time.perf_counter()

    def final(self, step: int, e: Any) -> None:
        """Closes a finished run with its loss on the whole validation split."""
        self._file.write(
            json.dumps({"step": step, "final_loss": e.loss, "final_bits_per_byte": e.bits_per_byte})
            + "\n"
        )
        relative = f" (MFU is relative to {self._peak.name})" if self._peak else ""
        self.say(f"done: {losses(e)} on {e.tokens:,} validation tokens{relative}")
        self._note()
        self._ledger.flush()
        if self._first:
            self.say(str(goodput(read(self._ledger.path))))

    def say(self, text: str) -> None:
        """A line that stays; one process speaks for all."""
        if not self._first:
            return
        self._end_line()
        print(text, file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        """A line that the next one overwrites on a terminal."""
        if not self._first:
            return
        print(
            f"\r{text:<100}" if self._live else text,
            end="" if self._live else "\n",
            file=sys.stderr,
        )
        sys.stderr.flush()
        self._open = self._live

    def _end_line(self) -> None:
        if getattr(self, "_open", False):
            print(file=sys.stderr)
            self._open = False


def losses(e: Any) -> str:
    """An evaluation in words."""
    bits = "" if e.bits_per_byte is None else f", {e.bits_per_byte:.4f} bits/byte"
    return f"{e.loss:.4f} nats/token{bits}"


def lines_until(path: Any, step: int) -> list[str]:
    """The complete lines of a metrics.jsonl up to a step; a half-written last line is dropped."""
    kept = []
    with contextlib.suppress(FileNotFoundError), path.open() as f:
        for line in f:
            with contextlib.suppress(ValueError, KeyError):
                if json.loads(line)["step"] <= step:
                    kept.append(line)
    return kept


class Interrupted:
    """Whether to stop, asked between calls: a signal to any process stops all at the same step.

    `between` is called too.
    """

    def __init__(self, log: RunLog, between: Callable[[], None] | None = None):
        self.log, self.seen, self._any = log, False, AnyProcess()
        self._between = between

    def __call__(self) -> bool:
        if self._between:
            self._between()
        self.seen = self._any(self.log.interrupted)
        return self.seen
