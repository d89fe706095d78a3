"""What a student misses is found where it was taken away."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called
from PIL import Image

import wkdc
from wkdc.metrics.fidelity import BandEnergies, mean_band_errors

Call = Callable[..., Called]


def test_energies_of_a_image_and_its_blur() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(image, 2).repeat_interleave(2, 2)
    blurred = blurred.repeat_interleave(2, 3)  # means of 2x2: what the first level's low band holds
    bands = BandEnergies()
    bands.add(blurred, image)
    shares, errors = bands.shares(), bands.errors()
    for name in ("lh1", "hl1", "hh1"):
        # All of this is gone; float32 sums.
        assert shares[name] == pytest.approx(0, abs=1e-10)
        assert errors[name] == pytest.approx(1, abs=1e-5)
    for name in set(shares) - {"lh1", "hl1", "hh1"}:
        assert shares[name] == pytest.approx(1, abs=1e-5)
        assert errors[name] == pytest.approx(0, abs=1e-5)


def test_energies_of_equal_scaled_and_empty_images() -> None:
    torch.manual_seed(0)
    image, nothing = torch.randn(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    half = BandEnergies()
    half.add(image / 2, image)
    # Linear: half of each coefficient, a quarter of its energy.
    assert list(half.shares().values()) == pytest.approx([0.25] * 13)
    assert half.errors() == pytest.approx(mean_band_errors([(image / 2, image)]))
    assert list(half.errors().values()) == pytest.approx([0.5] * 13)
    empty = BandEnergies()
    empty.add(nothing, nothing)
    assert set(empty.errors().values()) == {0.0}
    assert set(empty.shares().values()) == {1.0}
    empty.add(image, nothing)
    assert set(empty.errors().values()) == {float("inf")}


def test_a_student_is_compared_band_by_band(
    call_wkdc: Call, student: Path, onnx_student: Path, photos: Path
) -> None:
    arguments = (student, onnx_student, "--data", photos, "--size", 64)
    called = call_wkdc("analyze", *arguments, "--figure", "bands.png", "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    assert [model["name"] for model in said["models"]] == ["input", str(student), str(onnx_student)]
    ours, theirs = said["models"][1:]
    assert len(ours["error"]) == len(ours["energy"]) == 13
    assert ours["error"]["ll4"] > 0
    assert len(ours["power"]) == len(said["teacher_power"]) == 32
    # The files agree to 1e-4 of the range; the finest bands hold least energy.
    for band, error in ours["error"].items():
        assert theirs["error"][band] == pytest.approx(error, rel=0.05)
    assert len(said["sentences"]) == 2
    with Image.open(said["figure"]) as figure:
        assert figure.width > figure.height > 100
    shown = call_wkdc("analyze", *arguments)
    assert "hh1" in shown.stdout
    assert said["sentences"][0] in " ".join(shown.stdout.split())


def test_a_copy_of_the_teacher_lacks_nothing(teacher: Path, photos: Path) -> None:
    copy = teacher.with_name("copy.pth")
    copy.write_bytes(teacher.read_bytes())
    found = wkdc.analyze([copy], photos, teacher=teacher, size=64, limit=2)
    model = found.models[1]
    assert set(model.error.values()) == {0.0}
    assert set(model.energy.values()) == {1.0}
    assert model.power == found.teacher_power
    assert model.largest_lack is None
    assert "lacks no detail" in model.sentence


def test_a_limit_is_that_of_true_images_too(student: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "set" / "testA")
    (tmp_path / "set" / "testB").mkdir()
    first, second = sorted(photos.iterdir())[:2]
    found = []
    for photo in (first, second):
        shutil.copy(photo, tmp_path / "set" / "testB")
        found.append(wkdc.analyze([student], tmp_path / "set", size=64, limit=1).real_power)
    assert found[0] is not None
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "give --data FOLDER"),
        (("--data", "photos", "--limit", 0), 2, "1 image or more"),
        (("--data", "photos", "--size", 72), 2, "multiple of 16"),
        (("--data", "photos", "--figure", "bands.txt"), 2, "does not end in"),
        (("--data", "photos", "--figure", "gone/bands.png"), 1, "gone"),
        (("--data", "photos", "--teacher", "student.onnx"), 1, "student.onnx"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("student", "photos")
def test_wrong_use_says_what_to_do(
    call_wkdc: Call, arguments: tuple[object, ...], code: int, said: str
) -> None:
    called = call_wkdc("analyze", "student.pth", *arguments)
    assert called.code == code, called.stderr
    assert len(called.errors) == 1
    assert said in called.errors[0]


def test_without_a_teacher_there_is_nothing_to_compare_with(
    call_wkdc: Call, teacher: Path, photos: Path
) -> None:
    called = call_wkdc("analyze", teacher, "--data", photos, "--size", 64)
    assert called.code == 2
    assert "no card names a teacher" in called.errors[0]


def test_a_run_stands_for_its_student_before_and_after(
    call_wkdc: Call, student: Path, photos: Path
) -> None:
    run = wkdc.distill(photos, student=student, steps=2, runs=student.parent / "runs").run
    called = call_wkdc("analyze", run, "--data", photos, "--size", 64, "--limit", 2, "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    names = [model["name"] for model in said["models"]]
    assert names == ["input", str(run / "checkpoints" / "start.pth"), str(student)]
    assert said["made"]["command"] == "analyze"
    again = call_wkdc(
        *("analyze", student, run, "--data", photos, "--size", 64, "--limit", 2, "--json")
    )
    twice = {model["name"]: model for model in json.loads(again.stdout)["models"]}
    assert list(twice) == ["input", str(student), str(run / "checkpoints" / "start.pth")]
    assert all(twice[model["name"]] == model for model in said["models"])
    (run / "checkpoints" / "start.pth").unlink()
    (saved,) = (run / "checkpoints").glob("step-*.pth")
    saved.unlink()
    student.unlink()
    called = call_wkdc("analyze", run, "--data", photos)
    assert called.code == 2
    assert "holds no student yet" in called.errors[0]
