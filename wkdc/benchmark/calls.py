"""Calls of a model in each runtime that `wkdc profile` times."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from wkdc.errors import DeviceError
from wkdc.inference.runtimes import OpenVinoNetwork, runtimes_on
from wkdc.onnx.file import OnnxNetwork, images_to_nhwc, nhwc_to_images
from wkdc.onnx.io_binding import IoBoundNetwork
from wkdc.onnx.providers import Provider, has_tensorrt
from wkdc.phones import litert, ncnn
from wkdc.system import compilation

Engine = Literal[
    "torch",
    "torch-fp16",
    "torch-compile",
    "torch-compile-fp16",
    "onnx",
    "onnx-fp16",
    "onnx-graph",
    "onnx-graph-fp16",
    "tensorrt",
    "tensorrt-fp16",
    "openvino",
    "openvino-bf16",
    "litert",
    "ncnn",
]
"""A runtime, how it is used, and its number format if that is not float32."""

OPTIONAL = (
    "openvino",
    "openvino-bf16",
    "onnx-graph",
    "onnx-graph-fp16",
    "tensorrt",
    "tensorrt-fp16",
)
"""Engines that may fail on a model: a warning says so, and the others are timed."""

PHONES: tuple[Engine, ...] = ("litert", "ncnn")
"""Engines that run the files of phones, which no other engine reads."""

Call = Callable[[], Tensor]


def engines_on(device: torch.device, *, compiled: bool = False) -> tuple[Engine, ...]:
    """The engines that can be timed on a device of this machine, the reference first.

    Args:
        compiled: whether to include torch.compile.
    """
    if device.type == "cpu":
        first, *others = runtimes_on(device)
        return (first, *(("torch-compile",) if compiled else ()), *others)
    return (
        "torch",
        "torch-fp16",
        *(("torch-compile", "torch-compile-fp16") if compiled else ()),
        "onnx",
        "onnx-fp16",
        "onnx-graph",
        "onnx-graph-fp16",
        *(("tensorrt", "tensorrt-fp16") if has_tensorrt() else ()),
    )


class HalfPrecision(nn.Module):
    """A copy of a network that computes in float16, with float32 images in and out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.network(images.half())
        return outputs.float()


def torch_call(
    network: nn.Module,
    images: Tensor,
    *,
    device: torch.device,
    half: bool = False,
    compiled: bool = False,
) -> Call:
    """A call that translates `images` in PyTorch and leaves the outputs on the device.

    Args:
        half: whether it computes in float16.
        compiled: whether to use torch.compile, for these shapes; it compiles here.

    Raises:
        DeviceError: torch.compile does not work here.
    """
    batch = images.to(device)
    # A copy: the network itself is exported, too, and stays where it is.
    ours = (HalfPrecision(network) if half else copy.deepcopy(network)).to(device)
    callee = compilation.compiled(ours) if compiled else ours

    def call() -> Tensor:
        with torch.inference_mode():
            outputs: Tensor = callee(batch)
        return outputs

    if compiled:
        call()
    return call


def file_call(
    engine: Engine, file: Path, images: Tensor, *, device: torch.device, threads: int
) -> Call:
    """A call that translates `images` with a .onnx file, or a phone's file in its own engine.

    On a GPU inputs and outputs stay in its memory. On the processor it runs at open sizes, as in
    `wkdc translate`.

    Raises:
        CheckpointError: the file cannot be read, or does not take such images.
        DeviceError: a library of the runtime is missing, or it does not use the device.
    """
    network: Callable[[Tensor], Tensor]
    match engine:
        case "openvino" | "openvino-bf16":
            network = OpenVinoNetwork(file, threads=threads, bfloat16=engine == "openvino-bf16")
        case "litert":
            network = litert.LiteRtNetwork(file, threads=threads)
        case "ncnn":
            network = ncnn.NcnnNetwork(file, threads=threads)
        case "onnx" if device.type == "cpu":
            network = OnnxNetwork(file, threads=threads)
        case _:
            inputs = images_to_nhwc(images) if OnnxNetwork(file).pixels else images
            provider = _provider(engine)
            return IoBoundNetwork(file, inputs, device=device, provider=provider, threads=threads)
    return lambda: network(images)


def _provider(engine: Engine) -> Provider:
    match engine:
        case "onnx" | "onnx-fp16":
            return "cuda"
        case "onnx-graph" | "onnx-graph-fp16":
            return "cuda-graph"
        case "tensorrt" | "tensorrt-fp16":
            return engine
        case _:
            raise DeviceError(f"{engine} does not run a .onnx on a GPU")


def outputs_to_images(outputs: Tensor) -> Tensor:
    """What a call returned, as float32 N×C×H×W in [-1, 1] in the processor's memory."""
    images = nhwc_to_images(outputs) if outputs.dtype == torch.uint8 else outputs
    return images.float().cpu()
