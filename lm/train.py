"""Training.

    python -m lm.train --config=configs/gpt.py:tiny --workdir=out/tiny
    python -m lm.train --config=configs/gpt.py:tiny --workdir=out/mine --config.data.path=FOLDER

The same command resumes where a run was stopped, to the same bits. The folder gets config.json,
metrics.jsonl, goodput.jsonl, TensorBoard event files and checkpoints/; with --profile also
profile/, a trace of some steps.
"""

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from data import mixture
from data.batch import Batch, Batches, eval_batches, prefetch
from data.errors import UserError, run
from data.files import hash_bytes, only_writer
from data.prepare import Prepared
from lm import distributed
from lm import mesh as meshes
from lm import params as parameters
from lm.checkpoint import Checkpoints
from lm.config import (
    TOKENIZER,
    claim_workdir,
    load,
    model_config,
    resolve,
    to_json,
)
from lm.corpus import imported_tokenizer, mixture_of
from lm.corpus import prepare_data as prepare_data
from lm.goodput import Stopwatch
from lm.log import Interrupted, RunLog
from lm.loss import LossSums, loss_and_gradients, loss_sums
from lm.memory import explaining
from lm.objective import flops_per_token, make_objective
from lm.optim import Schedule, learning_rate, make_optimizer, make_schedule
from lm.profile import Profile
from lm.state import TrainState, restore_state, state_shardings
from lm.workdir import at

Tree = Any
LIKELIHOODS = ("causal", "prefix")  # objectives whose loss is that of a text, token by token


class StepMetrics(NamedTuple):
    """One step's scalars."""

    loss: jax.Array  # nats/token
    grad_norm: jax.Array  # before clipping
    learning_rate: jax.Array
    weight: jax.Array  # target positions that count
    finite: jax.Array  # 1.0, or 0.0 where loss or gradient was not


class Evaluation(NamedTuple):
    """Loss on held-out text."""

    loss: float  # nats/token
    bits_per_byte: float | None  # None where the loss is not the likelihood of a text
    tokens: int  # target positions that count


class NonFiniteError(UserError):
    """A loss or gradient that is not a number; `step` is where."""

    def __init__(self, step: int, examples: str):
        self.step = step
        super().__init__(
            f"loss or gradient not finite at step {step} (examples {examples}): the last "
            "checkpoint before it is kept; lower learning_rate, or set train.on_nonfinite=skip"
        )


class Trainer:
    """A run's model, compiled step and data, built once and used by commands and sweeps.

    Args:
      config: a resolved config (`lm.config.resolve`).
      prepared: its data (`prepare_data`); None: only to compile.
      devices: what to run on; all by default.
      explicit: under JAX's Explicit axes, where tracing checks every array's sharding.

    Raises:
      UserError: the mesh does not fit the devices, the model or the batch.
    """

    def __init__(
        self,
        config: ConfigDict,
        prepared: Prepared | None,
        devices: list | None = None,
        explicit: bool = False,
    ):
        self.config = config
        self.model = parameters.build(model_config(config))
        c = self.model.config
        devices = list(devices or jax.devices())
        sizes = meshes.parse(config.mesh, len(devices))
        tokenizer = prepared.tokenizer if prepared else None
        self.objective = make_objective(config, tokenizer)
        rows = config.batch_size // config.optim.microbatches
        meshes.check(sizes, c, rows, config.seq_len, self.objective.length)
        self.mesh = meshes.make(sizes, devices, explicit)
        self.devices = devices
        self.optimizer = make_optimizer(config, self.model)
        self._compiled = False
        self.tokens_per_step = config.batch_size * self.objective.stride
        self.flops_per_token = flops_per_token(c, self.objective)
        if prepared is not None:
            self.prepared = prepared
            self.rows = distributed.local_rows(
                meshes.sharding(self.mesh, ("batch", "length")), (config.batch_size, config.seq_len)
            )
            self.batches = Batches(
                prepared.train,
                config.batch_size,
                self.objective,
                config.seed,
                rows=self.rows,
                max_epochs=config.data.max_epochs,
                mixture=mixture_of(config, prepared),
            )
        whole = NamedSharding(self.mesh, P())
        shardings = state_shardings(self.model, self.optimizer, self.mesh)
        self._init = jax.jit(self._initial_state, out_shardings=shardings)
        self._advance = jax.jit(
            self._many_steps, donate_argnums=(0,), out_shardings=(shardings, whole)
        )
        self._eval = jax.jit(self._evaluate, out_shardings=whole)

    def _initial_state(self) -> TrainState:
        params = parameters.init(self.model, self.config.seed)
        return TrainState(jnp.int32(0), params, self.optimizer.init(params))

    def _step(self, state: TrainState, batch: Batch, s: Schedule) -> tuple[TrainState, StepMetrics]:
        """One optimizer step; pure."""
        o = self.config.optim
        sums, grads = loss_and_gradients(
            self.model,
            state.params,
            batch,
            o.z_loss,
            o.microbatches,
            scored=self.objective.scored,
            chunk=self.config.train.loss_chunk,
        )
        rate = learning_rate(s, state.step)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        loss = sums.loss / jnp.maximum(sums.weight, 1.0)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        if self.config.train.on_nonfinite == "skip":

            def keep(new: jax.Array, old: jax.Array) -> jax.Array:
                return jnp.where(finite, new, old)

            params = jax.tree.map(keep, params, state.params)
            opt_state = jax.tree.map(keep, opt_state, state.opt_state)
        metrics = StepMetrics(loss, norm, rate, sums.weight, finite.astype(jnp.float32))
        return TrainState(state.step + 1, params, opt_state), metrics

    def _many_steps(
        self, state: TrainState, batches: Batch, s: Schedule, n: jax.Array
    ) -> tuple[TrainState, StepMetrics]:
        """`n` steps over the first n of the batches [steps_per_call, B, L], in one program.

        n is traced, so a call cut short (a checkpoint, an interrupt, a resume) runs the same
        compiled body and gives the same bits. With on_nonfinite=stop the loop ends where a loss is
        not finite.
        """
        room = self.config.train.steps_per_call
        if room == 1:  # n is 1: without the loop, which would hold a second copy of the state
            state, row = self._step(state, jax.tree.map(lambda x: x[0], batches), s)
            return state, jax.tree.map(lambda x: x[None], row)
        zeros = jnp.zeros(room)
        metrics = StepMetrics(zeros, zeros, zeros, zeros, finite=jnp.ones(room))

        def body(carry: tuple) -> tuple:
            i, state, metrics, _ = carry
            state, row = self._step(state, jax.tree.map(lambda x: x[i], batches), s)
            metrics = jax.tree.map(lambda all, one: all.at[i].set(one), metrics, row)
            go_on = (row.finite > 0) | (self.config.train.on_nonfinite == "skip")
            return i + 1, state, metrics, go_on

        go = (jnp.int32(0), state, metrics, jnp.bool_(True))
        _, state, metrics, _ = jax.lax.while_loop(lambda c: (c[0] < n) & c[3], body, go)
        return state, metrics

    def init(self) -> TrainState:
        """The state at step 0."""
        with jax.set_mesh(self.mesh):
            return self._init()

    def copy(self, state: TrainState) -> TrainState:
        """A copy to branch from: `run` consumes the state that it is given."""
        return jax.tree.map(jnp.copy, state)

    def run(
        self,
        state: TrainState,
        stop: int,
        schedule: Schedule | None = None,
        report: Callable[[int, dict], None] | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        clock: Stopwatch | None = None,
    ) -> TrainState:
        """Trains up to `stop` steps (all told); consumes `state`.

        `report(step, metrics)` is called for every step, in order, one call of the program late, so
        that the device never waits for it. `interrupted` is asked between calls. `clock` gets the
        seconds that calls waited for data.

        Raises:
          NonFiniteError: unless train.on_nonfinite is 'skip'.
        """
        start, room = int(state.step), self.config.train.steps_per_call
        clock = clock or Stopwatch()
        s = Schedule(*map(jnp.float32, schedule or make_schedule(self.config)))
        pending: tuple[int, int, StepMetrics] | None = None
        feed = prefetch(self.batches, start, stop, stack=room)
        with jax.set_mesh(self.mesh), contextlib.closing(feed):
            step = start
            for batch in clock.waiting("data", feed):
                n = min(room, stop - step)
                placed = self._place(batch, stacked=True)
                with clock.time("compute" if self._compiled else "startup"):
                    state, metrics = self._advance(state, placed, s, np.int32(n))
                self._compiled = True
                if pending:
                    self._report(*pending, report)
                pending, step = (step, n, metrics), step + n
                if interrupted():
                    break
            if pending:
                self._report(*pending, report)
        return state

    def _report(
        self, start: int, n: int, metrics: StepMetrics, report: Callable[[int, dict], None] | None
    ) -> None:
        host = jax.tree.map(np.asarray, metrics)
        for i in range(n):
            row = {k: float(v[i]) for k, v in host._asdict().items()}
            finite = row.pop("finite") > 0
            if not finite and self.config.train.on_nonfinite == "stop":
                raise NonFiniteError(start + i, self.examples(start + i))
            if report:
                report(start + i + 1, row if finite else row | {"skipped": True})

    def examples(self, step: int) -> str:
        """The example numbers in a step's batch, as 'first-last'."""
        first = step * self.config.batch_size
        return f"{first}-{first + self.config.batch_size - 1}"

    def _place(self, batch: Batch, stacked: bool) -> Batch:
        """A process's numpy batch -> its share of the global arrays on the devices."""
        lead = (None,) if stacked else ()
        sharding = NamedSharding(self.mesh, P(*lead, *meshes.spec(("batch", "length"))))
        if jax.process_count() == 1:
            return jax.device_put(batch, sharding)
        size = self.config.batch_size
        return jax.tree.map(lambda x: distributed.place(sharding, x, self.rows, size), batch)

    def evaluate(self, state: TrainState, tokens: int | None = None) -> Evaluation:
        """Loss on `tokens` validation tokens (train.eval_tokens by default; 0: all of them).

        Tokens are counted as D is; what an objective draws at random is the same for every run.
        """
        limit = self.config.train.eval_tokens if tokens is None else tokens
        loss = weight = byte_count = 0.0
        with jax.set_mesh(self.mesh):
            for batch in eval_batches(
                self.prepared.valid,
                self.config.batch_size,
                self.objective,
                limit,
                self.rows,
            ):
                sums, size = self._eval(state.params, self._place(batch, stacked=False))
                loss, weight = loss + float(sums.loss), weight + float(sums.weight)
                byte_count += float(size)
        if not weight:
            raise UserError("the validation split has no token to score: raise data.valid_share")
        bits = None
        if self.objective.name in LIKELIHOODS:
            bits = loss / np.log(2) / max(byte_count, 1.0)
        return Evaluation(loss / weight, bits, int(weight))

    def _evaluate(self, params: Tree, batch: Batch) -> tuple[LossSums, jax.Array]:
        """Sums of the loss, and bytes of the targets that count, over all hosts."""
        lengths = jnp.asarray(self.prepared.tokenizer.byte_lengths, jnp.float32)
        size = jnp.sum(lengths[batch.targets] * batch.weights)
        scored, chunk = self.objective.scored, self.config.train.loss_chunk
        return loss_sums(self.model, params, batch, scored, chunk), size

    def save(self, folder: str | Path, state: TrainState) -> None:
        """Writes a state as a checkpoint, and waits for it."""
        checkpoints = Checkpoints(folder, keep=1)
        checkpoints.save(int(state.step), state)
        checkpoints.close()

    def restore(self, folder: str | Path | Checkpoints) -> TrainState | None:
        """The newest state in a folder, or None."""
        checkpoints = folder if isinstance(folder, Checkpoints) else Checkpoints(folder, keep=1)
        return restore_state(checkpoints, self.config, self.model, self.mesh)


def train(
    config: ConfigDict,
    workdir: str | Path,
    prepared: Prepared | None = None,
    first: Callable[[Trainer], TrainState] = Trainer.init,
    profile: bool = False,
    explicit: bool = False,
) -> Evaluation | None:
    """Trains a config in a folder to its end, from its last checkpoint if there is one.

    A folder that `lm.hf` has imported a model into is such a one: at step 0, with its tokenizer.
    `prepared` stands for the data that the config names, `first` gives the state at step 0. With
    `profile`, a few calls of the step are traced into the folder's profile/; `explicit` is the
    Trainer's.

    Returns the final evaluation, or None when it was interrupted (then it has been saved).

    Raises:
      UserError: config, data or folder do not suit; or the device's memory does not suffice, after
        a table of what takes it and what to change.
    """
    workdir, began = at(workdir), time.time()
    config = resolve(config)
    data = prepared or distributed.together(
        lambda: prepare_data(config, distributed.say, imported_tokenizer(workdir))
    )
    distributed.check_equal("the data", data.hash)
    distributed.check_equal("the config", hash_bytes(to_json(config).encode()))
    trainer = distributed.together(lambda: Trainer(config, data, explicit=explicit))
    trainer.batches.check_budget(config.steps)
    if config.data.mixture:
        distributed.say(mixture.table(trainer.batches.usage(config.steps)))

    def write() -> None:
        claim_workdir(workdir, config)
        data.tokenizer.save(workdir / TOKENIZER)

    distributed.first_writes(workdir / "config.json", write)
    checkpoints = Checkpoints(workdir / "checkpoints", config.train.keep_checkpoints)
    with explaining(trainer):
        state = trainer.restore(checkpoints) or first(trainer)
    log = RunLog(workdir, trainer, int(state.step), began)
    clock = log.clock
    trace = Profile(workdir / "profile", log.say) if profile else None
    every = [e for e in (config.checkpoint_every, config.train.eval_every) if e]
    interrupted = Interrupted(log, between=trace)

    def save() -> None:
        with clock.time("checkpoint"):
            checkpoints.save(step, state)

    def evaluate(tokens: int | None = None) -> Evaluation:
        with clock.time("evaluation"):
            return trainer.evaluate(state, tokens)

    try:
        with log, explaining(trainer):
            step = int(state.step)
            while step < config.steps and not interrupted.seen:
                stop = min([config.steps, *((step // e + 1) * e for e in every)])
                with clock.time("compute"):
                    state = trainer.run(state, stop, None, log.step, interrupted, clock)
                    step = int(state.step)
                if config.train.eval_every and step % config.train.eval_every == 0:
                    log.evaluation(step, evaluate())
                if interrupted.seen or (
                    config.checkpoint_every and step % config.checkpoint_every == 0
                ):
                    save()
            if trace:
                trace.close()
            if step < config.steps:
                save()
                log.say(
                    f"stopped at step {step} of {config.steps}, saved; the same command resumes"
                )
                return None
            save()
            if config.data.mixture:
                log.say(mixture.table(trainer.batches.usage(step)))
            final = evaluate(tokens=0)
            with clock.time("checkpoint"):
                checkpoints.wait()
            log.final(step, final)
            return final
    finally:
        checkpoints.close()


def main() -> None:
    """The command."""
    flags_help = {
        "workdir": ("", "folder of the run"),
        "profile": (False, "trace some steps into WORKDIR/profile"),
        "explicit": (False, "check every array's sharding: JAX's Explicit axes; same numbers"),
        **distributed.FLAGS,
    }
    config, flags = load(sys.argv, __doc__ or "", **flags_help)
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the run")
    distributed.start(flags)
    with only_writer(flags.workdir) if distributed.is_first() else contextlib.nullcontext():
        train(config, flags.workdir, profile=flags.profile, explicit=flags.explicit)


if __name__ == "__main__":
    run(main)
