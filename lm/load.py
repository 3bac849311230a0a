"""A trained run, ready to be asked: its config, tokenizer, model and parameters."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from data.errors import UserError
from data.objectives import Objective
from data.tokenizer import EOT, PAD, Tokenizer
from lm import mesh as meshes
from lm import params as parameters
from lm.checkpoint import Checkpoints
from lm.config import TOKENIZER, model_config, read_run_config, resolve
from lm.objective import make_objective
from lm.state import restore_state
from lm.workdir import at

CONTINUES = ("prefix", "ul2")  # objectives that teach to go on after the encoder's text


class Run(NamedTuple):
    """What a workdir holds. `model(params, ...)` gives logits."""

    config: ConfigDict
    tokenizer: Tokenizer
    objective: Objective
    model: parameters.Model
    params: Any
    step: int

    @property
    def arch(self) -> str:
        return self.config.model.arch

    @property
    def longest(self) -> int:
        """Tokens that a sequence may have: those of training."""
        return self.config.seq_len

    def encoder_prompt(self, before: list[int], after: list[int], gap: bool) -> list[int]:
        """What an encoder beside a decoder reads, so that it is asked as it was trained.

        With a `gap` there is a sentinel between before and after; without, the decoder goes on
        after `before`, which span corruption knows as a gap at the end.
        """
        sentinels = self.tokenizer.sentinels
        goes_on = not gap and self.config.objective in CONTINUES
        mode = [] if self.config.objective != "ul2" else [sentinels[-2 if goes_on else -3]]
        room = self.longest - len(mode)
        if goes_on:
            return mode + (before or [EOT])[-room:]
        ends = [sentinels[0], *after[: room // 2], EOT]
        return mode + before[max(0, len(before) + len(ends) - room) :] + ends

    def decoder_start(self, gap: bool) -> list[int]:
        """What its decoder has been given when it starts to write."""
        goes_on = not gap and self.config.objective in CONTINUES
        return [PAD] if goes_on else [PAD, self.tokenizer.sentinels[0]]


def read_run(workdir: str | Path) -> tuple[ConfigDict, Tokenizer]:
    """The config that a run was started with, and its tokenizer.

    Raises:
      UserError: it is no run's folder, has no checkpoint yet, or no tokenizer.
    """
    workdir = at(workdir)
    config = read_run_config(workdir)
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir} has no checkpoints yet: train it first (python -m lm.train)")
    if not (workdir / TOKENIZER).is_file():
        raise UserError(f"{workdir} has no {TOKENIZER}: copy the one it was trained with there")
    return config, Tokenizer((workdir / TOKENIZER).read_bytes())


def load(workdir: str | Path) -> Run:
    """Load the newest checkpoint of a run onto one device.

    Raises:
      UserError: as `read_run` does, or the checkpoint is damaged.
    """
    config, tokenizer = read_run(workdir)
    config.model.update(scan=False, remat="none")
    config = resolve(config)
    model = parameters.build(model_config(config))
    return Run(
        config,
        tokenizer,
        make_objective(config, tokenizer),
        model,
        *_restore(at(workdir) / "checkpoints", config, model),
    )


def _restore(folder: Path, config: ConfigDict, model: parameters.Model) -> tuple[Any, int]:
    mesh = meshes.make(meshes.parse("", 1), jax.devices()[:1])
    checkpoints = Checkpoints(folder, keep=config.train.keep_checkpoints)
    state = restore_state(checkpoints, config, model, mesh)
    checkpoints.close()
    if state is None:
        raise UserError(f"{folder} has no checkpoint yet: train the run first")
    params = jax.tree.map(lambda x: jax.device_put(x, jax.devices()[0]), state.params)
    return params, int(state.step)
