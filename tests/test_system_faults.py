"""What the system does to commands: full disks, broken files and pipes, odd names, no home.

Each ends in success or in one clear line, and loses nothing.
"""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import failing_writes
import pytest
from conftest import HANG_S, Called, interrupt, wait_until
from PIL import Image

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.system.files import sha256_of
from wkdc.system.units import printable

Call = Callable[..., Called]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="faults as Linux makes them")

SHORT = ("--load-size", "40", "--crop", "32", "--precision", "float32", "--save-every", "1e-9")

ODD = (
    b"a\nb",
    b"\xff\xfe",
    b"\x1b[31mred",
    b"$(touch here)",
    b"-rf",
    b"[bold]",
    "ü".encode() * 110,
)


def one_line(called: Called, *phrases: str) -> None:
    assert called.code == 1, called.stdout + called.stderr
    assert "Traceback" not in called.stderr
    (error,) = called.errors
    assert "unexpected" not in error
    for phrase in phrases:
        assert phrase in error


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


# --- Pipes and terminals ------------------------------------------------------------------------


def run_into(
    stdout: int, stderr: int, arguments: tuple[str, ...], folder: Path, environment: dict[str, str]
) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "wkdc", *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=HANG_S,
    )
    return done.returncode, (done.stderr or b"").decode()


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.mark.parametrize("arguments", ["--help", "info student.pth", "info student.pth --json"])
def test_a_closed_stdout_is_no_traceback(
    arguments: str, student: Path, environment: dict[str, str], closed_pipe: int
) -> None:
    code, said = run_into(
        closed_pipe, subprocess.PIPE, tuple(arguments.split()), student.parent, environment
    )
    assert code in (0, 1)
    assert said == ""


def test_a_full_stdout_is_one_line(student: Path, environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        arguments = ("info", "student.pth", "--json")
        code, said = run_into(
            full.fileno(), subprocess.PIPE, arguments, student.parent, environment
        )
    one_line(Called(code, "", said), "No space left on device", "see that the disk has room")


@pytest.mark.usefixtures("photos")
def test_training_goes_on_where_nobody_reads_its_progress(
    student: Path, environment: dict[str, str], closed_pipe: int
) -> None:
    before = sha256_of(student)
    arguments = ("distill", "--data", "photos", "--steps", "2", *SHORT, "--json")
    code, _ = run_into(subprocess.DEVNULL, closed_pipe, arguments, student.parent, environment)
    assert code == 0
    assert sha256_of(student) != before


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable("a\x1b[31m\n\udcff ü×│") == "a\\x1b[31m\\n\\udcff ü×│"


# --- Names --------------------------------------------------------------------------------------


def test_odd_names(run_wkdc: Call, student: Path, photos: Path) -> None:
    """In a process whose locale knows ASCII alone."""
    folder = student.parent
    photo = next(photos.iterdir())
    (folder / "odd").mkdir()
    for name in ODD:
        shutil.copy(photo, folder / "odd" / os.fsdecode(name + b".png"))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = run_wkdc("translate", "student.pth", "odd", "-o", "out", set_=plain)
    assert done.code == 0, done.stderr
    there, wanted = ({path.name for path in (folder / part).iterdir()} for part in ("out", "odd"))
    assert there == wanted
    done = run_wkdc("translate", "student.pth", "odd", "-o", "out")
    one_line(done, "exists (and 6 more)")
    assert "\x1b" not in done.stderr


def test_broken_images_of_odd_names_are_escaped(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    for name in ODD:
        (photos / os.fsdecode(name + b".png")).write_bytes(b"none")
    done = call_wkdc("translate", "student.pth", "photos", "-o", "out")
    assert done.code == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(lines) == len(ODD)
    assert any("\\udcff\\udcfe.png" in line for line in lines)
    assert any("\\x1b[31mred.png" in line for line in lines)
    assert "\x1b[31mred" not in done.stderr


def test_weights_of_odd_names(call_wkdc: Call, student: Path) -> None:
    for name in (b"[bold]\n\xff", "ü".encode() * 110):
        path = os.fsdecode(name + b".pth")
        shutil.copy(student, student.with_name(path))
        done = call_wkdc("info", path)
        assert done.code == 0, done.stderr
        assert done.stdout.encode()  # no lone surrogate
        assert "[bold]\\n\\udcff.pth" in done.stdout or "ü" * 60 in done.stdout


@pytest.mark.usefixtures("student", "photos")
def test_a_path_of_250_characters(call_wkdc: Call, tmp_path: Path) -> None:
    deep = Path(*["d" * 60] * 4)
    (tmp_path / deep).mkdir(parents=True)
    assert len(str(deep / "student.pth")) > 250
    assert call_wkdc("prune", "teacher.pth", "--ratio", 2, "-o", deep / "student.pth").code == 0
    done = call_wkdc("translate", deep / "student.pth", "photos", "-o", deep / "out")
    assert done.code == 0, done.stderr
    assert len(list((tmp_path / deep / "out").iterdir())) == 6


# --- Home, cache and temporary files ------------------------------------------------------------


@pytest.mark.parametrize("home", ["", "/proc/nothing"])
def test_no_home_and_no_cache(home: str, run_wkdc: Call, student: Path, photos: Path) -> None:
    set_ = {"HOME": home, "WKDC_CACHE": "/proc/nothing", "TERM": "dumb"}
    done = run_wkdc("translate", "student.pth", "photos", "-o", "out", set_=set_)
    assert done.code == 0, done.stderr
    done = run_wkdc("evaluate", "student.pth", "--data", "horse2zebra", set_=set_)
    one_line(done, "cannot write /proc/nothing", "set WKDC_CACHE to a folder elsewhere")


# --- Files that fail ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty_files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A library that is loaded before libc, see faulty_files.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc), which builds the library that makes files fail")
    made = tmp_path_factory.mktemp("shim") / "faulty_files.so"
    source = Path(__file__).with_name("faulty_files.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return str(made)


def failing(library: str, call: str, path: str, number: int, after: int = 0) -> dict[str, str]:
    fault = {"CALL": call, "PATH": path, "ERRNO": str(number), "AFTER": str(after)}
    return {"LD_PRELOAD": library} | {f"FAULT_{name}": value for name, value in fault.items()}


@pytest.mark.usefixtures("student")
def test_weights_that_the_disk_cannot_read(run_wkdc: Call, photos: Path, faulty_files: str) -> None:
    set_ = failing(faulty_files, "read", "student.pth", errno.EIO)
    done = run_wkdc("translate", "student.pth", "photos", "-o", "out", set_=set_)
    one_line(done, "student.pth", "Input/output error")
    assert not (photos.parent / "out").exists()


def test_an_image_that_the_disk_cannot_read_is_left_out(
    run_wkdc: Call, student: Path, photos: Path, faulty_files: str
) -> None:
    first = sorted(photos.iterdir())[0]
    set_ = failing(faulty_files, "read", first.name, errno.EIO)
    done = run_wkdc("translate", "student.pth", "photos", "-o", "out", set_=set_)
    assert done.code == 0, done.stderr
    assert f"skipped: photos/{first.name} cannot be read" in done.stderr
    assert "Input/output error" in done.stderr
    assert len(list((student.parent / "out").iterdir())) == 5


def until_it_succeeds(
    library: str, folder: Path, environment: dict[str, str], *arguments: object
) -> list[dict[str, Any]]:
    """Let the first, the second, ... write of a command fail; see failing_writes.py."""
    done = subprocess.run(
        [sys.executable, failing_writes.__file__, *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment | failing(library, "write", ".part", errno.EIO),
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_outputs_that_the_disk_cannot_write(
    student: Path, photos: Path, environment: dict[str, str], faulty_files: str
) -> None:
    """Whichever write fails: one line, the old file stands, and nothing hidden is left."""
    folder, before = student.parent, sha256_of(student)
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    inputs = {str(path.relative_to(folder)) for path in (*photos.iterdir(), *folder.glob("*.pth"))}
    pruned = ("prune", "teacher.pth", "--ratio", 3, "--calibrate", 0)
    for arguments, named in (
        (pruned, "cannot write student.pth"),
        (("translate", "student.pth", "photos", "-o", "out", "--overwrite"), "cannot write out/"),
    ):
        *failed, last = until_it_succeeds(faulty_files, folder, environment, *arguments)
        assert failed
        for number, tried in enumerate(failed):
            called = Called(tried["code"], "", tried["stderr"])
            one_line(called, named, os.strerror(failing_writes.NUMBERS[number % 2]))
            assert {Path(name).parent.name for name in set(tried["files"]) - inputs} <= {"out"}
            assert not [name for name in tried["files"] if Path(name).name.startswith(".")]
            if arguments == pruned:
                assert tried["files"]["student.pth"] == before
            else:  # images are whole: those of the last try
                made = {name: of for name, of in tried["files"].items() if name not in inputs}
                assert made.items() <= last["files"].items()
        assert not hidden(folder)
    assert load_generator(student).sha256 != before
    assert len(list((folder / "out").iterdir())) == 2


@pytest.mark.usefixtures("photos")
def test_a_clock_that_jumps_back(run_wkdc: Call, student: Path, faulty_files: str) -> None:
    set_ = {"LD_PRELOAD": faulty_files, "CLOCK_BACK_S": "3600"}
    done = run_wkdc("distill", "--data", "photos", "--steps", 3, *SHORT, set_=set_)
    assert done.code == 0, done.stderr
    card = load_generator(student).card
    assert card is not None
    assert 0 <= card["history"][-1]["options"]["seconds"] < HANG_S


def test_images_that_are_cut_off_while_they_are_read(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    """Each image comes out whole, or is named and left out."""
    paths = sorted(photos.iterdir())
    contents = {path: path.read_bytes() for path in paths}
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for path, content in contents.items():
                path.write_bytes(content[: len(content) // 2])
                path.write_bytes(content)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        calls = [
            call_wkdc("translate", "student.pth", "photos", "-o", f"out-{n}") for n in range(3)
        ]
    finally:
        done.set()
        changing.join()
    for number, called in enumerate(calls):
        assert "Traceback" not in called.stderr
        assert "unexpected" not in called.stderr
        out = student.parent / f"out-{number}"
        there = list(out.iterdir()) if out.is_dir() else []
        assert called.code == (0 if there else 1)
        for path in there:
            with Image.open(path) as image:
                image.load()


# --- Disks --------------------------------------------------------------------------------------


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk in memory, with the given options, on `disk` in the test's folder."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting a small disk (tmpfs) needs root and the right to mount")
        return disk

    yield mount
    if disk.is_mount():
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_disk_that_fills(
    mounted: Callable[[str], Path], call_wkdc: Call, student: Path, photos: Path
) -> None:
    """At every point: campaigns/full_disk.py does so with all commands."""
    disk = mounted("size=4k")
    (disk / "s.pth").write_text("old")  # the first page
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    pruning = ("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0, "-o", "disk/s.pth")
    translating = ("translate", "student.pth", "photos", "-o", "disk/out", "--overwrite")
    kilobytes = 4
    # What is no student of ours is kept as s.old.pth first.
    for arguments, named in ((pruning, "disk/s."), (translating, "disk/out/")):
        full = 0
        while (done := call_wkdc(*arguments)).code:
            one_line(done, f"cannot write {named}", "No space left on device", "has room")
            assert (disk / "s.pth").read_bytes() == b"old" or arguments == translating
            for path in disk.glob("out/*"):
                with Image.open(path) as image:
                    image.load()
            assert not hidden(disk)
            full, kilobytes = full + 1, kilobytes + max(4, kilobytes // 16 * 4)  # whole pages
            subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)
        assert full > 1, (arguments, kilobytes)
    assert load_generator(disk / "s.pth").card is not None
    assert len(list((disk / "out").iterdir())) == 2
    before = sha256_of(student)
    done = call_wkdc("distill", "--data", "photos", "--steps", 2, *SHORT, "--runs", "disk/runs")
    assert done.code == 1
    assert len(done.errors) == 1
    assert sha256_of(student) == before
    assert photos.is_dir()


def test_a_disk_that_is_read_only(
    mounted: Callable[[str], Path], call_wkdc: Call, student: Path, photos: Path
) -> None:
    mounted("ro")
    for arguments in (
        ("prune", "teacher.pth", "--ratio", 2, "--calibrate", 0, "-o", "disk/s.pth"),
        ("translate", "student.pth", "photos", "-o", "disk/out"),
        ("distill", "--data", "photos", "--steps", 2, *SHORT, "--runs", "disk/runs"),
        ("evaluate", "student.pth", "--data", "photos", "--size", 64, "--keep", "disk/kept"),
    ):
        one_line(call_wkdc(*arguments), "disk/", "Read-only file system")
    assert photos.is_dir()
    assert student.is_file()


# --- Signals ------------------------------------------------------------------------------------


def start(
    arguments: tuple[object, ...], folder: Path, environment: dict[str, str]
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "wkdc", *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("photos")
def test_sigterm_in_training_saves_the_run(
    student: Path, environment: dict[str, str], call_wkdc: Call
) -> None:
    """Containers send it: as Ctrl-C, with its exit code, and the run can be gone on with."""
    arguments = ("distill", "--data", "photos", "--steps", 60, *SHORT[:-2])
    process = start(arguments, student.parent, environment)
    metrics = student.parent / "runs" / "distill-001" / "metrics.jsonl"
    wait_until(lambda: metrics.exists() and metrics.read_text().count("\n") >= 3, process)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=HANG_S)
    assert process.returncode == 130, stderr
    assert "to go on: wkdc distill --resume runs/distill-001" in stdout
    done = call_wkdc("distill", "--resume", "runs/distill-001")
    assert done.code == 0, done.stderr
    assert metrics.read_text().count("\n") == 60


def test_sigterm_keeps_what_is_translated(
    student: Path, photos: Path, environment: dict[str, str]
) -> None:
    for path in list(photos.iterdir()):
        for number in range(200):
            shutil.copy(path, photos / f"{path.stem}-{number}.png")
    out = student.parent / "out"
    code, stderr = interrupt(
        *("translate", "student.pth", "photos", "-o", "out"),
        when=lambda: out.is_dir() and any(out.glob("[!.]*.png")),
        folder=student.parent,
        environment=environment,
        number=signal.SIGTERM,
    )
    assert code == 130, stderr
    assert "--resume translates the others" in stderr
    for path in out.iterdir():
        with Image.open(path) as image:
            image.load()
    assert not hidden(student.parent)
