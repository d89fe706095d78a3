"""Files for phones: near to PyTorch in their own runtimes, whole or not there."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called
from originals import resnet_forward, resnet_state_dict
from PIL import Image

from wkdc.data.images import load_pixels
from wkdc.deploy.phone import export_phone
from wkdc.errors import CheckpointError, OptionError, ParityError
from wkdc.inference.model import open_model

Call = Callable[..., Called]

WEIGHTS = resnet_state_dict(3, blocks=2, ngf=8)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    path = tmp_path / "student.pth"
    torch.save(WEIGHTS, path)
    return path


def test_ncnn_gives_the_originals_images_at_any_size(student: Path) -> None:
    result = export_phone(student, "ncnn")
    assert result.output == student.with_name("student.ncnn.param")
    assert {file.name for file in result.files} == {
        "student.ncnn.param",
        "student.ncnn.bin",
        "student.ncnn.json",
    }
    model = open_model(result.output)
    for height, width in ((64, 64), (48, 80)):
        images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
        # float32 sums in another order, as in every exported file.
        expected = resnet_forward(WEIGHTS, images, blocks=2)
        assert (model.generate(images) - expected).abs().max() < 1e-4


def test_ncnn_in_float16_is_half_the_size(student: Path) -> None:
    whole = export_phone(student, "ncnn").output.with_suffix(".bin").stat().st_size
    half = export_phone(student, "ncnn", precision="float16")
    assert half.output.with_suffix(".bin").stat().st_size < 0.6 * whole
    assert half.psnr_db is not None
    assert half.psnr_db > 50


def test_core_ml_is_a_program_from_image_to_image(student: Path) -> None:
    result = export_phone(student, "coreml", sizes=[(64, 64), (64, 96)])
    assert result.precision == "float16"
    assert result.sizes == ((64, 64), (64, 96))
    # Stem, 2 downsamplings, 2 blocks of 2, the last; a norm behind all but the last, and behind
    # the 2 transposed ones.
    operations = result.operations
    assert (operations["conv"], operations["conv_transpose"]) == (8, 2)
    assert operations["instance_norm"] == 9
    assert (operations["tanh"], operations["clip"]) == (1, 1)
    again = export_phone(student, "coreml")  # in place of the first
    assert again.output == result.output


def test_a_file_that_differs_is_not_left(student: Path) -> None:
    with pytest.raises(ParityError, match="ncnn's network differs"):
        export_phone(student, "ncnn", tolerance=1e-12)
    assert [file.name for file in student.parent.iterdir()] == ["student.pth"]


def test_what_does_not_go_together_is_refused(student: Path) -> None:
    with pytest.raises(OptionError, match="any size"):
        export_phone(student, "ncnn", sizes=[(64, 64)])
    with pytest.raises(OptionError, match="is for LiteRT"):
        export_phone(student, "coreml", pixels=True)
    with pytest.raises(OptionError, match=r"\.ncnn\.param"):
        export_phone(student, "ncnn", output=student.with_suffix(".onnx"))
    with pytest.raises(OptionError, match="one size"):
        export_phone(student, "litert", sizes=[(64, 64), (96, 96)])


def test_a_part_that_is_missing_is_named(student: Path) -> None:
    output = export_phone(student, "ncnn").output
    output.with_suffix(".json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"student\.ncnn\.json does not say"):
        open_model(output)
    output.with_suffix(".bin").unlink()
    with pytest.raises(CheckpointError, match=r"student\.ncnn\.bin is missing"):
        open_model(output)


def test_the_commands_take_it(call_wkdc: Call, student: Path) -> None:
    called = call_wkdc("export", "student.pth", "--ncnn", "--onnx", "--json")
    assert called.code == 0, called.stderr
    found = json.loads(called.stdout)
    assert found["output"] == "student.onnx"
    assert found["ncnn"]["max_abs_error"] < found["ncnn"]["tolerance"]
    photo = student.with_name("photo.png")
    Image.linear_gradient("L").convert("RGB").resize((96, 64)).save(photo)
    for model, made in (("student.pth", "a.png"), ("student.ncnn.param", "b.png")):
        called = call_wkdc("translate", model, "photo.png", "-o", made)
        assert called.code == 0, called.stderr
    ours, theirs = (load_pixels(student.with_name(n)) for n in ("a.png", "b.png"))
    assert (ours.int() - theirs.int()).abs().max() <= 1  # what rounding can make


@pytest.mark.parametrize("command", ["info", "profile"])
def test_commands_that_do_not_take_it_say_so(call_wkdc: Call, student: Path, command: str) -> None:
    output = export_phone(student, "ncnn").output
    called = call_wkdc(command, output.name)
    assert called.code == 1
    assert "give the .pth file" in called.errors[0]


@pytest.mark.parametrize("tolerance", [0.0, -1.0, float("nan")])
def test_a_tolerance_that_is_none(student: Path, tolerance: float) -> None:
    with pytest.raises(OptionError, match="positive"):
        export_phone(student, "ncnn", tolerance=tolerance)


def test_a_phones_options_alone(call_wkdc: Call, student: Path) -> None:
    called = call_wkdc("export", "student.pth", "--size", "64")
    assert called.code == 2
    assert "--litert or --coreml" in called.errors[0]
    called = call_wkdc("export", "student.pth", "--ncnn", "--int8")
    assert called.code == 2
    assert "int8 is not written" in called.errors[0]
