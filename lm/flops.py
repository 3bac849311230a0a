"""What N, D and C mean for every family, counted from the shape alone.

**N** is every parameter, embeddings included. N_non_embedding leaves out what is looked up (tokens,
positions, kinds of segment) and the output head with its bias (Kaplan et al. 2020 count this way);
the dense layer that BERT has before its head stays in. An encoder-decoder's N has both stacks,
though a token passes through one of them only.

**D** is tokens of text. A decoder predicts each token it reads, so D counts target positions of
weight above 0. The others predict a part of what they read: D counts the raw tokens read, and the
targets are recorded beside it (data/objectives.py).

**C** counts every matrix multiplication of a step, two operations a multiply-add, the backward pass
twice the forward (dX and dW): the output head and the attention products included, softmax, norms
and lookups not. Each stack counts the positions that it computes, padding too: cross-attention
projects queries for the decoder's and keys and values for the encoder's. The head counts the
positions that it is computed for, which for a masked model are those that may be masked. Attention
counts the whole square, as the dense program computes it; `attention='visible'` counts the part of
it that a layer's mask lets through: half for a causal layer, the window for a local one.

So two runs of any family at equal C cost the same; losses are comparable only where they are means
over the same predictions.
"""

from typing import NamedTuple

from lm.config import ModelConfig

RELATIVE_BUCKETS = 32


class Parameters(NamedTuple):
    """Numbers of parameters."""

    total: int
    embedding: int  # tables that are looked up, and the output head

    @property
    def non_embedding(self) -> int:
        return self.total - self.embedding


class Lengths(NamedTuple):
    """Positions in a sequence of a batch."""

    inputs: int  # of the stack that predicts
    encoder: int = 0  # of the encoder beside a decoder
    scored: int | None = None  # for which the head is computed; None: all inputs


def projections(c: ModelConfig) -> tuple[int, int]:
    """Weights of one attention: of queries and output, of keys and values."""
    return 2 * c.width * c.head_dim * c.heads, 2 * c.width * c.head_dim * c.kv_heads


def mlp_matmuls(c: ModelConfig) -> int:
    """Weights of one perceptron."""
    return c.width * c.mlp * (3 if c.gated else 2)


def layer_matmuls(c: ModelConfig) -> int:
    """Weights of one layer's matrices, cross-attention aside: each multiplies every token once."""
    return sum(projections(c)) + mlp_matmuls(c)


def parameters(c: ModelConfig) -> Parameters:
    """Parameters of a model, equal to those of the initialised one."""
    per_norm = c.width * (2 if c.norm == "layer" and c.bias else 1)
    attention = sum(projections(c))
    if c.bias:
        attention += c.head_dim * (c.heads + 2 * c.kv_heads) + c.width  # q, k, v; o
    if c.qk_norm:
        attention += 2 * c.head_dim
    mlp = mlp_matmuls(c)
    if c.bias:
        mlp += c.mlp * (2 if c.gated else 1) + c.width
    total = per_norm if c.embed_norm else 0
    for name, layers in c.stacks.items():
        crosses = name == "decoder" and "encoder" in c.stacks
        total += layers * (2 * per_norm + attention + mlp)
        total += layers * (per_norm + attention) if crosses else 0
        total -= per_norm if c.bare_first else 0
        total += 0 if c.post_norm else per_norm
        total += RELATIVE_BUCKETS * c.heads if c.position == "relative" else 0
    if c.mlm_head:
        total += c.width * c.width + (c.width if c.bias else 0) + per_norm
    embedding = c.vocab_size * c.width * (1 if c.tie_embeddings else 2)
    embedding += c.vocab_size if c.mlm_head else 0
    embedding += c.types * c.width
    if c.position == "learned":
        embedding += c.max_positions * c.width
    return Parameters(total + embedding, embedding)


def flops_per_sequence(c: ModelConfig, lengths: Lengths, attention: str = "full") -> float:
    """Training FLOPs of one sequence: forward and backward.

    `attention` is 'full' (the whole square; what the dense program computes and what C means) or
    'visible' (what the masks let through).
    """
    scored = lengths.inputs if lengths.scored is None else lengths.scored
    head = scored * c.width * (c.vocab_size + (c.width if c.mlm_head else 0))
    return 3 * 2 * (head + sum(_stack_products(c, name, lengths, attention) for name in c.stacks))


def flops_per_token(c: ModelConfig, seq_len: int, attention: str = "full") -> float:
    """Training FLOPs a token of a single stack whose head is computed for all, at a length."""
    return flops_per_sequence(c, Lengths(seq_len), attention) / seq_len


def _stack_products(c: ModelConfig, name: str, lengths: Lengths, attention: str) -> float:
    """Multiply-adds of a stack's forward pass over one sequence."""
    both = c.arch == "encoder-decoder"
    length = lengths.encoder if both and name == "encoder" else lengths.inputs
    layers, per_pair = c.stacks[name], 2 * c.heads * c.head_dim  # QK and PV
    pairs = sum(_pairs(c, i, name, length, attention) for i in range(layers))
    products = layers * length * layer_matmuls(c) + per_pair * pairs
    if both and name == "decoder":
        queries, keys = projections(c)
        products += layers * (length * queries + lengths.encoder * keys)
        products += layers * per_pair * length * lengths.encoder
    return products


def _pairs(c: ModelConfig, layer: int, name: str, length: int, attention: str) -> float:
    """Pairs of positions in a layer's self-attention."""
    share = {"full": 1.0, "visible": 0.5 if name == "decoder" else 1.0}[attention]
    reach = c.window if attention == "visible" and c.is_local(layer) else length
    reach = min(reach, length - 1)
    return share * (length * (2 * reach + 1) - reach * (reach + 1))
