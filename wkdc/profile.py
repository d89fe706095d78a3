"""How large and how fast models are, side by side."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from wkdc.checkpoint import Generator, load_generator
from wkdc.complexity import measure_activation_bytes, measure_complexity
from wkdc.devices import check_device
from wkdc.errors import CheckpointError, OptionError
from wkdc.files import sha256_of
from wkdc.images import load_pixels, pixels_to_images, resize_short_side
from wkdc.latency import WARM_UP, Latency, ratio_interval, time_in_turn
from wkdc.metrics import psnr_db
from wkdc.onnx_file import OnnxNetwork, count_onnx_params, write_onnx
from wkdc.photos import photo_paths
from wkdc.recognition import Architecture
from wkdc.results import Made
from wkdc.runtimes import OpenVinoNetwork, Runtime, runtimes_on

NOISY = 1.15
"""A ratio whose interval is wider is said to be no figure to rely on."""


@dataclass(frozen=True)
class ModelProfile:
    """One model's size and speed.

    Attributes:
        params: number of weights.
        macs, macs_output_resolution: for one batch, see `wkdc.complexity.Complexity`; None for a
            .onnx that wkdc did not write.
        size_bytes: of the file.
        peak_memory_bytes: of one call beyond weights and input: on CUDA what PyTorch allocates,
            elsewhere the feature maps that are alive at once; None for a .onnx.
        latency_ms: by runtime: `torch-cpu`, `onnx-cpu`, `torch-cuda`, `onnx-cuda`, and where
            OpenVINO is installed `openvino-cpu` and, if the processor has it, `openvino-bf16-cpu`.
        agreement_db: PSNR of a runtime's picture of a photo to that of the first runtime that the
            model ran in, which computes in `precision`.
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
    precision: str = "float32"


@dataclass(frozen=True)
class ProfileResult:
    """Models beside each other, the teacher first.

    Attributes:
        size: height and width of the pictures; `batch` how many a call.
        threads: that each runtime used.
        speedup: the first model's figure over the last one's, for params, macs and each runtime
            that both ran in; empty for a single model.
        interval: of each runtime's speedup, 95 %, from resampling rounds.
        warnings: what a reader of the times should know.
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


@dataclass(frozen=True)
class _Subject:
    """A model on its way to be measured.

    Attributes:
        generator: None for a .onnx.
        architecture: None for a .onnx that wkdc did not write, or that holds a custom network.
        params: what a .onnx says that its network has; `precision` what it says to compute in.
    """

    path: Path
    generator: Generator | None
    architecture: Architecture | None
    params: int | None = None
    precision: str = "float32"


def profile(
    models: Sequence[str | Path],
    *,
    size: tuple[int, int] = (256, 256),
    batch: int = 1,
    threads: int | None = None,
    device: str = "cpu",
    rounds: int = 15,
    arch: str | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> ProfileResult:
    """Measure `models`, all in turn within each round, so that a ratio of them is fair.

    A .pth runs in PyTorch and, exported to a temporary file, in ONNX Runtime and OpenVINO; a .onnx
    only there.
    The runtimes take turns as a whole: their idle threads would disturb each other.

    Args:
        models: .pth and .onnx files; the first is what `speedup` compares with.
        size: height and width, which every model must be able to draw at.
        threads: for all runtimes; None takes PyTorch's default.
        rounds: timed rounds.
        arch: what makes the .pth files that hold custom networks; see `load_generator`.
        on_round: called with the rounds done and their number.

    Raises:
        OptionError: a size or number out of range.
        CheckpointError, DeviceError: a model or the device cannot be used.
    """
    for name, value in {
        "batch": batch,
        "rounds": rounds,
        "threads": 1 if threads is None else threads,
    }.items():
        if value < 1:
            raise OptionError(f"{name} is {value}; give 1 or more")
    place = check_device(device)
    if min(size) < 16:
        raise OptionError(f"size {size[0]}x{size[1]} is too small; give 16x16 or more")
    subjects = [_subject(Path(path), arch) for path in models]
    for subject in subjects:
        _check_size(subject, size)
    with TemporaryDirectory() as folder, _torch_threads(threads) as used:
        files = {s.path: _onnx_file(s, Path(folder, f"{n}.onnx")) for n, s in enumerate(subjects)}
        images = {
            subject.path: _photo(_channels(subject), size).expand(batch, -1, -1, -1).contiguous()
            for subject in subjects
        }
        memory = {
            s.path: _peak_memory(s.generator, images[s.path], place)
            for s in subjects
            if s.generator is not None
        }
        runtimes = runtimes_on(place)
        total = len(runtimes) * (WARM_UP + rounds)
        done = 0

        def ticked() -> None:
            nonlocal done
            done += 1
            if on_round is not None:
                on_round(done, total)

        timed: dict[Path, dict[str, Latency]] = {s.path: {} for s in subjects}
        drawn: dict[Path, dict[str, Tensor]] = {s.path: {} for s in subjects}
        unread: dict[str, None] = {}
        for runtime in runtimes:
            calls: dict[Path, Callable[[], Tensor]] = {}
            for s in subjects:
                if s.generator is None and runtime == "torch":
                    continue
                try:
                    call = _call(runtime, s.generator, files[s.path], images[s.path], used, place)
                except CheckpointError as error:
                    if runtime in ("torch", "onnx"):
                        raise
                    unread[f"{error}; {runtime} is left out"] = None
                else:
                    calls[s.path] = call
            name = f"{runtime}-{place.type}"
            for path, latency in time_in_turn(calls, rounds, ticked).items():
                timed[path][name] = latency
                drawn[path][name] = calls[path]()
        measured = tuple(
            _profile_of(
                subject,
                size,
                batch,
                memory.get(subject.path),
                timed[subject.path],
                _agreement(drawn[subject.path]),
            )
            for subject in subjects
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
        warnings=(*unread, *_warnings(intervals, rounds)),
    )


def _subject(path: Path, arch: str | None) -> _Subject:
    if path.suffix.lower() == ".onnx":
        stored = OnnxNetwork(path).metadata
        # A custom network would be made by code that a file names, which no file may.
        known = stored.get("family") not in (None, "custom")
        architecture = Architecture(stored["family"], stored["options"]) if known else None
        precision = stored.get("precision", "float32")
        return _Subject(path, None, architecture, stored.get("params"), precision)
    generator = load_generator(path, arch=arch)
    return _Subject(path, generator, generator.architecture)


def _onnx_file(subject: _Subject, temporary: Path) -> Path:
    """The subject as .onnx: its own file, or `temporary`, which is written."""
    if subject.generator is None:
        return subject.path
    write_onnx(
        subject.generator.network,
        temporary,
        in_channels=subject.generator.in_channels,
        multiple=subject.generator.architecture.multiple,
        smallest=subject.generator.architecture.smallest,
        strict=subject.generator.architecture.strict,
        metadata={},
    )
    return temporary


def _check_size(subject: _Subject, size: tuple[int, int]) -> None:
    architecture = subject.architecture
    if architecture is None:
        return
    if architecture.strict and any(side % architecture.multiple for side in size):
        raise OptionError(
            f"{subject.path} draws multiples of {architecture.multiple} only, not "
            f"{size[0]}x{size[1]}; give another --size"
        )
    if min(size) < architecture.smallest:
        raise OptionError(
            f"{subject.path} draws {architecture.smallest}x{architecture.smallest} and more, not "
            f"{size[0]}x{size[1]}; give another --size"
        )


def _channels(subject: _Subject) -> int:
    if subject.generator is not None:
        return subject.generator.in_channels
    channels = OnnxNetwork(subject.path).shape[1]
    if channels is None:
        raise CheckpointError(f"{subject.path} does not say how many channels it takes")
    return channels


def _call(
    runtime: Runtime,
    generator: Generator | None,
    file: Path,
    images: Tensor,
    threads: int,
    device: torch.device,
) -> Callable[[], Tensor]:
    """What draws `images` once, and returns the pictures on the CPU."""
    match runtime:
        case "torch":
            if generator is None:
                raise RuntimeError("a .onnx does not run in PyTorch")
            return _torch_call(generator, images, device)
        case "onnx":
            network: Callable[[Tensor], Tensor]
            network = OnnxNetwork(file, threads=threads, device=device.type)
        case "openvino" | "openvino-bf16":
            bfloat16 = runtime == "openvino-bf16"
            network = OpenVinoNetwork(file, threads=threads, bfloat16=bfloat16)
    return lambda: network(images)


def _torch_call(generator: Generator, images: Tensor, device: torch.device) -> Callable[[], Tensor]:
    network, batch = generator.network.to(device), images.to(device)

    def call() -> Tensor:
        with torch.inference_mode():
            drawn: Tensor = network(batch)
        return drawn.cpu()

    return call


def _agreement(drawn: Mapping[str, Tensor]) -> dict[str, float]:
    """PSNR of every runtime's pictures to those of the first one."""
    first, *others = drawn
    return {name: psnr_db(drawn[name], drawn[first]) for name in others}


def _profile_of(
    subject: _Subject,
    size: tuple[int, int],
    batch: int,
    memory: int | None,
    latency: dict[str, Latency],
    agreement: dict[str, float],
) -> ModelProfile:
    if subject.architecture is None:
        params = subject.params or count_onnx_params(subject.path)
        bytes_ = subject.path.stat().st_size
        return ModelProfile(
            subject.path,
            sha256_of(subject.path),
            params,
            None,
            None,
            bytes_,
            memory,
            latency,
            agreement,
            subject.precision,
        )
    network = (
        subject.architecture.build() if subject.generator is None else subject.generator.network
    )
    cost = measure_complexity(network, int(subject.architecture.options["in_channels"]), size)
    return ModelProfile(
        subject.path,
        sha256_of(subject.path),
        cost.params,
        batch * cost.macs,
        batch * cost.macs_output_resolution,
        subject.path.stat().st_size,
        memory,
        latency,
        agreement,
        subject.precision,
    )


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
    return {name: ratio_interval(first[name], last[name]) for name in first if name in last}


def _warnings(intervals: dict[str, tuple[float, float]], rounds: int) -> tuple[str, ...]:
    wide = [
        f"{low:.1f} and {high:.1f} ({runtime})"
        for runtime, (low, high) in intervals.items()
        if high > NOISY * low
    ]
    if not wide:
        return ()
    return (
        f"something else was running, or {rounds} rounds are few: all that is known of the speedup "
        f"is that it lies between {', between '.join(wide)}; close other programs, or time more "
        "rounds",
    )


def _photo(channels: int, size: tuple[int, int]) -> Tensor:
    """A bundled photo, 1×`channels`×H×W in [-1, 1]: noise would agree with nothing."""
    height, width = size
    pixels = load_pixels(photo_paths()[0], channels=3 if channels == 3 else 1)
    pixels = resize_short_side(pixels, max(height, width))[:, :height, :width]
    return pixels_to_images(pixels).unsqueeze(0).expand(-1, channels, -1, -1)


def _peak_memory(generator: Generator, images: Tensor, device: torch.device) -> int:
    """Bytes that one call needs beyond weights and input, at the highest point."""
    if device.type != "cuda":
        return measure_activation_bytes(generator.network, images.shape)
    call = _torch_call(generator, images, device)
    call()
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    call()
    return int(torch.cuda.max_memory_allocated(device) - held)


@contextmanager
def _torch_threads(threads: int | None) -> Any:
    """Let PyTorch use so many threads for a while; yields the number in use."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
