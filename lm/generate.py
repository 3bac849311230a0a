"""Let a trained model write: a decoder goes on, an encoder fills masks, an encoder-decoder both.

    python -m lm.generate --workdir=out/tiny --prompt="The city of"
    python -m lm.generate --workdir=out/tiny --file=prompts.txt --temperature=0.8 --top-p=0.9
    python -m lm.generate --workdir=out/bert --prompt="The capital [MASK] France"

A [MASK] in a prompt is a gap: one token for an encoder (its likeliest fillings are listed), any
number for an encoder-decoder. Prompts are continued together; writing ends at end-of-text.
"""

import json
import math
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data.errors import Parser, UserError, run
from data.files import write_atomic
from data.tokenizer import EOT, MASK, PAD
from lm.decode import Sampling, generate
from lm.load import Run, load

GAP = "[MASK]"
LISTED = 5  # fillings of a mask that are shown
BUCKET = 16  # prompts are filled up to a multiple


def complete(
    run: Run, prompts: list[str], new: int, sampling: Sampling, seed: int = 0
) -> tuple[list[list[int]], dict[str, float]]:
    """Write after each prompt; returns the ids up to end-of-text, and what it took.

    Raises:
      UserError: the model is an encoder, or a decoder is given a gap.
    """
    if run.arch == "encoder":
        raise UserError(f"an encoder cannot go on after a prompt: give it one with {GAP}")
    if not 0 < new < run.longest:
        raise UserError(f"--tokens={new} must be from 1 to {run.longest - 1}, below seq_len")
    if run.arch == "decoder":
        if any(GAP in p for p in prompts):
            raise UserError(f"a decoder reads from the left only: it cannot fill {GAP}")
        room = run.longest - new
        rows = [[EOT, *run.tokenizer.encode(p)][-room:] for p in prompts]
        encoder = None
    else:
        split = [_around(run, p) for p in prompts]
        rows = [run.decoder_start(gap) for _, gap in split]
        encoder = _table([ids for ids, _ in split])
    tokens, lengths = _table(rows)
    segments = encoder and (np.arange(encoder[0].shape[1]) < encoder[1][:, None]).astype(np.int32)
    began = time.perf_counter()
    vocab = run.tokenizer.vocab_size
    program = (
        jax.jit(
            lambda params, tokens, lengths, seed, encoder: generate(
                run.model.with_values(params), tokens, lengths, seed, new, sampling, vocab, encoder
            )
        )
        .lower(run.params, tokens, lengths, jnp.int32(seed), encoder and (encoder[0], segments))
        .compile()
    )
    compiled = time.perf_counter()
    out = np.asarray(
        program(run.params, tokens, lengths, jnp.int32(seed), encoder and (encoder[0], segments))
    )
    seconds = time.perf_counter() - compiled
    written = [_until_end(row) for row in out.tolist()]
    count = sum(len(row) for row in written)
    cost = {"tokens": count, "seconds": seconds, "compile_seconds": compiled - began}
    return written, cost | {"tokens_per_second": count / seconds}


def _around(run: Run, prompt: str) -> tuple[list[int], bool]:
    """An encoder's input for a prompt, and whether it has a gap (the first one counts)."""
    before, gap, after = prompt.partition(GAP)
    if GAP in after:
        raise UserError(f"one {GAP} at a time: {prompt!r} has more")
    left, right = (run.tokenizer.encode(text) for text in (before, after))
    return run.encoder_prompt(left, right, gap=bool(gap)), bool(gap)


def _table(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Rows filled up on the right, int32 [B, L], and their lengths."""
    longest = -(-max(map(len, rows)) // BUCKET) * BUCKET
    table = np.array([row + [PAD] * (longest - len(row)) for row in rows], np.int32)
    return table, np.array([len(row) for row in rows], np.int32)


def _until_end(row: list[int]) -> list[int]:
    return row[: row.index(EOT) + 1] if EOT in row else row


def readable(run: Run, prompt: str, ids: list[int]) -> str:
    """The text with what was written in its place: at the end, or in the gap."""
    before, gap, after = prompt.partition(GAP)
    if not gap:
        return prompt + run.tokenizer.decode(ids)
    ends = [i for i, token in enumerate(ids) if token in run.tokenizer.sentinels or token == EOT]
    return before + run.tokenizer.decode(ids[: ends[0]] if ends else ids) + after


def fill(run: Run, prompt: str) -> list[list[tuple[str, float]]]:
    """The likeliest tokens of an encoder for each [MASK], with their probabilities."""
    parts = prompt.split(GAP)
    if len(parts) == 1:
        raise UserError(f"an encoder fills gaps: {prompt!r} has no {GAP}")
    ids = [EOT, *run.tokenizer.encode(parts[0])]
    for part in parts[1:]:
        ids += [MASK, *run.tokenizer.encode(part)]
    if len(ids) > run.longest:
        raise UserError(f"a prompt of {len(ids)} tokens is longer than seq_len={run.longest}")
    tokens, lengths = _table([ids])
    places = np.arange(tokens.shape[1])[None]
    segments = (places < lengths[:, None]).astype(np.int32)
    logits = run.model(run.params, tokens, places.astype(np.int32), segments)[0]
    first, vocab = run.tokenizer.sentinels.stop, run.tokenizer.vocab_size
    probs = np.asarray(jax.nn.softmax(logits[:, :vocab].astype(jnp.float32), -1))
    found = []
    for place in np.flatnonzero(tokens[0] == MASK):
        best = first + np.argsort(-probs[place, first:])[:LISTED]
        found.append([(run.tokenizer.decode([int(i)]), float(probs[place, i])) for i in best])
    return found


def main() -> None:
    """The command."""
    parser = Parser(
        prog="python -m lm.generate",
        description=__doc__,
    )
    parser.add_argument("--workdir", required=True, help="folder of a run")
    parser.add_argument("--prompt", action="append", default=[], help="may be given several times")
    parser.add_argument("--file", help="more prompts, one a line")
    parser.add_argument("--tokens", type=int, default=48, help="at most so many (%(default)s)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest token")
    parser.add_argument("--top-k", type=int, default=0, help="among so many likeliest; 0: all")
    parser.add_argument("--top-p", type=float, default=1.0, help="among this much probability")
    parser.add_argument("--seed", type=int, default=0, help="of the sampling (%(default)s)")
    parser.add_argument("--json", help="also write what was generated to this file")
    flags = parser.parse_args()
    check_sampling(flags.temperature, flags.top_k, flags.top_p, flags.seed)
    prompts = flags.prompt + (_lines(Path(flags.file)) if flags.file else [])
    if not prompts:
        raise UserError("nothing to go on from: give --prompt=TEXT or --file=PROMPTS")
    run_ = load(flags.workdir)
    result: dict[str, Any]
    if run_.arch == "encoder":
        fillings = [fill(run_, prompt) for prompt in prompts]
        for prompt, gaps in zip(prompts, fillings, strict=True):
            print(prompt)
            for best in gaps:
                print("  " + "  ".join(f"{text!r} {p:.1%}" for text, p in best))
        result = {"prompts": prompts, "fillings": fillings}
    else:
        sampling = Sampling(flags.temperature, flags.top_k, flags.top_p)
        written, cost = complete(run_, prompts, flags.tokens, sampling, flags.seed)
        texts = [readable(run_, p, ids) for p, ids in zip(prompts, written, strict=True)]
        print("\n\n".join(texts))
        print(
            f"\n{cost['tokens']} tokens in {cost['seconds']:.2f} s: "
            f"{cost['tokens_per_second']:,.0f} tokens/s "
            f"(and {cost['compile_seconds']:.1f} s to compile)"
        )
        result = {"prompts": prompts, "texts": texts, "ids": written} | cost
    if flags.json:
        write_atomic(flags.json, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


def check_sampling(temperature: float, top_k: int, top_p: float, seed: int) -> None:
    """Raises UserError for what no token can be drawn by."""
    if not 0 <= temperature < math.inf:
        raise UserError(f"--temperature={temperature:g} must be a number from 0 on")
    if top_k < 0:
        raise UserError(f"--top-k={top_k} must not be negative; 0 is all tokens")
    if not 0 < top_p <= 1:
        raise UserError(f"--top-p={top_p:g} must be above 0 and at most 1")
    if not 0 <= seed < 2**31:
        raise UserError(f"--seed={seed} must be from 0 to {2**31 - 1}")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"--file: {path} cannot be read as text ({e})") from e


if __name__ == "__main__":
    run(main)
