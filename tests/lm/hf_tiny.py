"""Tiny random models of transformers, and what they compute: the oracle of lm/hf*.py.

    python -m tests.lm.hf_tiny      (needs PyTorch) writes tests/lm/golden again

Every weight is drawn at random, norms and biases too: what starts at 0 or 1 would hide mistakes.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

GOLDEN = Path(__file__).parent / "golden"
SEED, VOCAB, ROWS, LENGTH, ENCODER = 0, 48, 3, 13, 11
STEPS, RATE, DECAY = 10, 3e-3, 0.1

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
WIDE = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
T5 = {
    "d_model": 16,
    "d_kv": 6,
    "num_heads": 2,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 3,
}
# name: (class of transformers, its class of configs, options)
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32},
    ),
    "llama": (
        "LlamaForCausalLM",
        "LlamaConfig",
        WIDE | {"num_hidden_layers": 2, "num_key_value_heads": 2, "rope_parameters": LLAMA3},
    ),
    "bert": (
        "BertForMaskedLM",
        "BertConfig",
        WIDE | {"num_hidden_layers": 2, "max_position_embeddings": 32},
    ),
    "modernbert": (
        "ModernBertForMaskedLM",
        "ModernBertConfig",
        WIDE | {"num_hidden_layers": 4, "local_attention": 6, "max_position_embeddings": 32},
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", T5 | {"feed_forward_proj": "relu"}),
    "t5-v1.1": (
        "T5ForConditionalGeneration",
        "T5Config",
        T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
}
NO_DROPOUT = {
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "t5": {"dropout_rate": 0.0},
}


class Inputs(NamedTuple):
    """A padded batch, as both sides take it, the encoder's part where a family has it."""

    ids: np.ndarray
    mask: np.ndarray  # 1 where there is a token
    targets: np.ndarray
    weights: np.ndarray
    enc_ids: np.ndarray | None = None
    enc_mask: np.ndarray | None = None


def inputs(name: str, seed: int = SEED) -> Inputs:
    """Rows of unequal, odd lengths, filled up with padding on the right."""
    rng = np.random.default_rng(seed)

    def rows(length: int, lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
        mask = (np.arange(length) < np.array(lengths)[:, None]).astype(np.int32)
        ids = rng.integers(6, VOCAB, (ROWS, length)).astype(np.int32)
        return np.where(mask, ids, 0).astype(np.int32), mask

    ids, mask = rows(LENGTH, [LENGTH, 9, 5])
    if name in ("gpt2", "llama"):
        targets = np.roll(ids, -1, 1)
        weights = np.pad(mask[:, 1:], ((0, 0), (0, 1))).astype(np.float32)
        return Inputs(ids, mask, targets, weights)
    targets = rng.integers(6, VOCAB, ids.shape).astype(np.int32)
    if name.startswith("t5"):
        enc_ids, enc_mask = rows(ENCODER, [ENCODER, 3, 7])
        weights = mask.astype(np.float32)
        return Inputs(ids, mask, targets, weights, enc_ids, enc_mask)
    weights = (mask * (rng.random(ids.shape) < 0.4)).astype(np.float32)
    return Inputs(ids, mask, targets, weights)


def places(ids: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(ids.shape[1], dtype=np.int32), ids.shape)


def types(x: Inputs) -> np.ndarray:
    """Kinds of segment for BERT: the first or second of two."""
    return np.random.default_rng(1).integers(0, 2, x.ids.shape).astype(np.int32)


def build(name: str, seed: int = SEED) -> Any:
    """The torch model, in float32 and without dropout."""
    import torch
    import transformers

    model_class, config_class, options = MODELS[name]
    options = options | NO_DROPOUT.get(name.split("-")[0], {})
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if name == "modernbert":
        ids |= {"cls_token_id": 3, "sep_token_id": 4}
    config = getattr(transformers, config_class)(
        vocab_size=VOCAB, attn_implementation="eager", **ids, **options
    )
    torch.manual_seed(seed)
    model = getattr(transformers, model_class)(config)
    if options.get("tie_word_embeddings") is False:
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCAB, options["d_model"]))
        # What it does by itself on loading a checkpoint in which the two differ.
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    with torch.no_grad():
        for p in model.parameters():
            scale = 0.3 if p.ndim < 2 else 0.2
            p.copy_((p if p.ndim < 2 else 0) + scale * torch.randn(p.shape))
    return model.eval()


def forward(model: Any, x: Inputs, types: np.ndarray | None = None) -> tuple[Any, Any]:
    """(logits, loss as transformers computes it from labels)."""
    import torch

    def tensor(a: np.ndarray) -> Any:
        return torch.tensor(np.asarray(a), dtype=torch.long)

    labels = np.where(x.weights > 0, x.targets, -100)
    if type(model).__name__ in ("GPT2LMHeadModel", "LlamaForCausalLM"):
        labels = np.where(x.mask > 0, x.ids, -100)  # it shifts them itself
    given = {"labels": tensor(labels)}
    if x.enc_ids is None:
        given |= {"input_ids": tensor(x.ids), "attention_mask": tensor(x.mask)}
    else:
        given |= {"input_ids": tensor(x.enc_ids), "attention_mask": tensor(x.enc_mask)}
        given |= {"decoder_input_ids": tensor(x.ids), "decoder_attention_mask": tensor(x.mask)}
    if types is not None:
        given["token_type_ids"] = tensor(types)
    out = model(**given)
    return out.logits, out.loss


def names(model: Any) -> dict[str, Any]:
    """Parameters by name; tied ones once."""
    return dict(model.named_parameters())


def values(model: Any) -> dict[str, np.ndarray]:
    return {n: p.detach().numpy().copy() for n, p in names(model).items()}


def gradients(model: Any, x: Inputs) -> dict[str, np.ndarray]:
    model.zero_grad()
    forward(model, x)[1].backward()
    return {n: p.grad.numpy().copy() for n, p in names(model).items()}


def train(model: Any, x: Inputs) -> list[float]:
    """Losses before each of ten AdamW steps, and after; norms and biases do not decay."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, RATE, (0.9, 0.95), 1e-8, DECAY)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = forward(model, x)[1]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    losses.append(float(forward(model, x)[1].detach()))
    return losses


def expectations(model: Any, name: str, x: Inputs) -> dict[str, np.ndarray]:
    """All that a test compares; trains the model."""
    import torch

    with torch.no_grad():
        logits, loss = forward(model, x)
        expected = {"logits": logits.numpy(), "loss": np.array(float(loss))}
        if name == "bert":
            expected["logits of types"] = forward(model, x, types(x))[0].numpy()
    expected |= {f"gradient.{n}": g for n, g in gradients(model, x).items()}
    expected["losses"] = np.array(train(model, x))
    return expected | {f"trained.{n}": p for n, p in values(model).items()}


def write_golden(name: str, folder: Path) -> None:
    """config.json and model.safetensors as transformers saves them, and what it computes."""
    from safetensors.numpy import save

    model = build(name)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    expected = expectations(model, name, inputs(name))
    (folder / "expected.safetensors").write_bytes(save(expected))
    (folder / "model.safetensors").chmod(0o644)


def main() -> None:
    import torch
    import transformers

    for name in MODELS:
        write_golden(name, GOLDEN / name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    (GOLDEN / "versions.json").write_text(json.dumps(versions) + "\n")


if __name__ == "__main__":
    main()
