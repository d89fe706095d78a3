"""Unpack untrusted archives, whole or not at all."""

import errno
import gzip
import lzma
import os
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from wkdc.errors import DatasetError, one_line
from wkdc.system.files import most_unpacked_bytes, writing

MAX_MEMBERS = 400_000  # edges2handbags, the largest public set, has 138 767

MAX_LEVELS = 16  # folders in folders, and
MAX_NAME_BYTES = 255  # of each, as file systems have it

_HEADER_BYTES = 2**20  # no tar header is longer
_DIRECTORY_BYTES = 2**25  # the list in a zip file; of 138 767 members it takes about 2**24
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile expands others without a limit
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a version of zip that Python lacks
    KeyError,  # tarfile, on the fields of a sparse file
    RecursionError,  # tarfile, on a chain of headers
    ValueError,
)
_WINDOWS_NAMES = str.maketrans(dict.fromkeys([*map(chr, range(32)), *'<>:"|?*'], "_"))


@dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder", or what else it is, in words for an error
    size_bytes: int
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the .zip or .tar.gz `archive` into `folder`, which must not exist yet.

    Only plain files and folders inside `folder` are made: an archive with an absolute path, `..`,
    a link, a device, an encrypted file or two entries of one name is refused as a whole, and so is
    one that would grow to more than `most_unpacked_bytes`. Whatever
    is raised, `folder` is gone. What macOS adds to archives (`__MACOSX`, `._*`, `.DS_Store`) is
    left out.

    Raises:
        DatasetError: the archive is damaged, empty or refused.
        OutputError: `folder` cannot be written.
    """
    with writing(folder):
        folder.mkdir()
        free_bytes = shutil.disk_usage(folder).free
    members = (_zip_members if archive.name.endswith(".zip") else _tar_members)(archive)
    try:
        with writing(folder), closing(members):
            _unpack(archive, members, folder, free_bytes)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _unpack(archive: Path, members: Iterator[_Member], folder: Path, free_bytes: int) -> None:
    limit_bytes = most_unpacked_bytes(archive)
    total_bytes = files = 0
    try:
        for count, member in enumerate(members, start=1):
            total_bytes += member.size_bytes
            if total_bytes > limit_bytes or count > MAX_MEMBERS or member.size_bytes < 0:
                raise DatasetError(
                    f"{archive.name} is refused: it would unpack to more than {limit_bytes} bytes "
                    f"or {MAX_MEMBERS} members"
                )
            if total_bytes > free_bytes:
                raise OSError(errno.ENOSPC, f"{total_bytes} bytes do not fit on the disk")
            parts = _safe_parts(archive, member)
            if not parts or parts[0] == "__MACOSX" or parts[-1].startswith("._"):
                continue
            if member.kind == "folder":
                folder.joinpath(*parts).mkdir(parents=True, exist_ok=True)
            elif parts[-1] != ".DS_Store":
                files += 1
                _unpack_file(member, folder.joinpath(*parts))
    except _DAMAGED as error:
        raise DatasetError(
            f"{archive.name} is damaged, or is no such archive ({one_line(error)}): try again, or "
            "name another server in WKDC_DATA_URL"
        ) from error
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise DatasetError(
            f"{archive.name} is refused: it has two entries of one name, {one_line(error.filename)}"
        ) from error
    if not files:
        raise DatasetError(f"{archive.name} is refused: it holds no files")


def _safe_parts(archive: Path, member: _Member) -> list[str]:
    """The path of `member` below the folder, in parts, or the error that refuses the archive."""
    name = member.name.replace("\\", "/")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    wrong = member.kind if member.kind not in ("file", "folder") else None
    if name.startswith("/") or re.match(r"[A-Za-z]:/", name):
        wrong = "an absolute path"
    elif ".." in parts:
        wrong = "a path that leaves the folder"
    elif len(parts) > MAX_LEVELS or any(len(os.fsencode(p)) > MAX_NAME_BYTES for p in parts):
        wrong, name = "a path that is too long", f"{name[:60]}..."
    if wrong:
        raise DatasetError(f"{archive.name} is refused, nothing is kept: {name[:200]!r} is {wrong}")
    if os.name == "nt":
        parts = [part.translate(_WINDOWS_NAMES).rstrip(" .") or "_" for part in parts]
    return parts


def _unpack_file(member: _Member, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = member.open()
    if source is None:
        raise EOFError(f"{member.name!r} has no content")
    with source, target.open("xb") as out:  # where case does not count, two names are one
        shutil.copyfileobj(source, out, 2**20)
        if out.tell() != member.size_bytes:
            raise EOFError(f"{member.name!r} is cut short")


def _zip_members(archive: Path) -> Generator[_Member]:
    with (
        archive.open("rb") as plain,
        zipfile.ZipFile(cast(IO[bytes], _Bounded(plain, _DIRECTORY_BYTES))) as file,
    ):
        for info in file.infolist():
            match stat.S_IFMT(info.external_attr >> 16):
                case _ if info.flag_bits & 1:
                    kind = "encrypted"
                case _ if info.compress_type not in _METHODS:
                    kind = f"compressed by method {info.compress_type}"
                case 0 | stat.S_IFREG | stat.S_IFDIR:
                    kind = "folder" if info.filename.endswith(("/", "\\")) else "file"
                case stat.S_IFLNK:
                    kind = "a link"
                case _:
                    kind = "a device"
            yield _Member(info.filename, kind, info.file_size, partial(file.open, info))


def _tar_members(archive: Path) -> Generator[_Member]:
    with gzip.open(archive) as plain:
        bounded = _Bounded(cast(IO[bytes], plain), _HEADER_BYTES, _HEADER_BYTES)
        with tarfile.open(fileobj=cast(IO[bytes], bounded), mode="r:") as file:
            while (info := file.next()) is not None:
                if info.isreg():
                    kind = "a sparse file" if info.issparse() else "file"
                elif info.isdir():
                    kind = "folder"
                else:
                    kind = "a link" if info.issym() or info.islnk() else "a device"
                bounded.left_bytes = info.size + _HEADER_BYTES
                yield _Member(info.name, kind, info.size, partial(file.extractfile, info))
                bounded.left_bytes = _HEADER_BYTES
                file.members.clear()  # type: ignore[attr-defined]  # else tarfile keeps all
        # gzip compares its checksum only at the very end, which tarfile has no reason to reach.
        if len(plain.read(_HEADER_BYTES)) == _HEADER_BYTES:
            raise tarfile.ReadError("it goes on after its end")


class _Bounded:
    """A file for tarfile and zipfile that refuses lists and headers which would fill the memory.

    Attributes:
        most_bytes: of one read.
        left_bytes: of all reads until it is set again; None for any number.
    """

    def __init__(self, file: IO[bytes], most_bytes: int, left_bytes: int | None = None) -> None:
        self._file, self.most_bytes, self.left_bytes = file, most_bytes, left_bytes
        self.tell, self.seek, self.seekable = file.tell, file.seek, file.seekable

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, self.most_bytes + 1) if size >= 0 else self.most_bytes + 1)
        if self.left_bytes is not None:
            self.left_bytes -= len(data)
        if max(size, len(data)) > self.most_bytes or (self.left_bytes or 0) < 0:
            raise tarfile.ReadError(f"a header of {max(size, len(data))} bytes")
        return data
