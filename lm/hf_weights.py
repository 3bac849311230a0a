"""Tensors of Hugging Face's checkpoints <-> our parameters: names, order and orientation.

transformers keeps a linear layer's weight as [outputs, inputs] (GPT-2's as [inputs, outputs]), some
families several projections in one tensor. An `Entry` says which of ours are which of theirs: ours
as matrices [inputs, outputs] side by side are theirs side by side.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from data.errors import UserError
from lm.config import ModelConfig
from lm.params import Model

Arrays = dict[str, np.ndarray]


class Entry(NamedTuple):
    """Parameters of ours, as 'decoder/layers/0/attention/q', that are tensors of theirs."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    transposed: bool = False


def entries(kind: str, c: ModelConfig) -> list[Entry]:
    """All of a model's parameters, for a model type of `lm.hf_config.FAMILIES`."""
    return list(ENTRIES[kind](c))


def to_theirs(kind: str, model: Model, params: Arrays) -> Arrays:
    """Our parameters (float32, by path) as their tensors."""
    tensors = {}
    for entry in entries(kind, model.config):
        joined = np.concatenate([_matrix(path, params[path]) for path in entry.ours], -1)
        for name, part in zip(entry.theirs, np.split(joined, len(entry.theirs), -1), strict=True):
            tensors[name] = np.ascontiguousarray(part.T if entry.transposed else part)
    return tensors


def to_ours(kind: str, model: Model, tensors: Arrays) -> Arrays:
    """Their tensors as our parameters, float32, by path.

    Raises:
      UserError: a tensor is missing, of another shape, or not one of the model's.
    """
    shapes = {path: d.shape for path, d in flat(model.declared).items()}
    tensors = {_plain_name(kind, name): x for name, x in tensors.items()}
    params, used = {}, set()
    for entry in entries(kind, model.config):
        parts = []
        for name in entry.theirs:
            if name not in tensors:
                raise UserError(f"the weights of this {kind} model lack {name!r}")
            used.add(name)
            x = tensors[name].astype(np.float32)
            parts.append(x.T if entry.transposed else x)
        matrices = [_matrix(path, np.empty(shapes[path], np.bool_)) for path in entry.ours]
        widths = [m.shape[-1] for m in matrices]
        wanted = (*matrices[0].shape[:-1], sum(widths))
        try:
            joined = np.concatenate(parts, -1)
        except ValueError:
            joined = parts[0]
        if joined.shape != wanted:
            raise UserError(
                f"{entry.theirs[0]!r} has shape {list(tensors[entry.theirs[0]].shape)}, which does "
                "not fit config.json"
            )
        cuts = np.split(joined, np.cumsum(widths)[:-1], -1)
        for path, cut in zip(entry.ours, cuts, strict=True):
            params[path] = np.ascontiguousarray(cut.reshape(shapes[path]))
    extra = sorted(n for n in tensors if n not in used and not _is_redundant(n))
    if extra:
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise UserError(
            f"the weights have {extra[0]!r}{more}, which a {kind} model of this config.json has not"
        )
    return params


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{'decoder': {'layers': {0: {'q': x}}}} -> {'decoder/layers/0/q': x}."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        found |= flat(value, path + "/") if isinstance(value, dict) else {path: value}
    return found


def nested(arrays: dict[str, Any]) -> Any:
    """The inverse of `flat`; numbers of layers are integers."""
    tree: dict = {}
    for path, value in arrays.items():
        *parents, leaf = [int(key) if key.isdigit() else key for key in path.split("/")]
        node = tree
        for key in parents:
            node = node.setdefault(key, {})
        node[leaf] = value
    return tree


def fold_width_rule(c: ModelConfig, params: Arrays) -> Arrays:
    """Parameters for a tied head without the factor base_width / width: the last norm takes it."""
    if not c.tie_embeddings or c.base_width == c.width:
        return params
    stack = "encoder" if c.arch == "encoder" else "decoder"
    last = "transform/norm/" if c.mlm_head else f"{stack}/norm/"
    factor = np.float32(c.base_width / c.width)
    scaled = {path: x * factor for path, x in params.items() if path.startswith(last)}
    return params | scaled


def _matrix(path: str, x: np.ndarray) -> np.ndarray:
    """A parameter as a vector, or as a matrix [inputs, outputs]."""
    leaf = path.rsplit("/", 1)[-1]
    if x.ndim == 1 or leaf.endswith("_bias"):
        return x.reshape(-1)
    return x.reshape(-1, x.shape[-1]) if leaf == "o" else x.reshape(x.shape[0], -1)


# Prefixes that a checkpoint of the bare model lacks, and spellings of older versions.
PREFIXES = {"gpt2": "transformer."}
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def _plain_name(kind: str, name: str) -> str:
    prefix = PREFIXES.get(kind, "")
    if prefix and not name.startswith((prefix, "lm_head.")):
        name = prefix + name
    for old, new in OLD_NAMES.items():
        name = name.replace(old, new)
    return name


REDUNDANT = (
    "lm_head.weight",  # where tied, as the next four
    "encoder.embed_tokens.weight",
    "decoder.embed_tokens.weight",
    "decoder.weight",
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    ".attn.bias",  # buffers that older versions saved
    ".attn.masked_bias",
    ".rotary_emb.inv_freq",
    ".position_ids",
    "bert.pooler.dense.weight",  # BERT's other task, which is not trained here
    "bert.pooler.dense.bias",
    "cls.seq_relationship.weight",
    "cls.seq_relationship.bias",
)


def _is_redundant(name: str) -> bool:
    return name.endswith(REDUNDANT)


def _norm(ours: str, theirs: str, c: ModelConfig) -> Iterator[Entry]:
    yield Entry((f"{ours}/scale",), (f"{theirs}.weight",))
    if c.norm == "layer" and c.bias:
        yield Entry((f"{ours}/bias",), (f"{theirs}.bias",))


def _linear(ours: str, theirs: str, bias: bool = False) -> Iterator[Entry]:
    yield Entry((ours,), (f"{theirs}.weight",), transposed=True)
    if bias:
        yield Entry((f"{ours}_bias",), (f"{theirs}.bias",))


def _gpt2(c: ModelConfig) -> Iterator[Entry]:
    yield Entry(("embed",), ("transformer.wte.weight",))
    yield Entry(("positions",), ("transformer.wpe.weight",))
    for i in range(c.layers):
        ours, theirs = f"decoder/layers/{i}", f"transformer.h.{i}"
        yield from _norm(f"{ours}/attention_norm", f"{theirs}.ln_1", c)
        yield from _norm(f"{ours}/mlp_norm", f"{theirs}.ln_2", c)
        qkv = tuple(f"{ours}/attention/{x}" for x in "qkv")
        for parts, name in [
            (qkv, "attn.c_attn"),
            ((f"{ours}/attention/o",), "attn.c_proj"),
            ((f"{ours}/mlp/up",), "mlp.c_fc"),
            ((f"{ours}/mlp/down",), "mlp.c_proj"),
        ]:
            yield Entry(parts, (f"{theirs}.{name}.weight",))
            yield Entry(tuple(f"{p}_bias" for p in parts), (f"{theirs}.{name}.bias",))
    yield from _norm("decoder/norm", "transformer.ln_f", c)
    if not c.tie_embeddings:
        yield from _linear("head", "lm_head")


def _llama(c: ModelConfig) -> Iterator[Entry]:
    yield Entry(("embed",), ("model.embed_tokens.weight",))
    for i in range(c.layers):
        ours, theirs = f"decoder/layers/{i}", f"model.layers.{i}"
        yield from _norm(f"{ours}/attention_norm", f"{theirs}.input_layernorm", c)
        yield from _norm(f"{ours}/mlp_norm", f"{theirs}.post_attention_layernorm", c)
        for x in "qkvo":
            yield from _linear(f"{ours}/attention/{x}", f"{theirs}.self_attn.{x}_proj")
        gate_up = (f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight")
        yield Entry((f"{ours}/mlp/up",), gate_up, transposed=True)
        yield from _linear(f"{ours}/mlp/down", f"{theirs}.mlp.down_proj")
    yield from _norm("decoder/norm", "model.norm", c)
    if not c.tie_embeddings:
        yield from _linear("head", "lm_head")


def _bert(c: ModelConfig) -> Iterator[Entry]:
    yield Entry(("embed",), ("bert.embeddings.word_embeddings.weight",))
    yield Entry(("positions",), ("bert.embeddings.position_embeddings.weight",))
    if c.types:
        yield Entry(("types",), ("bert.embeddings.token_type_embeddings.weight",))
    yield from _norm("embed_norm", "bert.embeddings.LayerNorm", c)
    for i in range(c.layers):
        ours, theirs = f"encoder/layers/{i}", f"bert.encoder.layer.{i}"
        for x, name in zip("qkv", ("query", "key", "value"), strict=True):
            yield from _linear(f"{ours}/attention/{x}", f"{theirs}.attention.self.{name}", True)
        yield from _linear(f"{ours}/attention/o", f"{theirs}.attention.output.dense", True)
        yield from _norm(f"{ours}/attention_norm", f"{theirs}.attention.output.LayerNorm", c)
        yield from _linear(f"{ours}/mlp/up", f"{theirs}.intermediate.dense", True)
        yield from _linear(f"{ours}/mlp/down", f"{theirs}.output.dense", True)
        yield from _norm(f"{ours}/mlp_norm", f"{theirs}.output.LayerNorm", c)
    yield from _linear("transform/dense", "cls.predictions.transform.dense")
    yield Entry(("transform/bias",), ("cls.predictions.transform.dense.bias",))
    yield from _norm("transform/norm", "cls.predictions.transform.LayerNorm", c)
    yield Entry(("head_bias",), ("cls.predictions.bias",))


def _modernbert(c: ModelConfig) -> Iterator[Entry]:
    yield Entry(("embed",), ("model.embeddings.tok_embeddings.weight",))
    yield from _norm("embed_norm", "model.embeddings.norm", c)
    for i in range(c.layers):
        ours, theirs = f"encoder/layers/{i - 1}" if i else "encoder/first", f"model.layers.{i}"
        if i:
            yield from _norm(f"{ours}/attention_norm", f"{theirs}.attn_norm", c)
        qkv = tuple(f"{ours}/attention/{x}" for x in "qkv")
        yield Entry(qkv, (f"{theirs}.attn.Wqkv.weight",), transposed=True)
        yield from _linear(f"{ours}/attention/o", f"{theirs}.attn.Wo")
        yield from _norm(f"{ours}/mlp_norm", f"{theirs}.mlp_norm", c)
        yield from _linear(f"{ours}/mlp/up", f"{theirs}.mlp.Wi")
        yield from _linear(f"{ours}/mlp/down", f"{theirs}.mlp.Wo")
    yield from _norm("encoder/norm", "model.final_norm", c)
    yield from _linear("transform/dense", "head.dense")
    yield from _norm("transform/norm", "head.norm", c)
    yield Entry(("head_bias",), ("decoder.bias",))


def _t5(c: ModelConfig) -> Iterator[Entry]:
    yield Entry(("embed",), ("shared.weight",))
    for stack, layers in c.stacks.items():
        first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        yield Entry((f"{stack}/relative",), (first,))
        for i in range(layers):
            ours, theirs = f"{stack}/layers/{i}", f"{stack}.block.{i}.layer"
            parts = [("attention", "SelfAttention"), ("cross_attention", "EncDecAttention")]
            parts = parts if stack == "decoder" else parts[:1]
            for j, (part, name) in enumerate(parts):
                norm = part.replace("_attention", "") + "_norm"
                yield from _norm(f"{ours}/{norm}", f"{theirs}.{j}.layer_norm", c)
                for x in "qkvo":
                    yield from _linear(f"{ours}/{part}/{x}", f"{theirs}.{j}.{name}.{x}")
            last = f"{theirs}.{len(parts)}"
            wi = ("wi_0", "wi_1") if c.gated else ("wi",)
            ups = tuple(f"{last}.DenseReluDense.{x}.weight" for x in wi)
            yield Entry((f"{ours}/mlp/up",), ups, transposed=True)
            yield from _linear(f"{ours}/mlp/down", f"{last}.DenseReluDense.wo")
            yield from _norm(f"{ours}/mlp_norm", f"{last}.layer_norm", c)
        yield from _norm(f"{stack}/norm", f"{stack}.final_layer_norm", c)
    if not c.tie_embeddings:
        yield from _linear("head", "lm_head")


ENTRIES = {"gpt2": _gpt2, "llama": _llama, "bert": _bert, "modernbert": _modernbert, "t5": _t5}
