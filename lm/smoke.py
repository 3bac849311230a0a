"""Does everything work on this machine: a minute of training under each objective, judged.

    make smoke
    python -m lm.smoke --workdir=out/smoke

On one GPU where there is one, else on the CPU. Each objective is trained a hundred steps; a line
each says whether the loss fell as recorded, which attention kernels were compiled, whether a run
that was killed resumes to the same bits, and whether generation and export work. Exits with 1
where one of them does not. --record writes what this machine's CPU gives as the record.
"""

import os

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import argparse
import collections
import dataclasses
import importlib.metadata
import json
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from data.errors import Parser, UserError, run
from data.files import write_atomic
from lm import kernels
from lm.config import read_config, resolve

ROOT = Path(__file__).parent.parent
MARK = "smoke.txt"  # in a folder that may be emptied
RECORDED = Path(__file__).with_name("smoke.json")
PRESETS = {"causal": "gpt", "masked": "bert", "span": "t5"}
STEPS, SAVED, KILLED = 100, 40, 60
PROMPTS = {"causal": "The city of", "masked": "The city [MASK] London", "span": "The city of"}
GENERATED = 16
DETERMINISTIC = "--xla_gpu_deterministic_ops=true"
VERSIONED = ("jax", "jaxlib", "flax", "optax")
CHILD_SECONDS = 600
EXPORT_TOLERANCE = 1e-4  # of logits in float32


class Verdict(NamedTuple):
    """One line."""

    good: bool
    what: str
    found: str


def config_of(objective: str, platform: str) -> ConfigDict:
    """The run of an objective: its tiny preset on a part of the embedded corpus."""
    c = read_config(f"{ROOT / 'configs' / PRESETS[objective]}.py:tiny")
    c.steps, c.checkpoint_every = STEPS, SAVED
    c.data.limit_mb = 2.0
    c.data.valid_share = 0.1
    c.data.max_epochs = 100.0
    c.train.log_every, c.train.eval_every = 1, 0
    if platform != "cpu":  # the fused kernels take 16-bit types only
        c.model.dtype = "bfloat16"
    return resolve(c)


# What a child process does; it alone has the device.


def inspect() -> dict[str, Any]:
    """The device, the versions, and what the compiled step of each objective calls."""
    from lm.aot import abstract_arguments
    from lm.train import Trainer

    device = jax.devices()[0]
    objectives = {}
    for objective in PRESETS:
        trainer = Trainer(config_of(objective, device.platform), None)
        with jax.set_mesh(trainer.mesh):
            arguments = abstract_arguments(trainer)
            text = trainer._advance.lower(*arguments, np.int32(1)).compile().as_text() or ""
        calls = {name: text.count(call) for name, call in kernels.CALLS.items()}
        objectives[objective] = {"wanted": wanted_kernels(trainer, device.platform), "calls": calls}
    return {
        "platform": device.platform,
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
        "objectives": objectives,
    }


def wanted_kernels(trainer: Any, platform: str) -> dict[str, int]:
    """How many attentions the table of `lm.kernels` gives to each kernel."""
    from lm.attention import Mask

    c, o = trainer.model.config, trainer.objective
    lengths = {"encoder": o.encoder_length or o.length, "decoder": o.length}
    pairs = [
        (lengths[name], lengths[name], c.position == "relative")
        for name, layers in c.stacks.items()
        for _ in range(layers)
    ]
    if len(c.stacks) > 1:
        pairs += [(lengths["decoder"], lengths["encoder"], False)] * c.layers
    found: collections.Counter[str] = collections.Counter()

    def shaped(length: int) -> Any:
        return jax.ShapeDtypeStruct((1, length, c.heads, c.head_dim), c.dtype)

    for length, size, learned in pairs:
        q, k = shaped(length), shaped(size)
        found[kernels.choose(platform, q, k, Mask(q, k, learned=q if learned else None))] += 1
    return dict(found)


def train_child(objective: str, workdir: Path, killed: bool) -> None:
    """Trains; `killed`, dies in the middle of it, after a checkpoint is complete."""
    from lm.log import RunLog
    from lm.train import train

    if killed:
        told = RunLog.step

        def die(self: RunLog, step: int, metrics: dict) -> None:
            told(self, step, metrics)
            if step >= KILLED:
                deadline = time.monotonic() + 60
                while not (workdir / "checkpoints" / str(SAVED)).exists():
                    if time.monotonic() > deadline:
                        raise UserError(f"no checkpoint of step {SAVED} within a minute")
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGKILL)

        RunLog.step = die  # type: ignore[method-assign]
    train(config_of(objective, jax.default_backend()), workdir)


# What the parent does with it.


class Child(NamedTuple):
    """How a child ended."""

    code: int
    out: str
    error: str


def child(*words: str, flags: str = "", module: str = "lm.smoke") -> Child:
    """Runs a command of this project in a process of its own."""
    env = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    env.setdefault("CUDA_VISIBLE_DEVICES", "0")
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=CHILD_SECONDS,
    )  # fmt: skip
    return Child(done.returncode, done.stdout, done.stderr)


def last_line(done: Child) -> str:
    """What a failed child said last."""
    lines = [line for line in done.error.splitlines() if line.strip()]
    return f"exit code {done.code}: {lines[-1] if lines else 'nothing was said'}"


def rows(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def losses(workdir: Path) -> list[float]:
    """A run's loss at each step, and its final one on the validation text."""
    found = rows(workdir)
    return [r["loss"] for r in found if "loss" in r] + [
        r["final_loss"] for r in found if "final_loss" in r
    ]


def speed(workdir: Path) -> float:
    """Tokens/s over the second half of the steps."""
    rates = [r["tokens_per_second"] for r in rows(workdir) if "tokens_per_second" in r]
    return statistics.harmonic_mean(rates[len(rates) // 2 :])


def judge_loss(found: list[float], recorded: dict[str, Any], platform: str, name: str) -> Verdict:
    """Whether first and final loss are those recorded."""
    first, final = found[0], found[-1]
    wanted = recorded["losses"][name]
    room = recorded["tolerance"]["cpu" if platform == "cpu" else "bfloat16"]
    near = abs(first - wanted["first"]) <= room and abs(final - wanted["final"]) <= room
    text = (
        f"{first:.3f} -> {final:.3f} nats/token in {STEPS} steps "
        f"(recorded {wanted['first']:.3f} -> {wanted['final']:.3f}, within {room:g})"
    )
    return Verdict(near and final < first, f"{name}: loss", text)


def judge_kernels(wanted: dict[str, int], calls: dict[str, int], name: str) -> Verdict:
    """Whether the compiled program calls each kernel forward and backward, and no other."""
    good = all(
        calls[kernel] >= 2 * wanted[kernel] if wanted.get(kernel) else calls[kernel] == 0
        for kernel in calls
    )
    asked = ", ".join(f"{n} by {kernel}" for kernel, n in sorted(wanted.items()))
    seen = ", ".join(f"{n} calls of {kernel}" for kernel, n in sorted(calls.items()))
    return Verdict(good, f"{name}: kernels", f"attentions: {asked}; compiled: {seen}")


def judge_resume(whole: Path, resumed: Path) -> Verdict:
    """Whether every loss and every array of two runs are equal bit for bit."""
    from lm.checkpoint import Checkpoints

    what = "kill and resume"
    if losses(whole) != losses(resumed):
        return Verdict(False, what, "the losses differ")
    leaves = []
    for workdir in (whole, resumed):
        checkpoints = Checkpoints(workdir / "checkpoints")
        leaves.append(jax.tree.leaves(checkpoints.read()))
        checkpoints.close()
    pairs = list(zip(*leaves, strict=True))
    differ = sum(np.asarray(a).tobytes() != np.asarray(b).tobytes() for a, b in pairs)
    text = f"killed at step {KILLED}, resumed at {SAVED}: {len(pairs)} arrays, {differ} differ"
    return Verdict(not differ, what, text)


def check_resume(folder: Path, platform: str, whole: Path) -> list[Verdict]:
    """Kills a run and resumes it; on a GPU under XLA's deterministic flag, with its cost."""
    flags, verdicts = "", []
    if platform == "gpu":
        flags, fast = DETERMINISTIC, speed(whole)
        whole = folder / "deterministic"
        done = child("--child", f"train:causal:{whole}", flags=flags)
        if done.code:
            return [Verdict(False, "deterministic run", last_line(done))]
        text = f"{speed(whole):,.0f} tokens/s under {flags}, {fast:,.0f} without"
        verdicts.append(Verdict(True, "cost of determinism", text))
    cut = folder / "killed"
    done = child("--child", f"killed:causal:{cut}", flags=flags)
    if done.code != -signal.SIGKILL:
        return [*verdicts, Verdict(False, "kill and resume", f"not killed: {last_line(done)}")]
    done = child("--child", f"train:causal:{cut}", flags=flags)
    if done.code or f"resuming at step {SAVED}" not in done.error:
        return [*verdicts, Verdict(False, "kill and resume", f"not resumed: {last_line(done)}")]
    return [*verdicts, judge_resume(whole, cut)]


def check_generation(workdir: Path, name: str) -> Verdict:
    """Whether the trained model writes."""
    out = workdir / "generated.json"
    prompt = [f"--workdir={workdir}", f"--prompt={PROMPTS[name]}", f"--tokens={GENERATED}"]
    done = child(*prompt, f"--json={out}", module="lm.generate")
    if done.code:
        return Verdict(False, f"{name}: generation", last_line(done))
    first = " ".join(done.out.split())[:60]
    return Verdict(out.is_file() and bool(first), f"{name}: generation", repr(first))


def check_export(workdir: Path, name: str) -> Verdict:
    """Whether a run, exported for transformers and imported again, gives the same logits."""
    from lm.hf import export_model, import_model

    out, back = workdir.with_name(f"{name}-hf"), workdir.with_name(f"{name}-back")
    try:
        said = export_model(workdir, out)
        import_model(out, back)
        far = float(np.max(np.abs(logits(workdir) - logits(back))))
    except UserError as e:
        return Verdict(False, f"{name}: export", str(e))
    kind = said.partition(": ")[2].partition(" (")[0]
    text = f"as {kind}; read again, logits differ by {far:.1e} at most"
    return Verdict(far <= EXPORT_TOLERANCE, f"{name}: export", text)


def logits(workdir: Path) -> np.ndarray:
    """A run's logits, in float32, for a row of tokens."""
    from lm.load import load
    from lm.params import build

    loaded = load(workdir)
    model = build(dataclasses.replace(loaded.model.config, dtype="float32"))
    row = 3 + np.arange(64)[None] % (loaded.tokenizer.vocab_size - 3)
    places, ones = np.arange(64)[None], np.ones((1, 64), np.int32)
    encoder = (row, places, ones) if loaded.arch == "encoder-decoder" else ()
    with jax.default_matmul_precision("float32"):
        if encoder:
            return np.asarray(model(loaded.params, row, places, ones, None, *encoder))
        return np.asarray(model(loaded.params, row, places, ones))


def smoke(folder: Path, recorded: dict[str, Any]) -> tuple[list[Verdict], dict[str, Any]]:
    """All checks, each told as it comes; returns them, and the losses that were found."""
    verdicts: list[Verdict] = []

    def tell(*found: Verdict) -> None:
        for v in found:
            print(f"{'ok  ' if v.good else 'FAIL'}  {v.what:<20}  {v.found}", flush=True)
        verdicts.extend(found)

    done = child("--child", "inspect")
    if done.code:
        raise UserError(f"the step cannot be compiled here ({last_line(done)})")
    facts = json.loads(done.out.splitlines()[-1])
    platform = facts["platform"]
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items())
    tell(Verdict(True, "device", f"{facts['device']} ({platform}); {versions}"))
    seen = {}
    for name in PRESETS:
        workdir = folder / name
        done = child("--child", f"train:{name}:{workdir}")
        if done.code:
            tell(Verdict(False, f"{name}: training", last_line(done)))
            continue
        found = losses(workdir)
        seen[name] = {"first": found[0], "final": found[-1]}
        tell(judge_loss(found, recorded, platform, name))
        tell(judge_kernels(**facts["objectives"][name], name=name))
        tell(check_generation(workdir, name), check_export(workdir, name))
    if "causal" in seen:
        tell(*check_resume(folder, platform, folder / "causal"))
    return verdicts, {"losses": seen, "versions": facts["versions"], "device": facts["device"]}


def main() -> int:
    """The command."""
    parser = Parser(
        prog="python -m lm.smoke",
        description=__doc__,
    )
    parser.add_argument("--workdir", default="out/smoke", help="emptied first (%(default)s)")
    parser.add_argument("--record", action="store_true", help="rewrite lm/smoke.json")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child == "inspect":
        print(json.dumps(inspect()))
        return 0
    if flags.child:
        kind, objective, workdir = flags.child.split(":", 2)
        train_child(objective, Path(workdir), killed=kind == "killed")
        return 0
    jax.config.update("jax_platforms", "cpu")  # the device is the children's
    began = time.monotonic()
    folder = Path(flags.workdir).absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise UserError(f"{folder} holds something else: name another --workdir")
    shutil.rmtree(folder, ignore_errors=True)
    write_atomic(folder / MARK, "Made by lm.smoke, which empties this folder each time.\n")
    recorded = json.loads(RECORDED.read_text())
    verdicts, found = smoke(folder, recorded)
    if flags.record:
        write_atomic(RECORDED, json.dumps(recorded | found, indent=1) + "\n")
    bad = [v.what for v in verdicts if not v.good]
    print(f"{len(verdicts) - len(bad)} of {len(verdicts)} good, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    run(main)
