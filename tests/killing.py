"""Commands that are killed at random moments, and what is there after the next one.

A command runs in a process of its own that is forked from one in which PyTorch is loaded: so the
moments fall into its work, and not into the seconds in which Python starts.
"""

import atexit
import hashlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from moving import make_video, photo_frames
from originals import resnet_state_dict
from PIL import Image

import wkdc
import wkdc.training.direction
from wkdc.cli import main
from wkdc.data.photos import photo_paths
from wkdc.data.video_reading import VideoReader, open_video
from wkdc.onnx.file import OnnxNetwork
from wkdc.phones.ncnn import NcnnNetwork

SIDE = 64
"""Height and width of the images."""

FRAMES = 24

SOON_S = 0.03
"""Half of the kills come within these seconds of a temporary file's appearance."""

TRAINING = ("--crop", "32", "--load-size", "40", "--precision", "float32", "--save-every", "1e-9")

TRIES = 20
"""Commands that may end before their kill, one after the other."""

Command = tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """A command that is killed.

    Attributes:
        command: what is killed.
        again: what a user types then, once the moment is past; by default the same.
        outputs: what it writes.
        check: raises an error where one of them, which is there, is not whole.
    """

    command: Command
    outputs: tuple[str, ...]
    check: Callable[[Path], None]
    again: Command = ()

    @property
    def exact(self) -> bool:
        """Whether it makes the same weights or pixels each time; others say when they were made."""
        return not self.outputs[0].endswith((".onnx", ".param", ".html"))


class Lost(Exception):
    """Something is not as it is promised to be."""


def _need(holds: object, what: str) -> None:
    if not holds:
        raise Lost(what)


def check_weights(path: Path) -> None:
    network = wkdc.load_generator(path).network
    with torch.inference_mode():
        images = network(torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32))
    _need(images.isfinite().all(), f"{path.name} generates no numbers")


def _near(path: Path, exported: Callable[[torch.Tensor], torch.Tensor]) -> None:
    student = wkdc.load_generator(path.parent / "student.pth")
    images = torch.linspace(-1, 1, 3 * SIDE * SIDE).reshape(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        difference = float((student.network(images) - exported(images)).abs().max())
    # What export itself allows these files.
    _need(difference < 0.05, f"{path.name} is {difference} from its student")


def _images(folder: Path) -> None:
    for path in folder.rglob("[!.]*.png"):
        with Image.open(path) as image:
            image.load()
            _need(image.size == (SIDE, SIDE), f"{path.name} is of another size")


def _kept(folder: Path) -> None:
    _images(folder)
    counts = [len(list(part.iterdir())) for part in folder.iterdir()]
    _need(counts == [8, 8, 8], f"{folder.name} holds {counts} images")


def _video(path: Path) -> None:
    with open_video(path) as (container, stream):
        count = sum(1 for _ in VideoReader(path, container, stream, 3).frames())
    _need(count == FRAMES, f"{path.name} has {count} frames")


def _page(path: Path) -> None:
    _need(path.read_text(encoding="utf-8").rstrip().endswith("</html>"), "the page is cut off")


KINDS = {
    "prune": Kind(
        ("prune", "teacher.pth", "--ratio", "2", "--calibrate", "4", "-o", "new.pth"),
        ("new.pth",),
        check_weights,
    ),
    "distill": Kind(
        ("distill", "--data", "photos", "--output", "new.pth", "--steps", "16", *TRAINING),
        ("new.pth",),
        check_weights,
        ("distill", "--resume", "runs/distill-001"),
    ),
    "train": Kind(
        (
            *("train", "--data", "unpaired", "--output", "new.pth", "--steps", "8", "--ngf", "4"),
            *("--ndf", "4", "--blocks", "1", *TRAINING),
        ),
        ("new.pth", "new-reverse.pth"),
        check_weights,
        ("train", "--resume", "runs/train-001"),
    ),
    "export, onnx": Kind(
        ("export", "student.pth", "--onnx", "--tolerance", "0.05", "-o", "new.onnx"),
        ("new.onnx",),
        lambda path: _near(path, OnnxNetwork(path)),
    ),
    "export, ncnn": Kind(
        ("export", "student.pth", "--ncnn", "--tolerance", "0.05", "-o", "new.ncnn.param"),
        ("new.ncnn.param",),
        lambda path: _near(path, NcnnNetwork(path)),
    ),
    "translate, folder": Kind(
        ("translate", "student.pth", "many", "-o", "new"),
        ("new",),
        _images,
        ("translate", "student.pth", "many", "-o", "new", "--resume"),
    ),
    "translate, video": Kind(
        ("translate", "student.pth", "video.mp4", "-o", "new.mp4"), ("new.mp4",), _video
    ),
    "evaluate": Kind(
        ("evaluate", "student.pth", "--data", "photos", "--size", "64", "--keep", "new"),
        ("new",),
        _kept,
    ),
    "report": Kind(
        (
            *("report", "student.pth", "--data", "photos", "--size", "64", "--count", "2"),
            *("-o", "new.html"),
        ),
        ("new.html",),
        _page,
    ),
}
"""What is killed, on a teacher of 2 blocks and 4 channels, and images of 64x64."""

IN_TURN = (
    *("distill", "translate, folder", "prune", "translate, video", "train", "evaluate"),
    *("translate, folder", "export, ncnn", "translate, video", "distill", "prune"),
    *("translate, folder", "export, onnx", "translate, video", "train", "report"),
)
"""Which kind is killed next; those that take longest here have fewer turns."""


def prepare(folder: Path) -> None:
    """Fill a new folder with what the commands read."""
    for part in ("photos", "many", "unpaired/trainA", "unpaired/trainB"):
        (folder / part).mkdir(parents=True)
    torch.save(resnet_state_dict(0, blocks=2, ngf=4), folder / "teacher.pth")
    wkdc.prune(folder / "teacher.pth", ratio=2, output=folder / "student.pth", calibrate=0)
    for number, path in enumerate(photo_paths()[:8]):
        with Image.open(path) as photo:
            small = photo.convert("RGB").resize((SIDE, SIDE))
        small.save(folder / "photos" / path.with_suffix(".png").name)
        small.save(folder / "unpaired" / ("trainA", "trainB")[number % 2] / f"{number}.png")
        for turn in range(24):
            small.rotate(15 * turn).save(folder / "many" / f"{number}-{turn}.png")
    make_video(folder / "video.mp4", photo_frames(FRAMES, (SIDE, SIDE)))


def start(command: Sequence[str], folder: Path) -> int:
    """Fork a process that runs `wkdc COMMAND` in `folder`; its id."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.chdir(folder)
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(log, number)
        tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
        wkdc.training.direction.MEASURE_SIZE = 32  # students are measured on small images
        main(command)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # as at the end of any process
        os._exit(code)


def call(command: Sequence[str], folder: Path) -> tuple[int, str]:
    """Run `wkdc COMMAND` to its end; its exit code, and what it printed."""
    (folder / "log.txt").unlink(missing_ok=True)
    _, status = os.waitpid(start(command, folder), 0)
    return os.waitstatus_to_exitcode(status), (folder / "log.txt").read_text()


def call_well(command: Sequence[str], folder: Path) -> None:
    """Run `wkdc COMMAND`, which has to succeed.

    Raises:
        Lost: it does not.
    """
    code, said = call(command, folder)
    _need(code == 0, f"wkdc {' '.join(command)} ended with {code}: {said.strip()[-300:]}")


def kill_once(command: Sequence[str], folder: Path, seconds: float, pick: random.Random) -> bool:
    """Start `wkdc COMMAND` and kill it at a random moment; whether it still ran then.

    Args:
        seconds: that it takes to its end.
    """
    soon, delay = pick.random() < 0.5, pick.uniform(0, seconds)
    before = set(_temporary(folder))
    child = start(command, folder)
    began = time.monotonic()
    if soon:
        while not set(_temporary(folder)) - before and time.monotonic() - began < 2 * seconds + 5:
            if os.waitpid(child, os.WNOHANG)[0]:
                return False
            time.sleep(0.001)
        delay = pick.uniform(0, SOON_S)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def _temporary(folder: Path) -> list[Path]:
    """Files and folders that a command makes for the time of its work."""
    scratch = folder / "tmp"
    in_scratch = list(scratch.iterdir()) if scratch.is_dir() else []
    return [path for path in folder.rglob(".*.part*") if scratch not in path.parents] + in_scratch


def made_by(kind: Kind, folder: Path) -> dict[str, str]:
    """Digests of what was written; of weights alone where a file also says when it was made."""
    found: dict[str, str] = {}
    for name in kind.outputs:
        path = folder / name
        for file in [path] if path.is_file() else sorted(path.rglob("*.png")):
            content = file.read_bytes()
            if file.suffix == ".pth":
                weights = wkdc.load_generator(file).network.state_dict()
                content = b"".join(one.numpy().tobytes() for one in weights.values())
            found[str(file.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found


@dataclass(frozen=True)
class Whole:
    """What an uninterrupted command takes and makes."""

    seconds: float
    digests: dict[str, str]


def run_whole(kind: Kind, prepared: Path, folder: Path) -> Whole:
    """Run a command to its end in `folder`, a new copy of `prepared`."""
    shutil.copytree(prepared, folder)
    began = time.monotonic()
    call_well(kind.command, folder)
    return Whole(time.monotonic() - began, made_by(kind, folder))


def kill_and_go_on(
    name: str, whole: Whole, prepared: Path, folder: Path, pick: random.Random
) -> int:
    """Kill a command, and what it is gone on with, and let the latter end then; how many kills.

    Works in `folder`, a new copy of `prepared`.

    Raises:
        Lost: with what was found not to be as promised.
    """
    kind = KINDS[name]
    shutil.copytree(prepared, folder)
    kills, command = 0, kind.command
    wanted = pick.randint(2, 8) if _resumes(kind) else pick.randint(1, 3)
    for _ in range(TRIES):
        if kills == wanted:
            break
        if kill_once(command, folder, whole.seconds, pick):
            kills += 1
            _check_whole(kind, folder)
            command = _next(kind, folder)
        elif kills:  # it went on to its end
            break
        else:
            shutil.rmtree(folder)
            shutil.copytree(prepared, folder)
    _go_on(kind, folder)
    for path in kind.outputs:
        _need((folder / path).exists(), f"{path} is not there after the next command")
    _check_whole(kind, folder)
    if kind.exact:
        _need(
            made_by(kind, folder) == whole.digests,
            f"{name} made other files than an uninterrupted run",
        )
    left = [str(path.relative_to(folder)) for path in _temporary(folder)]
    ours = [path for path in left if re.search(r"\.part|wkdc-", path)]
    _need(not ours, f"left over: {ours}")
    return kills


def _next(kind: Kind, folder: Path) -> Command:
    """What a user types after a kill: a run that has no options yet is started again."""
    if _resumes(kind) and not (folder / kind.again[2] / "options.json").exists():
        shutil.rmtree(folder / "runs", ignore_errors=True)
        return kind.command
    return kind.again or kind.command


def _go_on(kind: Kind, folder: Path) -> None:
    command = _next(kind, folder)
    code, said = call(command, folder)
    # It was killed after its last step, or had gone on to its end.
    ended = "came to its end" in said or (command == kind.command and " exists" in said)
    _need(not code or ended, f"wkdc {' '.join(command)} ended with {code}: {said.strip()[-300:]}")


def _check_whole(kind: Kind, folder: Path) -> None:
    """What is there under its name is whole, as another process sees it."""
    said = folder / "tmp-check.txt"
    child = os.fork()
    if not child:
        try:
            for path in filter(Path.exists, (folder / name for name in kind.outputs)):
                kind.check(path)
            for path in folder.glob("runs/*/checkpoints/[!.]*.pth"):
                check_weights(path)
        except BaseException as error:
            said.write_text(f"{type(error).__name__}: {error}")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    _need(status == 0, f"not whole: {said.read_text() if said.exists() else status}")


def two_at_once(name: str, whole: Whole, prepared: Path, folder: Path, pick: random.Random) -> str:
    """Run a command twice at once in one folder: `refused` is one of them, or `both` end well.

    Of a run that can be resumed, one is killed before, and resumed twice.

    Raises:
        Lost: both fail, or what is there is not whole.
    """
    kind = KINDS[name]
    shutil.copytree(prepared, folder)
    command = kind.command
    if _resumes(kind) and kill_once(command, folder, whole.seconds / 2, pick):
        command = _next(kind, folder)
    (folder / "log.txt").unlink(missing_ok=True)
    children = [start(command, folder) for _ in range(2)]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    said = (folder / "log.txt").read_text()
    _need(0 in codes, f"two at once ended with {codes}: {said[-300:]}")
    _need("Traceback" not in said and "unexpected" not in said, said[-300:])
    _check_whole(kind, folder)
    if kind.exact:
        _need(made_by(kind, folder) == whole.digests, f"{name} twice made others")
    return "both" if codes == [0, 0] else "refused"


def _resumes(kind: Kind) -> bool:
    """Whether it makes a run folder, from which it goes on."""
    return kind.again[1:2] == ("--resume",)
