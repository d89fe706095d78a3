"""What is timed on which device, and that each engine gives the same image."""

from pathlib import Path

import pytest
import torch

from wkdc.benchmark.calls import HalfPrecision, engines_on, file_call, outputs_to_images, torch_call
from wkdc.benchmark.entries import as_onnx, open_entry
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.checkpoints.reading import Reading
from wkdc.data.example_input import example_input
from wkdc.errors import DeviceError
from wkdc.metrics.fidelity import psnr_db
from wkdc.onnx.file import OnnxNetwork

CPU = torch.device("cpu")

HALF_DB = 45.0
"""Float16 keeps 11 bits of each number, 66 dB; some dozen layers add their errors up."""


def test_engines_of_a_processor() -> None:
    plain = engines_on(CPU)
    assert plain[:2] == ("torch", "onnx")
    assert engines_on(CPU, compiled=True) == ("torch", "torch-compile", *plain[1:])


def test_engines_of_a_gpu() -> None:
    engines = engines_on(torch.device("cuda"), compiled=True)
    assert engines[0] == "torch"
    assert not {engine for engine in engines if engine.startswith("openvino")}
    for engine in ("torch", "torch-compile", "onnx", "onnx-graph"):
        assert engine in engines
        assert f"{engine}-fp16" in engines
    assert "torch-compile" not in engines_on(torch.device("cuda"))


def test_float16_gives_the_same_in_both_runtimes(
    made_once: Path, exported_once: Path, tmp_path: Path
) -> None:
    one = open_entry(made_once / "student.pth", Reading())
    images = example_input(one.channels, (32, 48)).expand(2, -1, -1, -1).contiguous()
    generator = load_generator(made_once / "student.pth")
    with torch.inference_mode():
        expected = generator.network(images)
    outputs = torch_call(generator.network, images, device=CPU, half=True)()
    assert psnr_db(outputs_to_images(outputs), expected) > HALF_DB
    file = as_onnx(one, tmp_path, half=True)
    assert file.stat().st_size < exported_once.stat().st_size
    assert psnr_db(OnnxNetwork(file, threads=1)(images), expected) > HALF_DB
    weights = {weight.dtype for weight in HalfPrecision(generator.network).parameters()}
    assert weights == {torch.float16}
    assert next(generator.network.parameters()).dtype == torch.float32  # it is a copy


def test_torch_compile_gives_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    images = torch.rand(1, 3, 16, 16)
    try:
        call = torch_call(network, images, device=CPU, compiled=True)
    except DeviceError as error:  # no compiler here
        assert "leave out --compile" in str(error)  # noqa: PT017
        return
    with torch.inference_mode():
        # The same sums in another order.
        torch.testing.assert_close(call(), network(images), rtol=0, atol=1e-5)
    assert capfd.readouterr().err == ""


def test_what_does_not_compile_is_said_in_one_line() -> None:
    class Broken(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no such thing\nand more of it")

    with pytest.raises(DeviceError, match=r"torch\.compile does not work on device cpu: .+"):
        torch_call(Broken(), torch.rand(1, 3, 8, 8), device=CPU, compiled=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
@pytest.mark.parametrize("engine", ["onnx", "onnx-fp16", "onnx-graph", "tensorrt"])
def test_a_gpu_that_is_not_there_is_said_of_every_engine(exported_once: Path, engine: str) -> None:
    with pytest.raises(DeviceError, match="device cuda was asked for"):
        file_call(
            engine,  # type: ignore[arg-type]
            exported_once,
            torch.zeros(1, 3, 32, 32),
            device=torch.device("cuda"),
            threads=1,
        )
