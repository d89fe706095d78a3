"""A file is told for what it is, by what it holds and by what its card says."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from conftest import Called
from originals import patchgan_state_dict, unet_state_dict

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.errors import OptionError
from wkdc.networks.complexity import count_params, measure_complexity

Call = Callable[..., Called]


def test_a_stock_file_is_recognised(teacher: Path) -> None:
    found = wkdc.info(teacher)
    network = load_generator(teacher).network
    cost = measure_complexity(network, 3, (256, 256))
    assert found.architecture is not None
    assert found.architecture.family == "resnet"
    assert (found.params, found.macs) == (count_params(network), cost.macs)
    assert found.macs_output_resolution == cost.macs_output_resolution
    assert found.size == (256, 256)
    assert found.card is None
    assert found.notes
    quarter = wkdc.info(teacher, size=(128, 128))
    assert quarter.macs is not None
    assert 4 * quarter.macs == found.macs


def test_a_student_tells_its_history_and_whether_its_teacher_is_the_same(
    call_wkdc: Call, student: Path, teacher: Path
) -> None:
    said = json.loads(call_wkdc("info", student, "--json").stdout)
    assert said["family"] == "resnet"
    assert [entry["command"] for entry in said["card"]["history"]] == ["prune"]
    assert said["teacher"]["presence"] == "there"
    shown = call_wkdc("info", student).stdout
    assert "wkdc prune: ratio 2" in shown
    assert "(there)" in shown
    teacher.write_bytes(teacher.read_bytes() + b"more")
    assert wkdc.info(student).teacher.presence == "changed"  # type: ignore[union-attr]
    teacher.unlink()
    assert wkdc.info(student).teacher.presence == "missing"  # type: ignore[union-attr]


def test_an_onnx_file_says_what_its_source_does(student: Path, onnx_student: Path) -> None:
    source, found = wkdc.info(student), wkdc.info(onnx_student)
    assert found.architecture == source.architecture
    assert (found.params, found.macs) == (source.params, source.macs)
    assert found.source_sha256 == source.sha256
    assert found.card == source.card
    assert found.interface is not None
    assert found.interface.inputs == ("image: float batch×3×height×width",)
    assert found.interface.operators["Conv"] > 0


def test_an_onnx_file_of_somebody_else_is_told_by_its_graph(onnx_student: Path) -> None:
    model = onnx.load(str(onnx_student))
    del model.metadata_props[:]
    onnx.save_model(model, str(onnx_student))
    found = wkdc.info(onnx_student)
    assert found.architecture is found.card is found.macs is None
    # The lowered graph holds some kernels in another shape, with zeros between.
    assert found.params >= count_params(load_generator(onnx_student.with_suffix(".pth")).network)
    with pytest.raises(OptionError, match="no MACs are counted; leave --size out"):
        wkdc.info(onnx_student, size=(64, 64))


@pytest.mark.parametrize(
    ("weights", "family"),
    [
        (patchgan_state_dict(0, ndf=8), "patchgan"),
        (unet_state_dict(0, downs=7, ngf=4), "unet"),
    ],
    ids=["patchgan", "unet"],
)
def test_other_families(
    call_wkdc: Call, tmp_path: Path, weights: dict[str, torch.Tensor], family: str
) -> None:
    torch.save(weights, tmp_path / "net.pth")
    shown = call_wkdc("info", "net.pth")
    assert shown.code == 0, shown.stderr
    assert family in shown.stdout
    assert "not written by wkdc" in shown.stdout


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("gone.pth", (), 1, "does not exist"),
        ("gone.onnx", (), 1, "does not exist"),
        ("broken.pth", (), 1, "broken.pth"),
        ("broken.onnx", (), 1, "no ONNX file"),
        ("empty.onnx", (), 1, "no ONNX file"),
        ("student.pth", ("--size", "13"), 2, "multiples of 4"),
        ("student.pth", ("--size", "big"), 2, "not understood"),
    ],
)
@pytest.mark.usefixtures("student")
def test_what_is_no_network_says_so(
    call_wkdc: Call, tmp_path: Path, name: str, arguments: tuple[str, ...], code: int, said: str
) -> None:
    for ending in ("pth", "onnx"):
        (tmp_path / f"broken.{ending}").write_bytes(b"no weights at all")
    (tmp_path / "empty.onnx").write_bytes(b"")
    called = call_wkdc("info", name, *arguments)
    assert called.code == code
    assert len(called.errors) == 1
    assert said in called.errors[0]


def test_an_exported_file_is_read_as_it_is(call_wkdc: Call, onnx_student: Path) -> None:
    for command in (("info", onnx_student), ("translate", onnx_student, "x.png", "-o", "y.png")):
        done = call_wkdc(*command, "--key", "netG")
        assert done.code == 2
        assert "is no weight file" in done.errors[0]
