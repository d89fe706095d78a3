"""Files of other programs where a .pth is wanted: one line says what they are, and what to give."""

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from originals import resnet_state_dict
from torch import nn

from wkdc.checkpoints.card import read_card
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.errors import CheckpointError


def torchscript(path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    torch.jit.save(torch.jit.trace(network, torch.zeros(1, 3, 8, 8)), path)


def onnx_file(path: Path) -> None:
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", maps[:1], maps[1:])
    onnx.save(helper.make_model(graph), path)


def onnx_file_with_producer(path: Path) -> None:
    onnx_file(path)
    model = onnx.load(path)
    model.producer_name = "pytorch"
    onnx.save(model, path)


def safetensors(path: Path) -> None:
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    header = json.dumps({"conv.weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))


def hdf5(path: Path) -> None:
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 4)


FORMATS: list[tuple[Callable[[Path], None], str, str]] = [
    (torchscript, "is a TorchScript archive", "torch.jit.load('net.pth').state_dict()"),
    (onnx_file, "is an ONNX file", "give the .pth file"),
    (onnx_file_with_producer, "is an ONNX file", "give the .pth file"),
    (safetensors, "is a safetensors file", "safetensors.torch.load_file('net.pth')"),
    (hdf5, "is an HDF5 file", "give a .pth file"),
]


@pytest.mark.parametrize(
    ("make", "what", "instead"), FORMATS, ids=[make.__name__ for make, *_ in FORMATS]
)
def test_another_format_is_named(
    make: Callable[[Path], None], what: str, instead: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    make(path)
    for read in (load_generator, read_card):
        with pytest.raises(CheckpointError) as refused:
            read(path)
        said = str(refused.value)
        assert said.startswith(f"{path} {what}")
        assert instead in said
        assert "\n" not in said


def test_the_advice_for_torchscript_works(tmp_path: Path) -> None:
    torchscript(tmp_path / "net.pth")
    weights = torch.jit.load(tmp_path / "net.pth").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    with pytest.raises(CheckpointError, match="no generator that wkdc knows"):
        load_generator(tmp_path / "weights.pth")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_weight_file_is_no_other_format(
    zipped: bool, kept: float, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    weights = resnet_state_dict(1, blocks=1, ngf=4)
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CheckpointError, match="truncated, or no PyTorch file"):
        load_generator(path)


@pytest.mark.parametrize(
    "content", [b"{", b"\x08", b"\x08\x0a", b"PK\x03\x04", b"\x89HDF", b"x" * 9]
)
def test_too_little_to_tell(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="truncated, or no PyTorch file"):
        load_generator(path)
