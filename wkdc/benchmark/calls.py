"""One call of a model in each of the runtimes that `wkdc profile` sets beside each other."""

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
]
"""A runtime, how it is used, and its number format where that is not float32."""

OPTIONAL = (
    "openvino",
    "openvino-bf16",
    "onnx-graph",
    "onnx-graph-fp16",
    "tensorrt",
    "tensorrt-fp16",
)
"""What a model need not run in: that it does not is said, and the others are measured."""

Call = Callable[[], Tensor]


def engines_on(place: torch.device, *, compiled: bool = False) -> tuple[Engine, ...]:
    """What can be measured on a device of this machine, the reference first.

    Args:
        compiled: whether torch.compile is among it.
    """
    if place.type == "cpu":
        first, *others = runtimes_on(place)
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


class InHalf(nn.Module):
    """A copy of a network that computes in float16, between images in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, images: Tensor) -> Tensor:
        drawn: Tensor = self.network(images.half())
        return drawn.float()


def torch_call(
    network: nn.Module,
    images: Tensor,
    *,
    place: torch.device,
    half: bool = False,
    compiled: bool = False,
) -> Call:
    """What draws `images` in PyTorch and leaves the image on the device.

    Args:
        half: whether it computes in float16.
        compiled: whether by torch.compile, for these shapes; it compiles here.

    Raises:
        DeviceError: torch.compile does not work here.
    """
    batch = images.to(place)
    # A copy: the network itself is exported, too, and stays where it is.
    ours = (InHalf(network) if half else copy.deepcopy(network)).to(place)
    drawing = compilation.compiled(ours) if compiled else ours

    def call() -> Tensor:
        with torch.inference_mode():
            drawn: Tensor = drawing(batch)
        return drawn

    if compiled:
        call()
    return call


def file_call(
    engine: Engine, file: Path, images: Tensor, *, place: torch.device, threads: int
) -> Call:
    """What draws `images` with a .onnx file: on a GPU from and into its memory, without a copy.

    On the processor it is drawn as `wkdc translate` draws, at open sizes.

    Raises:
        CheckpointError: the file cannot be read, or does not draw such images.
        DeviceError: a library of the runtime is missing, or it does not use the device.
    """
    network: Callable[[Tensor], Tensor]
    match engine:
        case "openvino" | "openvino-bf16":
            network = OpenVinoNetwork(file, threads=threads, bfloat16=engine == "openvino-bf16")
        case "onnx" if place.type == "cpu":
            network = OnnxNetwork(file, threads=threads)
        case _:
            given = images_to_nhwc(images) if OnnxNetwork(file).pixels else images
            provider = _provider(engine)
            return IoBoundNetwork(file, given, device=place, provider=provider, threads=threads)
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


def picture_of(drawn: Tensor) -> Tensor:
    """What a call returned, as float32 N×C×H×W in [-1, 1] in the processor's memory."""
    images = nhwc_to_images(drawn) if drawn.dtype == torch.uint8 else drawn
    return images.float().cpu()
