"""Encoders under the masked objective: BERT and ModernBERT, from a few thousand parameters up.

    python -m lm.train --config=configs/bert.py:tiny --workdir=out/bert

`tiny` (0.2M parameters) and `ladder-WIDTHxLAYERS` have ModernBERT's layers in the sizes of
configs/gpt.py; `base` and `large` are BERT, `modern-base` and `modern-large` ModernBERT. To train
the very layers of configs/gpt.py as an encoder, give that file --config.objective=masked.
"""

from ml_collections import ConfigDict

from configs import gpt

# name: (layers, width, heads, mlp)
BERT = {
    "base": (12, 768, 12, 3072),  # 109.5M with the head, without what predicts the next sentence
    "large": (24, 1024, 16, 4096),
}
MODERN = {
    "modern-base": (22, 768, 12, 1152),
    "modern-large": (28, 1024, 16, 2624),
}


def get_config(arg: str = "tiny") -> ConfigDict:
    """The config of a preset: 'tiny', 'ladder-WIDTHxLAYERS' or one of the published sizes."""
    if arg in BERT or arg in MODERN:
        c = gpt.get_config("tiny")
        c = bert(c, *BERT[arg]) if arg in BERT else modern(c, *MODERN[arg])
    elif arg in ("", "tiny") or arg.startswith("ladder-"):
        c = modern_layers(gpt.get_config(arg))
    else:
        names = ", ".join(["tiny", *BERT, *MODERN, "ladder-WIDTHxLAYERS"])
        raise ValueError(f"configs/bert.py has no preset {arg!r}; it has {names}")
    c.objective = "masked"
    return c


def bert(c: ConfigDict, layers: int, width: int, heads: int, mlp: int) -> ConfigDict:
    """BERT's shape (Devlin et al. 2019): post-norm, learned positions, two kinds of segment."""
    c.model.update(layers=layers, width=width, heads=heads, mlp=mlp, gated=False, bias=True)
    c.model.update(activation="gelu", norm="layer", norm_eps=1e-12, post_norm=True)
    c.model.update(position="learned", types=2, embed_norm=True)
    c.model.update(tie_embeddings=True, mlm_head=True)
    c.data.vocab_size = 30_522
    return gpt.at_scale(c, steps=1_000_000, batch_size=256, seq_len=512, learning_rate=1e-4)


def modern(c: ConfigDict, layers: int, width: int, heads: int, mlp: int) -> ConfigDict:
    """ModernBERT in a size of Warner et al. 2024."""
    c.model.update(layers=layers, width=width, heads=heads, mlp=mlp)
    c.data.vocab_size = 50_368
    c = modern_layers(c)
    return gpt.at_scale(c, steps=500_000, batch_size=4096, seq_len=1024, learning_rate=8e-4)


def modern_layers(c: ConfigDict) -> ConfigDict:
    """ModernBERT's layers (Warner et al. 2024): no biases, every third layer sees all."""
    c.model.update(
        gated=True, bias=False, activation="gelu", norm="layer", norm_eps=1e-5, embed_norm=True
    )
    c.model.update(position="rotary", rope_theta=160_000.0)
    c.model.update(global_every=3, window=64, local_rope_theta=10_000.0)
    c.model.update(tie_embeddings=True, mlm_head=True)
    return c
