"""Encoder-decoders under span corruption: T5 1.0 and 1.1, from a few thousand parameters to 11B.

    python -m lm.train --config=configs/t5.py:tiny --workdir=out/t5

`tiny` and `ladder-WIDTHxLAYERS` have T5 1.1's layers in the sizes of configs/gpt.py, so many in
each of the two stacks; `small` to `11b` are T5 1.0 (Raffel et al. 2020), `v1.1-small` to `v1.1-xxl`
its revision. For the very layers of configs/gpt.py give that file --config.objective=span.
"""

from ml_collections import ConfigDict

from configs import gpt

# name: (layers of each stack, width, heads, head size, mlp)
V1_0 = {
    "small": (6, 512, 8, 64, 2048),
    "base": (12, 768, 12, 64, 3072),
    "large": (24, 1024, 16, 64, 4096),
    "3b": (24, 1024, 32, 128, 16384),
    "11b": (24, 1024, 128, 128, 65536),
}
V1_1 = {
    "v1.1-small": (8, 512, 6, 64, 1024),
    "v1.1-base": (12, 768, 12, 64, 2048),
    "v1.1-large": (24, 1024, 16, 64, 2816),
    "v1.1-xl": (24, 2048, 32, 64, 5120),
    "v1.1-xxl": (24, 4096, 64, 64, 10240),
}


def get_config(arg: str = "tiny") -> ConfigDict:
    """The config of a preset: 'tiny', 'ladder-WIDTHxLAYERS' or one of the published sizes."""
    if arg in V1_0 or arg in V1_1:
        c = t5(gpt.get_config("tiny"), *(V1_0 | V1_1)[arg], revised=arg in V1_1)
    elif arg in ("", "tiny") or arg.startswith("ladder-"):
        c = t5_layers(gpt.get_config(arg), revised=True)
    else:
        names = ", ".join(["tiny", *V1_0, *V1_1, "ladder-WIDTHxLAYERS"])
        raise ValueError(f"configs/t5.py has no preset {arg!r}; it has {names}")
    c.objective = "span"
    return c


def t5(
    c: ConfigDict, layers: int, width: int, heads: int, head_dim: int, mlp: int, revised: bool
) -> ConfigDict:
    """T5 in a published size."""
    c.model.update(layers=layers, width=width, heads=heads, head_dim=head_dim, mlp=mlp)
    c.data.vocab_size = 32_128
    c = t5_layers(c, revised)
    return gpt.at_scale(c, steps=500_000, batch_size=128, seq_len=512, learning_rate=1e-3)


def t5_layers(c: ConfigDict, revised: bool) -> ConfigDict:
    """T5's layers; `revised` is 1.1: gated gelu, and an output head of its own."""
    c.model.update(activation="gelu_tanh" if revised else "relu", gated=revised)
    c.model.update(norm="rms", norm_eps=1e-6, position="relative", scale_attention=False)
    c.model.update(tie_embeddings=not revised, scale_logits=not revised)
    return c
