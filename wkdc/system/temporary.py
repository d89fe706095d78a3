"""Temporary files and folders; those that a killed process left over are removed by a later one.

Who uses one holds a lock on it, which the system frees when the process dies: what nobody holds is
left over. Where the file system has no such locks, and on Windows, what is left over stays.
"""

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

PREFIX = ".wkdc-scratch-"
"""How the names of scratch folders begin, as no folder of a user does."""

LONGEST = 200
"""Bytes of a name that others can still be added to: file systems allow 255."""


@contextmanager
def file_beside(path: Path) -> Iterator[Path]:
    """An empty file in the folder of `path`, with its ending; gone at the end, unless it was moved.

    It is `.NAME.part.ENDING`, as left over by a process that was killed, or, while another one
    writes that, has a random name.
    """
    part = _part_of(path)
    handle = _take(part, folder=False)
    if handle is None:
        made, name = tempfile.mkstemp(prefix=part.stem + ".", suffix=path.suffix, dir=path.parent)
        os.close(made)
        part = Path(name)
    with _dropped(part, handle):
        yield part


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """An empty folder in the folder of `path`; see `file_beside`."""
    part = _part_of(path)
    handle = _take(part, folder=True)
    if handle is None:
        part = Path(tempfile.mkdtemp(prefix=part.stem + ".", dir=path.parent))
    with _dropped(part, handle):
        yield part


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder where the system keeps temporary files, gone at the end."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            _remove(left, _lock(left, folder=True))
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            handle = _lock(folder, folder=True)
        except BlockingIOError:  # another process took it for one that was left over
            continue
        except OSError:
            handle = None
        break
    with _dropped(folder, handle):
        yield folder


@contextmanager
def libraries_in_scratch() -> Iterator[None]:
    """For the time of the block, libraries have their temporary files in a scratch folder.

    What they leave over where they fail, or are killed, is removed as it is.
    """
    with scratch_folder() as folder:
        before, tempfile.tempdir = tempfile.tempdir, str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before


FILES = 8
"""Files that a library may want to make beside each other."""


@contextmanager
def said_full(size: int) -> Iterator[None]:
    """Where the block fails on a full disk, say so, as libraries do in words of their own, if any.

    Args:
        size: bytes that the block may write where the system keeps temporary files.

    Raises:
        OSError: there is no room for so many.
    """
    try:
        yield
    except Exception:
        check_room(Path(tempfile.gettempdir()), size)
        raise


def check_room(folder: Path, size: int) -> None:
    """Raise OSError unless `folder` has room for so many bytes, and for a few files."""
    full = OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} in {folder}")
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX, dir=folder) as made:
            for number in range(FILES):
                (Path(made) / str(number)).touch()
    except OSError:
        raise full from None
    if shutil.disk_usage(folder).free < size:
        raise full


def _part_of(path: Path) -> Path:
    name = path.name
    if len(os.fsencode(name)) > LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return path.with_name(f".{name}.part{path.suffix}")


def _take(path: Path, *, folder: bool) -> int | None:
    """Make `path`, or empty what was left over there; a handle that holds its lock.

    None where another process holds it, it is none of ours, or it cannot be made or locked.
    """
    made = True
    try:
        if folder:
            path.mkdir(mode=0o700)
        else:
            path.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        made = False
    except OSError:
        return None
    try:
        handle = _lock(path, folder=folder)
    except BlockingIOError:
        return None
    except OSError:
        if made:
            _remove(path, None)
        return None
    if not made:
        try:
            if folder:
                for entry in path.iterdir():
                    _remove(entry, None)
            else:
                os.ftruncate(handle, 0)
        except OSError:
            os.close(handle)
            return None
    return handle


def _lock(path: Path, *, folder: bool) -> int:
    """A handle that holds the lock of `path`.

    Raises:
        BlockingIOError: another process holds it or moved it away, or it is none of ours.
        OSError: it cannot be opened, or not be locked.
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    kind = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_NONBLOCK
    handle = os.open(path, kind | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.fstat(handle)
        alone = folder or (stat.S_ISREG(held.st_mode) and held.st_nlink == 1)
        if not (alone and held.st_uid == os.geteuid() and _is_at(handle, path)):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    except BaseException:
        os.close(handle)
        raise
    return handle


def _is_at(handle: int, path: Path) -> bool:
    """Whether `path` is what the handle was opened for, and not another one in its place."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except OSError:
        return False


@contextmanager
def _dropped(path: Path, handle: int | None) -> Iterator[None]:
    """Remove `path` at the end, unless it was moved and is another process's now."""
    try:
        yield
    finally:
        if handle is None or _is_at(handle, path):
            _remove(path, handle)
        else:
            os.close(handle)


def _remove(path: Path, handle: int | None) -> None:
    """Remove a file or a folder as far as the system lets us, and free its lock."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):  # its folder may have vanished, or become read-only
            path.unlink()
    if handle is not None:
        os.close(handle)
