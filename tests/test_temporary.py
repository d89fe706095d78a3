"""What a killed process leaves over is removed by the next, and what another uses is left alone."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from wkdc.errors import OutputError
from wkdc.system.files import write_atomically, write_folder
from wkdc.system.temporary import file_beside, folder_beside, scratch_folder

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")

HOLD = """
import sys, time
from pathlib import Path
from wkdc.system import temporary
with getattr(temporary, sys.argv[1])(*map(Path, sys.argv[2:])) as made:
    (made / "half.bin" if made.is_dir() else made).write_bytes(b"half")
    print(made, flush=True)
    time.sleep(600)
"""


@contextmanager
def held(function: str, *arguments: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """Another process that uses a temporary file or folder, where it is, and the process."""
    command = [sys.executable, "-c", HOLD, function, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().strip()), process
        finally:
            process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_next_process_takes_over_a_file(tmp_path: Path) -> None:
    target = tmp_path / "student.pth"
    with held("file_beside", target) as (left, process):
        assert (left.parent, left.suffix) == (tmp_path, ".pth")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(tmp_path) == [left.name]
        write_atomically(target, lambda temporary: temporary.write_bytes(b"new"))
    assert names(tmp_path) == ["student.pth"]
    assert target.read_bytes() == b"new"


def test_the_next_process_takes_over_a_folder(tmp_path: Path) -> None:
    with held("folder_beside", tmp_path / "page") as (left, process):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert names(left) == ["half.bin"]
        write_folder(tmp_path / "page", lambda made: (made / "whole.bin").write_bytes(b"new"))
    assert names(tmp_path) == ["page"]
    assert names(tmp_path / "page") == ["whole.bin"]


def test_the_next_process_removes_a_scratch_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    theirs = tmp_path / "wkdc-demo"  # which a user keeps there
    theirs.mkdir()
    with held("scratch_folder") as (left, process), scratch_folder() as mine:
        assert names(tmp_path) == sorted([left.name, mine.name, "wkdc-demo"])  # it is alive
        process.send_signal(signal.SIGKILL)
        process.wait()
        with scratch_folder() as other:
            assert names(tmp_path) == sorted([mine.name, other.name, "wkdc-demo"])
    assert names(tmp_path) == ["wkdc-demo"]


@pytest.mark.parametrize("function", [file_beside, folder_beside])
def test_two_processes_do_not_share(function, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "student.pth"
    with held(function.__name__, target) as (other, _):
        with function(target) as mine:
            assert mine != other
            assert names(tmp_path) == sorted([mine.name, other.name])
        assert names(tmp_path) == [other.name]
        assert (other / "half.bin" if other.is_dir() else other).read_bytes() == b"half"


def test_what_was_moved_is_not_removed(tmp_path: Path) -> None:
    """Where the name is free again, another process may have taken it."""
    with file_beside(tmp_path / "a.bin") as first:
        first.rename(tmp_path / "a.bin")
        with file_beside(tmp_path / "a.bin") as second:
            assert second == first
            second.write_bytes(b"of another")
            second.rename(tmp_path / "b.bin")
        first.write_bytes(b"of a third")
    assert names(tmp_path) == [first.name, "a.bin", "b.bin"]


@pytest.mark.parametrize("kind", ["link", "hard link", "folder", "pipe"])
def test_what_is_none_of_ours_stays(kind: str, tmp_path: Path) -> None:
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    with file_beside(tmp_path / "student.pth") as part:
        pass
    match kind:
        case "link":
            part.symlink_to(precious)
        case "hard link":
            part.hardlink_to(precious)
        case "folder":
            part.mkdir()
        case "pipe":
            os.mkfifo(part)
    before = names(tmp_path)
    target = tmp_path / "student.pth"
    write_atomically(target, lambda temporary: temporary.write_bytes(b"new"))
    assert target.read_bytes() == b"new"
    assert precious.read_text() == "precious"
    assert names(tmp_path) == sorted([*before, "student.pth"])


def test_a_name_as_long_as_the_system_allows(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 125 + ".png")  # 254 bytes of 255
    write_atomically(target, lambda temporary: temporary.write_bytes(b"new"))
    assert names(tmp_path) == [target.name]


def test_an_empty_folder_is_filled_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "page").mkdir()
    inside = (tmp_path / "page").stat().st_ino

    def write(made: Path) -> None:
        (made / "whole.bin").write_bytes(b"new")
        assert names(tmp_path / "page") == []

    write_folder(tmp_path / "page", write)
    assert names(tmp_path) == ["page"]
    assert names(tmp_path / "page") == ["whole.bin"]
    assert (tmp_path / "page").stat().st_ino == inside  # with the permissions that it had


def test_the_current_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write_folder(Path(), lambda made: (made / "whole.bin").write_bytes(b"new"))
    assert names(tmp_path / "here") == ["whole.bin"]
    with pytest.raises(OutputError, match="exists; give another folder"):
        write_folder(Path(), lambda made: None)
