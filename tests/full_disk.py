"""Commands on a disk in memory that fills, a little later each time, until they succeed.

A command works in a folder in which `disk` is mounted; its outputs, and the temporary files of the
system, are on that disk, its inputs and its log are not. Needs root, which may mount.
"""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from killing import TRAINING, Command, Lost, call, check_weights
from PIL import Image

PAGE = 4096
"""Bytes in which a disk in memory gives room away."""

OLD = b"the old file"


@dataclass(frozen=True)
class Kind:
    """A command, and what it writes on the disk.

    Attributes:
        replaced: files that are there before.
        made: files and folders that are not, and are made whole or not at all.
        again: what a user types once there is room; by default the same.
    """

    command: Command
    replaced: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    again: Command = ()


def kinds(runtime_files: Path | None) -> dict[str, Kind]:
    """What is tried, by name.

    Args:
        runtime_files: what a web page needs; None leaves that out.
    """
    export = ("export", "student.pth", "--tolerance", "0.05")
    measured = ("student.pth", "--data", "photos", "--size", "64")
    trained = ("--output", "disk/new.pth", "--runs", "disk/runs", "--steps", "3", *TRAINING)
    small = ("--ngf", "4", "--ndf", "4", "--blocks", "1")
    found = {
        "prune": Kind(
            ("prune", "teacher.pth", "--ratio", "2", "--calibrate", "4", "-o", "disk/new.pth"),
            ("disk/new.pth",),
        ),
        "distill": Kind(
            ("distill", "--data", "photos", "--cache", "disk/cache", *trained),
            ("disk/new.pth",),
            again=("distill", "--resume", "disk/runs/distill-001"),
        ),
        "train": Kind(
            ("train", "--data", "unpaired", *trained, *small),
            made=("disk/new.pth", "disk/new-reverse.pth"),
            again=("train", "--resume", "disk/runs/train-001"),
        ),
        "translate, folder": Kind(
            ("translate", "student.pth", "photos", "-o", "disk/new"),
            made=("disk/new",),
            again=("translate", "student.pth", "photos", "-o", "disk/new", "--resume"),
        ),
        "translate, 16 bits": Kind(
            (*("translate", "student.pth", "photos/0.png", "--depth", "16"), "-o", "disk/new.tif"),
            made=("disk/new.tif",),
        ),
        "translate, animation": Kind(
            ("translate", "student.pth", "moving.gif", "-o", "disk/new.webp"),
            made=("disk/new.webp",),
        ),
        "translate, video": Kind(
            ("translate", "student.pth", "video.mp4", "-o", "disk/new.mp4", "--overwrite"),
            ("disk/new.mp4",),
        ),
        "export, onnx": Kind((*export, "--onnx", "-o", "disk/new.onnx"), ("disk/new.onnx",)),
        "export, int8": Kind(
            ("export", "student.pth", "--int8", "--tolerance", "2", "-o", "disk/new.onnx"),
            ("disk/new.onnx",),
        ),
        "export, ncnn": Kind(
            (*export, "--ncnn", "-o", "disk/new.ncnn.param"),
            ("disk/new.ncnn.param", "disk/new.ncnn.bin", "disk/new.ncnn.json"),
        ),
        "export, coreml": Kind(
            (*export, "--coreml", "-o", "disk/new.mlpackage"), made=("disk/new.mlpackage",)
        ),
        "export, triton": Kind((*export, "--triton", "disk/new"), made=("disk/new/student",)),
        "evaluate": Kind(("evaluate", *measured, "--keep", "disk/new"), made=("disk/new",)),
        "analyze": Kind(("analyze", *measured, "--figure", "disk/new.svg"), ("disk/new.svg",)),
        "compare": Kind(("compare", *measured, "-o", "disk/new.png"), ("disk/new.png",)),
        "report": Kind(
            ("report", *measured, "--count", "1", "-o", "disk/new.html"), ("disk/new.html",)
        ),
        "profile": Kind(
            ("profile", "student.pth", "--size", "64", "--rounds", "2", "--layers"),
        ),
    }
    if runtime_files is not None:
        web = (*export, "--web", "disk/new", "--runtime-files", str(runtime_files))
        found["export, web"] = Kind(web, made=("disk/new",))
    return found


@dataclass
class Found:
    """What became of one kind: how often it had no room, and what it said then."""

    full: int = 0
    said: set[str] = field(default_factory=set)


@contextmanager
def mounted(disk: Path, **limits: int) -> Iterator[Callable[[int], None]]:
    """A disk in memory at `disk`, with tmpfs's `limits`; what is yielded changes its size."""
    disk.mkdir(exist_ok=True)
    options = ",".join(f"{name}={value}" for name, value in limits.items())
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True)

    def resize(size: int) -> None:
        options = f"remount,size={size},nr_inodes=0"
        subprocess.run(["mount", "-o", options, "tmpfs", disk], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def fill(kind: Kind, folder: Path, growth: int, *, files: bool = False) -> Found:
    """Run a command on fuller and fuller disks, from no room until it succeeds.

    Args:
        folder: with the inputs.
        growth: the room grows by one part in so many, and by a page at least.
        files: whether there is room for so many files, of any size, instead of bytes.

    Raises:
        Lost: with what was found not to be as promised.
    """
    found, room = Found(), 0
    inputs = _digests(folder)
    disk = folder / "disk"
    while True:
        taken = len(kind.replaced) + (2 if files else 0)  # the root and the folder `tmp`
        limits = {"nr_inodes": taken + room} if files else {"size": PAGE * max(1, taken) + room}
        with mounted(disk, **limits) as resize:
            for name in kind.replaced:
                (folder / name).write_bytes(OLD)
            (disk / "tmp").mkdir()
            code, said = call(kind.command, folder)
            where = f"{'files' if files else 'bytes'} {room}: "
            if code == 0:
                _check_made(kind, folder, where)
                return found
            found.full += 1
            found.said.add(_check_full(kind, folder, code, said, where))
            _need(_digests(folder) == inputs, f"{where}an input changed")
            if found.full in (1, 4, 12):  # and what a user does then
                resize(2**30)
                _go_on(kind, folder, where)
        room += 1 if files else max(PAGE, room // growth // PAGE * PAGE)


def _check_full(kind: Kind, folder: Path, code: int, said: str, where: str) -> str:
    """What a command said that ended for want of room, in which nothing was lost."""
    errors = [line for line in said.splitlines() if line.startswith("wkdc:")]
    _need(code == 1 and len(errors) == 1, f"{where}ended with {code}: {said[-600:]}")
    _need("unexpected" not in said and "Traceback" not in said, f"{where}{said[-600:]}")
    _need("No space left" in errors[0], f"{where}does not say why: {errors[0]}")
    learned = "; stopped after step" in errors[0]  # it is kept, as after Ctrl-C
    for name in kind.replaced:
        if (folder / name).read_bytes() != OLD:
            _need(learned, f"{where}{name} is not the old file")
            _check_whole(folder / name, where)
    for name in kind.made:
        _check_whole(folder / name, where)
        many = kind.again and (folder / name).is_dir()  # each of whose files is whole
        _need(many or learned or not (folder / name).exists(), f"{where}{name} is there in part")
    left = [path.relative_to(folder / "disk") for path in _left(folder)]
    _need(not left, f"{where}left over: {[str(path) for path in left]}")
    return re.sub(r"[\d.]+", "N", errors[0])


def _check_made(kind: Kind, folder: Path, where: str) -> None:
    for name in (*kind.replaced, *kind.made):
        path = folder / name
        _need(path.exists(), f"{where}{name} is not there")
        _need(path.is_dir() or path.read_bytes() != OLD, f"{where}{name} was not written")
        _check_whole(path, where)
    _need(not _left(folder), f"{where}left over at the end: {_left(folder)}")


def _check_whole(path: Path, where: str) -> None:
    try:
        for file in [path] if path.is_file() else filter(Path.is_file, path.rglob("[!.]*")):
            if file.suffix in (".png", ".webp"):
                with Image.open(file) as image:
                    image.load()
            elif file.suffix == ".pth":
                check_weights(file)
    except Exception as error:
        raise Lost(f"{where}{path.name} is not whole: {error}") from error


def _go_on(kind: Kind, folder: Path, where: str) -> None:
    """The next command, with room."""
    command = kind.again or kind.command
    run = folder / command[2] if command[1] == "--resume" else None
    if run is not None and not (run / "options.json").exists():
        shutil.rmtree(folder / "disk" / "runs", ignore_errors=True)
        command = kind.command
    code, said = call(command, folder)
    ended = "came to its end" in said
    _need(code == 0 or ended, f"{where}with room, ended with {code}: {said[-600:]}")
    _check_made(kind, folder, where)


def _left(folder: Path) -> list[Path]:
    """What has no business on the disk after a command."""
    disk = folder / "disk"
    hidden = [path for path in disk.rglob(".*") if path.parent != disk / "tmp"]
    return [*hidden, *(disk / "tmp").iterdir()]


def _digests(folder: Path) -> dict[str, str]:
    """Of the inputs."""
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "disk"]
        for path in (Path(parent, name) for name in names if name != "log.txt"):
            if not path.is_symlink():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _need(holds: object, what: str) -> None:
    if not holds:
        raise Lost(what)
