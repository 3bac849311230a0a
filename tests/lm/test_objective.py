"""Training under every objective, and what N, D and C its runs have."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.base import base
from data import objectives
from data.batch import eval_batches
from data.errors import UserError
from data.tokenizer import EOT
from experiments.plan import Data, make_plan
from lm import mesh as meshes
from lm import params as P
from lm.config import model_config, read_config, resolve
from lm.flops import Lengths, flops_per_sequence
from lm.load import load
from lm.loss import loss_and_gradients
from lm.objective import flops_per_token, make_objective, sizes
from lm.train import Trainer, prepare_data, train

# Every objective with the architecture it trains; the first of two is the default.
ALL = [
    ("causal", "decoder"),
    ("masked", "encoder"),
    ("span", "encoder-decoder"),
    ("prefix", "encoder-decoder"),
    ("prefix", "decoder"),
    ("ul2", "encoder-decoder"),
]
TRAINED = [
    ("masked", "encoder"),
    ("span", "encoder-decoder"),
    ("prefix", "decoder"),
    pytest.param("prefix", "encoder-decoder", marks=pytest.mark.slow),
    pytest.param("ul2", "encoder-decoder", marks=pytest.mark.slow),
]
each = pytest.mark.parametrize(("name", "arch"), ALL)


def config_of(name, arch, **data):
    c = base()
    c.objective = name
    c.steps, c.batch_size, c.seq_len, c.learning_rate = 48, 8, 32, 1e-2
    c.model.update(layers=1, width=16, heads=2, arch=arch)
    c.data.update(vocab_size=320, valid_share=0.1, max_epochs=100.0, **data)
    c.optim.warmup = 5
    c.train.update(steps_per_call=8, eval_every=0, eval_tokens=0)
    return c


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize(("name", "arch"), TRAINED)
def test_it_trains_and_is_scored_as_numpy_says(name, arch, text, cache):
    c = resolve(config_of(name, arch, path=str(text), cache=cache))
    trainer = Trainer(c, prepare_data(c, log=lambda _: None), jax.devices()[:1])
    state = trainer.init()
    e = trainer.evaluate(state)
    nats = weight = size = 0.0
    lengths = trainer.prepared.tokenizer.byte_lengths
    plain = jax.jit(lambda params, arrays: trainer.model(params, **arrays))
    for batch in eval_batches(trainer.prepared.valid, 8, trainer.objective):
        enc = {k: v for k, v in batch._asdict().items() if v is not None}
        targets, weights = enc.pop("targets"), enc.pop("weights")
        logits = np.asarray(plain(state.params, enc), np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        nats -= (np.take_along_axis(log_p, targets[..., None], -1)[..., 0] * weights).sum()
        weight += weights.sum()
        size += (lengths[targets] * weights).sum()
    assert e.tokens == weight > 100
    assert e.loss == pytest.approx(nats / weight, rel=1e-5)
    if name in ("causal", "prefix"):
        assert e.bits_per_byte == pytest.approx(nats / size / np.log(2), rel=1e-5)
    else:
        assert e.bits_per_byte is None
    weighed = []
    state = trainer.run(state, 48, report=lambda _, m: weighed.append(m["weight"]))
    assert trainer.evaluate(state).loss < e.loss - 0.5
    assert np.mean(weighed) == pytest.approx(8 * trainer.objective.targets, rel=0.1)


@pytest.mark.parametrize(
    "text", ["data:2,fsdp:2,tensor:2", pytest.param("fsdp:2,seq:4", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("name", "arch"), [("masked", "encoder"), ("span", "encoder-decoder"), ("prefix", "decoder")]
)
def test_every_mesh_gives_the_numbers_of_one_device(name, arch, text):
    """Loss within 2e-6 relative, each gradient leaf within 1e-5 of its norm, in float32."""
    c = config_of(name, arch)
    c.prefix.shortest = c.prefix.longest = 0.5
    c.span.density = 0.4  # 24 targets: they divide over the mesh
    c = resolve(c)
    objective = make_objective(c)
    tokens = np.random.default_rng(0).integers(300, 320, (8, objective.raw_length))
    batch = objective.transform(objectives.Windows(tokens, None, np.arange(8), 0))
    model = P.build(model_config(c))
    start = P.init(model, 0)

    def run(mesh):
        placed = P.map_declared(lambda d: meshes.sharding(mesh, d.axes), model)
        rows = meshes.sharding(mesh, ("batch", "length"))
        with jax.set_mesh(mesh):
            params = jax.device_put(start, placed)
            step = jax.jit(
                lambda p, b: loss_and_gradients(model, p, b, 1e-4, scored=objective.scored)
            )
            return step(params, jax.device_put(batch, rows))

    one = run(meshes.make(meshes.parse("", 1), jax.devices()[:1]))
    many = run(meshes.make(meshes.parse(text, 8), jax.devices()[:8]))
    np.testing.assert_allclose(one[0].loss, many[0].loss, rtol=2e-6)
    np.testing.assert_allclose(one[0].weight, many[0].weight)
    for a, b in zip(jax.tree.leaves(one[1]), jax.tree.leaves(many[1]), strict=True):
        assert np.linalg.norm(a - np.asarray(b)) <= 1e-5 * np.linalg.norm(a)


@pytest.mark.parametrize("name", ["span", "prefix", "ul2"])
def test_packed_documents_see_nothing_of_each_other(name):
    """Of each document's loss, the gradient by every input embedding of another is zero exactly."""
    c = config_of(name, "encoder-decoder")
    c.model.update(position="relative", layers=2)
    c.prefix.shortest, c.span.density = 0.5, 0.4
    c.seq_len = 40
    c = resolve(c)
    objective, model = make_objective(c), P.build(model_config(c))
    tokens = np.random.default_rng(0).integers(300, 320, (1, objective.raw_length))
    tokens[:, [12, 22]] = EOT
    batches = (
        objective.transform(objectives.Windows(tokens, None, np.array([i]), 0)) for i in range(20)
    )
    batch = next(b for b in batches if set(b.segments[b.weights > 0]) == {1, 2, 3})
    params = jax.tree.map(lambda x: x + 0.1, P.init(model, 0))
    given = {k: v for k, v in batch._asdict().items() if v is not None}
    targets, weights = given.pop("targets"), given.pop("weights")
    numbers = np.array([1, 2, 3])

    def losses(shifts):
        module = model.with_values(params)
        embedded = module.embedded
        module.embedded = lambda ids, *rest: embedded(ids, *rest) + shifts[ids.shape[1]]
        log_p = jax.nn.log_softmax(module(**given))
        nats = -jnp.take_along_axis(log_p, targets[..., None], -1)[..., 0] * weights
        return jnp.stack([jnp.sum(jnp.where(batch.segments == n, nats, 0)) for n in numbers])

    sides = {batch.inputs.shape[1]: batch.segments, batch.enc_inputs.shape[1]: batch.enc_segments}
    assert len(sides) == 2
    moves = jax.jit(jax.jacrev(losses))({n: jnp.zeros((n, 16)) for n in sides})
    for length, segments in sides.items():
        moved = np.abs(moves[length]).sum(-1) > 0
        own = segments == numbers[:, None]
        assert not moved[~own].any()
        encoder = length == batch.enc_inputs.shape[1]
        assert moved[own].all() if encoder else (moved & own).any(1).all()


def test_a_length_that_does_not_fit_the_mesh_is_named(text, cache):
    c = config_of("span", "encoder-decoder", path=str(text), cache=cache)
    c.mesh, c.span.density = "seq:4", 0.25  # 13 targets
    c = resolve(c)
    with pytest.raises(UserError, match="length of the targets=.* mesh axes seq:4"):
        Trainer(c, prepare_data(c, log=lambda _: None), jax.devices()[:4])


@each
def test_flops_are_those_of_the_batches(name, arch):
    """C counts the positions that the batches have, for the tokens that D counts."""
    c = resolve(config_of(name, arch))
    objective, model = make_objective(c), model_config(c)
    tokens = np.random.default_rng(0).integers(300, 320, (4, objective.raw_length))
    batch = objective.transform(objectives.Windows(tokens, None, np.arange(4), 0))
    encoder = 0 if batch.enc_inputs is None else batch.enc_inputs.shape[1]
    scored = 5 if name == "masked" else batch.inputs.shape[1]  # 0.15 x 32, rounded up
    counted = flops_per_sequence(model, Lengths(batch.inputs.shape[1], encoder, scored))
    assert flops_per_token(model, objective) * objective.stride == pytest.approx(counted)
    assert sizes(c) == (flops_per_token(model, objective), 8 * objective.stride)


@pytest.mark.parametrize("name", ["masked", "span", "prefix"])
def test_a_sweep_of_an_objective_differs_in_one_word(name):
    sweep = read_config("configs/sweep.py:quick")
    causal = make_plan(sweep, Data(3_000_000, "", ""))
    sweep.base.objective = name
    sweep.tokens_per_parameter = (0.1, 150.0)
    plan = make_plan(sweep, Data(3_000_000, "", ""))
    by_budget = {t.budget for r in causal for t in r.trials}
    assert {t.budget for r in plan for t in r.trials} == by_budget
    for rung in plan:
        for trial in rung.trials:
            assert pytest.approx(trial.budget, rel=0.05) == trial.C  # whole steps
            assert trial.D % rung.tokens_per_step == 0
    assert not {t.run_id for r in plan for t in r.trials} & {
        t.run_id for r in causal for t in r.trials
    }


def test_a_run_says_its_loss_and_keeps_its_tokenizer(text, cache, tmp_path, capsys):
    c = config_of("masked", "encoder", path=str(text), cache=cache)
    c.steps, c.train.eval_every = 8, 4
    assert train(c, tmp_path).bits_per_byte is None
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["eval_bits_per_byte"] for r in rows if "eval_loss" in r] == [None, None]
    said = capsys.readouterr().err
    assert "nats/token" in said and "bits/byte" not in said
    assert [load(tmp_path).step, load(tmp_path).arch] == [8, "encoder"]
