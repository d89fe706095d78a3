"""ONNX Runtime uses the provider that was asked for, or fails; and bound input and output."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from wkdc.errors import CheckpointError, DeviceError
from wkdc.onnx.file import OnnxNetwork, images_to_nhwc, nhwc_to_images
from wkdc.onnx.io_binding import IoBoundNetwork
from wkdc.onnx.providers import Provider, open_session

CPU = torch.device("cpu")

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")


def image(height: int = 32, width: int = 48, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(batch, 3, height, width) * 2 - 1


def halving(path: Path, dims: tuple[str | int | None, ...]) -> Path:
    """A file of somebody else that halves height and width, with dimensions named or not."""
    weight = numpy_helper.from_array(np.full((3, 3, 2, 2), 0.1, np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "weight"], ["y"], strides=[2, 2])],
        "somebody's",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (None, 3, None, None))],
        [weight],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), str(path))
    return path


# --- Never another provider in silence ---------------------------------------------------------


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_library_that_is_missing_is_named(
    exported_once: Path, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError) as raised:
        OnnxNetwork(exported_once, device=device)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"device {device} was asked for, but ONNX Runtime cannot load its CUDA")
    assert ".so" in line
    assert "--device cpu" in line
    assert capfd.readouterr() == ("", "")  # ONNX Runtime would log it, and print that it falls back


@no_gpu
@pytest.mark.parametrize("provider", ["cuda", "cuda-graph", "tensorrt", "tensorrt-fp16"])
def test_no_provider_of_a_gpu_falls_back(
    exported_once: Path, provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DeviceError, match=r"cannot load its (CUDA|Tensorrt)ExecutionProvider: .+"):
        IoBoundNetwork(exported_once, image(), device=torch.device("cuda"), provider=provider)
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_none_is_no_matter_of_devices(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a graph")
    with pytest.raises(CheckpointError, match=r"broken\.onnx cannot be read by ONNX Runtime"):
        open_session(broken, device=CPU, provider="cpu")


# --- Bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "batch"), [((32, 48), 1), ((33, 50), 2)])
def test_a_bound_network_translates_the_same(
    exported_once: Path, size: tuple[int, int], batch: int
) -> None:
    images = image(*size, batch)
    bound = IoBoundNetwork(exported_once, images, device=CPU, provider="cpu", threads=1)
    expected = OnnxNetwork(exported_once, threads=1)(images)
    # The same operators; only what depends on the sizes alone was folded.
    torch.testing.assert_close(bound(), expected, rtol=0, atol=1e-6)
    assert bound().data_ptr() == bound().data_ptr()


def test_a_bound_file_of_pixels(pixels_once: Path) -> None:
    images = image()
    translated = IoBoundNetwork(
        pixels_once, images_to_nhwc(images), device=CPU, provider="cpu", threads=1
    )()
    assert translated.dtype == torch.uint8
    torch.testing.assert_close(
        nhwc_to_images(translated), OnnxNetwork(pixels_once, threads=1)(images)
    )
    with pytest.raises(CheckpointError, match=r"takes tensor\(uint8\), and was given torch.float"):
        IoBoundNetwork(pixels_once, images, device=CPU, provider="cpu")


@pytest.mark.parametrize("dims", [("n", 3, "h", "w"), (None, 3, None, None), (1, 3, 32, 48)])
def test_a_bound_file_of_somebody_else(tmp_path: Path, dims: tuple[str | int | None, ...]) -> None:
    file, images = halving(tmp_path / "foreign.onnx", dims), image()
    translated = IoBoundNetwork(file, images, device=CPU, provider="cpu", threads=1)()
    assert translated.shape == (1, 3, 16, 24)
    torch.testing.assert_close(translated, OnnxNetwork(file, threads=1)(images))


def test_a_bound_file_that_takes_another_size(tmp_path: Path) -> None:
    file = halving(tmp_path / "foreign.onnx", (1, 3, 64, 64))
    with pytest.raises(CheckpointError, match=r"foreign\.onnx cannot translate \(1, 3, 32, 48\)"):
        IoBoundNetwork(file, image(), device=CPU, provider="cpu")()
