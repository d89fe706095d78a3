"""A generator in a .pth, .onnx, .tflite or .ncnn.param file, behind one interface."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import check_generates, load_network
from wkdc.checkpoints.reading import Reading
from wkdc.data.images import pad_to_multiple
from wkdc.errors import CheckpointError, DeviceError, OptionError
from wkdc.inference.runtimes import OpenVinoNetwork, Runtime
from wkdc.onnx.file import OnnxNetwork
from wkdc.phones import litert, ncnn
from wkdc.system.devices import check_device
from wkdc.system.files import sha256_of


@dataclass(frozen=True)
class ImageModel:
    """An opened generator.

    Attributes:
        path: its file, of the digest `sha256`.
        run: float32 N×C×H×W in [-1, 1] on the CPU -> the same, at sizes that the network takes.
        in_channels, out_channels: of its images.
        multiple, smallest: height and width must be multiples of `multiple`, at least `smallest`.
        notes: what the file could not tell and was assumed.
        network: what `run` calls, in PyTorch; None for other files.
    """

    path: Path
    sha256: str
    run: Callable[[Tensor], Tensor]
    in_channels: int
    out_channels: int
    multiple: int
    smallest: int
    notes: tuple[str, ...] = ()
    network: nn.Module | None = None

    def generate(self, images: Tensor) -> Tensor:
        """Translate N×C×H×W images in [-1, 1] of any size; height and width stay.

        They are padded to a size that the network takes, and the result is cropped.
        """
        height, width = images.shape[-2:]
        padded = pad_to_multiple(images, self.multiple, at_least=self.smallest)
        return self.run(padded)[..., :height, :width]


def open_model(
    path: str | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    runtime: Runtime | None = None,
    reading: Reading | None = None,
) -> ImageModel:
    """Open a generator: a .pth in PyTorch, a .onnx in ONNX Runtime or OpenVINO.

    A .tflite runs in LiteRT, at its one size, and a .ncnn.param, with the .bin and .json beside it,
    in ncnn.

    Args:
        threads: of the runtime of a .onnx; None leaves it to the runtime.
        runtime: of a .onnx; None takes ONNX Runtime.
        reading: of a .pth, see `wkdc.checkpoints.checkpoint.load_network`.

    Raises:
        CheckpointError: the file cannot be used.
        DeviceError: the device does not exist, or the runtime does not use it.
        OptionError: the runtime does not read such a file.
        MissingExtraError: the runtime is not installed.
    """
    path = Path(path)
    target = check_device(device)
    if path.suffix.lower() == ".onnx":
        return _open_onnx(path, device, threads, runtime or "onnx")
    if path.name.lower().endswith((litert.ENDING, ncnn.ENDING)):
        return _open_phone(path, device, threads, runtime)
    if runtime not in (None, "torch"):
        raise OptionError(
            f"{path} runs in PyTorch, not in {runtime}; make a .onnx of it: wkdc export {path}"
        )
    generator = check_generates(load_network(path, reading))
    check_channels(path, generator.in_channels, generator.out_channels)
    network = generator.network.to(target)

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        out: Tensor = network(images.to(target))
        return out.cpu()

    return ImageModel(
        path,
        generator.sha256,
        run,
        generator.in_channels,
        generator.out_channels,
        generator.architecture.multiple,
        generator.architecture.smallest,
        generator.notes,
        network,
    )


def _open_phone(
    path: Path, device: str, threads: int | None, runtime: Runtime | None
) -> ImageModel:
    """A .tflite or a .ncnn.param, each in the runtime of its own."""
    if runtime is not None:
        raise OptionError(f"{path} runs in its own runtime, not in {runtime}; leave it out")
    if device != "cpu":
        raise DeviceError(f"{path} runs on the processor here; give --device cpu")
    if path.name.lower().endswith(litert.ENDING):
        network = litert.LiteRtNetwork(path, threads=threads)
        channels = network.in_channels, network.out_channels
        return ImageModel(path, sha256_of(path), network, *channels, 1, 1)
    other = ncnn.NcnnNetwork(path, threads=threads)
    facts = [other.facts[key] for key in ("in_channels", "out_channels", "multiple", "smallest")]
    return ImageModel(path, ncnn.digest(path), other, *facts)


def check_channels(path: Path, in_channels: int, out_channels: int) -> None:
    """Check that the generator in `path` has a known input and gives images.

    Args:
        in_channels, out_channels: 0 where the file leaves them open.

    Raises:
        CheckpointError: its channels are not stated.
    """
    if not in_channels or not out_channels:
        raise CheckpointError(
            f"{path} reads {in_channels or 'any'} channels and returns {out_channels or 'any'}; "
            "both have to be stated"
        )


def _open_onnx(path: Path, device: str, threads: int | None, runtime: Runtime) -> ImageModel:
    if runtime == "torch":
        raise OptionError(f"{path} does not run in PyTorch; give onnx or openvino")
    if runtime != "onnx" and device != "cpu":
        raise DeviceError(f"runtime {runtime} runs on the processor; give --device cpu")
    network = OnnxNetwork(path, threads=threads, device=device)
    _, channels, height, width = network.shape
    in_channels, out_channels = channels or 0, network.out_channels or 0
    check_channels(path, in_channels, out_channels)
    if height is not None or width is not None:
        raise CheckpointError(
            f"{path} takes images of {height}x{width} only; export it with open height and width"
        )
    multiple = int(network.metadata.get("multiple", 32))
    smallest = int(network.metadata.get("smallest", multiple))
    run: Callable[[Tensor], Tensor] = network
    if runtime != "onnx":
        run = OpenVinoNetwork(path, threads=threads, bfloat16=runtime == "openvino-bf16")
    return ImageModel(path, sha256_of(path), run, in_channels, out_channels, multiple, smallest)
