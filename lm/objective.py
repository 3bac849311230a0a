"""The objective of a config, and the sizes that its batches have: what both training and plans ask.

Nothing here needs JAX, nor more of the data than its tokenizer.
"""

from typing import Any

from ml_collections import ConfigDict

from data import objectives
from data.objectives import Objective, Vocabulary
from data.tokenizer import Tokenizer
from lm.config import ModelConfig, model_config
from lm.flops import Lengths, flops_per_sequence


def make_objective(config: ConfigDict, tokenizer: Tokenizer | None = None) -> Objective:
    """The objective of a resolved config; without a tokenizer only its sizes are right.

    Raises:
      UserError: its settings cannot be, or the model or the vocabulary does not suit it.
    """
    settings: dict[str, Any] = {
        name: config[name].to_dict() for name in objectives.OBJECTIVES if name in config
    }
    words = None
    if config.objective in objectives.USES_VOCABULARY:
        size = config.data.vocab_size
        words = Vocabulary.of(tokenizer) if tokenizer else Vocabulary.sized(size)
    both = config.model.arch == "encoder-decoder"
    return objectives.make(config.objective, config.seq_len, words, settings, both)


def lengths(objective: Objective) -> Lengths:
    """Positions in a sequence of its batches, as FLOPs are counted over them."""
    return Lengths(objective.length, objective.encoder_length, objective.scored)


def flops_per_token(c: ModelConfig, objective: Objective, attention: str = "full") -> float:
    """Training FLOPs for each token that D counts; `attention` as in `lm.flops`."""
    return flops_per_sequence(c, lengths(objective), attention) / objective.stride


def sizes(config: ConfigDict) -> tuple[float, int]:
    """FLOPs for each token that D counts, and those tokens in a step, of a resolved config."""
    objective = make_objective(config)
    per_token = flops_per_token(model_config(config), objective)
    return per_token, config.batch_size * objective.stride
