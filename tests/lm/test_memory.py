"""The table of what takes a device's memory, against XLA's own; and what is advised."""

import jax
import numpy as np
import pytest

from configs.gpt import get_config
from data.errors import UserError
from lm import params as P
from lm.config import resolve
from lm.memory import candidates, explaining, remedies, step_memory, table
from lm.train import Trainer


def trainer_of(devices=1, **changes):
    c = get_config("tiny")
    c.batch_size, c.seq_len = 32, 256
    c.train.steps_per_call = 1
    c.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return Trainer(resolve(c), None, jax.devices()[:devices])


def test_what_is_exact_is_exact():
    """AdamW: two moments of each parameter and a count; over 8 devices an eighth of them."""
    trainer = trainer_of()
    size = P.count(P.abstract(trainer.model)) * 4
    memory = step_memory(trainer)
    assert memory.parameters == memory.gradients == size
    assert 2 * size <= memory.optimizer <= 2 * size + 64
    split = step_memory(trainer_of(devices=8, mesh="fsdp:8"))
    assert split.parameters == pytest.approx(size / 8, rel=0.02)
    assert split.activations == pytest.approx(memory.activations / 8, rel=0.02)


@pytest.mark.parametrize("changes", [{}, {"model__remat": "full", "train__loss_chunk": 32}])
def test_the_estimate_is_of_the_size_of_what_xla_takes(changes):
    from lm.aot import abstract_arguments

    trainer = trainer_of(model__scan=True, **changes)
    with jax.set_mesh(trainer.mesh):
        compiled = trainer._advance.lower(*abstract_arguments(trainer), np.int32(1)).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    memory = step_memory(trainer)
    assert 0.5 < (memory.activations + memory.gradients) / temporary < 2


def test_the_cheapest_remedies_come_first_and_save():
    trainer = trainer_of(devices=2)
    found = remedies(trainer, step_memory(trainer))
    assert [r.change.partition("=")[0] for r in found] == [
        "--config.train.loss_chunk", "--config.mesh", "--config.optim.microbatches",
    ]  # fmt: skip
    assert all(r.saves > 0 for r in found)


def test_at_the_end_of_the_list_only_a_smaller_batch_is_left():
    c = trainer_of(train__loss_chunk=64, model__remat="full").config
    assert [list(change) for change, _ in candidates(c, 1)] == [
        ["optim.microbatches"], ["batch_size"],
    ]  # fmt: skip


def test_running_out_of_memory_is_explained(capsys):
    trainer = trainer_of()
    said = "out of device memory; .*--config.train.loss_chunk=128"
    with pytest.raises(UserError, match=said), explaining(trainer):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
    said = capsys.readouterr().err
    assert said.strip() == table(step_memory(trainer), None)
    for name in ("parameters", "gradients", "optimizer", "activations", "together"):
        assert name in said


def test_other_errors_stay_what_they_are():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"), explaining(None):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
