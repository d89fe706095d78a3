"""A generator -> a .onnx file that is checked to give the same images."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from wkdc.benchmark.precision_times import PrecisionTimes, time_precision
from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.calibration import CALIBRATE, LEAST, read_calibration
from wkdc.data.folders import Data, ImageFolder, as_folder, evenly_spread
from wkdc.data.images import resize_short_side
from wkdc.data.inputs import Reader, check_reads
from wkdc.data.layouts import Direction, read_layout
from wkdc.data.photos import photo_paths
from wkdc.errors import OptionError
from wkdc.onnx.conversion import write_generator
from wkdc.onnx.file import OPSET, OnnxNetwork, check_onnx
from wkdc.onnx.parity import Parity, check_parity, example_images, measure_parity, parity_sizes
from wkdc.onnx.precision import VISIBLE_DB, Limits, Precision, limits_of
from wkdc.system.files import write_atomically
from wkdc.system.temporary import scratch_folder

CHECKED = 6
"""How many test images of a data folder a file is checked on."""

BY_PHOTOS = "int8's ranges are of bundled photos; if yours are other images, give --data FOLDER"

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class ExportResult:
    """A .onnx file and how well it agrees with its source.

    Attributes:
        checks: one per image; `max_abs_error` and those after it sum them up.
        kept_in_float: layers that int8 leaves in float32.
        latency_ms, float32_latency_ms: of this file and of the same in float32, by runtime: the
            median of one 256x256 image, in turn. Empty for float32 itself.
        float32_size_bytes: of the same file in float32.
        notes: what was assumed: where the source file could not tell, or no data was given.
        warnings: what the precision costs, where that shows.
    """

    output: Path
    opset: int
    checks: tuple[Parity, ...]
    tolerance: float
    size_bytes: int
    notes: tuple[str, ...]
    precision: Precision
    kept_in_float: tuple[str, ...]
    latency_ms: dict[str, float]
    float32_latency_ms: dict[str, float]
    float32_size_bytes: int
    warnings: tuple[str, ...]

    @property
    def max_abs_error(self) -> float:
        return max(check.max_abs_error for check in self.checks)

    @property
    def mean_abs_error(self) -> float:
        return statistics.fmean(check.mean_abs_error for check in self.checks)

    @property
    def psnr_db(self) -> float:
        """Of the worst image."""
        return min(check.psnr_db for check in self.checks)

    @property
    def high_band_error(self) -> float:
        """Of the worst image."""
        return max(check.high_band_error for check in self.checks)


@dataclass(frozen=True)
class _Job:
    """A file to be written, and how; `calibrate` reads the images for int8."""

    generator: Generator
    precision: Precision
    pixels: bool
    limits: Limits
    calibrate: Callable[[], list[Tensor]]
    on_progress: Progress


@dataclass(frozen=True)
class _Written:
    """What is known of a file before it gets its name."""

    checks: tuple[Parity, ...]
    kept: tuple[str, ...]
    times: PrecisionTimes


def export(
    model: Generator | str | Path,
    *,
    output: str | Path | None = None,
    tolerance: float | None = None,
    pixels: bool = False,
    precision: Precision = "float32",
    data: Data | None = None,
    direction: Direction = "AtoB",
    on_progress: Progress | None = None,
) -> ExportResult:
    """Write `model` as ONNX, and compare ONNX Runtime's images with PyTorch's.

    The file takes any batch, height and width. It is compared with the network in float32 on
    photos of 256x256, 192x320 and 250x333; a U-Net, which takes whole multiples only, at three
    such sizes; a generator that reads other than 1 or 3 channels on label maps made of the photos.
    In another precision than float32 it is also timed beside the same file in float32.

    Args:
        output: by default the model's path with `.onnx`.
        tolerance: largest allowed difference of one pixel, in units of [-1, 1]; by default that of
            the precision, see `wkdc.onnx.precision.limits_of`.
        pixels: whether the file takes and gives uint8 N×H×W×C instead of float32 N×C×H×W; then the
            network's image is rounded too before the two are compared.
        precision: what its layers compute in.
        data: a folder in one of the layouts of `wkdc.data.layouts`. int8 takes its ranges from
            training images there instead of bundled photos, and test images are compared.
        direction: which domain, or half of a paired image, is the input.
        on_progress: called with what is being done, and the share of it that is done, 0 to 1.

    Raises:
        ParityError: an image differs by more; no file is left.
        DatasetError, ImageError: the images in `data` cannot be used.
        DeviceError: ONNX Runtime does not compute in the precision.
        OptionError, CheckpointError, OutputError: see `load_generator`, `write_atomically`.
    """
    limits = limits_of(precision, pixels=pixels, tolerance=tolerance)
    generator = model if isinstance(model, Generator) else load_generator(model)
    by_photos = precision == "int8" and data is None
    if by_photos and generator.in_channels not in (1, 3):
        raise OptionError(
            f"int8 takes its ranges from inputs, and {generator.path} reads "
            f"{generator.in_channels} channels, which no bundled photo has; give --data FOLDER"
        )
    if pixels and generator.in_channels not in (1, 3):
        raise OptionError(
            f"{generator.path} reads {generator.in_channels} channels, which no image's bytes "
            "have; leave --uint8-io out"
        )
    path = Path(output) if output is not None else generator.path.with_suffix(".onnx")
    if path.suffix.lower() != ".onnx":
        raise OptionError(f"output {path} does not end in .onnx")
    folder = None if data is None else as_folder(data)
    images = checked_images(generator, folder, direction, parity_sizes(generator))
    calibrate = partial(_ranging_images, generator, folder, direction, checked=len(images))
    job = _Job(generator, precision, pixels, limits, calibrate, on_progress or _silent)
    written: list[_Written] = []
    write_atomically(path, lambda temporary: written.append(_write_checked(job, temporary, images)))
    checks, times = written[0].checks, written[0].times
    return ExportResult(
        path,
        OPSET,
        checks,
        limits.max_abs_error,
        path.stat().st_size,
        (*generator.notes, *((BY_PHOTOS,) if by_photos else ())),
        precision,
        written[0].kept,
        times.latency_ms,
        times.float32_latency_ms,
        times.float32_size_bytes,
        _warnings(checks, times, precision),
    )


def _ranging_images(
    generator: Generator, data: ImageFolder | None, direction: Direction, *, checked: int
) -> list[Tensor]:
    """What int8 takes its ranges from: of the bundled photos those that no file is compared on."""
    if data is not None:
        return read_calibration(generator, data, CALIBRATE, direction=direction).images
    return read_calibration(generator, None, len(photo_paths())).images[checked:]


def _silent(_text: str, _share: float) -> None:
    """Report progress to nobody."""


def _write_checked(job: _Job, path: Path, images: Sequence[Tensor]) -> _Written:
    """Write the file, check it on `images`, and time it beside the same file in float32.

    Raises:
        ParityError: an image is beyond the limits.
    """
    precision, tell = job.precision, job.on_progress
    with scratch_folder() as folder:
        float32 = folder / "float32.onnx"
        calibration: list[Tensor] = []
        if precision == "int8":
            tell("reading images", 0)
            calibration = job.calibrate()
        kept = write_generator(
            job.generator,
            path,
            float32,
            precision=precision,
            pixels=job.pixels,
            calibration=calibration,
            on_layer=lambda done, of: tell(f"trying layer {done} of {of} in int8", done / of),
        )
        check_onnx(path)
        checks = measure_parity(job.generator, OnnxNetwork(path), images)
        model = "the ONNX model" if precision == "float32" else f"the ONNX model in {precision}"
        other = {"float16": "; try float32", "int8": "; try --fp16"}.get(precision, "")
        check_parity(checks, job.limits, job.generator.path, model, other)
        times = PrecisionTimes({}, {}, path.stat().st_size)
        if precision != "float32":
            tell("timing it beside float32", 1)
            times = time_precision(path, float32, images[0])
    return _Written(tuple(checks), kept, times)


def _warnings(
    checks: Sequence[Parity], times: PrecisionTimes, precision: Precision
) -> tuple[str, ...]:
    found = list(times.left_out)
    worst = min(checks, key=lambda check: check.psnr_db)
    if precision != "float32" and worst.psnr_db < VISIBLE_DB:
        found.append(
            f"{precision} loses visibly: an image is {worst.psnr_db:.1f} dB from float32's, with "
            f"a high-band error of {worst.high_band_error:.3f}"
        )
    slower = times.slower_in()
    if slower:
        aim = "; it is meant for GPUs" if precision == "float16" else ""
        found.append(f"{precision} is not faster than float32 here in {' and '.join(slower)}{aim}")
    return tuple(found)


def checked_images(
    generator: Generator,
    data: ImageFolder | None,
    direction: Direction,
    sizes: Sequence[tuple[int, int]],
) -> list[Tensor]:
    """A bundled photo for each of `sizes`, or test images of `data`, cut to the sizes in turn."""
    channels = generator.in_channels
    if data is None:
        return example_images(generator, sizes)
    layout = read_layout(data, direction=direction, smallest=LEAST)
    check_reads(layout, generator.path, channels)
    reader = Reader(layout, channels, generator.out_channels)
    pictures = []
    for number, path in enumerate(evenly_spread(layout.validation, CHECKED)):
        height, width = sizes[number % len(sizes)]
        given = resize_short_side(reader.load(path)[0], max(height, width))
        pictures += reader.images([given[:, :height, :width].unsqueeze(0)])
    return pictures
