"""Our tokenizer as the files that transformers reads, giving the same ids for the same text.

The pieces are written with spaces, not with SentencePiece's U+2581 for them, so that nothing has to
be replaced in a text: what has no piece, U+2581 in it, becomes bytes as with us.
"""

import json
import re
from typing import Any

from data.tokenizer import SPACE, Tokenizer

# Of symbols that no text may produce: below any other way to write one of their names.
NEVER = -10_000.0


def files(tokenizer: Tokenizer, longest: int) -> dict[str, str | bytes]:
    """tokenizer.json and tokenizer_config.json, and our own model for the way back.

    Ids are those of ours for any text that has UTF-8; lone surrogates are refused there. Names of
    control symbols in a text are text; with `split_special_tokens=False` they are symbols.
    """
    names = tokenizer.names
    controls = names[: tokenizer.first_byte]
    named = dict(zip(("pad", "eos", "unk", "cls", "sep", "mask"), controls, strict=False))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{role}_token": name for role, name in named.items()},
        "bos_token": named["eos"],
        "additional_special_tokens": controls[len(named) :],
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_max_length": longest,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    return {
        "tokenizer.json": json.dumps(_definition(tokenizer), ensure_ascii=False) + "\n",
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        "tokenizer.model": tokenizer.model,
    }


def _definition(tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of tokenizer.json."""
    controls = tokenizer.names[: tokenizer.first_byte]
    added = [
        {"id": i, "content": name, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for i, name in enumerate(controls)
    ]
    # The first piece of BPE is the first merge, of score 0; unigram's are logarithms of shares.
    is_bpe = tokenizer.scores[tokenizer.first_byte + 256] == 0
    model, pre_tokenizer = _bpe(tokenizer) if is_bpe else _unigram(tokenizer)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": model,
    }


def _spaced(tokenizer: Tokenizer) -> list[str]:
    return [name.replace(SPACE, " ") for name in tokenizer.names]


def _bpe(tokenizer: Tokenizer) -> tuple[dict[str, Any], None]:
    """SentencePiece joins any two neighbours that make a piece, the best piece first.

    So each piece is a merge for every way to cut it into two; of cuts of one piece the one with the
    longer left part comes first, as where SentencePiece, joining from the left, has made it.
    """
    names, first = _spaced(tokenizer), tokenizer.first_byte + 256
    pieces = sorted(range(first, len(names)), key=lambda i: -tokenizer.scores[i])
    known = {names[i] for i in pieces}
    merges = [
        [names[i][:cut], names[i][cut:]]
        for i in pieces
        for cut in range(len(names[i]) - 1, 0, -1)
        if names[i][:cut] in known and names[i][cut:] in known
    ]
    model = {
        "type": "BPE",
        "unk_token": names[tokenizer.unk],
        "byte_fallback": True,
        "fuse_unk": False,
        "ignore_merges": False,
        "vocab": {name: i for i, name in enumerate(names)},
        "merges": merges,
    }
    return model, None


def _unigram(tokenizer: Tokenizer) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The most probable pieces, as with SentencePiece, but for the names of symbols and bytes.

    Those are in the table with a score that loses against their letters as pieces; a letter that
    has none stands apart before the pieces are looked for, which cuts no piece.
    """
    names, first = _spaced(tokenizer), tokenizer.first_byte + 256
    scores = [NEVER] * first + [float(score) for score in tokenizer.scores[first:]]
    alone = set("".join(names[:first])) - set(names[first:])
    pattern = {"Regex": f"[{re.escape(''.join(sorted(alone)))}]"}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    model = {
        "type": "Unigram",
        "unk_id": tokenizer.unk,
        "byte_fallback": True,
        "vocab": [list(pair) for pair in zip(names, scores, strict=True)],
    }
    return model, split if alone else None
