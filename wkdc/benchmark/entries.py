"""Models of `wkdc profile`: opened, checked, exported, and their calls and computed costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wkdc.benchmark.calls import (
    OPTIONAL,
    PHONES,
    Call,
    Engine,
    file_call,
    torch_call,
)
from wkdc.checkpoints.card import BROKEN, Card
from wkdc.checkpoints.checkpoint import Generator, load_beside
from wkdc.checkpoints.reading import Reading
from wkdc.errors import CheckpointError, DeviceError, OptionError
from wkdc.networks.architecture import Architecture
from wkdc.networks.complexity import (
    Complexity,
    count_params,
    measure_activation_bytes,
    measure_complexity,
)
from wkdc.onnx.file import OnnxNetwork, count_onnx_params, write_onnx
from wkdc.onnx.precision import to_float16
from wkdc.phones import litert, ncnn
from wkdc.system.files import sha256_of


@dataclass(frozen=True)
class Entry:
    """A .pth, .onnx, .tflite or .ncnn.param file to profile.

    Attributes:
        generator: None for all but a .pth.
        architecture: None for a file that wkdc did not write, or that holds a custom network.
        params: number of weights; None for a .tflite that wkdc did not write.
        channels: of its inputs.
        size_bytes, sha256: of all that holds the network.
        precision: that the file computes in, by its metadata.
        engine: the only one that runs the file; None for a .pth and a .onnx.
        size: the only height and width that it takes; None where others will do.
    """

    path: Path
    generator: Generator | None
    architecture: Architecture | None
    params: int | None
    channels: int
    size_bytes: int
    sha256: str
    precision: str = "float32"
    engine: Engine | None = None
    size: tuple[int, int] | None = None


def open_entry(path: Path, reading: Reading, *, cards: Sequence[Card | None] = ()) -> Entry:
    """Open a file to profile.

    Args:
        reading: see `wkdc.checkpoints.checkpoint.reading_for`.
        cards: of all that are profiled; a student's says how its teacher is read.

    Raises:
        CheckpointError: the file cannot be used.
        MissingExtraError: the runtime of a phone's file is not installed.
    """
    name = path.name.lower()
    if name.endswith(litert.ENDING):
        return _open_litert(path)
    if name.endswith(ncnn.ENDING):
        return _open_ncnn(path)
    if not name.endswith(".onnx"):
        generator = load_beside(path, reading, cards)
        return Entry(
            path,
            generator,
            generator.architecture,
            count_params(generator.network),
            generator.in_channels,
            path.stat().st_size,
            generator.sha256,
        )
    network = OnnxNetwork(path)
    stored, channels = network.metadata, network.shape[1]
    if channels is None:
        raise CheckpointError(f"{path} does not say how many channels it takes")
    return Entry(
        path,
        None,
        _architecture(stored),
        stored.get("params") or count_onnx_params(path),
        channels,
        path.stat().st_size,
        sha256_of(path),
        stored.get("precision", "float32"),
    )


def _architecture(facts: Mapping[str, Any]) -> Architecture | None:
    """What an exported file says of it; None for a custom one, whose code is not run."""
    known = facts.get("family") not in (None, "custom")
    return Architecture(facts["family"], facts["options"]) if known else None


def _open_litert(path: Path) -> Entry:
    network = litert.LiteRtNetwork(path)
    facts = network.facts
    return Entry(
        path,
        None,
        _architecture(facts),
        facts.get("params"),
        network.in_channels,
        path.stat().st_size,
        sha256_of(path),
        facts.get("precision", "float32"),
        "litert",
        network.size,
    )


def _open_ncnn(path: Path) -> Entry:
    facts = ncnn.NcnnNetwork(path).facts
    return Entry(
        path,
        None,
        _architecture(facts),
        facts["params"],
        facts["in_channels"],
        sum(file.stat().st_size for file in (path, ncnn.beside(path)[0])),
        ncnn.digest(path),
        facts["precision"],
        "ncnn",
    )


def check_size(entry: Entry, size: tuple[int, int]) -> None:
    """Check that the network takes `size` (height, width), as far as its file says.

    Raises:
        OptionError: it does not.
    """
    architecture = entry.architecture
    if entry.size is not None and entry.size != size:
        taken, given = ("x".join(map(str, one)) for one in (entry.size, size))
        raise OptionError(f"{entry.path} takes {taken} alone, not {given}; give --size {taken}")
    if architecture is None:
        return
    if architecture.strict and any(side % architecture.multiple for side in size):
        raise OptionError(
            f"{entry.path} takes multiples of {architecture.multiple} only, not "
            f"{size[0]}x{size[1]}; give another --size"
        )
    if min(size) < architecture.smallest:
        raise OptionError(
            f"{entry.path} takes {architecture.smallest}x{architecture.smallest} or more, "
            f"not {size[0]}x{size[1]}; give another --size"
        )


def as_onnx(entry: Entry, folder: Path, *, half: bool = False) -> Path:
    """The entry as .onnx: its own file, or one that is written into `folder`.

    Args:
        half: whether the written one computes in float16, as `wkdc export --fp16` has it.
    """
    generator = entry.generator
    if generator is None:
        return entry.path
    path = folder / f"{generator.sha256}{'-fp16' if half else ''}.onnx"
    if not path.exists():
        write_onnx(generator.network, path, generator.architecture)
        if half:
            to_float16(path)
    return path


def calls_of(
    entries: Sequence[Entry],
    engines: Sequence[Engine],
    folder: Path,
    images: Mapping[Path, Tensor],
    threads: int,
    device: torch.device,
) -> tuple[dict[Engine, dict[Path, Call]], tuple[str, ...]]:
    """A call for each engine and entry, and sentences on those that are left out.

    Args:
        folder: for temporary .onnx files.
        images: of each entry, by its path.

    Raises:
        CheckpointError, DeviceError: an entry does not run in PyTorch or ONNX Runtime.
    """
    calls: dict[Engine, dict[Path, Call]] = {engine: {} for engine in engines}
    left_out: dict[str, None] = {}
    for engine in engines:
        for entry in entries:
            try:
                call = _call(entry, engine, folder, images[entry.path], threads, device)
            except (CheckpointError, DeviceError) as error:
                if engine not in OPTIONAL:
                    raise
                left_out[f"{error}; {engine} is left out"] = None
            else:
                if call is not None:
                    calls[engine][entry.path] = call
    return calls, tuple(left_out)


def _call(
    entry: Entry,
    engine: Engine,
    folder: Path,
    images: Tensor,
    threads: int,
    device: torch.device,
) -> Call | None:
    """The call of one entry; None if the engine needs another file than the entry's own."""
    generator, half = entry.generator, engine.endswith("-fp16")
    if entry.engine is not None or engine in PHONES:
        if entry.engine != engine:
            return None
        return file_call(engine, entry.path, images, device=device, threads=threads)
    if engine.startswith("torch"):
        if generator is None:
            return None
        compiled = engine.startswith("torch-compile")
        return torch_call(generator.network, images, device=device, half=half, compiled=compiled)
    # TensorRT converts to float16 itself.
    rewritten = half and not engine.startswith("tensorrt")
    if rewritten and generator is None:
        return None
    file = as_onnx(entry, folder, half=rewritten)
    return file_call(engine, file, images, device=device, threads=threads)


def complexity_of(entry: Entry, size: tuple[int, int]) -> Complexity | None:
    """Parameters and MACs of one image; None if the architecture is not known."""
    architecture, generator = entry.architecture, entry.generator
    if generator is not None:
        return measure_complexity(generator.network, entry.channels, size)
    if architecture is None:
        return None
    try:  # without memory: the file may say anything
        channels = int(architecture.options["in_channels"])
        return measure_complexity(architecture.build_empty(), channels, size)
    except (*BROKEN, CheckpointError):
        return None


def peak_memory(entry: Entry, images: Tensor, device: torch.device) -> int | None:
    """Peak memory of one call beyond weights and inputs, in bytes; None but for a .pth."""
    if entry.generator is None:
        return None
    network = entry.generator.network
    if device.type != "cuda":
        return measure_activation_bytes(network, images.shape)
    call = torch_call(network, images, device=device)
    call()
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    call()
    return int(torch.cuda.max_memory_allocated(device) - held)
