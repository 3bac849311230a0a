"""Folders of runs, on this machine or in a bucket (gs://, by etils.epath and fsspec).

A path of either kind has pathlib's methods. What a bucket cannot do is append: lines added to a
file there are kept here and the file is written anew, now and then and at the end, so a kill may
cost the last of them; checkpoints go there by themselves.
"""

import time
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.files import write_atomic

REWRITE = 10.0  # seconds between writes of a file in a bucket


def is_remote(folder: Any) -> bool:
    """Whether a folder is in a bucket."""
    return "://" in str(folder)


def at(folder: Any) -> Path:
    """The path of a folder: pathlib's, or for a bucket epath's, which has the same methods.

    Raises:
      UserError: nothing that is installed reads such an address.
    """
    if not is_remote(folder):
        return Path(folder)
    from etils import epath

    path: Any = epath.Path(folder)
    try:
        path.exists()
    except (ImportError, ValueError) as e:
        said = " ".join(str(e).split())[:120]
        raise UserError(
            f"{folder} cannot be reached ({said}): install what serves its kind, "
            "gcsfs for gs:// (requirements-tpu.txt has it)"
        ) from e
    return path


class Lines:
    """A text file to which lines are added; what is there already stays."""

    def __init__(self, path: Any):
        self.path = path
        if is_remote(path):
            self._text = path.read_text() if path.exists() else ""
            self._written = time.monotonic()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a", buffering=1)  # noqa: SIM115 - closed by close

    def write(self, line: str) -> None:
        """Adds a line, with its end."""
        if not is_remote(self.path):
            self._file.write(line)
            return
        self._text += line
        if time.monotonic() - self._written > REWRITE:
            self.flush()

    def flush(self) -> None:
        """Makes all that was added there for others to read."""
        if is_remote(self.path):
            write_atomic(self.path, self._text)
            self._written = time.monotonic()

    def close(self) -> None:
        self.flush()
        if not is_remote(self.path):
            self._file.close()
