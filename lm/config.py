"""From a config as it was read (data/settings.py) to a checked, resolved one.

A config is an ml_collections ConfigDict built by one file of `configs/`. `resolve` checks it once,
at the edge, and fills in what is derived; inside, code gets the frozen `ModelConfig` and plain
values.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from data.errors import UserError, suggest

# What commands need of a config before it is resolved is had from here too.
from data.settings import check_fields as check_fields
from data.settings import flatten as flatten
from data.settings import load as load
from data.settings import read_config as read_config
from data.settings import read_json

ACTIVATIONS = ("silu", "gelu", "gelu_tanh", "relu")
# What each objective trains; the first is what model.arch='' means.
ARCHITECTURES = {
    "causal": ("decoder",),
    "masked": ("encoder",),
    "span": ("encoder-decoder",),
    "prefix": ("encoder-decoder", "decoder"),
    "ul2": ("encoder-decoder",),
}
CHOICES = {
    "objective": tuple(ARCHITECTURES),
    "model.arch": ("", "decoder", "encoder", "encoder-decoder"),
    "model.activation": ACTIVATIONS,
    "model.norm": ("rms", "layer"),
    "model.position": ("rotary", "learned", "relative", "none"),
    "model.dtype": ("float32", "bfloat16"),
    "model.remat": ("none", "minimal", "attention", "offload", "full"),
    "optim.schedule": ("wsd", "cosine", "constant"),
    "train.on_nonfinite": ("stop", "skip"),
    "data.model_type": ("bpe", "unigram"),
}
AT_LEAST_ONE = (
    "steps",
    "batch_size",
    "seq_len",
    "model.layers",
    "model.width",
    "model.heads",
    "model.window",
    "optim.microbatches",
    "optim.base_width",
    "train.steps_per_call",
    "train.keep_checkpoints",
    "train.log_every",
)
NOT_NEGATIVE = (
    "seed",
    "learning_rate",
    "checkpoint_every",
    "data.limit_mb",
    "data.max_epochs",
    "model.enc_layers",
    "model.kv_heads",
    "model.head_dim",
    "model.mlp",
    "model.max_positions",
    "model.types",
    "model.global_every",
    "model.norm_eps",
    "model.vocab_size",
    "optim.warmup",
    "optim.power",
    "optim.final_lr",
    "optim.eps",
    "optim.weight_decay",
    "optim.clip",
    "optim.z_loss",
    "train.loss_chunk",
    "train.eval_every",
    "train.eval_tokens",
)
SHARES = ("optim.decay_share", "optim.beta1", "optim.beta2", "data.valid_share")
# Fields that change where and how fast a run computes and what it leaves behind, not its result.
NOT_RESULT = (
    "mesh",
    "checkpoint_every",
    "data.cache",
    "data.path",  # the data's own hash stands for it
    "data.max_epochs",
    "model.scan",
    "model.remat",
    "train.log_every",
    "train.loss_chunk",
    "train.keep_checkpoints",
)
# Fields beside the model's that an imported model has to keep.
KEPT = ("optim.base_width", "data.vocab_size")

TOKENIZER = "tokenizer.model"  # the tokenizer of a run, in its folder
IMPORTED = "imported.json"  # says where the weights came from that a run started with


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer, every value resolved. Sizes are in elements.

    configs/base.py says what each field means; those with a default came later, and a config saved
    without them still means the same.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    activation: str
    gated: bool
    norm: str
    norm_eps: float
    position: str
    rope_theta: float
    max_positions: int
    bias: bool
    qk_norm: bool
    tie_embeddings: bool
    vocab_size: int
    base_width: int
    dtype: str
    scan: bool
    remat: str
    arch: str = "decoder"
    enc_layers: int = 0
    post_norm: bool = False
    embed_norm: bool = False
    rope_factor: float = 1.0
    rope_low_freq: float = 1.0
    rope_high_freq: float = 4.0
    rope_original: int = 8192
    types: int = 0
    global_every: int = 0
    window: int = 64
    local_rope_theta: float = 10_000.0
    scale_attention: bool = True
    scale_logits: bool = False
    mlm_head: bool = False

    @property
    def stacks(self) -> dict[str, int]:
        """The stacks by name, in the order they run, with their numbers of layers."""
        encoder = {"encoder-decoder": self.enc_layers, "encoder": self.layers, "decoder": 0}
        decoder = 0 if self.arch == "encoder" else self.layers
        both = {"encoder": encoder[self.arch], "decoder": decoder}
        return {name: layers for name, layers in both.items() if layers}

    @property
    def bare_first(self) -> bool:
        """Whether a stack's first layer attends without a norm: the embeddings have had one."""
        return self.embed_norm and not self.post_norm

    def is_local(self, layer: int) -> bool:
        """Whether a layer sees its window only."""
        return bool(self.global_every and layer % self.global_every)


def read_run_config(workdir: Path) -> ConfigDict:
    """The config of a run's folder, as it was saved.

    Raises:
      UserError: it is not there, not readable, or not of a run of lm.train.
    """
    config = ConfigDict(read_json(workdir / "config.json"))
    if not {"model", "objective", "optim", "data"} <= set(config):
        raise UserError(f"{workdir / 'config.json'} is not of a run of lm.train")
    return config


def get(config: ConfigDict, path: str) -> Any:
    """The value at a dotted path."""
    for part in path.split("."):
        config = config[part]
    return config


def resolve(config: ConfigDict) -> ConfigDict:
    """Checks a config and fills in its derived values; returns a new, locked config.

    Raises:
      UserError: a value out of range, or shapes that do not divide.
    """
    c = ConfigDict(config.to_dict())
    for path, choices in CHOICES.items():
        value = get(c, path)
        if value not in choices:
            raise UserError(
                f"{path}={value!r} is not one of {', '.join(choices)}{suggest(value, choices)}"
            )
    for path in AT_LEAST_ONE:
        if get(c, path) < 1:
            raise UserError(f"{path}={get(c, path)} must be at least 1")
    for path in NOT_NEGATIVE:
        if not get(c, path) >= 0:  # nan neither
            raise UserError(f"{path}={get(c, path)} must be at least 0")
    for path in SHARES:
        if not 0 <= get(c, path) <= 1:
            raise UserError(f"{path}={get(c, path)} must be a share from 0 to 1")
    m = c.model
    _resolve_architecture(c)
    if not m.head_dim and m.width % m.heads:
        raise UserError(
            f"model.width={m.width} is not divisible by model.heads={m.heads}: "
            "change one, or set model.head_dim"
        )
    m.head_dim = m.head_dim or m.width // m.heads
    m.kv_heads = m.kv_heads or m.heads
    if m.heads % m.kv_heads:
        raise UserError(f"model.heads={m.heads} is not divisible by model.kv_heads={m.kv_heads}")
    if m.position == "rotary" and m.head_dim % 2:
        raise UserError(f"rotary positions need an even model.head_dim, not {m.head_dim}")
    m.mlp = m.mlp or (_round_to(m.width * 8 / 3, 16) if m.gated else 4 * m.width)
    m.vocab_size = m.vocab_size or c.data.vocab_size
    if m.vocab_size < c.data.vocab_size:
        raise UserError(
            f"model.vocab_size={m.vocab_size} is smaller than the tokenizer's "
            f"data.vocab_size={c.data.vocab_size}"
        )
    m.max_positions = m.max_positions or c.seq_len
    if m.position == "learned" and m.max_positions < c.seq_len:
        raise UserError(f"model.max_positions={m.max_positions} is below seq_len={c.seq_len}")
    if c.batch_size % c.optim.microbatches:
        raise UserError(
            f"batch_size={c.batch_size} is not divisible by "
            f"optim.microbatches={c.optim.microbatches}"
        )
    if not c.optim.warmup:
        c.optim.warmup = _warmup(model_config(c), c)
    return c.lock()


def _resolve_architecture(c: ConfigDict) -> None:
    """Fills in model.arch and enc_layers, and refuses what does not go together."""
    m, trains = c.model, ARCHITECTURES[c.objective]
    m.arch = m.arch or trains[0]
    if m.arch not in trains:
        raise UserError(
            f"objective={c.objective} trains model.arch={' or '.join(trains)}, not {m.arch}: "
            "change one, or leave model.arch empty"
        )
    if m.arch != "encoder-decoder":
        m.enc_layers = 0
    else:
        m.enc_layers = m.enc_layers or m.layers
    bare = m.embed_norm and not m.post_norm
    looped = [layers - bare for layers in (m.layers, m.enc_layers) if layers]
    if m.scan and m.global_every and any(n % m.global_every for n in looped):
        raise UserError(
            f"model.scan loops over whole groups of model.global_every={m.global_every} layers, "
            f"and {max(looped)} do not divide: change the layers, or set model.scan=False"
        )
    if m.rope_factor != 1 and m.rope_high_freq <= m.rope_low_freq:
        raise UserError("model.rope_high_freq must be above model.rope_low_freq")


def _round_to(value: float, multiple: int) -> int:
    return int(-(-value // multiple) * multiple)


def _warmup(model: ModelConfig, c: ConfigDict) -> int:
    """As many tokens as parameters (Porian et al. 2024), at most a tenth of the steps."""
    from lm.flops import parameters

    steps = -(-parameters(model).total // (c.batch_size * c.seq_len))
    return int(max(1, min(steps, c.steps // 10)))


def model_config(c: ConfigDict) -> ModelConfig:
    """The model's part of a resolved config, frozen."""
    return ModelConfig(base_width=c.optim.base_width, **c.model.to_dict())


def to_json(c: ConfigDict) -> str:
    """A config as JSON, keys sorted."""
    return json.dumps(c.to_dict(), indent=2, sort_keys=True) + "\n"


def result_fields(c: ConfigDict) -> dict[str, Any]:
    """The fields that determine a run's numbers: equal fields, equal run."""
    fields = flatten(c.to_dict())
    ignored = set(NOT_RESULT) - ({"data.max_epochs"} if fields.get("data.mixture") else set())
    return {k: v for k, v in fields.items() if k not in ignored}


def claim_workdir(workdir: Path, c: ConfigDict) -> None:
    """Writes config.json into a new workdir, or checks that an old one belongs to the same run.

    A model that was imported and has not been trained yet takes any settings that leave it as it
    is.

    Raises:
      UserError: the folder holds a run of another config (says which fields differ).
    """
    from data.files import write_atomic

    path = workdir / "config.json"
    if path.exists():
        try:
            old = ConfigDict(json.loads(path.read_text()))
        except ValueError as e:
            raise UserError(f"{path} is not readable JSON ({e}): remove it or the folder") from e
        there, here = result_fields(old), result_fields(c)
        if _is_untrained_import(workdir):
            there, here = (
                {k: v for k, v in fields.items() if k.startswith("model.") or k in KEPT}
                for fields in (there, here)
            )
        check_same_run(path, there, here, f"the run's own --config={path}")
    write_atomic(path, to_json(c))


def _is_untrained_import(workdir: Path) -> bool:
    steps = {p.name for p in workdir.glob("checkpoints/*") if p.name.isdigit()}
    return (workdir / IMPORTED).exists() and steps == {"0"}


def check_same_run(
    path: Path,
    old: dict[str, Any],
    new: dict[str, Any],
    remedy: str = "the config that the run was started with",
) -> None:
    """Raises UserError naming up to four fields in which two runs' fields differ."""
    differs = [
        f"{k}: {old.get(k)} there, {new.get(k)} here"
        for k in sorted(old.keys() | new.keys())
        if old.get(k) != new.get(k)
    ]
    if differs:
        more = f" and {len(differs) - 4} more" if len(differs) > 4 else ""
        raise UserError(
            f"{path} belongs to another run ({'; '.join(differs[:4])}{more}): "
            f"use another --workdir, or {remedy}"
        )
