"""Supervised fine-tuning of any decoder: pairs of prompt and answer, loss on the answers only.

    python -m lm.sft --config=configs/sft.py:out/tiny --config.pairs=qa.jsonl --workdir=out/qa

The pairs are a token store in which prompts weigh nothing (data/pairs.py); all else is training
(lm/train.py): the same command resumes where a run was stopped.
"""

if __name__ == "__main__":
    from lm import platform

    platform.configure()

import sys
from pathlib import Path

from ml_collections import ConfigDict

from data import pairs as pairs_of
from data.batch import whole_windows
from data.errors import UserError, run
from data.files import hash_file
from data.prepare import Prepared
from lm import distributed
from lm.checkpoint import Checkpoints
from lm.config import load, resolve
from lm.load import read_run
from lm.objective import make_objective
from lm.state import TrainState, restore_state
from lm.train import Evaluation, Trainer, train


def plan(sft: ConfigDict) -> tuple[ConfigDict, ConfigDict, Prepared]:
    """The config of the start, that of the fine-tune, and the pairs; nothing is written.

    Raises:
      UserError: the start is no run of a decoder, a value is out of range, or the pairs do not do.
    """
    if not sft.start:
        raise UserError("no run to start from: give --config=configs/sft.py:WORKDIR")
    if not sft.pairs:
        raise UserError("--config.pairs=FILE.jsonl is missing: prompts and answers")
    if not sft.epochs > 0:
        raise UserError(f"epochs={sft.epochs} must be above 0")
    start, tokenizer = read_run(sft.start)
    start = resolve(start)
    if start.objective != "causal":
        raise UserError(f"{sft.start}: a run of objective {start.objective}; causal ones are tuned")
    prepared = pairs_of.prepare(pairs_of.read(sft.pairs), tokenizer, start.seq_len, sft.valid_share)
    checkpoints = Checkpoints(Path(sft.start) / "checkpoints", start.train.keep_checkpoints)
    if checkpoints.latest() is None:
        raise UserError(f"{sft.start} has no checkpoint yet: train it first")
    config = ConfigDict(start.to_dict())
    config.update(batch_size=sft.batch_size, learning_rate=sft.learning_rate, seed=sft.seed)
    windows = whole_windows(prepared.train, make_objective(start, tokenizer))
    config.steps = max(1, round(sft.epochs * windows / max(1, sft.batch_size)))
    config.optim.update(schedule="cosine", weight_decay=sft.weight_decay, warmup=0)
    config.train.update(eval_every=0)
    config.data.update(max_epochs=sft.epochs + 1.0, mixture="")
    config.sft = sft.to_dict() | {"pairs": hash_file(sft.pairs)}
    return start, resolve(config), prepared


def first_state(sft: ConfigDict, start: ConfigDict, trainer: Trainer) -> TrainState:
    """The start's parameters at step 0, with an optimizer that has seen nothing."""
    checkpoints = Checkpoints(Path(sft.start) / "checkpoints", start.train.keep_checkpoints)
    state = restore_state(checkpoints, start, trainer.model, trainer.mesh)
    checkpoints.close()
    assert state is not None, "plan has seen a checkpoint"
    return trainer.init()._replace(params=state.params)


def finetune(sft: ConfigDict, workdir: str | Path) -> Evaluation | None:
    """Fine-tunes in a folder; the loss on held-out answers, None when it was interrupted."""
    start, config, prepared = plan(sft)
    return train(config, workdir, prepared, lambda trainer: first_state(sft, start, trainer))


def main() -> None:
    """The command."""
    flags_help = {"workdir": ("", "folder of the run"), **distributed.FLAGS}
    config, flags = load(sys.argv, __doc__ or "", **flags_help)
    if not flags.workdir:
        raise UserError("--workdir=FOLDER is missing: where to keep the run")
    distributed.start(flags)
    finetune(config, flags.workdir)


if __name__ == "__main__":
    run(main)
