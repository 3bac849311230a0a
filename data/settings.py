"""Config files and their overrides on a command line, for commands of every room.

A config is an ml_collections ConfigDict built by one file of `configs/`.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from data.errors import UserError, suggest


def load(argv: Sequence[str], usage: str, **extra: tuple[Any, str]) -> tuple[ConfigDict, Any]:
    """Parses `--config=FILE[:ARG] --config.FIELD=VALUE` and further flags of a command.

    `usage` is printed by --help; `extra` maps a flag's name to (default, help). Returns the config
    (locked, not yet resolved) and the parsed flags. Raises UserError for a misspelt or wrong flag.
    """
    if "--help" in argv or "-h" in argv:
        print_help(usage, extra)
        sys.exit(0)
    source = next((a.partition("=")[2] for a in argv if re.match(r"--?config=", a)), "")
    if not source:
        raise UserError("--config=FILE[:ARG] is missing, e.g. --config=configs/gpt.py:tiny")
    default = read_config(source)
    check_fields(default, [a for a in argv if re.match(r"--?config\.", a)])
    values = flags.FlagValues()
    rest = [a for a in argv if not re.match(r"--?config=", a)]
    config_flags.DEFINE_config_dict(
        "config", default, flag_values=values, sys_argv=rest, lock_config=True
    )
    for name, (value, text) in extra.items():
        define = flags.DEFINE_boolean if isinstance(value, bool) else flags.DEFINE_string
        define(name, value, text, flag_values=values)
    try:
        stray = values(rest)[1:]
    except (flags.Error, TypeError, ValueError) as e:
        raise UserError(" ".join(str(e).split())) from e
    if stray:
        raise UserError(f"unexpected argument {stray[0]!r}: options are written --name=value")
    return values.config, values


def print_help(usage: str, extra: dict[str, tuple[Any, str]]) -> None:
    """A command's own help: its docstring and its flags."""
    print(usage.strip() + "\n")
    print("  --config=FILE[:ARG]    a file of configs/ and the preset in it")
    print("  --config.FIELD=VALUE   changes one field of it, e.g. --config.steps=200")
    for name, (default, text) in extra.items():
        print(f"  --{name:<20} {text}" + (f" (default: {default})" if default else ""))


def read_config(source: str) -> ConfigDict:
    """The config that `FILE[:ARG]` names; FILE may be a run's own config.json.

    Raises:
      UserError: no such file or preset, or no get_config in it.
    """
    if source.endswith(".json"):
        return ConfigDict(read_json(Path(source)))
    path, _, arg = source.partition(":")
    if not Path(path).is_file():
        files = ", ".join(sorted(str(p) for p in Path("configs").glob("[a-z]*.py")))
        raise UserError(
            f"--config: there is no file {path}" + (f"; there are {files}" if files else "")
        )
    spec = importlib.util.spec_from_file_location("_config_file", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        get_config = module.get_config
    except (SyntaxError, AttributeError, ImportError) as e:
        raise UserError(f"--config: {path} is not a config file ({e})") from e
    try:
        return get_config(arg) if arg else get_config()
    except ValueError as e:
        raise UserError(f"--config: {e}") from e


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, such as the config that a run has saved.

    Raises:
      UserError: there is no such file, or it is not one JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is not there: give the folder of a run or a model, which has one"
        ) from None
    except ValueError as e:
        raise UserError(f"{path} is not readable JSON ({e})") from e
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def check_fields(config: ConfigDict, overrides: Sequence[str]) -> None:
    """Raises UserError for a `--config.FIELD` that there is not, with the nearest name."""
    known = flatten(config.to_dict())
    for override in overrides:
        path = re.sub(r"^--?config\.", "", override).partition("=")[0]
        if path not in known:
            raise UserError(f"--config.{path}: no such field{suggest(path, known)}")


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        flat |= flatten(value, path + ".") if isinstance(value, dict) else {path: value}
    return flat
