"""Training throughput on one GPU, against PyTorch where that is installed with CUDA.

    make bench-gpu
    python -m experiments.bench_gpu --case=gpt2-124m --flags --json=out/bench_gpu.json

Ours is `lm.train.Trainer.run` as training calls it, bfloat16, AdamW, gradients clipped; PyTorch is
transformers' model of the same shape under bfloat16 autocast with torch.compile and fused AdamW.
Each measurement has a process of its own: some steps to warm up, then turns of steps; the median
counts. Packed: documents of random lengths, nothing seen across them; unpacked: one document a row.
--flags measures each XLA flag of FLAGS alone as well.

Without a GPU nothing is measured, and it says so; the steps are lowered for CUDA all the same, and
each attention has to call the kernel that lm/kernels.py names for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.errors import Parser, UserError, optional, run
from data.files import write_atomic
from experiments.tables import table

DOCUMENT = 400  # tokens of a packed document, on average
WARM_UP, STEPS, TURNS = 5, 10, 5
# Flags whose effect is measured one at a time; none is set otherwise.
FLAGS = {
    "latency hiding": "--xla_gpu_enable_latency_hiding_scheduler=true",
    "no Triton products": "--xla_gpu_enable_triton_gemm=false",
    "no command buffers": "--xla_gpu_enable_command_buffer=",
    "deterministic": "--xla_gpu_deterministic_ops=true",
}


class Case(NamedTuple):
    """A step to time: a preset, what is changed of it, and its class in transformers."""

    config: str
    batch: int
    length: int
    changes: dict[str, Any]
    theirs: str


GPT3_XL = {
    "model.layers": 24, "model.width": 2048, "model.heads": 16, "model.mlp": 8192,
    "model.scan": True, "model.remat": "minimal", "train.loss_chunk": 256,
}  # fmt: skip
CASES = {
    "gpt2-124m": Case("gpt:124m", 32, 1024, {"model.vocab_size": 50304}, "gpt2"),
    "gpt-1.3b": Case("gpt:124m", 8, 2048, GPT3_XL | {"model.vocab_size": 50304}, "gpt2"),
    "bert-base": Case("bert:base", 64, 512, {"model.vocab_size": 30528}, "bert"),
    "t5-base": Case("t5:base", 64, 512, {}, "t5"),
}


def trainer_of(case: Case, packed: bool, data: bool = True) -> Any:
    """The case's `Trainer` on one device, its data made up."""
    import jax

    from data.prepare import Prepared
    from data.store import Store
    from data.tokenizer import EOT
    from lm.config import read_config, resolve
    from lm.train import Trainer

    family, _, preset = case.config.partition(":")
    root = Path(__file__).parent.parent
    c = read_config(f"{root / 'configs' / family}.py:{preset}")
    c.update_from_flattened_dict(case.changes)
    c.update(batch_size=case.batch, seq_len=case.length, steps=10**6, mesh="data:1")
    c.data.max_epochs = 1e9
    if not data:
        return Trainer(resolve(c), None, jax.devices()[:1])
    rng = np.random.default_rng(0)
    first = 200  # above every control symbol
    ids = rng.integers(first, c.data.vocab_size, 4_000_000).astype(np.uint16)
    ends = np.zeros(0, np.int64)
    if packed:
        ends = np.flatnonzero(rng.random(len(ids)) < 1 / DOCUMENT)
        ids[ends] = EOT
    store = Store(Path("made-up"), {}, ids, ends)
    prepared = Prepared(None, store, store, {})  # type: ignore[arg-type]
    return Trainer(resolve(c), prepared, jax.devices()[:1])


def ours(case: Case, packed: bool) -> dict[str, Any]:
    """Seconds a step of this project, and what they mean."""
    import jax

    from lm.chips import peak
    from lm.objective import flops_per_token

    trainer = trainer_of(case, packed)
    state = trainer.run(trainer.init(), WARM_UP)
    seconds = []
    for turn in range(TURNS):
        began = time.perf_counter()
        state = trainer.run(state, WARM_UP + (turn + 1) * STEPS)
        jax.block_until_ready(state)
        seconds.append((time.perf_counter() - began) / STEPS)
    rate = trainer.tokens_per_step / statistics.median(seconds)
    against = peak(trainer.devices)
    kind = jax.devices()[0].device_kind
    found: dict[str, Any] = {"seconds": seconds, "tokens_per_second": rate, "device": kind}
    found["peak_bytes"] = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if against:
        found["peak"] = against.name
        for kind in ("full", "visible"):
            flops = flops_per_token(trainer.model.config, trainer.objective, kind)
            found[f"mfu_{kind}"] = rate * flops / against.flops
    return found


def theirs(case: Case) -> dict[str, Any]:
    """Seconds a step of transformers' model on PyTorch."""
    torch, transformers = (
        optional(name, "the pip of PyTorch with CUDA") for name in ("torch", "transformers")
    )
    trainer = trainer_of(case, packed=False, data=False)
    c, o = trainer.model.config, trainer.objective
    shared = {"vocab_size": c.vocab_size, "use_cache": False}
    if case.theirs == "gpt2":
        config = transformers.GPT2Config(
            n_positions=case.length, n_embd=c.width, n_layer=c.layers, n_head=c.heads,
            n_inner=c.mlp, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **shared,
        )  # fmt: skip
        model = transformers.GPT2LMHeadModel(config)
    elif case.theirs == "bert":
        config = transformers.BertConfig(
            hidden_size=c.width, num_hidden_layers=c.layers, num_attention_heads=c.heads,
            intermediate_size=c.mlp, max_position_embeddings=case.length,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **shared,
        )  # fmt: skip
        model = transformers.BertForMaskedLM(config)
    else:
        config = transformers.T5Config(
            d_model=c.width, d_kv=c.head_dim, d_ff=c.mlp, num_layers=c.enc_layers,
            num_decoder_layers=c.layers, num_heads=c.heads, dropout_rate=0.0, **shared,
        )  # fmt: skip
        model = transformers.T5ForConditionalGeneration(config)
    model = model.cuda().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)
    shapes = {"input_ids": o.encoder_length or o.length, "labels": o.length}
    generator = torch.Generator("cuda").manual_seed(0)
    batch = {
        name: torch.randint(200, c.vocab_size, (case.batch, n), device="cuda", generator=generator)
        for name, n in shapes.items()
    }
    loss_of = torch.compile(lambda: model(**batch).loss)

    def steps(n: int) -> None:
        for _ in range(n):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                loss = loss_of()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        torch.cuda.synchronize()

    steps(WARM_UP)
    seconds = []
    for _ in range(TURNS):
        began = time.perf_counter()
        steps(STEPS)
        seconds.append((time.perf_counter() - began) / STEPS)
    rate = trainer.tokens_per_step / statistics.median(seconds)
    peak_bytes = torch.cuda.max_memory_allocated()
    return {"seconds": seconds, "tokens_per_second": rate, "peak_bytes": peak_bytes}


def lowered_calls(case: Case) -> tuple[dict[str, int], int]:
    """Attentions by kernel that the table names on a GPU, and the cuDNN calls of the program."""
    import jax

    from lm import kernels, smoke
    from lm.aot import abstract_arguments

    trainer = trainer_of(case, packed=True, data=False)
    state, batch, schedule = abstract_arguments(trainer)
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state, batch))
    with kernels.lowering_for("gpu"):
        step = jax.jit(trainer._many_steps)
        traced = step.trace(*bare, schedule, np.int32(1))
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    return smoke.wanted_kernels(trainer, "gpu"), text.count(kernels.CALLS["cudnn"])


def check_lowered(names: list[str]) -> bool:
    """Says for each case which kernels its program calls; True where that is as it should be."""
    good = True
    for name in names:
        case = CASES[name]
        wanted, calls = lowered_calls(case)
        scanned = case.changes.get("model.scan", False)
        least = 2 * (min(wanted.get("cudnn", 0), 1) if scanned else wanted.get("cudnn", 0))
        fine = calls >= least > 0
        good &= fine
        asked = ", ".join(f"{n} by {kernel}" for kernel, n in sorted(wanted.items()))
        print(f"{'ok  ' if fine else 'FAIL'}  {name}: attentions {asked}; {calls} cuDNN calls")
    return good


def child(kind: str, name: str, packed: bool, flags: str = "") -> dict[str, Any] | None:
    """A measurement in a process of its own; None where that failed (its reason is told)."""
    env = os.environ | {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    env.setdefault("CUDA_VISIBLE_DEVICES", "0")
    command = [sys.executable, "-m", "experiments.bench_gpu", f"--child={kind}:{name}:{packed:d}"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        print(f"{kind} {name} {flags}: {lines[-1] if lines else done.returncode}", file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def row(name: str, how: str, found: dict[str, Any] | None) -> list[str]:
    """A measurement's row of the table."""
    if found is None:
        return [name, how, "failed", "", "", ""]
    peak = found.get("peak_bytes")
    return [
        name,
        how,
        f"{found['tokens_per_second']:,.0f}",
        f"{found['mfu_full']:.1%}" if "mfu_full" in found else "",
        f"{found['mfu_visible']:.1%}" if "mfu_visible" in found else "",
        f"{peak / 2**30:.1f}" if peak else "",
    ]


def measure(names: list[str], flags: bool) -> dict[str, Any]:
    """All measurements, and their table on the terminal."""
    rows = [["step", "how", "tokens/s", "MFU full", "MFU visible", "peak GiB"]]
    record: dict[str, Any] = {}
    torch = has_torch()
    for name in names:
        found = {
            "packed": child("ours", name, True),
            "unpacked": child("ours", name, False),
        }
        if torch:
            found["PyTorch, torch.compile"] = child("theirs", name, False)
        for label, flag in FLAGS.items() if flags else ():
            found[f"unpacked, {label}: {flag}"] = child("ours", name, False, flag)
        record[name] = found
        rows += [row(name, how, one) for how, one in found.items()]
        print(f"measured {name}", file=sys.stderr)
    print(table(rows))
    peaks = {m["peak"] for found in record.values() for m in found.values() if m and "peak" in m}
    print(f"MFU is relative to {', '.join(sorted(peaks)) or 'no peak: the device is not known'}")
    if not torch:
        print("PyTorch with CUDA is not installed: not compared")
    return record


def has_torch() -> bool:
    """Whether PyTorch can use a GPU here."""
    code = "import torch, transformers, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def has_gpu() -> bool:
    """Whether JAX can use a GPU here; asked in a process of its own, which lets go of it."""
    code = "import jax, sys; sys.exit(jax.default_backend() != 'gpu')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def main() -> int:
    """The command."""
    parser = Parser(
        prog="python -m experiments.bench_gpu",
        description=__doc__,
    )
    parser.add_argument("--case", choices=list(CASES), help="only this one")
    parser.add_argument("--flags", action="store_true", help="measure each XLA flag alone too")
    parser.add_argument("--json", default="", metavar="FILE", help="write every figure there too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        kind, name, packed = args.child.split(":")
        case = CASES[name]
        print(json.dumps(ours(case, packed == "1") if kind == "ours" else theirs(case)))
        return 0
    names = [args.case] if args.case else list(CASES)
    if not has_gpu():
        print("no GPU here: nothing is measured; the steps lowered for CUDA:")
        if args.json:
            raise UserError("--json has nothing to hold without a GPU: leave it out")
        return 0 if check_lowered(names) else 1
    record = measure(names, args.flags)
    if args.json:
        write_atomic(args.json, json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    run(main)
