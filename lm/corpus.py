"""The text that a run trains on: its tokenizer, its token stores, the mixture of their sources."""

from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from data import mixture
from data.errors import UserError
from data.prepare import Prepared, prepare
from data.tokenizer import Tokenizer
from lm.config import IMPORTED, TOKENIZER


def prepare_data(
    config: ConfigDict,
    log: Callable[[str], None] = print,
    tokenizer: Tokenizer | None = None,
) -> Prepared:
    """Tokenizer and token stores of a resolved config; cached, so a second call costs little.

    An imported run has a `tokenizer`; others train one on their text.
    """
    d = config.data
    return prepare(
        d.path,
        vocab_size=d.vocab_size,
        model_type=d.model_type,
        cache=d.cache,
        limit_bytes=int(d.limit_mb * 1e6) or None,
        valid_share=d.valid_share,
        by_kind=bool(d.mixture),
        tokenizer=tokenizer,
        log=log,
    )


def imported_tokenizer(workdir: Path) -> Tokenizer | None:
    """The tokenizer of a folder that a model was imported into; None where none was.

    Raises:
      UserError: the model came without a tokenizer.
    """
    if not (workdir / IMPORTED).exists():
        return None
    if not (workdir / TOKENIZER).exists():
        raise UserError(
            f"{workdir} has a model that was imported without a tokenizer: it cannot be trained on "
            "text; import a folder with one (docs/objectives.md)"
        )
    return Tokenizer.load(workdir / TOKENIZER)


def mixture_of(config: ConfigDict, prepared: Prepared) -> list[mixture.Source] | None:
    """The weighted sources of a resolved config; None where it asks for no mixture."""
    d = config.data
    return mixture.sources(prepared.train, d.mixture, d.temperature) if d.mixture else None
