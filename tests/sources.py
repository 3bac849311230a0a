"""Read the project's own source files."""

import ast
import gc
from functools import cache
from pathlib import Path


@cache
def parsed(path: Path) -> ast.Module:
    """A module's syntax tree.

    The collector rests meanwhile: an object that it ends may log a traceback, which parses code
    too, and CPython 3.11 counts the depth of both parsers in one place and raises SystemError.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()
