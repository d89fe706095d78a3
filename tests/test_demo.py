"""The demo: the real CycleGAN generator, the bundled photos, the whole chain."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_pixels, load_square, pixels_to_images
from wkdc.data.photos import photo_paths
from wkdc.demo import SHOWN
from wkdc.inference.runtimes import runtimes_on
from wkdc.metrics.fidelity import psnr_db


def test_the_demo_makes_everything_it_promises(
    call_wkdc: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The network is the real one; the time that pruning takes grows with the photos.
    trained = [path for path in photo_paths() if path.name not in SHOWN][:4]
    shown = [path for path in photo_paths() if path.name in SHOWN]
    monkeypatch.setattr("wkdc.demo.photo_paths", lambda: [*trained, *shown])
    done = call_wkdc("demo", "--steps", 2, "--json")
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    folder = tmp_path / "wkdc-demo"
    for name in ("teacher.pth", "student.pth", "student.onnx", "comparison.png"):
        assert (folder / name).is_file()
    assert said["onnx_max_abs_error"] <= 1e-4
    teacher, _ = said["profile"]["models"]
    # The design's figures: 11.39 M parameters and 49.55 G MACs at 256x256, printed to four digits.
    assert teacher["params"] == pytest.approx(11.39e6, rel=1e-3)
    assert teacher["macs"] == pytest.approx(49.55e9, rel=1e-3)
    assert said["profile"]["speedup"]["params"] == pytest.approx(7, rel=0.02)
    assert set(teacher["latency_ms"]) == {
        f"{name}-cpu" for name in runtimes_on(torch.device("cpu"))
    }
    assert said["student_vs_teacher"]["images"] == len(SHOWN)

    # input | teacher | student at start | student: four rows of four, with titles above.
    sheet = load_pixels(folder / "comparison.png")
    assert sheet.shape == (3, 22 + 4 * 260 - 4, 4 * 260 - 4)
    photo = sorted((folder / "photos" / "testA").iterdir())[0]
    image = load_square(photo, 256)
    with torch.inference_mode():
        target = load_generator(folder / "teacher.pth").network(image)
    cell = pixels_to_images(sheet[:, 22 : 22 + 256, 260 : 260 + 256]).unsqueeze(0)
    # Rounding to 8 bits alone leaves 58.9 dB: an error spread evenly over one step of 2/255.
    assert psnr_db(cell, target) > 58

    again = call_wkdc("demo", "--steps", 2)
    assert again.code == 1
    assert again.errors == [again.stderr.strip()]
    assert "--overwrite" in again.stderr


def test_the_shown_photos_are_bundled_and_never_trained_on() -> None:
    names = {path.name for path in photo_paths()}
    assert set(SHOWN) < names
    manifest = json.loads((photo_paths()[0].parent / "MANIFEST.json").read_text())
    assert {entry["file"] for entry in manifest} == names
    assert {entry["license"] for entry in manifest} <= {"public-domain", "CC0-1.0"}
