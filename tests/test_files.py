"""A file is written whole or not at all, and named by its content."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from wkdc.errors import OutputError
from wkdc.system.files import check_writable, sha256_of, write_atomically


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "student.pth"
    path.write_bytes(b"old, and longer than the new")
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_new_file_appears_with_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new.bin"
    write_atomically(path, lambda temporary: temporary.write_bytes(b"\0new\xff"))
    assert path.read_bytes() == b"\0new\xff"
    assert names(tmp_path) == ["new.bin"]


def test_an_old_file_is_replaced_whole(old: Path) -> None:
    write_atomically(old, lambda temporary: temporary.write_bytes(b"new"))
    assert old.read_bytes() == b"new"
    assert names(old.parent) == ["student.pth"]


def test_the_old_file_stands_until_the_new_one_is_complete_and_synced(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[int, bytes]] = []
    fsync = os.fsync

    def record(handle: int) -> None:
        fsync(handle)
        synced.append((os.fstat(handle).st_ino, old.read_bytes()))

    def write(temporary: Path) -> None:
        assert temporary.parent == old.parent  # another file system could not be renamed from
        assert temporary.suffix == old.suffix  # writers choose the format by it
        temporary.write_bytes(b"new")
        assert old.read_bytes().startswith(b"old")

    monkeypatch.setattr(os, "fsync", record)
    write_atomically(old, write)
    assert (old.stat().st_ino, b"old, and longer than the new") in synced


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), MemoryError()])
def test_what_the_writer_raises_comes_through_and_changes_nothing(
    old: Path, failure: BaseException
) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise failure

    with pytest.raises(type(failure)) as caught:
        write_atomically(old, write)
    assert caught.value is failure
    assert old.read_bytes() == b"old, and longer than the new"
    assert names(old.parent) == ["student.pth"]


def test_a_full_disk_is_an_output_error_and_changes_nothing(old: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .*student\.pth: No space left on device"):
        write_atomically(old, write)
    assert old.read_bytes() == b"old, and longer than the new"
    assert names(old.parent) == ["student.pth"]


def test_a_writer_that_removes_its_file_leaves_the_old_one(old: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_atomically(old, lambda temporary: temporary.unlink())
    assert old.read_bytes() == b"old, and longer than the new"


@pytest.mark.parametrize(
    ("place", "reason"),
    [("missing/x.pth", "No such file"), ("file/x.pth", "Not a directory"), ("folder", "directory")],
)
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, place: str, reason: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=rf"cannot write .*{place}: .*{reason}.*; give a folder"):
        write_atomically(tmp_path / place, lambda temporary: temporary.write_bytes(b"new"))
    assert sorted(names(tmp_path)) == ["file", "folder"]
    assert not names(tmp_path / "folder")


@pytest.mark.parametrize("place", ["missing/x.pth", "file/x.pth", "folder"])
def test_a_place_that_cannot_be_written_is_found_beforehand(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match=rf"cannot write .*{place}: .*; give a folder"):
        check_writable(tmp_path / place)
    assert sorted(names(tmp_path)) == ["file", "folder"]


def test_looking_beforehand_leaves_nothing_behind(old: Path) -> None:
    check_writable(old)
    check_writable(old.with_name("new.pth"))
    assert names(old.parent) == ["student.pth"]
    assert old.read_bytes() == b"old, and longer than the new"


@pytest.fixture
def umask() -> Iterator[None]:
    """The process's mask is put back after the test."""
    mask = os.umask(0o022)
    yield
    os.umask(mask)


@pytest.mark.skipif(os.name != "posix", reason="permissions and umask are POSIX's")
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_permissions_follow_the_umask_and_leave_it_alone(tmp_path: Path, mask: int) -> None:
    os.umask(mask)
    write_atomically(tmp_path / "ours", lambda temporary: temporary.write_bytes(b"new"))
    (tmp_path / "plain").touch()
    ours, plain = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ours", "plain"))
    assert ours == plain == 0o666 & ~mask
    assert os.umask(mask) == mask


@pytest.mark.parametrize(
    ("content", "digest"),  # FIPS 180-2, appendix B.1, and the empty message
    [
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ],
)
def test_sha256_of_published_messages(tmp_path: Path, content: bytes, digest: str) -> None:
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == digest


@pytest.mark.parametrize("size", [1, 2**18 - 1, 2**18, 2**18 + 1, 10**6])
def test_sha256_of_files_around_the_size_of_a_buffer(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "x").write_bytes(content)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_sha256_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    for name, content in (("a", b"same"), ("b", b"same"), ("c", b"Same")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (sha256_of(tmp_path / name) for name in "abc")
    assert a == b != c
