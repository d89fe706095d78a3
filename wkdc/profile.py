"""Size and speed of models, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from wkdc.benchmark.calls import PHONES, Engine, engines_on, outputs_to_images
from wkdc.benchmark.entries import (
    Entry,
    as_onnx,
    calls_of,
    check_size,
    complexity_of,
    open_entry,
    peak_memory,
)
from wkdc.benchmark.latency import clock_on, time_in_bursts
from wkdc.benchmark.machine import Conditions, EnergyMeter, read_clock, versions
from wkdc.benchmark.model_profile import (
    ModelProfile,
    speedup_intervals,
    speedups,
    time_warnings,
)
from wkdc.checkpoints.reading import Reading
from wkdc.data.example_input import example_input
from wkdc.errors import DeviceError, OptionError
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.layers import Norm
from wkdc.onnx.file import card_of
from wkdc.onnx.layer_times import time_layers
from wkdc.reporting.results import Made
from wkdc.system.devices import check_device
from wkdc.system.temporary import scratch_folder

Found = TypeVar("Found")


@dataclass(frozen=True)
class ProfileResult:
    """Models side by side, the teacher first.

    Attributes:
        made: what measured it.
        size: height and width of the images; `batch` how many in a call.
        threads: of each runtime.
        speedup: the first model's figure over the last one's, for params, macs and each runtime
            that both ran in; empty for a single model.
        interval: 95 % prediction interval of each runtime's speedup in another run; empty for one
            or two rounds.
        warnings: limits of the figures, such as a machine that was busy.
        conditions: the machine's clock and the runtimes' versions.
    """

    made: Made
    size: tuple[int, int]
    batch: int
    threads: int
    device: str
    models: tuple[ModelProfile, ...]
    speedup: dict[str, float]
    interval: dict[str, tuple[float, float]]
    warnings: tuple[str, ...]
    conditions: Conditions


@dataclass(frozen=True)
class _Settings:
    """What the models are measured with; see `profile`."""

    size: tuple[int, int]
    batch: int
    rounds: int
    layers: bool
    device: torch.device
    engines: tuple[Engine, ...]


def profile(
    models: Sequence[str | Path],
    *,
    size: tuple[int, int] = (256, 256),
    batch: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 15,
    compiled: bool = False,
    layers: bool = False,
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> ProfileResult:
    """Measure `models`, timed in turn within each round, so that their ratio is fair.

    A .pth runs in PyTorch and, exported to a temporary file, in ONNX Runtime and OpenVINO; a .onnx
    only in the latter two; a .tflite in LiteRT and a .ncnn.param in ncnn, both on the CPU. On a GPU
    calls are timed with CUDA events, in float32 and float16, and images stay in its memory.
    Runtimes take turns of some rounds, as the idle threads of one would disturb another within a
    round.

    Args:
        models: .pth, .onnx, .tflite and .ncnn.param files; `speedup` compares with the first.
        size: height and width, which every model must take.
        batch: images in a call.
        threads: of all runtimes; None takes PyTorch's default.
        rounds: timed rounds.
        compiled: whether to time torch.compile too; it compiles first.
        layers: whether to time each layer in ONNX Runtime afterwards, on the CPU only.
        norm, key, arch: of .pth files that cannot tell, see `load_generator`.
        on_round: called with the rounds done and their number.

    Raises:
        OptionError: a size or number out of range.
        CheckpointError, DeviceError: a model or the device cannot be used.
        MissingExtraError: the runtime of a phone's file is not installed.
    """
    target = _checked(device, size, layers)
    _check_counts(batch=batch, rounds=rounds, threads=1 if threads is None else threads)
    reading = Reading(norm=norm, key=key, arch=arch)
    paths = [Path(path) for path in models]
    cards = [card_of(path) for path in paths]
    entries = [open_entry(path, reading, cards=cards) for path in paths]
    for entry in entries:
        check_size(entry, size)
        _check_phone(entry, target, layers)
    engines = engines_on(target, compiled=compiled)
    engines += tuple(one for one in PHONES if any(entry.engine == one for entry in entries))
    settings = _Settings(size, batch, rounds, layers, target, engines)
    with _torch_threads(threads) as used:
        measured, left_out, conditions = _measure(entries, settings, used, on_round)
    intervals = speedup_intervals(measured)
    return ProfileResult(
        made=Made.by("profile", device),
        size=size,
        batch=batch,
        threads=used,
        device=str(target),
        models=measured,
        speedup=speedups(measured),
        interval=intervals,
        warnings=(*left_out, *time_warnings(measured, intervals, rounds)),
        conditions=conditions,
    )


def _checked(device: str, size: tuple[int, int], layers: bool) -> torch.device:
    """The device. Raises: OptionError, DeviceError: it cannot be used, or the size is too small."""
    target = check_device(device)
    if layers and target.type != "cpu":
        raise OptionError(f"layers are timed on the processor, not on {target}; give --device cpu")
    if min(size) < 16:
        raise OptionError(f"size {size[0]}x{size[1]} is too small; give 16x16 or more")
    return target


def _check_phone(entry: Entry, device: torch.device, layers: bool) -> None:
    """Raises: DeviceError, OptionError: a phone's file does not run there, or layer by layer."""
    if entry.engine is None:
        return
    if device.type != "cpu":
        raise DeviceError(f"{entry.path} runs on the processor here; give --device cpu")
    if layers:
        raise OptionError(f"layers are timed in ONNX Runtime, not of {entry.path}; leave it out")


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise OptionError(f"{name} is {value}; give 1 or more")


def _measure(
    entries: Sequence[Entry],
    settings: _Settings,
    threads: int,
    on_round: Callable[[int, int], None] | None,
) -> tuple[tuple[ModelProfile, ...], tuple[str, ...], Conditions]:
    """Measure the entries; sentences on what was left out, and the conditions."""
    size, batch, device = settings.size, settings.batch, settings.device
    images = {
        one.path: example_input(one.channels, size).expand(batch, -1, -1, -1).contiguous()
        for one in entries
    }
    memory = {one.path: peak_memory(one, images[one.path], device) for one in entries}
    before, tick = read_clock(), _counter(len(settings.engines) * settings.rounds, on_round)
    with scratch_folder() as folder:
        calls, left_out = calls_of(entries, settings.engines, folder, images, threads, device)
        timed = time_in_bursts(
            calls, settings.rounds, tick, clock=clock_on(device), energy=_energy_meter(device)
        )
        conditions = Conditions(versions(), before, read_clock())
        outputs = {
            engine: {path: outputs_to_images(call()) for path, call in of.items()}
            for engine, of in calls.items()
        }
        measured = tuple(
            ModelProfile(
                one.path,
                one.sha256,
                *_costs(one, size, batch),
                one.size_bytes,
                memory[one.path],
                _by_runtime(one.path, timed, device),
                _agreement(_by_runtime(one.path, outputs, device)),
                time_layers(as_onnx(one, folder), images[one.path], threads)
                if settings.layers
                else None,
                one.precision,
            )
            for one in entries
        )
    return measured, left_out, conditions


def _counter(total: int, on_round: Callable[[int, int], None] | None) -> Callable[[], None]:
    """A function that calls `on_round` with the number of its calls, and `total`."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_round is not None:
            on_round(done, total)

    return tick


def _energy_meter(device: torch.device) -> Callable[[], float | None]:
    """Joules of the processor; nothing on a GPU, whose energy it does not include."""
    return EnergyMeter().read if device.type == "cpu" else lambda: None


def _by_runtime(
    path: Path, found: Mapping[Engine, Mapping[Path, Found]], device: torch.device
) -> dict[str, Found]:
    """What was found of one model, by runtime and device."""
    return {f"{engine}-{device.type}": by[path] for engine, by in found.items() if path in by}


def _costs(
    entry: Entry, size: tuple[int, int], batch: int
) -> tuple[int | None, int | None, int | None]:
    """Parameters, and MACs counted both ways."""
    cost = complexity_of(entry, size)
    if cost is None:
        return entry.params, None, None
    return cost.params, batch * cost.macs, batch * cost.macs_output_resolution


def _agreement(outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """PSNR of each runtime's outputs against the first one's."""
    first, *others = outputs
    return {name: psnr_db(outputs[name], outputs[first]) for name in others}


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[int]:
    """Set PyTorch's number of threads for the time of the block; yields the number in use."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
