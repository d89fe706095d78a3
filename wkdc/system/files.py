"""Atomic writing of files and folders, the cache folder, and digests."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wkdc.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, sync it, and rename it to `path`.

    If anything fails, the temporary file is removed, and a file at `path` is unchanged.

    Raises:
        OutputError: the folder is missing or read-only, the disk is full, or `path` is a folder.
    """
    with _file_beside(path) as temporary:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


def check_writable(path: Path) -> None:
    """Check, before hours of work, that a file can be written to `path`; none is left.

    Raises:
        OutputError: see `write_atomically`.
    """
    with _file_beside(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def write_folder(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a new folder beside `path`, and rename it to `path`: whole or not at all.

    Parent folders are made. An empty folder at `path` is filled at the end.

    Raises:
        OutputError: `path` exists and is not an empty folder, or it cannot be written.
    """
    made: Path | None = None
    try:
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise OutputError(f"{path} exists; give another folder, or remove it first")
        path.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        made.chmod(0o777 & ~_umask())
        write(made)
        if path.exists():
            for entry in made.iterdir():
                entry.replace(path / entry.name)
        else:
            made.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; give a folder that is writable and "
            "has room"
        ) from error
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _file_beside(path: Path) -> Iterator[Path]:
    """A new file in the folder of `path`, gone at the end; an OSError becomes an OutputError."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        temporary.chmod(0o666 & ~_umask())
        yield temporary
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; give a folder that exists, is writable and has room"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names `path` and what to try."""
    try:
        yield
    except OSError as error:
        hint = "free some space, or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}; {hint}set WKDC_CACHE to a folder "
            "elsewhere"
        ) from error


def cache_folder() -> Path:
    """wkdc's cache folder: WKDC_CACHE, else in the user's cache folder."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("WKDC_CACHE")
    return Path(chosen) if chosen else user_cache_path("wkdc", appauthor=False)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    """The process's umask; there is no way to read it but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
