"""The demo: the real CycleGAN generator, the bundled photos, the whole chain."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Called
from originals import resnet_state_dict

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_pixels, load_square, pixels_to_images
from wkdc.data.photos import photo_paths
from wkdc.demo import SHOWN, teacher_file
from wkdc.distill import StepReport
from wkdc.inference.runtimes import runtimes_on
from wkdc.metrics.fidelity import psnr_db


def check_demo(folder: Path, said: dict[str, Any]) -> None:
    """What the demo promises lies in `folder`; `said` is what it printed with --json."""
    for name in ("teacher.pth", "student.pth", "student.onnx", "comparison.png"):
        assert (folder / name).is_file()
    assert said["onnx_max_abs_error"] <= 1e-4
    teacher, _ = said["profile"]["models"]
    assert said["profile"]["speedup"]["params"] == pytest.approx(7, rel=0.02)
    assert set(teacher["latency_ms"]) == {
        f"{name}-cpu" for name in runtimes_on(torch.device("cpu"))
    }
    assert said["student_vs_teacher"]["images"] == len(SHOWN)
    # input | teacher | student at start | student: four rows of four, with titles above.
    sheet = load_pixels(folder / "comparison.png")
    assert sheet.shape == (3, 22 + 4 * 260 - 4, 4 * 260 - 4)
    image = load_square(sorted((folder / "photos" / "testA").iterdir())[0], 256)
    with torch.inference_mode():
        generated = load_generator(folder / "teacher.pth").network(image)
    shown = pixels_to_images(sheet[:, 22 : 22 + 256, 260 : 260 + 256]).unsqueeze(0)
    # Rounding to 8 bits alone leaves 58.9 dB: an error spread evenly over one step of 2/255.
    assert psnr_db(shown, generated) > 58


@pytest.fixture
def small_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that stands in for vintagify's, with a small generator."""
    resources = tmp_path / "installed" / "vintagify" / "resources"
    resources.mkdir(parents=True)
    (resources.parent / "__init__.py").touch()
    torch.save(resnet_state_dict(0, blocks=3, ngf=8), resources / "G.pth")
    monkeypatch.syspath_prepend(tmp_path / "installed")


@pytest.mark.usefixtures("small_package")
def test_the_demo_makes_everything_it_promises(
    call_wkdc: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole chain, on a small generator, with Ctrl-C while it trains."""

    def stopped(meter: object, report: StepReport) -> None:
        if report.step == 2 and report.phase == "train":
            raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["wkdc.cli.demo"], "show_step", stopped)
    done = call_wkdc("demo", "--steps", 99, "--json")
    assert done.code == 130, done.stderr
    said = json.loads(done.stdout)
    check_demo(tmp_path / "wkdc-demo", said)
    assert (said["steps"], said["interrupted"]) == (2, True)
    again = call_wkdc("demo", "--steps", 2)
    assert again.code == 1
    assert again.errors == [again.stderr.strip()]
    assert "--overwrite" in again.stderr


@pytest.mark.slow
def test_the_real_demo(run_wkdc: Callable[..., Called], tmp_path: Path) -> None:
    """The whole chain on vintagify's generator, as a user calls it."""
    done = run_wkdc("demo", "--steps", 2, "--json", set_={"OMP_NUM_THREADS": "2"})
    assert done.code == 0, done.stderr
    check_demo(tmp_path / "wkdc-demo", json.loads(done.stdout))


def test_the_real_generator_is_what_the_docs_say() -> None:
    found = wkdc.info(teacher_file(), size=(256, 256))
    # The design's figures: 11.39 M parameters and 49.55 G MACs at 256x256, printed to four digits.
    assert found.params == pytest.approx(11.39e6, rel=1e-3)
    assert found.macs == pytest.approx(49.55e9, rel=1e-3)


def test_the_shown_photos_are_bundled_and_never_trained_on() -> None:
    names = {path.name for path in photo_paths()}
    assert set(SHOWN) < names
    manifest = json.loads((photo_paths()[0].parent / "MANIFEST.json").read_text())
    assert {entry["file"] for entry in manifest} == names
    assert {entry["license"] for entry in manifest} <= {"public-domain", "CC0-1.0"}


@pytest.mark.parametrize("name", ["teacher.pth", "photos/trainA/mine.png"])
@pytest.mark.usefixtures("small_package")
def test_the_demo_leaves_the_files_of_others(
    name: str, call_wkdc: Callable[..., Called], tmp_path: Path
) -> None:
    path = tmp_path / "project" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    for more in ((), ("--overwrite",)):
        done = call_wkdc("demo", "project", "--steps", 2, *more)
        assert done.code == 1
        assert done.errors == [f"wkdc: project/{name} is not of the demo; name another folder"]
    files = [file for file in (tmp_path / "project").rglob("*") if file.is_file()]
    assert [(file, file.read_bytes()) for file in files] == [(path, b"mine")]
