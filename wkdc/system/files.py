"""Atomic writing of files and folders, the cache folder, and digests."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wkdc.errors import CheckpointError, OutputError
from wkdc.system.temporary import file_beside, folder_beside

UNPACKED_RATIO = 20
"""Photos hardly compress, and PyTorch does not compress weights at all."""

UNPACKED_FREE_BYTES = 64 * 2**20
"""So that small files may hold plain images, or zeros."""


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

    Parent folders are made. An empty folder at `path` stays, and is filled at the end, one entry
    after the other.

    Raises:
        OutputError: `path` exists and is not an empty folder, or it cannot be written.
    """
    target = path.resolve()  # which has a name, other than "."
    with writing_output(path):
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise OutputError(f"{path} exists; give another folder, or remove it first")
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(target) as made:
            made.chmod(0o777 & ~_umask())
            write(made)
            if target.exists():  # somebody may be in it, and it has permissions of its own
                for entry in made.iterdir():
                    entry.replace(target / entry.name)
            else:
                made.replace(target)


@contextmanager
def _file_beside(path: Path) -> Iterator[Path]:
    """A new file in the folder of `path`, gone at the end; an OSError becomes an OutputError."""
    with writing_output(path), file_beside(path) as temporary:
        temporary.chmod(0o666 & ~_umask())
        yield temporary


@contextmanager
def writing_output(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names the output `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}; give a folder that exists, is writable and has room"
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError of the block into an OutputError that names `path` in the cache."""
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


def most_unpacked_bytes(path: Path) -> int:
    """What a compressed file may unpack to: so many times its size, plus `UNPACKED_FREE_BYTES`."""
    return UNPACKED_RATIO * path.stat().st_size + UNPACKED_FREE_BYTES


def text_of(path: Path) -> str:
    """`path` for a library that takes text alone.

    Raises:
        CheckpointError: its name has bytes that are no text.
    """
    name = str(path)
    if not name.isascii() and name.encode(errors="replace").decode() != name:
        raise CheckpointError(
            f"{path} has bytes in its name that are no text, and the library that has to open it "
            "takes text alone; rename it"
        )
    return name


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, 64 hex digits.

    Raises:
        OSError: it cannot be read; it names the file, also where the system does not.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _umask() -> int:
    """The process's umask; there is no way to read it but to set it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
