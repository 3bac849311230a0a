"""Text in cloud storage, copied to a local folder once: every pass then reads it from disk."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.errors import UserError
from data.files import PathLike, atomic_dir, hash_bytes, naming
from data.source import SUFFIXES


def local(path: str, cache: PathLike) -> str:
    """Return where a text is on this machine; one such as gs://bucket/folder is copied to `cache`.

    A copy is found again by the names, sizes and times of what it was made from, and is complete
    or absent. UserError where there is no text, or the storage cannot be reached.
    """
    if "://" not in path:
        return path
    root = remote(path)
    try:
        files = sorted(_walk(root))
        files = [f for f in files if f.name.endswith(SUFFIXES) and not f.name.startswith(".")]
        if not files:
            raise UserError(f"{path}: no text files in it (looked for {', '.join(SUFFIXES)})")
        names = [f.name if f == root else f.relative_to(root).as_posix() for f in files]
        facts = [(f.stat().length, f.stat().mtime) for f in files]
        key = hash_bytes(json.dumps([path, names, facts]).encode())[:16]
        folder = Path(cache) / f"staged-{key}"
        if not folder.exists():
            with atomic_dir(folder) as building:
                for name, file in zip(names, files, strict=True):
                    _copy(file, building / name)
    except OSError as error:
        raise UserError(f"{path}: cannot be copied to {cache} ({error})") from error
    return str(folder)


def _walk(path: Any) -> Iterator[Any]:
    """Yield the files below a path, or itself: etils has no recursive pattern for remote ones."""
    if path.is_dir():
        for below in path.iterdir():
            yield from _walk(below)
    elif path.exists():
        yield path


def remote(path: str) -> Any:
    """The path as etils.epath has it, which knows gs:// and s3://."""
    from etils import epath

    try:
        return epath.Path(path)
    except ImportError as error:
        raise UserError(f"{path}: no access to that storage here ({error})") from error


def _copy(source: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with naming(target), source.open("rb") as data, open(target, "wb") as file:
        shutil.copyfileobj(data, file, 1 << 20)
