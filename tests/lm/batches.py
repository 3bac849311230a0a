"""Batches made up for tests, and models of every architecture."""

import numpy as np

from data.objectives import Batch

BERT = {
    "arch": "encoder",
    "norm": "layer",
    "bias": True,
    "post_norm": True,
    "embed_norm": True,
    "position": "learned",
    "types": 2,
    "gated": False,
    "activation": "gelu",
    "mlm_head": True,
    "tie_embeddings": True,
}
MODERN = {
    "arch": "encoder",
    "layers": 4,
    "norm": "layer",
    "embed_norm": True,
    "activation": "gelu",
    "global_every": 3,
    "window": 2,
    "mlm_head": True,
    "tie_embeddings": True,
}
T5 = {
    "arch": "encoder-decoder",
    "enc_layers": 3,
    "position": "relative",
    "scale_attention": False,
    "gated": False,
    "activation": "relu",
    "tie_embeddings": True,
    "scale_logits": True,
}
# Changes to a decoder of Llama's shape that make it one of another family.
ARCHITECTURES = [
    BERT,
    MODERN,
    MODERN | {"scan": True},
    T5,
    {"arch": "encoder"},
    {"arch": "encoder-decoder", "enc_layers": 2, "bias": True, "qk_norm": True, "scan": True},
]


def random_batch(
    rows: int, length: int, vocab: int, seed: int = 0, unequal: bool = True, encoder: int = 0
) -> Batch:
    """Random ids in two segments a row, with weights that differ from row to row.

    With an `encoder` length, so much for it too, in the same two segments.
    """
    rng = np.random.default_rng(seed)
    ids = rng.integers(3, vocab, (rows, length + 1)).astype(np.int32)
    segments, positions = two_segments(rng, rows, length)
    keep = rng.random((rows, 1)) if unequal else 1.1
    weights = (rng.random((rows, length)) < keep).astype(np.float32)
    batch = Batch(ids[:, :-1], ids[:, 1:], weights, positions, segments)
    if not encoder:
        return batch
    enc_inputs = rng.integers(3, vocab, (rows, encoder)).astype(np.int32)
    enc_segments, enc_positions = two_segments(rng, rows, encoder)
    return batch._replace(
        enc_inputs=enc_inputs, enc_positions=enc_positions, enc_segments=enc_segments
    )


def two_segments(rng: np.random.Generator, rows: int, length: int) -> tuple:
    """Segments 1 and 2, cut at random, and the positions within them."""
    cut = rng.integers(1, length, (rows, 1))
    at = np.arange(length)[None]
    segments = np.where(at < cut, 1, 2).astype(np.int32)
    return segments, np.where(at < cut, at, at - cut).astype(np.int32)
