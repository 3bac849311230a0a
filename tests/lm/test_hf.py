"""Import and export: there and back unchanged, and every bad folder is one line."""

import dataclasses
import json
import random
import shutil

import jax
import ml_dtypes
import numpy as np
import pytest
from ml_collections import ConfigDict
from safetensors.numpy import load_file, save_file

from configs import bert, gpt, t5
from data.errors import UserError
from data.objectives import Windows
from data.tokenizer import train
from lm import hf, hf_config, hf_tokenizer, hf_weights
from lm import params as P
from lm.checkpoint import Checkpoints
from lm.config import model_config, read_config, resolve
from lm.load import load as load_run
from lm.loss import loss_sums
from lm.train import Trainer, prepare_data
from lm.train import train as train_run
from tests.lm import hf_tiny

FAMILIES = list(hf_tiny.MODELS)
PRESETS = [
    (gpt, "tiny"),
    (gpt, "124m"),
    (gpt, "70b"),
    (gpt, "llama3.1-8b"),
    (bert, "tiny"),
    (bert, "base"),
]
PRESETS += [(bert, "modern-large"), (t5, "tiny"), (t5, "small"), (t5, "v1.1-xxl")]


@pytest.fixture(scope="module")
def tokenizer():
    return train(read_text().splitlines(), 360)


def copy(name: str, folder, **changes):
    """A golden folder with changes to its config.json; a value of None takes the key out."""
    shutil.copytree(hf_tiny.GOLDEN / name, folder)
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {k: v for k, v in config.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_there_and_back_changes_no_tensor(name, tmp_path):
    source = hf_tiny.GOLDEN / name
    said = hf.import_model(source, tmp_path / "run")
    assert "at step 0; without a tokenizer: the folder has none" in said
    assert "without a tokenizer" in hf.export_model(tmp_path / "run", tmp_path / "out")
    before, after = (load_file(f / "model.safetensors") for f in (source, tmp_path / "out"))
    assert set(after) == {n for n in before if n in after}
    assert sum(x.size for x in after.values()) >= hf_config_size(source)
    for tensor, x in after.items():
        np.testing.assert_array_equal(x, before[tensor])
    kinds = [
        hf_config.read(json.loads((f / "config.json").read_text()))
        for f in (source, tmp_path / "out")
    ]
    assert kinds[0] == kinds[1]


def hf_config_size(folder) -> int:
    """Parameters of the model that a folder's config.json describes."""
    _, fields = hf_config.read(json.loads((folder / "config.json").read_text()))
    return P.count(P.abstract(P.build(hf.shape(fields))))


@pytest.mark.parametrize(("family", "name"), PRESETS)
def test_every_kind_of_preset_can_be_exported(family, name):
    c = model_config(resolve(family.get_config(name)))
    h = hf_config.write(c)
    kind, fields = hf_config.read(json.loads(json.dumps(h)))
    assert {k: getattr(c, k) for k in hf_config._shape(c)} == {
        k: fields[k] for k in hf_config._shape(c)
    }
    entries = hf_weights.entries(kind, c)
    ours = [path for entry in entries for path in entry.ours]
    unrolled = P.build(dataclasses.replace(c, scan=False))
    assert sorted(ours) == sorted(hf_weights.flat(unrolled.declared))


def test_a_shape_that_no_family_has_is_refused():
    c = gpt.get_config("tiny")
    c.model.update(bias=True, qk_norm=True)
    with pytest.raises(UserError, match="llama comes nearest, without .*model.qk_norm=True"):
        hf_config.write(model_config(resolve(c)))


def test_the_factor_of_a_tied_head_goes_into_the_last_norm():
    """A model whose width is not the base width computes the same without the rule for width."""
    c = gpt.get_config("tiny")
    c.model.update(width=32, heads=2, layers=1, tie_embeddings=True)
    with_rule = model_config(resolve(c))
    assert with_rule.base_width == 64
    params = P.init(P.build(with_rule), 0)
    arrays = {k: np.asarray(v) for k, v in hf_weights.flat(params).items()}
    folded = hf_weights.nested(hf_weights.fold_width_rule(with_rule, arrays))
    ids = np.arange(12)[None]

    def logits(c, params):
        return jax.jit(lambda p: P.build(c)(p, ids, ids, np.ones_like(ids)))(params)

    plain = dataclasses.replace(with_rule, base_width=32)
    expected = logits(with_rule, params)
    assert np.abs(expected - logits(plain, params)).max() > 1e-2
    np.testing.assert_allclose(logits(plain, folded), expected, atol=1e-5)


def test_sharded_and_bfloat16_weights(tmp_path, monkeypatch):
    hf.import_model(hf_tiny.GOLDEN / "llama", tmp_path / "run")
    monkeypatch.setattr(hf, "SHARD", 3000)
    hf.export_model(tmp_path / "run", tmp_path / "out", dtype="bfloat16")
    shards = sorted(p.name for p in (tmp_path / "out").glob("*.safetensors"))
    assert len(shards) > 3 and shards[0].startswith("model-00001-of-")
    assert all(
        x.dtype == ml_dtypes.bfloat16 for x in load_file(tmp_path / "out" / shards[0]).values()
    )
    _, _, params = hf.read_model(tmp_path / "out")
    _, _, exact = hf.read_model(hf_tiny.GOLDEN / "llama")
    for path, x in params.items():
        np.testing.assert_array_equal(x, exact[path].astype(ml_dtypes.bfloat16).astype(np.float32))


def test_what_was_imported_is_a_run_with_its_tokenizer(tmp_path, tokenizer):
    folder = copy("gpt2", tmp_path / "model", vocab_size=400)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wte.weight"] = np.ones((400, 16), np.float32)
    save_file(tensors, folder / "model.safetensors")
    for name, content in hf_tokenizer.files(tokenizer, 32).items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = hf.import_model(folder, tmp_path / "run")
    assert said.endswith("with its tokenizer of 360 ids")
    assert (tmp_path / "run" / "tokenizer.model").read_bytes() == tokenizer.model
    checkpoints = Checkpoints(tmp_path / "run" / "checkpoints")
    step, state = checkpoints.read()
    checkpoints.close()
    assert step == 0 and set(state) == {"step", "params", "opt_state"}
    np.testing.assert_array_equal(state["params"]["embed"], np.ones((400, 16)))
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["data"]["vocab_size"] == 360 and config["model"]["vocab_size"] == 400
    with pytest.raises(UserError, match="holds a run already"):
        hf.import_model(folder, tmp_path / "run")
    assert "with its tokenizer" in hf.export_model(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (
        folder / "tokenizer.json"
    ).read_bytes()
    with pytest.raises(UserError, match="is not empty"):
        hf.export_model(tmp_path / "run", tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("gpt2", {"model_type": "mamba"}, "model_type='mamba' is not supported; there are llama"),
        ("gpt2", {"model_type": None}, "model_type=None is not supported"),
        ("gpt2", {"n_layer": None}, "a gpt2 model needs 'n_layer', which is missing"),
        ("gpt2", {"n_embd": "wide"}, "a value of the wrong kind"),
        ("gpt2", {"n_embd": 18}, "a width of 18 does not divide among 4 heads"),
        ("gpt2", {"n_embd": 20}, "which does not fit config.json"),
        ("gpt2", {"n_layer": 1}, "which a gpt2 model of this config.json has not"),
        ("gpt2", {"n_layer": 3}, "lack 'transformer.h.2.ln_1.weight'"),
        ("gpt2", {"model_type": ["gpt2"]}, "model_type=.'gpt2'. is not supported"),
        ("gpt2", {"n_head": 0}, "a value of the wrong kind"),
        ("gpt2", {"n_layer": "2"}, "a gpt2 model with layers '2' cannot be"),
        ("gpt2", {"n_layer": -1}, "a gpt2 model with layers -1 cannot be"),
        ("gpt2", {"vocab_size": 0}, "a gpt2 model with vocab_size 0 cannot be"),
        ("gpt2", {"layer_norm_epsilon": "x"}, "a gpt2 model with norm_eps 'x' cannot be"),
        ("bert", {"max_position_embeddings": 10**12}, "with max_positions 1000000000000 cannot be"),
        ("t5", {"num_layers": 0}, "a t5 model with enc_layers 0 cannot be"),
        ("gpt2", {"activation_function": "mish"}, "activation_function='mish' is not supported"),
        ("llama", {"attention_bias": True}, "attention_bias=True is not supported"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}},
            "rotary scaling of type 'yarn' is not supported",
        ),
        ("llama", {"rope_parameters": "x"}, "a value of the wrong kind"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ("modernbert", {"norm_bias": True}, "norm_bias=True is not supported"),
        (
            "modernbert",
            {
                "layer_types": [
                    "full_attention",
                    "sliding_attention",
                    "full_attention",
                    "full_attention",
                ]
            },
            "layer_types has full_attention at 3",
        ),
        ("t5", {"relative_attention_num_buckets": 8}, "num_buckets=8 is not supported, only 32"),
        ("t5", {"feed_forward_proj": "swiglu"}, "feed_forward_proj='swiglu' is not supported"),
    ],
)
def test_an_unsupported_config_is_one_line(name, changes, says, tmp_path):
    with pytest.raises(UserError, match=says) as error:
        hf.read_model(copy(name, tmp_path / "model", **changes))
    assert "\n" not in str(error.value)


def test_a_malformed_folder_is_one_line(tmp_path):
    def refused(says: str) -> None:
        with pytest.raises(UserError, match=says):
            hf.read_model(folder)

    folder = tmp_path / "nothing"
    refused("config.json is not there: give the folder of a run or a model")
    folder = copy("gpt2", tmp_path / "model")
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"\xff" * 64, b"\x80\x04pickle"):
        weights.write_bytes(broken)
        refused("is not a safetensors file that can be read")
    weights.unlink()
    refused("has no model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    refused("pickled weights only .pytorch_model.bin., which are never loaded")
    index = folder / hf.INDEX
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    refused("which is not a file beside it")
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    refused("model-1.safetensors is not there")
    index.write_text("{}")
    refused("no weight_map")
    (folder / "config.json").write_text("[]")
    refused("holds no JSON object")
    (folder / "config.json").write_text("{")
    refused("not readable JSON")


def test_only_a_run_can_be_exported(tmp_path):
    with pytest.raises(UserError, match="is not of a run of lm.train"):
        hf.export_model(hf_tiny.GOLDEN / "gpt2", tmp_path / "out")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(resolve(gpt.get_config("tiny")).to_json())
    with pytest.raises(UserError, match="has no checkpoints yet"):
        hf.export_model(tmp_path / "run", tmp_path / "out")


def test_a_tokenizer_of_another_kind_is_said(tmp_path):
    folder = copy("gpt2", tmp_path / "model")
    (folder / "tokenizer.json").write_text("{}")
    assert "is not of our kind" in hf.import_model(folder, tmp_path / "a")
    (folder / "tokenizer.model").write_bytes(b"something else")
    assert "has another layout of ids" in hf.import_model(folder, tmp_path / "b")


@pytest.fixture
def one_device(monkeypatch):
    """What compiles for eight devices takes far longer than for one."""
    one = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *_: one)


def small(preset: str, text, cache) -> ConfigDict:
    """A config that trains in a moment."""
    c = read_config(str(hf.CONFIGS / preset))
    c.steps, c.batch_size, c.seq_len = 16, 8, 32
    c.data.update(path=str(text), cache=str(cache), vocab_size=320, valid_share=0.1)
    c.train.update(eval_every=0)
    return c


def test_an_imported_run_trains_on(text, tmp_path, one_device):
    """It starts as good as the run that was exported and keeps its tokenizer."""
    c = small("gpt.py:ladder-16x1", text, tmp_path / "cache")
    before = train_run(c, tmp_path / "run")
    hf.export_model(tmp_path / "run", tmp_path / "out")
    mine = tmp_path / "mine"
    hf.import_model(tmp_path / "out", mine)

    def settings(steps: int) -> ConfigDict:
        own = read_config(str(mine / "config.json"))
        own.update(steps=steps, batch_size=8, seq_len=32, learning_rate=4e-3)
        own.data.update(path=str(text), cache=str(tmp_path / "cache"), valid_share=0.1)
        own.optim.schedule = "constant"
        own.train.update(eval_every=0)
        return own

    wrong = settings(16)
    wrong.model.update(layers=2)
    with pytest.raises(UserError, match="model.layers: 1 there, 2 here.*--config=.*config.json"):
        train_run(wrong, mine)
    loaded = Trainer(resolve(settings(1)), prepare_data(resolve(c), log=str), jax.devices()[:1])
    start = loaded.evaluate(loaded.restore(mine / "checkpoints"), tokens=0)
    assert start.loss == pytest.approx(before.loss, abs=1e-6)
    after = train_run(settings(48), mine)
    assert after.loss < before.loss - 0.1
    tokenizers = [(folder / "tokenizer.model").read_bytes() for folder in (tmp_path / "run", mine)]
    assert tokenizers[0] == tokenizers[1]
    with pytest.raises(UserError, match="belongs to another run .steps: 48 there, 64 here"):
        train_run(settings(64), mine)


def test_without_a_tokenizer_nothing_trains_on(text, tmp_path):
    hf.import_model(hf_tiny.GOLDEN / "llama", tmp_path / "run")
    with pytest.raises(UserError, match="imported without a tokenizer: it cannot be trained"):
        train_run(read_config(str(tmp_path / "run" / "config.json")), tmp_path / "run")


@pytest.mark.parity
@pytest.mark.parametrize(
    "preset", ["gpt.py:ladder-16x1", "bert.py:ladder-16x2", "t5.py:ladder-16x1"]
)
def test_transformers_scores_an_exported_run_with_its_loss(preset, text, tmp_path, one_device):
    """Train, export, load with transformers, and ask both for the loss of the same batch."""
    import torch
    import transformers

    c = small(preset, text, tmp_path / "cache")
    train_run(c, tmp_path / "run")
    hf.export_model(tmp_path / "run", tmp_path / "out")
    ours = load_run(tmp_path / "run")
    words = ours.tokenizer.encode(read_text())[: 5 * ours.objective.raw_length]
    tokens = np.reshape(words, (5, -1))
    batch = ours.objective.transform(Windows(tokens, None, np.arange(5), 0))
    if ours.arch == "decoder":  # transformers shifts the inputs themselves
        batch.weights[:, -1] = 0
    sums = loss_sums(ours.model, ours.params, batch)
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    theirs = getattr(transformers, described["architectures"][0]).from_pretrained(tmp_path / "out")
    x = hf_tiny.Inputs(batch.inputs, batch.segments, batch.targets, batch.weights)
    x = x._replace(enc_ids=batch.enc_inputs, enc_mask=batch.enc_segments)
    with torch.no_grad():
        _, loss = hf_tiny.forward(theirs.eval(), x)
    np.testing.assert_allclose(float(sums.loss / sums.weight), float(loss), atol=1e-4)


def strings(seed: int, count: int, words: str) -> list[str]:
    """Texts that are hard for tokenizers: names of symbols, spaces, U+2581, any character."""
    rng = random.Random(seed)
    fixed = ["", " ", "   " * 9, "\u2581\u2581a \u2581", "<pad><mask> <0x41>", "a\tb\r\n\n c\x00"]
    fixed += [b"\xff\xfe abc \xe2\x96".decode("utf-8", "replace"), "<extra_id_0>\u2585"]

    def character() -> str:
        low, high = rng.choice([(32, 127), (128, 0xD7FF), (0xE000, 0x10FFFF)])
        return chr(rng.randint(low, high))

    def text() -> str:
        start = rng.randrange(len(words))
        mixed = (rng.choice(" \n\u2581<>0x4_\u00e9\u6f22aeot") for _ in range(rng.randrange(60)))
        anything = (character() for _ in range(rng.randrange(30)))
        return rng.choice([words[start : start + 200], "".join(mixed), "".join(anything)])

    return fixed + [text() for _ in range(count)]


@pytest.mark.parity
@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "modernbert", "t5"])
def test_the_exported_tokenizer_gives_our_ids(name, model_type, tmp_path):
    from transformers import AutoTokenizer

    words = read_text()
    ours = train(words.splitlines(), 700, model_type)
    folder = copy(name, tmp_path / "model")
    for file, content in hf_tokenizer.files(ours, 10**6).items():
        (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    theirs = AutoTokenizer.from_pretrained(folder)
    assert (theirs.pad_token_id, theirs.eos_token_id, theirs.mask_token_id) == (0, 1, 5)
    for text in strings(0, 1000, words):
        ids = ours.encode(text)
        assert theirs(text, add_special_tokens=True)["input_ids"] == ids, repr(text)
        assert theirs.decode(ids) == ours.decode(ids), repr(text)


def read_text() -> str:
    """English prose and code: this repository's own."""
    pages = sorted((hf.CONFIGS.parent / "docs").glob("*.md"))
    return "\n".join(p.read_text() for p in [*pages, *sorted(hf.CONFIGS.glob("*.py"))])


@pytest.mark.parity
@pytest.mark.parametrize(
    "preset",
    [
        "configs/gpt.py:tiny",
        "configs/gpt.py:ladder-32x2",
        "configs/bert.py:tiny",
        "configs/t5.py:tiny",
    ],
)
def test_an_exported_run_computes_the_same_and_trains_on_in_transformers(preset, tmp_path):
    import torch
    import transformers

    config = read_config(str(hf.CONFIGS.parent / preset))
    config.model.update(layers=4 if "bert" in preset else 2)
    config = resolve(config)
    c = model_config(config)
    model = P.build(c)
    params = P.init(model, 0)
    hf._save(tmp_path / "run", config, model, P.stack_layers(params))
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    hf.export_model(tmp_path / "run", tmp_path / "out")
    name = "t5" if c.arch == "encoder-decoder" else "llama"
    x = hf_tiny.inputs("bert" if c.arch == "encoder" else name)
    encoder = (x.enc_ids, None if x.enc_ids is None else hf_tiny.places(x.enc_ids), x.enc_mask)
    ours = jax.jit(lambda p: model(p, x.ids, hf_tiny.places(x.ids), x.mask, None, *encoder))(params)
    described = json.loads((tmp_path / "out" / "config.json").read_text())
    cls = getattr(transformers, described["architectures"][0])
    theirs, loading = cls.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not loading["missing_keys"] and not loading["unexpected_keys"]
    theirs.eval()
    with torch.no_grad():
        logits, loss = hf_tiny.forward(theirs, x)
    real = x.mask > 0
    np.testing.assert_allclose(ours[real], logits.numpy()[real], atol=1e-4)
    nats = jax.nn.logsumexp(ours, -1) - np.take_along_axis(ours, x.targets[..., None], -1)[..., 0]
    np.testing.assert_allclose((nats * x.weights).sum() / x.weights.sum(), loss, atol=1e-4)
    theirs.eval()  # no dropout: the loss falls at once
    losses = hf_tiny.train(theirs, x)
    assert losses[-1] < losses[0] - 0.1
    if c.arch != "encoder":
        prompt = torch.tensor(
            x.ids[:1, :5] if x.enc_ids is None else x.enc_ids[:1], dtype=torch.long
        )
        out = theirs.generate(prompt, max_new_tokens=4, do_sample=False)
        assert out.shape[1] >= 2
