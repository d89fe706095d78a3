"""The sheet shows what the models drew, and frames what differs most."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.compare import GAIN
from wkdc.data.images import images_to_pixels, load_pixels, load_square
from wkdc.distill import FAITHFUL
from wkdc.inference.model import open_model
from wkdc.metrics.fidelity import most_different_square, psnr_db

Call = Callable[..., Called]

SIDE, GAP, TOP = 64, 4, 22

SMALL = dataclasses.replace(FAITHFUL, crop=32, load_size=48)


def cell(sheet: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """One image of the sheet, as uint8 3×64×64."""
    top, left = TOP + row * (SIDE + GAP), column * (SIDE + GAP)
    return sheet[:, top : top + SIDE, left : left + SIDE]


def test_the_sheet_holds_images_details_and_differences(
    call_wkdc: Call, student: Path, teacher: Path, photos: Path
) -> None:
    called = call_wkdc("compare", "--data", photos, "--size", SIDE, "--count", 2, "--json")
    assert called.code == 0, called.stderr
    said = json.loads(called.stdout)
    sheet = load_pixels(student.with_name(said["output"]))
    assert sheet.shape == (3, TOP + 6 * (SIDE + GAP) - GAP, 3 * (SIDE + GAP) - GAP)
    for number, row in enumerate(said["rows"]):
        image = load_square(Path(row["picture"]), SIDE)
        wanted, made = (open_model(path).generate(image) for path in (teacher, student))
        assert row["psnr_db"]["student.pth"] == pytest.approx(psnr_db(made, wanted))
        left, top, side = row["detail"]
        assert (left, top, side) == most_different_square([wanted, made], 16)
        pixels = images_to_pixels(made[0])
        shown = cell(sheet, 3 * number, 2)
        inside = (slice(top + 1, top + side - 1), slice(left + 1, left + side - 1))
        assert torch.equal(shown[:, *inside], pixels[:, *inside])
        assert shown[:, top, left].tolist() == [255, 0, 0]
        detail = pixels[:, top : top + side, left : left + side]
        zoomed = detail.repeat_interleave(SIDE // side, 1).repeat_interleave(SIDE // side, 2)
        assert torch.equal(cell(sheet, 3 * number + 1, 2), zoomed)
        assert not cell(sheet, 3 * number + 2, 1).any()  # the teacher beside itself
        apart = (made - wanted).abs().mean(1)[0] / 2 * GAIN
        expected = (apart.clamp(max=1) * 255).round()
        # Rounded from floats that were shifted and scaled in another order.
        assert (cell(sheet, 3 * number + 2, 2)[0] - expected).abs().max() <= 1


def test_the_square_is_where_they_differ() -> None:
    first = torch.zeros(1, 3, 40, 60)
    other = first.clone()
    other[..., 20:28, 41:49] = 1
    assert most_different_square([first, first, other], 8) == (41, 20, 8)


def test_two_models_without_a_teacher_are_compared_with_the_first(
    teacher: Path, student: Path, photos: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(teacher.read_bytes())
    found = wkdc.compare([teacher, copy], photos, output=tmp_path / "x.png", size=64, count=1)
    assert found.reference == teacher
    assert found.rows[0].psnr_db == {str(copy): float("inf")}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("student.pth",), 2, "give --data FOLDER"),
        (("teacher.pth", "--data", "photos"), 2, "is alone"),
        (("student.pth", "--data", "photos", "--count", 0), 2, "1 image or more"),
        (("student.pth", "--data", "photos", "-o", "sheet.txt"), 2, "does not end like an image"),
        (("student.pth", "--data", "photos", "-o", "sheet.gif"), 2, "that is written; choose .jpg"),
        (("student.pth", "--data", "photos", "-o", "gone/sheet.png"), 1, "gone"),
        (("student.pth", "gone.onnx", "--data", "photos"), 1, "gone.onnx"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("student", "photos")
def test_wrong_use_says_what_to_do(
    call_wkdc: Call, arguments: tuple[object, ...], code: int, said: str
) -> None:
    called = call_wkdc("compare", *arguments)
    assert called.code == code, called.stderr
    assert len(called.errors) == 1
    assert said in called.errors[0]


def test_a_teacher_is_found_from_wherever_the_student_lies(
    student: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, output = tmp_path / "other" / "runs", tmp_path / "elsewhere" / "s.pth"
    output.parent.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    for name in ("teacher.pth", "student.pth"):
        shutil.move(tmp_path / name, home)
    given = {"student": home / "student.pth", "steps": 10, "recipe": SMALL}
    wkdc.distill(photos, output=output, runs=home / "runs", **given)
    assert load_generator(output).card["teacher"]["path"] == str(home / "teacher.pth")
    run = wkdc.distill(photos, runs=runs, **given).run
    size = {"size": 64, "limit": 2}
    for model in (output, run):
        names = [score.name for score in wkdc.evaluate([model], photos, **size).scores]
        assert names[1] == "teacher"
    (saved,) = list((run / "checkpoints").glob("step-*.pth"))[:1]
    assert wkdc.evaluate([saved], photos, **size).scores[1].name == "teacher"
    monkeypatch.chdir(home / "runs" / "distill-001")
    found = wkdc.evaluate(["checkpoints/start.pth"], photos, **size).scores
    assert found[1].name == "teacher"
