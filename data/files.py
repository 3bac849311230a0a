"""Files that are either complete or absent, their hashes, and sizes for people."""

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from data.errors import UserError

PathLike = str | os.PathLike[str]


@contextlib.contextmanager
def naming(path: PathLike) -> Iterator[None]:
    """Give an OSError that names no file (a failed write does not) the path it happened to."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _sibling(path: Path) -> Path:
    """Return a fresh hidden name beside `path`, on the same file system."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: PathLike, content: bytes | str) -> None:
    """Write `content` (text as UTF-8) so that `path` holds all of it or what it held before.

    Parents are made. A remote path such as gs://... is written through etils.epath; object
    stores replace an object as a whole.
    """
    data = content.encode() if isinstance(content, str) else content
    if "://" in str(path):
        from etils import epath

        epath.Path(path).parent.mkdir(parents=True, exist_ok=True)
        epath.Path(path).write_bytes(data)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target)
    try:
        with naming(target):
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(folder: PathLike) -> Iterator[None]:
    """Hold a local folder's lock for the block; UserError where another process holds it.

    The system drops the lock however the process ends. A remote folder, or a system without such
    locks, is not guarded. A folder that was made for this and stays empty goes again.
    """
    if "://" in str(folder):
        yield
        return
    made = not Path(folder).exists()
    Path(folder).mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"{folder}: another process is writing there; wait for it or choose another folder"
            ) from error
        except (ImportError, OSError):
            pass
        yield
    finally:
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                os.rmdir(folder)


@contextlib.contextmanager
def atomic_dir(path: PathLike) -> Iterator[Path]:
    """Yield a new folder beside `path` that becomes `path` when the block ends without an error.

    For content-addressed folders: where another process finished `path` first, its folder stays
    and ours is dropped. After an error nothing is left; a kill leaves a hidden sibling, which
    nothing reads.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(target)
    temporary.mkdir()
    try:
        with naming(target):
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            with contextlib.suppress(FileExistsError):
                _rename_new(temporary, target)
            _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename_new(source: Path, target: Path) -> None:
    """Rename a folder; FileExistsError where the target is there and not empty."""
    try:
        os.rename(source, target)
    except OSError:
        if target.is_dir():
            raise FileExistsError(str(target)) from None
        raise


def hash_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def hash_file(path: PathLike) -> str:
    """Return the SHA-256 of a file's content in hexadecimal, read in pieces."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def human_bytes(count: float) -> str:
    """Write a number of bytes for people, in decimal units: 999 B, 12.3 kB, 4.0 MB."""
    return human_count(count, " ", "kMGTPE") + "B"


def human_count(count: float, space: str = "", units: str = "kMBTPE") -> str:
    """Write a count for people, in three or four digits: 999, 12.3k, 4.0M, 1.2B."""
    unit = ""
    for larger in units:
        if abs(count) < 999.95:
            break
        count, unit = count / 1000, larger
    number = f"{count:.1f}" if unit else f"{count:.0f}"
    return f"{number}{space}{unit}"
