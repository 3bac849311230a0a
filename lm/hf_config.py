"""Hugging Face's config.json <-> the fields of `configs/base.py`'s model section.

A family is read and written by a pair of functions; a model can be exported as a family where what
is written reads back the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from data.errors import UserError, suggest
from data.tokenizer import CLS, EOT, MASK, PAD, SEP
from lm.config import ModelConfig

Json = dict[str, Any]
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
THEIRS = {"gelu_tanh": "gelu_new", "gelu": "gelu", "relu": "relu", "silu": "silu"}
# Fields that say how a model is computed, not what it is.
NOT_SHAPE = ("base_width", "dtype", "scan", "remat")


class Family(NamedTuple):
    """One of transformers' model types."""

    architecture: str  # the class that has a head over the vocabulary
    preset: str  # the config whose training settings an imported model gets
    read: Callable[[Json], Json]  # config.json -> fields of the model
    write: Callable[[ModelConfig], Json]


def read(h: Json) -> tuple[str, Json]:
    """A config.json's model type and the model's fields.

    Raises:
      UserError: a type or an option that is not supported, or a field that is missing.
    """
    kind = h.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"config.json: model_type={kind!r} is not supported; there are "
            f"{', '.join(FAMILIES)}{suggest(str(kind), FAMILIES)}"
        )
    try:
        fields = FAMILIES[kind].read(h)
    except KeyError as e:
        raise UserError(f"config.json: a {kind} model needs {e.args[0]!r}, which is missing") from e
    except (TypeError, AttributeError, ValueError, ZeroDivisionError) as e:
        raise UserError(f"config.json: a value of the wrong kind ({e})") from e
    unused = () if fields["arch"] == "encoder-decoder" else ("enc_layers",)
    for field in dataclasses.fields(ModelConfig):
        asked = field.name in fields and field.name not in unused
        if asked and not _can_be(field, fields[field.name]):
            raise UserError(
                f"config.json: a {kind} model with {field.name} {fields[field.name]!r} cannot be"
            )
    return kind, fields


MAY_BE_0 = ("types", "global_every")
LARGEST = 10**8  # of any size: what is beyond is a mistake


def _can_be(field: dataclasses.Field, value: Any) -> bool:
    """Whether a value is of its field's kind, and a size that something can have."""
    if field.type is int:
        return type(value) is int and int(field.name not in MAY_BE_0) <= value < LARGEST
    if field.type is float:
        return type(value) in (int, float) and 0 <= value < float("inf")
    return isinstance(value, field.type)  # type: ignore[arg-type]


def write(c: ModelConfig) -> Json:
    """The config.json of a model.

    Raises:
      UserError: no family of transformers computes it; says what the nearest lacks.
    """
    wanted = _shape(c)
    differences = {}
    for kind, family in FAMILIES.items():
        h = family.write(c)
        have = family.read(h)
        differs = {k: v for k, v in wanted.items() if k in have and have[k] != v}
        if not differs:
            ids = {"pad_token_id": PAD, "bos_token_id": EOT, "eos_token_id": EOT}
            ids |= {"cls_token_id": CLS, "sep_token_id": SEP, "mask_token_id": MASK}
            names = {"model_type": kind, "architectures": [family.architecture]}
            return names | h | ids | {"torch_dtype": "float32"}
        differences[kind] = differs
    nearest = min(differences, key=lambda kind: len(differences[kind]))
    lacks = ", ".join(f"model.{k}={v}" for k, v in differences[nearest].items())
    raise UserError(
        f"no model of transformers has this shape: {nearest} comes nearest, without {lacks}"
    )


def _shape(c: ModelConfig) -> Json:
    """The fields that matter to what a model computes."""
    unused = list(NOT_SHAPE)
    unused += ["window", "local_rope_theta"] if not c.global_every else []
    unused += ["rope_low_freq", "rope_high_freq", "rope_original"] if c.rope_factor == 1 else []
    unused += ["rope_theta"] if c.position != "rotary" else []
    return {k: v for k, v in dataclasses.asdict(c).items() if k not in unused}


def _choice(h: Json, key: str, default: Any, *allowed: Any) -> Any:
    """An option's value; UserError where it is none of those allowed."""
    value = h.get(key, default)
    if value not in (allowed or (default,)):
        wanted = " or ".join(repr(a) for a in (allowed or (default,)))
        raise UserError(f"config.json: {key}={value!r} is not supported, only {wanted}")
    return value


def _activation(h: Json, key: str, default: str) -> str:
    return ACTIVATIONS[_choice(h, key, default, *ACTIVATIONS)]


def _plain(layers: int, width: int, heads: int, mlp: int, vocab: int, **fields: Any) -> Json:
    """All fields of a decoder's shape that a family does not name itself."""
    if width % heads and "head_dim" not in fields:
        raise UserError(f"config.json: a width of {width} does not divide among {heads} heads")
    plain = {
        "layers": layers,
        "width": width,
        "heads": heads,
        "kv_heads": heads,
        "head_dim": width // heads,
        "mlp": mlp,
        "vocab_size": vocab,
        "gated": False,
        "bias": False,
        "qk_norm": False,
        "rope_theta": 10_000.0,
        "max_positions": 512,
    }
    rest = {f.name: f.default for f in dataclasses.fields(ModelConfig)}
    del rest["base_width"], rest["dtype"], rest["scan"], rest["remat"]
    return rest | plain | fields


def _read_gpt2(h: Json) -> Json:
    _choice(h, "scale_attn_weights", True)
    _choice(h, "scale_attn_by_inverse_layer_idx", False)
    _choice(h, "add_cross_attention", False)
    width = h["n_embd"]
    mlp = h.get("n_inner") or 4 * width
    return _plain(
        h["n_layer"], width, h["n_head"], mlp, h["vocab_size"],
        activation=_activation(h, "activation_function", "gelu_new"),
        norm="layer", norm_eps=h.get("layer_norm_epsilon", 1e-5), bias=True,
        position="learned", max_positions=h["n_positions"],
        tie_embeddings=h.get("tie_word_embeddings", True),
    )  # fmt: skip


def _write_gpt2(c: ModelConfig) -> Json:
    return {
        "n_layer": c.layers, "n_embd": c.width, "n_head": c.heads, "n_inner": c.mlp,
        "vocab_size": c.vocab_size, "n_positions": c.max_positions,
        "activation_function": THEIRS[c.activation], "layer_norm_epsilon": c.norm_eps,
        "tie_word_embeddings": c.tie_embeddings,
    }  # fmt: skip


def _read_llama(h: Json) -> Json:
    _choice(h, "attention_bias", False)
    _choice(h, "mlp_bias", False)
    # Version 5 of transformers has all about rotary positions in one place.
    rope: Json = h.get("rope_parameters") or h.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise UserError(
            f"config.json: rotary scaling of type {kind!r} is not supported, only 'llama3'"
        )
    scaled = {}
    if kind == "llama3":
        original = rope.get("original_max_position_embeddings", h.get("max_position_embeddings"))
        scaled = {
            "rope_factor": float(rope["factor"]),
            "rope_low_freq": float(rope["low_freq_factor"]),
            "rope_high_freq": float(rope["high_freq_factor"]),
            "rope_original": original,
        }
    heads, width = h["num_attention_heads"], h["hidden_size"]
    return _plain(
        h["num_hidden_layers"], width, heads, h["intermediate_size"], h["vocab_size"],
        kv_heads=h.get("num_key_value_heads") or heads,
        head_dim=h.get("head_dim") or width // heads,
        activation=_activation(h, "hidden_act", "silu"), gated=True,
        norm="rms", norm_eps=h.get("rms_norm_eps", 1e-6), position="rotary",
        rope_theta=float(rope.get("rope_theta") or h.get("rope_theta", 10_000.0)),
        max_positions=h.get("max_position_embeddings", 2048),
        tie_embeddings=h.get("tie_word_embeddings", False), **scaled,
    )  # fmt: skip


def _write_llama(c: ModelConfig) -> Json:
    rope: Json = {"rope_type": "default", "rope_theta": c.rope_theta}
    if c.rope_factor != 1:
        rope |= {"rope_type": "llama3", "factor": c.rope_factor}
        rope |= {"low_freq_factor": c.rope_low_freq, "high_freq_factor": c.rope_high_freq}
        rope |= {"original_max_position_embeddings": c.rope_original}
    return {
        "num_hidden_layers": c.layers, "hidden_size": c.width, "num_attention_heads": c.heads,
        "num_key_value_heads": c.kv_heads, "head_dim": c.head_dim, "intermediate_size": c.mlp,
        "vocab_size": c.vocab_size, "max_position_embeddings": c.max_positions,
        "hidden_act": THEIRS[c.activation], "rms_norm_eps": c.norm_eps, "rope_parameters": rope,
        "tie_word_embeddings": c.tie_embeddings,
    }  # fmt: skip


def _read_bert(h: Json) -> Json:
    _choice(h, "position_embedding_type", "absolute")
    _choice(h, "is_decoder", False)
    _choice(h, "tie_word_embeddings", True)
    return _plain(
        h["num_hidden_layers"], h["hidden_size"], h["num_attention_heads"],
        h["intermediate_size"], h["vocab_size"],
        activation=_activation(h, "hidden_act", "gelu"), norm="layer",
        norm_eps=h.get("layer_norm_eps", 1e-12), bias=True, post_norm=True, embed_norm=True,
        position="learned", max_positions=h["max_position_embeddings"],
        types=h.get("type_vocab_size", 2), tie_embeddings=True, mlm_head=True, arch="encoder",
    )  # fmt: skip


def _write_bert(c: ModelConfig) -> Json:
    return {
        "num_hidden_layers": c.layers, "hidden_size": c.width, "num_attention_heads": c.heads,
        "intermediate_size": c.mlp, "vocab_size": c.vocab_size, "type_vocab_size": c.types,
        "max_position_embeddings": c.max_positions, "hidden_act": THEIRS[c.activation],
        "layer_norm_eps": c.norm_eps, "tie_word_embeddings": True,
    }  # fmt: skip


def _read_modernbert(h: Json) -> Json:
    for key in ("attention_bias", "mlp_bias", "norm_bias", "classifier_bias"):
        _choice(h, key, False)
    _choice(h, "decoder_bias", True)
    _choice(h, "tie_word_embeddings", True)
    activation = _activation(h, "hidden_activation", "gelu")
    if _activation(h, "classifier_activation", "gelu") != activation:
        raise UserError("config.json: classifier_activation differs from hidden_activation")
    layers, local = h["num_hidden_layers"], h.get("local_attention", 128)
    rope: Json = {
        "full_attention": {"rope_theta": h.get("global_rope_theta", 160_000.0)},
        "sliding_attention": {"rope_theta": h.get("local_rope_theta", 10_000.0)},
    } | (h.get("rope_parameters") or {})
    for kind in rope.values():
        _choice(kind, "rope_type", "default")
    return _plain(
        layers, h["hidden_size"], h["num_attention_heads"],
        h["intermediate_size"], h["vocab_size"],
        activation=activation, gated=True, norm="layer", norm_eps=h.get("norm_eps", 1e-5),
        embed_norm=True, position="rotary", max_positions=h.get("max_position_embeddings", 8192),
        rope_theta=float(rope["full_attention"]["rope_theta"]),
        local_rope_theta=float(rope["sliding_attention"]["rope_theta"]),
        global_every=_global_every(h, layers), window=local // 2,
        tie_embeddings=True, mlm_head=True, arch="encoder",
    )  # fmt: skip


def _global_every(h: Json, layers: int) -> int:
    """How often a layer is global, from ModernBERT's list of kinds or the number itself."""
    kinds = h.get("layer_types")
    if not kinds:
        return h.get("global_attn_every_n_layers", 3)
    every = next((i for i in range(1, len(kinds)) if kinds[i] == "full_attention"), len(kinds))
    for i, kind in enumerate(kinds):
        if kind != _layer_type(i, every):
            raise UserError(f"config.json: layer_types has {kind} at {i}, out of a regular turn")
    return h.get("global_attn_every_n_layers", every) if every == layers else every


def _layer_type(layer: int, every: int) -> str:
    return "sliding_attention" if every and layer % every else "full_attention"


def _write_modernbert(c: ModelConfig) -> Json:
    every = c.global_every or 1
    rope = {"full_attention": c.rope_theta, "sliding_attention": c.local_rope_theta}
    return {
        "num_hidden_layers": c.layers, "hidden_size": c.width, "num_attention_heads": c.heads,
        "intermediate_size": c.mlp, "vocab_size": c.vocab_size,
        "max_position_embeddings": c.max_positions, "hidden_activation": THEIRS[c.activation],
        "classifier_activation": THEIRS[c.activation], "norm_eps": c.norm_eps,
        "local_attention": 2 * c.window, "global_attn_every_n_layers": every,
        "layer_types": [_layer_type(i, every) for i in range(c.layers)],
        "rope_parameters": {k: {"rope_type": "default", "rope_theta": v} for k, v in rope.items()},
        "tie_word_embeddings": True,
    }  # fmt: skip


T5_PERCEPTRONS = {
    "relu": ("relu", False),
    "gated-gelu": ("gelu_tanh", True),  # it says gelu and means its tanh form
    "gated-silu": ("silu", True),
    "gated-relu": ("relu", True),
    "gelu_new": ("gelu_tanh", False),
    "silu": ("silu", False),
}


def _read_t5(h: Json) -> Json:
    _choice(h, "relative_attention_num_buckets", 32)
    _choice(h, "relative_attention_max_distance", 128)
    activation, gated = T5_PERCEPTRONS[_choice(h, "feed_forward_proj", "relu", *T5_PERCEPTRONS)]
    # Untied (1.1) and scaled (1.0) are one flag to transformers, until it saves a model again.
    scaled = h.get("scale_decoder_outputs", h.get("tie_word_embeddings", True) is not False)
    layers = h["num_layers"]
    return _plain(
        h.get("num_decoder_layers") or layers, h["d_model"], h["num_heads"], h["d_ff"],
        h["vocab_size"], head_dim=h["d_kv"], enc_layers=layers, activation=activation, gated=gated,
        norm="rms", norm_eps=h.get("layer_norm_epsilon", 1e-6), position="relative",
        scale_attention=False, tie_embeddings=scaled, scale_logits=scaled, arch="encoder-decoder",
        max_positions=h.get("n_positions", 512),
    )  # fmt: skip


def _write_t5(c: ModelConfig) -> Json:
    names = {v: k for k, v in T5_PERCEPTRONS.items()}
    return {
        "num_layers": c.enc_layers, "num_decoder_layers": c.layers, "d_model": c.width,
        "num_heads": c.heads, "d_kv": c.head_dim, "d_ff": c.mlp, "vocab_size": c.vocab_size,
        "feed_forward_proj": names.get((c.activation, c.gated), "relu"),
        "layer_norm_epsilon": c.norm_eps, "n_positions": c.max_positions,
        "tie_word_embeddings": c.scale_logits, "is_encoder_decoder": True,
        "decoder_start_token_id": PAD,
    }  # fmt: skip


FAMILIES = {
    "llama": Family("LlamaForCausalLM", "gpt.py", _read_llama, _write_llama),
    "gpt2": Family("GPT2LMHeadModel", "gpt.py", _read_gpt2, _write_gpt2),
    "modernbert": Family("ModernBertForMaskedLM", "bert.py", _read_modernbert, _write_modernbert),
    "bert": Family("BertForMaskedLM", "bert.py", _read_bert, _write_bert),
    "t5": Family("T5ForConditionalGeneration", "t5.py", _read_t5, _write_t5),
}
