"""A model on its way to be measured: opened, checked, exported, and what it costs on paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wkdc.benchmark.calls import OPTIONAL, Call, Engine, InHalf, file_call, torch_call
from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.errors import CheckpointError, DeviceError, OptionError
from wkdc.networks.architecture import Architecture
from wkdc.networks.complexity import (
    Complexity,
    count_params,
    measure_activation_bytes,
    measure_complexity,
)
from wkdc.onnx.file import OnnxNetwork, count_onnx_params, write_onnx


@dataclass(frozen=True)
class Entry:
    """A .pth or .onnx file to be measured.

    Attributes:
        generator: None for a .onnx.
        architecture: None for a .onnx that wkdc did not write, or that holds a custom network.
        params: its number of weights.
        channels: that it reads.
        precision: what a .onnx says that it computes in.
    """

    path: Path
    generator: Generator | None
    architecture: Architecture | None
    params: int
    channels: int
    precision: str = "float32"


def open_entry(path: Path, arch: str | None) -> Entry:
    """Open a file of `wkdc profile`.

    Raises:
        CheckpointError: it cannot be used.
    """
    if path.suffix.lower() != ".onnx":
        generator = load_generator(path, arch=arch)
        params = count_params(generator.network)
        return Entry(path, generator, generator.architecture, params, generator.in_channels)
    network = OnnxNetwork(path)
    stored, channels = network.metadata, network.shape[1]
    if channels is None:
        raise CheckpointError(f"{path} does not say how many channels it takes")
    # A custom network would be made by code that a file names, which no file may.
    known = stored.get("family") not in (None, "custom")
    architecture = Architecture(stored["family"], stored["options"]) if known else None
    params = stored.get("params") or count_onnx_params(path)
    precision = stored.get("precision", "float32")
    return Entry(path, None, architecture, params, channels, precision)


def check_size(entry: Entry, size: tuple[int, int]) -> None:
    """Make sure that it draws at `size`, as far as its architecture is known.

    Raises:
        OptionError: it does not.
    """
    architecture = entry.architecture
    if architecture is None:
        return
    if architecture.strict and any(side % architecture.multiple for side in size):
        raise OptionError(
            f"{entry.path} draws multiples of {architecture.multiple} only, not "
            f"{size[0]}x{size[1]}; give another --size"
        )
    if min(size) < architecture.smallest:
        raise OptionError(
            f"{entry.path} draws {architecture.smallest}x{architecture.smallest} and more, "
            f"not {size[0]}x{size[1]}; give another --size"
        )


def as_onnx(entry: Entry, folder: Path, *, half: bool = False) -> Path:
    """The contestant as .onnx: its own file, or one that is written into `folder`.

    Args:
        half: whether the written one computes in float16.
    """
    generator = entry.generator
    if generator is None:
        return entry.path
    path = folder / f"{generator.sha256}{'-fp16' if half else ''}.onnx"
    if not path.exists():
        write_onnx(
            InHalf(generator.network) if half else generator.network,
            path,
            in_channels=generator.in_channels,
            multiple=generator.architecture.multiple,
            smallest=generator.architecture.smallest,
            strict=generator.architecture.strict,
            metadata={},
        )
    return path


def calls_of(
    entries: Sequence[Entry],
    engines: Sequence[Engine],
    folder: Path,
    images: Mapping[Path, Tensor],
    threads: int,
    place: torch.device,
) -> tuple[dict[Engine, dict[Path, Call]], tuple[str, ...]]:
    """What draws each contestant's images, by engine and path, and why some are left out.

    Args:
        folder: where .onnx files may be written.

    Raises:
        CheckpointError, DeviceError: PyTorch or ONNX Runtime cannot draw.
    """
    calls: dict[Engine, dict[Path, Call]] = {engine: {} for engine in engines}
    left_out: dict[str, None] = {}
    for engine in engines:
        for one in entries:
            try:
                call = _call(one, engine, folder, images[one.path], threads, place)
            except (CheckpointError, DeviceError) as error:
                if engine not in OPTIONAL:
                    raise
                left_out[f"{error}; {engine} is left out"] = None
            else:
                if call is not None:
                    calls[engine][one.path] = call
    return calls, tuple(left_out)


def _call(
    entry: Entry,
    engine: Engine,
    folder: Path,
    images: Tensor,
    threads: int,
    place: torch.device,
) -> Call | None:
    """None where a .onnx would have to be another file."""
    generator, half = entry.generator, engine.endswith("-fp16")
    if engine.startswith("torch"):
        if generator is None:
            return None
        compiled = engine.startswith("torch-compile")
        return torch_call(generator.network, images, place=place, half=half, compiled=compiled)
    # TensorRT chooses its numbers itself.
    rewritten = half and not engine.startswith("tensorrt")
    if rewritten and generator is None:
        return None
    file = as_onnx(entry, folder, half=rewritten)
    return file_call(engine, file, images, place=place, threads=threads)


def complexity_of(entry: Entry, size: tuple[int, int]) -> Complexity | None:
    """What one image costs; None where the architecture is not known."""
    architecture, generator = entry.architecture, entry.generator
    if architecture is None:
        return None
    network = architecture.build() if generator is None else generator.network
    return measure_complexity(network, entry.channels, size)


def peak_memory(entry: Entry, images: Tensor, place: torch.device) -> int | None:
    """Bytes that one call needs beyond weights and input, at the highest point.

    None for a .onnx.
    """
    if entry.generator is None:
        return None
    network = entry.generator.network
    if place.type != "cuda":
        return measure_activation_bytes(network, images.shape)
    call = torch_call(network, images, place=place)
    call()
    torch.cuda.reset_peak_memory_stats(place)
    held = torch.cuda.memory_allocated(place)
    call()
    return int(torch.cuda.max_memory_allocated(place) - held)
