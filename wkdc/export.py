"""A generator -> a .onnx file that provably draws the same."""

import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from wkdc.benchmark.precision_gain import Gain, measure_gain
from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.calibration import CALIBRATE, LEAST, calibration_images
from wkdc.data.example_input import example_input
from wkdc.data.images import images_to_pixels, pixels_to_images, resize_short_side
from wkdc.data.inputs import Reader, check_reads
from wkdc.data.layouts import Direction, read_layout
from wkdc.errors import OptionError, ParityError
from wkdc.inference.comparison import evenly_spread
from wkdc.metrics.fidelity import high_band_error, psnr_db
from wkdc.networks.architecture import valid_side
from wkdc.networks.complexity import count_params
from wkdc.onnx.equalization import equalised
from wkdc.onnx.file import OPSET, OnnxNetwork, check_onnx, write_onnx
from wkdc.onnx.precision import VISIBLE_DB, Limits, Precision, limits_of, to_float16
from wkdc.onnx.quantization import quantise
from wkdc.system.files import write_atomically

CHECKED = 6
"""How many test images of a data folder a file is checked on."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Parity:
    """ONNX Runtime against PyTorch on one image: largest and mean absolute difference, and more.

    Attributes:
        psnr_db, high_band_error: see `wkdc.metrics.fidelity`.
    """

    height: int
    width: int
    max_abs_error: float
    mean_abs_error: float
    psnr_db: float
    high_band_error: float


@dataclass(frozen=True)
class ExportResult:
    """A .onnx file and how well it agrees with its source.

    Attributes:
        checks: one per image; `max_abs_error` and those after it sum them up.
        kept_in_float: layers that int8 leaves in float32.
        latency_ms, float32_latency_ms: of this file and of the same in float32, by runtime: the
            median of one 256x256 image, in turn. Empty for float32 itself.
        float32_size_bytes: of the same file in float32.
        notes: what the source file could not tell and was assumed.
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
class _Written:
    """What is known of a file before it gets its name."""

    checks: tuple[Parity, ...]
    kept: tuple[str, ...]
    gain: Gain


def export(
    model: Generator | str | Path,
    *,
    output: str | Path | None = None,
    tolerance: float | None = None,
    pixels: bool = False,
    precision: Precision = "float32",
    data: str | Path | None = None,
    direction: Direction = "AtoB",
    on_progress: Progress | None = None,
) -> ExportResult:
    """Write `model` as ONNX and compare it with PyTorch in ONNX Runtime, on photos.

    A generator that reads other channels than an image's is compared on label maps made of them.

    The file takes any batch, height and width. It is compared at 256x256, 192x320 and 250x333
    (a U-Net, which only draws whole multiples, at three sizes that it can draw); what the network
    itself returns there, in float32, is the reference. In another precision than float32 it is
    also timed beside the same file in float32.

    Args:
        output: by default the model's path with `.onnx`.
        tolerance: largest allowed difference of one pixel, in units of [-1, 1]; by default that of
            the precision, see `wkdc.onnx.precision.limits_of`.
        pixels: whether the file takes and gives uint8 N×H×W×C instead of float32 N×C×H×W; then the
            network's image is rounded too before the two are compared.
        precision: what its layers compute in.
        data: a folder in one of the layouts of `wkdc.data.layouts`. int8 takes its ranges from
            training images there; test images are compared instead of bundled photos.
        direction: which domain, or half of a paired image, is drawn from.
        on_progress: called with what is done now, and its share of 1.

    Raises:
        ParityError: an image differs by more; no file is left.
        DatasetError, ImageError: the images in `data` cannot be used.
        DeviceError: ONNX Runtime does not compute in the precision.
        OptionError, CheckpointError, OutputError: see `load_generator`, `write_atomically`.
    """
    limits = limits_of(precision, pixels=pixels)
    if tolerance is not None:
        limits = Limits(tolerance, limits.psnr_db)
    if not limits.max_abs_error > 0:
        raise OptionError(f"tolerance {tolerance} is not allowed; give a positive number")
    if precision == "int8" and data is None:
        raise OptionError(
            "int8 takes its ranges from images like those it will draw; give --data FOLDER"
        )
    generator = model if isinstance(model, Generator) else load_generator(model)
    if pixels and generator.in_channels not in (1, 3):
        raise OptionError(
            f"{generator.path} reads {generator.in_channels} channels, which no image's bytes "
            "have; leave --uint8-io out"
        )
    path = Path(output) if output is not None else generator.path.with_suffix(".onnx")
    if path.suffix.lower() != ".onnx":
        raise OptionError(f"output {path} does not end in .onnx")
    folder = None if data is None else Path(data)
    pictures = _pictures(generator, folder, direction)
    tell: Progress = on_progress or (lambda text, share: None)
    made: list[_Written] = []

    def write(temporary: Path) -> None:
        with TemporaryDirectory() as beside:
            float32 = Path(beside, "float32.onnx")
            examples: list[Tensor] = []
            if precision == "int8":
                tell("reading images", 0)
                examples = calibration_images(generator, folder, CALIBRATE, direction=direction)
            kept = _write(generator, temporary, float32, precision, pixels, examples, tell)
            check_onnx(temporary)
            checks = compare(generator, OnnxNetwork(temporary), pictures)
            _check(checks, limits, generator.path, precision)
            gain = Gain({}, {}, temporary.stat().st_size)
            if precision != "float32":
                tell("timing it beside float32", 1)
                gain = measure_gain(temporary, float32, pictures[0])
        made.append(_Written(tuple(checks), tuple(kept), gain))

    write_atomically(path, write)
    (written,) = made
    return ExportResult(
        path,
        OPSET,
        written.checks,
        limits.max_abs_error,
        path.stat().st_size,
        generator.notes,
        precision,
        written.kept,
        written.gain.latency_ms,
        written.gain.float32_latency_ms,
        written.gain.float32_size_bytes,
        _warnings(written.checks, written.gain, precision),
    )


def _write(
    generator: Generator,
    path: Path,
    float32: Path,
    precision: Precision,
    pixels: bool,
    examples: Sequence[Tensor],
    tell: Progress,
) -> Sequence[str]:
    """Write the file, and the same in float32; the layers that int8 leaves in float32."""
    network = generator.network
    write_onnx(
        equalised(network, examples) if precision == "int8" else network,
        float32,
        in_channels=generator.in_channels,
        multiple=generator.architecture.multiple,
        smallest=generator.architecture.smallest,
        strict=generator.architecture.strict,
        metadata={**metadata(generator), "precision": precision},
        pixels=pixels,
    )
    shutil.copyfile(float32, path)
    match precision:
        case "float16":
            to_float16(path)
        case "int8":
            return quantise(
                path,
                examples,
                on_layer=lambda done, of: tell(f"trying layer {done} of {of} in int8", done / of),
            )
    return ()


def _check(checks: Sequence[Parity], limits: Limits, source: Path, precision: Precision) -> None:
    """Raises: ParityError: an image is beyond the limits, or no number, as where float16 ends."""
    model = "the ONNX model" if precision == "float32" else f"the ONNX model in {precision}"
    other = {"float16": "; try float32", "int8": "; try --fp16"}.get(precision, "")
    for check in sorted(checks, key=lambda check: -check.max_abs_error):
        where = f"{check.height}x{check.width}"
        if not check.max_abs_error <= limits.max_abs_error:
            raise ParityError(
                f"{model} differs from {source} by {check.max_abs_error:.2g} at {where}, more than "
                f"{limits.max_abs_error:g}; nothing was written{other}"
            )
        if not check.psnr_db >= limits.psnr_db:
            raise ParityError(
                f"{model} is {check.psnr_db:.1f} dB from {source} at {where}, less than "
                f"{limits.psnr_db:g}; nothing was written{other}"
            )


def _warnings(checks: Sequence[Parity], gain: Gain, precision: Precision) -> tuple[str, ...]:
    found = []
    worst = min(checks, key=lambda check: check.psnr_db)
    if precision != "float32" and worst.psnr_db < VISIBLE_DB:
        found.append(
            f"{precision} loses visibly: an image is {worst.psnr_db:.1f} dB from float32's, with "
            f"a high-band error of {worst.high_band_error:.3f}"
        )
    slower = gain.slower_in()
    if slower:
        aim = "; it is meant for GPUs" if precision == "float16" else ""
        found.append(f"{precision} is not faster than float32 here in {' and '.join(slower)}{aim}")
    return tuple(found)


def metadata(generator: Generator) -> dict[str, Any]:
    """What the .onnx file says of itself."""
    architecture = generator.architecture
    return {
        "card": generator.card,
        "source_sha256": generator.sha256,
        "family": architecture.family,
        "options": architecture.options,
        "params": count_params(generator.network),
        "multiple": architecture.multiple,
        "smallest": architecture.smallest,
        "range": [-1, 1],
    }


def compare(
    generator: Generator, network: OnnxNetwork, pictures: Sequence[Tensor] | None = None
) -> list[Parity]:
    """The difference between `network` and the generator on each image.

    The generator's image is rounded to 8 bits where the file's are.

    Args:
        images: 1×C×H×W in [-1, 1]; by default a bundled photo of each size.
    """
    found = []
    for images in _pictures(generator, None) if pictures is None else pictures:
        with torch.inference_mode():
            expected: Tensor = generator.network(images)
        if network.pixels:
            expected = pixels_to_images(images_to_pixels(expected))
        drawn = network(images)
        difference = (drawn - expected).abs()
        height, width = images.shape[-2:]
        found.append(
            Parity(
                height,
                width,
                float(difference.max()),
                float(difference.mean()),
                psnr_db(drawn, expected),
                high_band_error(drawn, expected),
            )
        )
    return found


def _sizes(generator: Generator) -> list[tuple[int, int]]:
    if generator.architecture.family == "resnet":
        return [(256, 256), (192, 320), (250, 333)]
    side = valid_side(256, generator.architecture)
    longer = side + generator.architecture.multiple
    return [(side, side), (side, longer), (longer, side)]


def _pictures(
    generator: Generator, data: Path | None, direction: Direction = "AtoB"
) -> list[Tensor]:
    """A bundled photo for each size, or test images of `data`, cut to the sizes in turn."""
    channels, sizes = generator.in_channels, _sizes(generator)
    if data is None:
        return [example_input(channels, size, number) for number, size in enumerate(sizes)]
    layout = read_layout(data, direction=direction, smallest=LEAST)
    check_reads(layout, generator.path, channels)
    reader = Reader(layout, channels, generator.out_channels)
    pictures = []
    for number, path in enumerate(evenly_spread(layout.validation, CHECKED)):
        height, width = sizes[number % len(sizes)]
        given = resize_short_side(reader.load(path)[0], max(height, width))
        pictures += reader.images([given[:, :height, :width].unsqueeze(0)])
    return pictures
