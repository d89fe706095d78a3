"""What the command tests share: a small generator, small photos, and the command line itself."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from install_browser import installed_browser
from originals import resnet_state_dict
from PIL import Image
from playwright.sync_api import Browser, sync_playwright
from shared_exports import shared_exports
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

import wkdc
from wkdc.cli import main
from wkdc.data.photos import photo_paths
from wkdc.metrics.distribution import find_extractor

PHOTO_SIZE = (72, 64)  # width and height, as Pillow counts
PHOTOS = 6
HANG_S = 500
"""Longer than anything takes on a busy machine, and less than training that was asked for."""

# A shell's background job has SIGINT ignored, and so would be the commands whose Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # small images are done sooner by one than by several that wait

# npm, which fetches what runs in pages, is one of the packages that the tests bring.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")


@dataclass(frozen=True)
class Called:
    """How one command ended, and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines on stderr that say what went wrong."""
        return [line for line in self.stderr.splitlines() if line.startswith("wkdc:")]


def check_pace(said: dict[str, Any]) -> None:
    """`translate --json`: images a second, of times that are rounded to a thousandth."""
    most, least = (said["translated"] / (said["seconds"] + by) for by in (-0.0006, 0.0006))
    assert least - 0.0006 <= said["per_second"] <= most + 0.0006


class Died(Exception):
    """Stands for a process that ends at once."""


def wait_until(
    ready: Callable[[], object],
    process: "subprocess.Popen[str] | None" = None,
    told: Callable[[], object] = lambda: None,
) -> None:
    """Wait until something is `ready`, while `process` lives; what it `told` says why it died."""
    limit = time.monotonic() + HANG_S
    while not ready():
        assert process is None or process.poll() is None, told()
        assert time.monotonic() < limit
        time.sleep(0.002)


def interrupt(
    *arguments: object,
    when: Callable[[], object],
    folder: Path,
    environment: dict[str, str],
    number: signal.Signals = signal.SIGINT,
) -> tuple[int, str]:
    """Call `wkdc ARGUMENTS` in `folder`, with Ctrl-C, or another signal, at the given moment.

    Returns its exit code and stderr.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "wkdc", *map(str, arguments)],
        cwd=folder,
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(when, process)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=HANG_S)
    return process.returncode, stderr


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a student of it, and photos; tests work on copies."""
    folder = tmp_path_factory.mktemp("made-once")
    torch.save(resnet_state_dict(0, blocks=3, ngf=4), folder / "teacher.pth")
    # Sliced only, it has most to learn.
    wkdc.prune(folder / "teacher.pth", ratio=2, output=folder / "student.pth", calibrate=0)
    (folder / "photos").mkdir()
    for path in photo_paths()[:PHOTOS]:
        with Image.open(path) as photo:
            small = photo.convert("RGB").resize(PHOTO_SIZE)
        small.save(folder / "photos" / f"{path.stem}.png")
    return folder


@pytest.fixture
def teacher(made_once: Path, tmp_path: Path) -> Path:
    """`teacher.pth` in the test's folder: ResNet, 3 blocks, 4 to 16 channels, InstanceNorm."""
    return Path(shutil.copy(made_once / "teacher.pth", tmp_path))


@pytest.fixture
def student(made_once: Path, teacher: Path) -> Path:
    """`student.pth` beside `teacher.pth`, with half of its parameters."""
    return Path(shutil.copy(made_once / "student.pth", teacher.parent))


@pytest.fixture(scope="session")
def exported_once(made_once: Path) -> Path:
    """The student as ONNX; how well it agrees is the matter of test_export."""
    return wkdc.export(made_once / "student.pth", tolerance=0.05).output


@pytest.fixture(scope="session")
def pixels_once(made_once: Path) -> Path:
    """The student as ONNX that takes and gives bytes."""
    output = made_once / "pixels.onnx"
    return wkdc.export(made_once / "student.pth", output=output, pixels=True).output


@pytest.fixture
def onnx_student(exported_once: Path, student: Path) -> Path:
    """`student.onnx` beside `student.pth`."""
    return Path(shutil.copy(exported_once, student.parent))


@pytest.fixture
def photos(made_once: Path, tmp_path: Path) -> Path:
    """The folder `photos` in the test's folder: six real ones, 72 wide and 64 high, as PNG."""
    return Path(shutil.copytree(made_once / "photos", tmp_path / "photos"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The installed Chromium, or Playwright's, with a camera that shows a test pattern."""
    arguments = ["--no-sandbox", *CAMERA]
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=installed_browser(), args=arguments)


LABELS = 5
"""Ids of `label_data`: with the edges, its generators read one channel more."""


@pytest.fixture(scope="session")
def labelled_once(made_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Label maps of the photos, in pix2pixHD's folders; tests work on copies.

    A label is a shade of the photo, an instance (16 bits) a connected part of one; the first four
    photos are for training, the others for testing.
    """
    folder = tmp_path_factory.mktemp("labelled")
    for number, path in enumerate(sorted((made_once / "photos").iterdir())):
        phase = "train" if number < 4 else "test"
        with Image.open(path) as photo:
            coarse = np.asarray(photo.convert("L").resize((18, 16), Image.Resampling.BOX))
            labels = coarse.astype(int) * LABELS // 256
            parts = {
                "label": Image.fromarray(labels.astype(np.uint8)),
                "inst": Image.fromarray(connected(labels).astype(np.uint16)),
                "img": photo.copy(),
            }
        for part, picture in parts.items():
            (folder / f"{phase}_{part}").mkdir(exist_ok=True)
            whole = picture.resize(PHOTO_SIZE, Image.Resampling.NEAREST)
            whole.save(folder / f"{phase}_{part}" / path.name)
    return folder


def connected(labels: "np.typing.NDArray[np.int_]") -> "np.typing.NDArray[np.int_]":
    """A number for every connected part of the same label, from 1000 on."""
    found = np.arange(labels.size).reshape(labels.shape) + 1000
    while True:
        before = found.copy()
        for axis in (0, 1):
            for shift in (1, -1):
                near, same = np.roll(found, shift, axis), np.roll(labels, shift, axis) == labels
                found = np.where(same, np.maximum(found, near), found)
        if (found == before).all():
            return found


@pytest.fixture
def label_data(labelled_once: Path, tmp_path: Path) -> Path:
    """The folder `labelled` in the test's folder, see `labelled_once`."""
    return Path(shutil.copytree(labelled_once, tmp_path / "labelled"))


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a command may see of the outside: an empty cache, no server, and this wkdc."""
    home = str(Path(wkdc.__file__).parents[1])
    return {
        "WKDC_CACHE": str(tmp_path_factory.mktemp("cache")),
        "WKDC_DATA_URL": "http://127.0.0.1:9",  # the port where nobody answers
        "PYTHONPATH": os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def call_wkdc(
    tmp_path: Path,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[..., Called]]:
    """Call `wkdc ARGUMENTS` in this process, in the test's folder."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    on_kill = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Called:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        code = ended.value.code
        out, err = capsys.readouterr()
        return Called(code if isinstance(code, int) else int(code is not None), out, err)

    yield call
    signal.signal(signal.SIGTERM, on_kill)


@pytest.fixture
def run_wkdc(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Called]:
    """Run `python -m wkdc ARGUMENTS` in a process of its own, by default in the test's folder.

    `prepare` is called in that process before Python starts, and `set_` changes its environment.
    """

    def run(
        *arguments: object,
        cwd: Path = tmp_path,
        prepare: Callable[[], None] | None = None,
        set_: dict[str, str] | None = None,
    ) -> Called:
        done = subprocess.run(
            [sys.executable, "-m", "wkdc", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | environment | (set_ or {}),
            capture_output=True,
            text=True,
            timeout=HANG_S,
            preexec_fn=prepare,
        )
        return Called(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session", autouse=True)
def _exports_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The processes of a session share what PyTorch exports."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    (folder / "exports").mkdir(exist_ok=True)
    with shared_exports(folder / "exports"):
        yield


@pytest.fixture
def small_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process measure students on images of 32 pixels, in a tenth of the time."""
    monkeypatch.setattr("wkdc.training.direction.MEASURE_SIZE", 32)


@pytest.fixture
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 128 of EfficientNet's 1280 features: FID takes the root of a matrix of that size."""
    name = find_extractor("efficientnet").name
    extractor = FEATURE_EXTRACTORS_REGISTRY[name]
    forward = extractor.forward
    monkeypatch.setattr(
        extractor, "forward", lambda self, pixels: (forward(self, pixels)[0][:, :128],)
    )
