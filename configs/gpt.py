"""Causal decoders, from a few thousand to 70B parameters.

    python -m lm.train --config=configs/gpt.py:tiny --workdir=out/tiny

`tiny` (0.2M parameters) is for a laptop; `124m` has GPT-2's shape, `7b` and `70b` Llama 2's,
`llama3-8b` to `llama3.1-70b` Llama 3's. `ladder-WIDTHxLAYERS` (for example `ladder-96x4`) is a rung
of the sweeps' ladder.
"""

from ml_collections import ConfigDict

from configs.base import base

# name: (layers, width, heads, kv_heads, mlp)
LLAMA = {
    "1b": (16, 2048, 32, 8, 8192),  # Llama 3.2 1B's layers
    "7b": (32, 4096, 32, 32, 11008),  # Llama 2 7B
    "70b": (80, 8192, 64, 8, 28672),  # Llama 2 70B
}
# Llama 3 (Grattafiori et al. 2024); 3.1 has the same shape and reads 16 times as far.
LLAMA3 = {"8b": (32, 4096, 32, 8, 14336), "70b": LLAMA["70b"]}
LLAMA3_NAMES = [f"llama3{revision}-{size}" for revision in ("", ".1") for size in LLAMA3]


def get_config(arg: str = "tiny") -> ConfigDict:
    """The config of a preset: 'tiny', 'ladder-WIDTHxLAYERS' or one of the published sizes."""
    c = base()
    if arg in ("", "tiny"):
        return c
    if arg == "124m":
        return gpt2(c)
    if arg in LLAMA:
        return llama(c, *LLAMA[arg])
    if arg in LLAMA3_NAMES:
        return llama3(c, *arg.removeprefix("llama").split("-"))
    if arg.startswith("ladder-"):
        width, layers = (int(part) for part in arg.removeprefix("ladder-").split("x"))
        return rung(c, width, layers)
    names = ", ".join(["tiny", "124m", *LLAMA, *LLAMA3_NAMES, "ladder-WIDTHxLAYERS"])
    raise ValueError(f"configs/gpt.py has no preset {arg!r}; it has {names}")


def rung(c: ConfigDict, width: int, layers: int) -> ConfigDict:
    """A rung of the ladder: four heads, and heads of 32 from width 128 on; gated MLP.

    One number of heads for all small models: a model of one or two learns less than its size lets
    expect, and loss against N is no smooth curve any more.
    """
    c.model.width = width
    c.model.layers = layers
    c.model.heads = max(4, width // 32)
    return c


def gpt2(c: ConfigDict) -> ConfigDict:
    """GPT-2 small (Radford et al. 2019); model.vocab_size=50304 pads it for speed."""
    c.model.update(layers=12, width=768, heads=12, mlp=3072, activation="gelu_tanh", gated=False)
    c.model.update(norm="layer", norm_eps=1e-5, position="learned", bias=True)
    c.model.tie_embeddings = True
    c.data.vocab_size = 50_257
    return at_scale(c, steps=20_000, batch_size=512, seq_len=1024, learning_rate=6e-4)


def llama(
    c: ConfigDict, layers: int, width: int, heads: int, kv_heads: int, mlp: int
) -> ConfigDict:
    """Llama's shape (Touvron et al. 2023), 4096 tokens, untied vocabulary of 32000."""
    c.model.update(layers=layers, width=width, heads=heads, kv_heads=kv_heads, mlp=mlp)
    c.model.update(norm_eps=1e-5, scan=True, remat="full")
    c.data.vocab_size = 32_000
    return at_scale(c, steps=500_000, batch_size=1024, seq_len=4096, learning_rate=3e-4)


def llama3(c: ConfigDict, revision: str, size: str) -> ConfigDict:
    """Llama 3: 128,256 ids, rotary base 500,000, 8192 tokens; 3.1: frequencies scaled for 131,072.

    The released models' values; the rate is the paper's for the size (table 3).
    """
    c = llama(c, *LLAMA3[size])
    c.data.vocab_size = 128_256
    c.model.rope_theta = 500_000.0
    c.batch_size, c.seq_len = 512, 8192
    c.learning_rate = {"8b": 3e-4, "70b": 1.5e-4}[size]
    if revision == "3.1":
        c.model.update(rope_factor=8.0, rope_low_freq=1.0, rope_high_freq=4.0, rope_original=8192)
        c.model.max_positions = 131_072
    return c


def at_scale(
    c: ConfigDict, steps: int, batch_size: int, seq_len: int, learning_rate: float
) -> ConfigDict:
    """Settings for accelerators: bfloat16, one step a call, a rate tuned at the width itself."""
    c.update(steps=steps, batch_size=batch_size, seq_len=seq_len, learning_rate=learning_rate)
    c.optim.base_width = c.model.width
    c.optim.warmup = 2000
    c.optim.schedule = "cosine"
    c.optim.final_lr = 0.1
    c.model.dtype = "bfloat16"
    c.train.steps_per_call = 1
    c.train.loss_chunk = 512
    c.checkpoint_every = 1000
    return c
