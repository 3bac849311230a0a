"""Errors that a person can act on: one line on stderr and exit code 2, never a traceback."""

import argparse
import difflib
import errno
import importlib
import os
import sys
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, NoReturn

OURS = ("configs", "data", "experiments", "lm")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
# What to do about a path that the system refuses.
REMEDIES = dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions or choose another folder"
) | dict.fromkeys(
    (errno.EEXIST, errno.ENOTDIR, errno.EISDIR), "move what is there or choose another path"
)


class UserError(Exception):
    """Something the user can put right; the message names the thing and the remedy in one line."""


def suggest(name: str, choices: Iterable[str]) -> str:
    """Return ' (did you mean "x"?)' for the choice closest to `name`, or ''."""
    close = difflib.get_close_matches(name, list(choices), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def optional(module_name: str, requirements_file: str) -> ModuleType:
    """Import a package that the core does without; UserError names the file that installs it."""
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        raise UserError(
            f'the optional package "{missing}" is not installed; '
            f"install it with: pip install -r {requirements_file}"
        ) from error


class Parser(argparse.ArgumentParser):
    """A command's options: its text as it is written, whole names only, errors in one line."""

    def __init__(self, **options: Any):
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse, but a misspelt option is named before those that are then missing."""
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if name == "--":
                break
            if name.startswith("--") and name not in self._names():
                self.error(f"there is no option {name}{suggest(name, self._names())}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; {self.prog} --help shows all")

    def _names(self) -> set[str]:
        names = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                names |= {name for parser in action.choices.values() for name in parser._names()}
        return names


def explain(error: BaseException) -> str | None:
    """Return the line that a person should read for `error`, or None where it is a bug of ours."""
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package not in OURS:
            return f'the package "{package}" is not installed; see which requirements*.txt lists it'
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        what = f" while writing {error.filename}" if error.filename else ""
        return f"no space left on the device{what}; free some or choose another folder"
    if isinstance(error, OSError) and error.errno in REMEDIES and error.filename:
        return f"{error.filename}: {os.strerror(error.errno).lower()}; {REMEDIES[error.errno]}"
    return None


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run a command's `main` and exit with its code.

    UserError, a full disk, a path that the system refuses and a missing package print one line,
    `error: ...`, and exit 2; Ctrl-C exits 130; a closed pipe ends quietly. Any other exception
    keeps its traceback.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # The interpreter flushes stdout once more at exit; that must not fail a second time.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        code = 2
    sys.exit(code)
