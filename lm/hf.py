"""Models from and for Hugging Face's transformers: weights, config and tokenizer of a folder.

    python -m lm.hf import --model=FOLDER --workdir=out/imported
    python -m lm.hf export --workdir=out/tiny --out=out/tiny-hf

GPT-2, Llama, BERT, ModernBERT and T5 (1.0 and 1.1), weights in safetensors, whole or sharded,
float32, float16 or bfloat16. What was imported is a run at step 0: it can be evaluated, asked and
trained on. What was exported loads with transformers' from_pretrained. Nothing is ever unpickled.
"""

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from data.errors import Parser, UserError, run
from data.files import atomic_dir, human_bytes, write_atomic
from data.settings import read_json
from data.tokenizer import Tokenizer
from lm import hf_config, hf_tokenizer, hf_weights
from lm.config import (
    IMPORTED,
    TOKENIZER,
    ModelConfig,
    model_config,
    read_config,
    read_run_config,
    resolve,
    to_json,
)
from lm.params import Model, build, count, stack_layers, unstack_layers

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = 4_000_000_000  # bytes of weights in a file
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CONFIGS = Path(__file__).parent.parent / "configs"


def read_model(folder: Path) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    """A folder's model type, the model's config fields and our parameters by path.

    Raises:
      UserError: it cannot be read, or is of a kind that is not supported.
    """
    kind, fields = hf_config.read(read_json(folder / "config.json"))
    tensors = read_tensors(folder)
    if kind == "t5":  # transformers unties the head where a checkpoint has another one
        head, table = (tensors.get(f"{name}.weight") for name in ("lm_head", "shared"))
        same = head is not None and table is not None and np.array_equal(head, table)
        fields["tie_embeddings"] = head is None or same
    return kind, fields, hf_weights.to_ours(kind, build(shape(fields)), tensors)


def shape(fields: dict[str, Any]) -> ModelConfig:
    """The config of a model computed in float32, layer by layer."""
    return ModelConfig(
        base_width=fields["width"], dtype="float32", scan=False, remat="none", **fields
    )


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder's safetensors files, in their own types.

    Raises:
      UserError: there are none, or one is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    files = [WEIGHTS]
    if (folder / INDEX).is_file():
        listed = read_json(folder / INDEX).get("weight_map")
        if not isinstance(listed, dict) or not all(isinstance(f, str) for f in listed.values()):
            raise UserError(f"{folder / INDEX}: no weight_map, so not an index of weights")
        files = sorted(set(listed.values()))
        if outside := [f for f in files if Path(f).name != f]:
            raise UserError(f"{folder / INDEX} names {outside[0]!r}, which is not a file beside it")
    elif not (folder / WEIGHTS).is_file():
        pickled = [p.name for pattern in PICKLED for p in folder.glob(pattern)]
        raise UserError(
            f"{folder} has pickled weights only ({pickled[0]}), which are never loaded: save the "
            "model as safetensors"
            if pickled
            else f"{folder} has no {WEIGHTS}"
        )
    tensors: dict[str, np.ndarray] = {}
    for name in files:
        try:
            tensors |= load_file(folder / name)
        except FileNotFoundError:
            raise UserError(f"{folder / name} is not there, but {INDEX} names it") from None
        except (SafetensorError, ValueError, TypeError, AttributeError, KeyError) as e:
            raise UserError(
                f"{folder / name} is not a safetensors file that can be read ({e})"
            ) from e
    return tensors


def import_model(folder: Path, workdir: Path) -> str:
    """Makes a folder of transformers a run at step 0; returns what to tell about it.

    Raises:
      UserError: the folder's model is not supported, or the workdir is in use.
    """
    if (workdir / "config.json").exists():
        raise UserError(f"{workdir} holds a run already: use another --workdir")
    kind, fields, arrays = read_model(folder)
    tokenizer, said = _read_tokenizer(folder, fields["vocab_size"])
    config = _config(kind, fields, tokenizer)
    model = build(model_config(config))
    params = stack_layers(hf_weights.nested(arrays))
    _save(workdir, config, model, params)
    if tokenizer:
        tokenizer.save(workdir / TOKENIZER)
    origin = {"model": str(folder), "model_type": kind}
    write_atomic(workdir / IMPORTED, json.dumps(origin, indent=1) + "\n")
    write_atomic(workdir / "config.json", to_json(config))
    return f"{workdir}: {kind}, {count(params):,} parameters, at step 0; {said}"


def _read_tokenizer(folder: Path, vocab_size: int) -> tuple[Tokenizer | None, str]:
    """The folder's tokenizer where it is one of ours, and what to say of it."""
    if not (folder / TOKENIZER).is_file():
        there = (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file()
        why = f"the folder's is not of our kind ({TOKENIZER})" if there else "the folder has none"
        return None, f"without a tokenizer: {why}, so it takes ids, not text"
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except UserError:
        return None, f"without a tokenizer: {TOKENIZER} has another layout of ids than ours"
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{folder / TOKENIZER} has {tokenizer.vocab_size:,} ids, the model {vocab_size:,}"
        )
    return tokenizer, f"with its tokenizer of {tokenizer.vocab_size:,} ids"


def _config(kind: str, fields: dict[str, Any], tokenizer: Tokenizer | None) -> ConfigDict:
    """A run's config with this model, else as the family's preset."""
    c = read_config(f"{CONFIGS / hf_config.FAMILIES[kind].preset}:tiny")
    c.model.update(fields)
    c.data.vocab_size = tokenizer.vocab_size if tokenizer else fields["vocab_size"]
    c.optim.base_width = fields["width"]
    c.seq_len = min(512, fields["max_positions"])
    return resolve(c)


def _save(workdir: Path, config: ConfigDict, model: Model, params: Any) -> None:
    import jax.numpy as jnp

    from lm.checkpoint import Checkpoints
    from lm.optim import make_optimizer
    from lm.state import TrainState

    stacked = build(dataclasses.replace(model.config, scan=True))
    state = make_optimizer(config, stacked).init(params)
    checkpoints = Checkpoints(workdir / "checkpoints", keep=config.train.keep_checkpoints)
    checkpoints.save(0, TrainState(jnp.int32(0), params, state))
    checkpoints.close()


def export_model(workdir: Path, out: Path, dtype: str = "float32") -> str:
    """Writes a run's newest checkpoint as a folder that transformers loads; returns what to tell.

    Raises:
      UserError: no family of transformers has the model's shape, or `out` is in use.
    """
    from lm.checkpoint import Checkpoints

    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give another --out, or remove it")
    config = read_run_config(workdir)
    config.model.update(scan=False)
    c = model_config(resolve(config))
    described = hf_config.write(c)
    kind = described["model_type"]
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir} has no checkpoints yet: train it first")
    checkpoints = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
    step, state = checkpoints.read()
    checkpoints.close()
    arrays = {k: np.asarray(v) for k, v in hf_weights.flat(unstack_layers(state["params"])).items()}
    tensors = hf_weights.to_theirs(kind, build(c), hf_weights.fold_width_rule(c, arrays))
    described["dtype"] = dtype
    said = "without a tokenizer: the run has none"
    with atomic_dir(out) as folder:
        _write_tensors(folder, tensors, dtype)
        (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
        if (workdir / TOKENIZER).is_file():
            tokenizer = Tokenizer.load(workdir / TOKENIZER)
            for name, content in hf_tokenizer.files(tokenizer, config.seq_len).items():
                write_atomic(folder / name, content)
            said = f"with its tokenizer of {tokenizer.vocab_size:,} ids"
    size = human_bytes(sum(p.stat().st_size for p in out.iterdir()))
    return f"{out}: {kind} ({described['architectures'][0]}) of step {step:,}, {size}, {said}"


def _write_tensors(folder: Path, tensors: dict[str, np.ndarray], dtype: str) -> None:
    """One file, or as many as keep each below SHARD bytes, with the index that names them."""
    import ml_dtypes
    from safetensors.numpy import save

    kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    shards: list[dict[str, np.ndarray]] = [{}]
    room = SHARD
    for name, x in tensors.items():
        size = x.size * kind.itemsize
        if shards[-1] and size > room:
            shards.append({})
            room = SHARD
        shards[-1][name] = x.astype(kind)
        room -= size
    if len(shards) == 1:
        (folder / WEIGHTS).write_bytes(save(shards[0], {"format": "pt"}))
        return
    names: dict[str, str] = {}
    total = sum(x.size * kind.itemsize for x in tensors.values())
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        (folder / file).write_bytes(save(shard, {"format": "pt"}))
        names |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = Parser(
        prog="python -m lm.hf",
        description=__doc__,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("import", help="make a folder of transformers a run at step 0")
    command.add_argument("--model", required=True, type=Path, help="folder with config.json")
    command.add_argument("--workdir", required=True, type=Path, help="folder of the run to make")
    command = commands.add_parser("export", help="write a run as a folder for transformers")
    command.add_argument("--workdir", required=True, type=Path, help="folder of the run")
    command.add_argument("--out", required=True, type=Path, help="folder to make")
    command.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16"), help="(%(default)s)"
    )
    options = parser.parse_args(argv)
    if options.command == "import":
        print(import_model(options.model, options.workdir))
    else:
        print(export_model(options.workdir, options.out, options.dtype))


if __name__ == "__main__":
    run(main)
