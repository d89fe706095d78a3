"""How large and how fast models are, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import torch
from torch import Tensor

from wkdc.benchmark.calls import Call, Engine, engines_on, picture_of
from wkdc.benchmark.entries import (
    Entry,
    as_onnx,
    calls_of,
    check_size,
    complexity_of,
    open_entry,
    peak_memory,
)
from wkdc.benchmark.latency import WARM_UP, Latency, clock_on, ratio_interval, time_in_bursts
from wkdc.benchmark.machine import Conditions, EnergyMeter, read_clock, versions
from wkdc.data.example_input import example_input
from wkdc.errors import OptionError
from wkdc.metrics.fidelity import psnr_db
from wkdc.onnx.layer_times import LayerProfile, time_layers
from wkdc.reporting.results import Made
from wkdc.system.devices import check_device
from wkdc.system.files import sha256_of

Found = TypeVar("Found")

NOISY = 1.2
"""A ratio whose interval is wider is said to be no figure to rely on."""


@dataclass(frozen=True)
class ModelProfile:
    """One model's size and speed.

    Attributes:
        params: number of weights.
        macs, macs_output_resolution: for one batch, see `wkdc.networks.complexity`; None for a
            .onnx that wkdc did not write.
        size_bytes: of the file.
        peak_memory_bytes: of one call beyond weights and input: on CUDA what PyTorch allocates,
            elsewhere the feature maps that are alive at once; None for a .onnx.
        latency_ms: by runtime and device, such as `torch-cpu`, `onnx-cpu`, `onnx-fp16-cuda`; see
            `wkdc.calls.Engine`.
        agreement_db: PSNR of a runtime's image of a photo to that of the first runtime that the
            model ran in, which computes in `precision`.
        layers: where the time goes in ONNX Runtime; None unless asked for.
        precision: what the file is made to compute in.
    """

    path: Path
    sha256: str
    params: int
    macs: int | None
    macs_output_resolution: int | None
    size_bytes: int
    peak_memory_bytes: int | None
    latency_ms: dict[str, Latency]
    agreement_db: dict[str, float]
    layers: LayerProfile | None
    precision: str = "float32"


@dataclass(frozen=True)
class ProfileResult:
    """Models beside each other, the teacher first.

    Attributes:
        size: height and width of the images; `batch` how many a call.
        threads: that each runtime used.
        speedup: the first model's figure over the last one's, for params, macs and each runtime
            that both ran in; empty for a single model.
        interval: of each runtime's speedup, where another run of the same finds it, 95 %; empty
            for a single round.
        warnings: what a reader of the times should know.
        conditions: the machine's clock and the runtimes' versions.
        made: what measured it.
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
    arch: str | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> ProfileResult:
    """Measure `models`, all in turn within each round, so that a ratio of them is fair.

    A .pth runs in PyTorch and, exported to a temporary file, in ONNX Runtime and OpenVINO; a .onnx
    only there. On a GPU time is that of events around calls whose images come from its memory and
    stay there, in float32 and float16.
    The runtimes take turns, some rounds at a time: mixed, their idle threads would disturb each
    other.

    Args:
        models: .pth and .onnx files; the first is what `speedup` compares with.
        size: height and width, which every model must be able to draw at.
        threads: for all runtimes; None takes PyTorch's default.
        rounds: timed rounds.
        compiled: whether torch.compile is measured, too; compiling takes its time.
        layers: whether ONNX Runtime's time is split by layers afterwards, on the CPU only.
        arch: what makes the .pth files that hold custom networks; see `load_generator`.
        on_round: called with the rounds done and their number.

    Raises:
        OptionError: a size or number out of range.
        CheckpointError, DeviceError: a model or the device cannot be used.
    """
    place = _checked(device, size, layers)
    for name, value in {
        "batch": batch,
        "rounds": rounds,
        "threads": 1 if threads is None else threads,
    }.items():
        if value < 1:
            raise OptionError(f"{name} is {value}; give 1 or more")
    entries = [open_entry(Path(path), arch) for path in models]
    for entry in entries:
        check_size(entry, size)
    images = {
        c.path: example_input(c.channels, size).expand(batch, -1, -1, -1).contiguous()
        for c in entries
    }
    memory = {c.path: peak_memory(c, images[c.path], place) for c in entries}
    engines = engines_on(place, compiled=compiled)
    before, tick = read_clock(), _counter(len(engines) * rounds, on_round)
    with TemporaryDirectory() as folder, _torch_threads(threads) as used:
        calls, left_out = calls_of(entries, engines, Path(folder), images, used, place)
        timed = time_in_bursts(
            calls, rounds, tick, clock=clock_on(place), energy=_energy_meter(place)
        )
        after = read_clock()
        drawn = {engine: _pictures(of) for engine, of in calls.items()}
        measured = tuple(
            ModelProfile(
                c.path,
                sha256_of(c.path),
                *_costs(c, size, batch),
                c.path.stat().st_size,
                memory[c.path],
                _of(c.path, timed, place),
                _agreement(_of(c.path, drawn, place)),
                time_layers(as_onnx(c, Path(folder)), images[c.path], used) if layers else None,
                c.precision,
            )
            for c in entries
        )
    intervals = _intervals(measured)
    return ProfileResult(
        made=Made.by("profile", device),
        size=size,
        batch=batch,
        threads=used,
        device=str(place),
        models=measured,
        speedup=_speedup(measured),
        interval=intervals,
        warnings=(*left_out, *_warnings(measured, intervals, rounds)),
        conditions=Conditions(versions(), before, after),
    )


def _checked(device: str, size: tuple[int, int], layers: bool) -> torch.device:
    place = check_device(device)
    if layers and place.type != "cpu":
        raise OptionError(f"layers are timed on the processor, not on {place}; give --device cpu")
    if min(size) < 16:
        raise OptionError(f"size {size[0]}x{size[1]} is too small; give 16x16 or more")
    return place


def _counter(total: int, on_round: Callable[[int, int], None] | None) -> Callable[[], None]:
    """What tells `on_round` how often it was called, of `total`."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if on_round is not None:
            on_round(done, total)

    return tick


def _energy_meter(place: torch.device) -> Callable[[], float | None]:
    """Joules of the processor; it tells nothing of what a GPU takes."""
    return EnergyMeter().read if place.type == "cpu" else lambda: None


def _pictures(calls: Mapping[Path, Call]) -> dict[Path, Tensor]:
    return {path: picture_of(call()) for path, call in calls.items()}


def _of(
    path: Path, found: Mapping[Engine, Mapping[Path, Found]], place: torch.device
) -> dict[str, Found]:
    """What was found of one model, by runtime and device."""
    return {f"{engine}-{place.type}": by[path] for engine, by in found.items() if path in by}


def _costs(entry: Entry, size: tuple[int, int], batch: int) -> tuple[int, int | None, int | None]:
    """Parameters, and MACs counted both ways."""
    cost = complexity_of(entry, size)
    if cost is None:
        return entry.params, None, None
    return cost.params, batch * cost.macs, batch * cost.macs_output_resolution


def _agreement(drawn: Mapping[str, Tensor]) -> dict[str, float]:
    """PSNR of every runtime's images to those of the first one."""
    first, *others = drawn
    return {name: psnr_db(drawn[name], drawn[first]) for name in others}


def _speedup(models: Sequence[ModelProfile]) -> dict[str, float]:
    """The first model over the last."""
    if len(models) < 2:
        return {}
    first, last = models[0], models[-1]
    ratios = {"params": first.params / last.params}
    if first.macs is not None and last.macs is not None:
        ratios["macs"] = first.macs / last.macs
    for runtime, latency in first.latency_ms.items():
        if runtime in last.latency_ms:
            ratios[runtime] = latency.median / last.latency_ms[runtime].median
    return ratios


def _intervals(models: Sequence[ModelProfile]) -> dict[str, tuple[float, float]]:
    if len(models) < 2:
        return {}
    first, last = models[0].latency_ms, models[-1].latency_ms
    found = {name: ratio_interval(first[name], last[name]) for name in first if name in last}
    return {name: interval for name, interval in found.items() if interval is not None}


def _warnings(
    models: Sequence[ModelProfile], intervals: dict[str, tuple[float, float]], rounds: int
) -> Iterator[str]:
    restless = {
        runtime: None
        for model in models
        for runtime, latency in model.latency_ms.items()
        if not latency.settled
    }
    if restless:
        yield (
            f"{', '.join(restless)} still got faster after {WARM_UP} untimed rounds; times may be "
            "too long"
        )
    wide = [
        f"{low:.1f} and {high:.1f} ({runtime})"
        for runtime, (low, high) in intervals.items()
        if high > NOISY * low
    ]
    if wide:
        yield (
            f"something else was running, or {rounds} rounds are few: all that is known of the "
            f"speedup is that another run would find it between {', between '.join(wide)}; close "
            "other programs, or time more rounds"
        )


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[int]:
    """Let PyTorch use so many threads for a while; yields the number in use."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
