"""Files for phones: near to PyTorch in their own runtimes, whole or not there."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import Called
from onnx import TensorProto
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info
from original_families import SAVED, saved_family
from originals import (
    resnet_forward,
    resnet_state_dict,
)
from PIL import Image

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_pixels
from wkdc.data.photos import photo_paths
from wkdc.deploy.phone import export_phone
from wkdc.errors import CheckpointError, OptionError, OutputError, ParityError
from wkdc.inference.model import open_model

Call = Callable[..., Called]

FLOAT = TensorProto.FLOAT

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


QUICK = ("animegan", "cut", "unet, batch-per-image")
"""Families that are converted by default: enlarging to the size of another map, blurs, and the
image's own statistics."""


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SAVED],
)
def test_families_are_converted(tmp_path: Path, name: str) -> None:
    generator = saved_family(name, tmp_path / "teacher.pth")
    near = export_phone(generator, "ncnn")
    assert near.psnr_db is not None
    # Of random weights, which amplify what float32 rounds, and at each of the sizes that are
    # checked. A layer that computed otherwise would show at 40 dB and less.
    assert near.psnr_db > 80
    if generator.in_channels == 3:
        made = export_phone(generator, "coreml", sizes=[(64, 64)])
        assert made.operations["conv"] > 0
    else:
        with pytest.raises(CheckpointError, match="reads 5 channels and gives 3; an image of Core"):
            export_phone(generator, "coreml", sizes=[(64, 64)])


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
    import coremltools as ct

    description = ct.utils.load_spec(str(result.output)).description
    facts = json.loads(description.metadata.userDefined["wkdc"])
    assert (facts["family"], facts["range"], facts["precision"]) == ("resnet", [0, 255], "float16")
    assert facts["made_by"].startswith("wkdc ")
    assert facts["source_sha256"] == load_generator(student).sha256
    assert "made by wkdc" in description.metadata.shortDescription
    again = export_phone(student, "coreml")  # in place of the first
    assert again.output == result.output
    with pytest.raises(CheckpointError, match="is a Core ML package, which Apple's apps run"):
        open_model(again.output)


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


def hand_made_ncnn(folder: Path, layer: str, entry: str) -> Path:
    """A .ncnn.param of one layer, as others may write it, with a .json that names `entry`."""
    path = folder / "odd.ncnn.param"
    path.write_text(f"7767517\n2 2\nInput in0 0 1 in0\n{layer} one 1 1 in0 out0\n")
    path.with_suffix(".bin").touch()
    facts = {"input": entry, "output": "out0", "precision": "float32"}
    facts |= dict.fromkeys(("in_channels", "out_channels"), 3)
    facts |= dict.fromkeys(("multiple", "smallest", "params"), 1)
    path.with_suffix(".json").write_text(json.dumps(facts))
    return path


@pytest.mark.parametrize(
    ("layer", "entry", "said"),
    [
        ("\x1b[31mReLU", "in0", "has a layer that it lacks"),
        ("ReLU", "\x1b[31min0", "no input and output of the names"),
    ],
)
def test_names_in_a_file_do_not_reach_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], layer: str, entry: str, said: str
) -> None:
    """ncnn prints those that it does not know as they are."""
    images = torch.full((1, 3, 4, 4), -1.0)
    assert open_model(hand_made_ncnn(tmp_path, "ReLU", "in0")).generate(images).abs().max() == 0
    capfd.readouterr()
    with pytest.raises(CheckpointError, match=said):
        open_model(hand_made_ncnn(tmp_path, layer, entry)).generate(images)
    assert capfd.readouterr() == ("", "")


def test_no_name_reaches_the_converter(
    student: Path, call_wkdc: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pnnx is started without a shell, in a folder of its own; what it says is one line."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(stderr="no\n\x1b[31mred\tlayer " + "x" * 5000, returncode=1)

    monkeypatch.setattr("wkdc.phones.ncnn.subprocess.run", run)
    name = "$(touch here) `touch here`.pth"
    student.rename(student.with_name(name))
    called = call_wkdc("export", name, "--ncnn", "-o", "$(touch here).ncnn.param")
    assert called.code == 1
    (error,) = called.errors
    assert f"{name} is not converted for ncnn by pnnx: ?[31mred layer xxx" in error
    assert len(error) < 500
    ((_, *arguments),) = commands
    assert "touch" not in "".join(arguments)
    assert [path.name for path in student.parent.iterdir()] == [name]


def test_a_name_that_is_no_text_is_said(tmp_path: Path, call_wkdc: Call) -> None:
    """Where a library takes text alone."""
    odd = tmp_path / "\udcff.onnx"
    ends = [make_tensor_value_info(name, FLOAT, [1, 3, 8, 8]) for name in ("a", "b")]
    graph = make_graph([make_node("Relu", ["a"], ["b"])], "g", ends[:1], ends[1:])
    odd.write_bytes(make_model(graph).SerializeToString())
    param = hand_made_ncnn(tmp_path, "ReLU", "in0")
    for suffix in (".bin", ".json"):
        param.with_suffix(suffix).rename(tmp_path / f"\udcff.ncnn{suffix}")
    for path, runtime in (
        (odd, ()),
        (odd, ("--runtime", "openvino")),
        (param.rename(tmp_path / "\udcff.ncnn.param"), ()),
    ):
        called = call_wkdc("translate", path, photo_paths()[0], *runtime, "-o", "out")
        assert called.code == 1
        (error,) = called.errors
        assert "\\udcff" in error
        assert error.endswith("takes text alone; rename it")


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


def test_profile_times_it_beside_others(call_wkdc: Call, student: Path) -> None:
    files = export_phone(student, "ncnn", precision="float16").files
    options = ("--size", "32x48", "--threads", "1", "--rounds", "1", "--json")
    called = call_wkdc("profile", "student.ncnn.param", "student.pth", *options)
    assert called.code == 0, called.stderr
    report = json.loads(called.stdout)
    phone, source = report["models"]
    assert set(phone["latency_ms"]) == {"ncnn-cpu"}
    assert {"torch-cpu", "onnx-cpu"} <= set(source["latency_ms"])
    assert "ncnn-cpu" not in source["latency_ms"]
    assert report["threads"] == 1
    assert "ncnn" in report["conditions"]["versions"]
    for cost in ("params", "macs", "macs_output_resolution"):
        assert phone[cost] == source[cost]
    assert (phone["precision"], source["precision"]) == ("float16", "float32")
    sizes = {file.name: file.stat().st_size for file in files}
    assert phone["size_bytes"] == sizes["student.ncnn.param"] + sizes["student.ncnn.bin"]
    assert set(report["speedup"]) == {"params", "macs"}  # no runtime ran both


def test_other_weights_are_another_network(student: Path) -> None:
    first = open_model(export_phone(student, "ncnn").output)
    param = first.path.read_bytes()
    torch.save(resnet_state_dict(4, blocks=2, ngf=8), student)
    second = open_model(export_phone(student, "ncnn").output)
    assert second.path.read_bytes() == param  # which names layers alone
    assert second.sha256 != first.sha256


def test_layers_are_timed_of_other_files(call_wkdc: Call, student: Path) -> None:
    output = export_phone(student, "ncnn").output
    called = call_wkdc("profile", output.name, "--layers", "--size", "32")
    assert called.code == 2
    assert "layers are timed in ONNX Runtime, not of student.ncnn.param" in called.errors[0]


def test_info_reads_the_source(call_wkdc: Call, student: Path) -> None:
    output = export_phone(student, "ncnn").output
    called = call_wkdc("info", output.name)
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


def test_no_folder_of_something_else_is_replaced(student: Path) -> None:
    folder = student.parent / "models.ncnn.param"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="is a folder, and no export"):
        export_phone(student, "ncnn", output=folder)
    assert (folder / "mine.txt").read_text() == "mine"
