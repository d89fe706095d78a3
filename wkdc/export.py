"""A generator -> a .onnx file that provably draws the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wkdc.checkpoint import Generator, load_generator
from wkdc.complexity import count_params
from wkdc.errors import OptionError, ParityError
from wkdc.examples import example_input
from wkdc.files import write_atomically
from wkdc.images import images_to_pixels, pixels_to_images
from wkdc.onnx_file import OPSET, OnnxNetwork, check_onnx, write_onnx
from wkdc.recognition import drawable_side

TOLERANCE = 1e-4
"""Largest allowed difference of one pixel, of [-1, 1]: an eightieth of an 8-bit step."""

PIXEL_TOLERANCE = 0.008
"""The same where pictures are bytes: a step of 2/255. What differs by less may be rounded apart."""


@dataclass(frozen=True)
class Parity:
    """ONNX Runtime against PyTorch on one picture: largest and mean absolute difference."""

    height: int
    width: int
    max_abs_error: float
    mean_abs_error: float


@dataclass(frozen=True)
class ExportResult:
    """A .onnx file and how well it agrees with its source.

    Attributes:
        checks: one per size; `max_abs_error` and `mean_abs_error` sum them up.
        notes: what the source file could not tell and was assumed.
    """

    output: Path
    opset: int
    checks: tuple[Parity, ...]
    tolerance: float
    size_bytes: int
    notes: tuple[str, ...]

    @property
    def max_abs_error(self) -> float:
        return max(check.max_abs_error for check in self.checks)

    @property
    def mean_abs_error(self) -> float:
        return sum(check.mean_abs_error for check in self.checks) / len(self.checks)


def export(
    model: Generator | str | Path,
    *,
    output: str | Path | None = None,
    tolerance: float | None = None,
    pixels: bool = False,
) -> ExportResult:
    """Write `model` as ONNX and compare it with PyTorch in ONNX Runtime, on photos.

    A generator that reads other channels than a picture's is compared on label maps made of them.

    The file takes any batch, height and width. It is compared at 256x256, 192x320 and 250x333
    (a U-Net, which only draws whole multiples, at three sizes that it can draw); what the network
    itself returns there is the reference.

    Args:
        output: by default the model's path with `.onnx`.
        tolerance: largest allowed difference of one pixel, in units of [-1, 1]; by default
            `TOLERANCE`, or with `pixels` one step of 8 bits.
        pixels: whether the file takes and gives uint8 N×H×W×C instead of float32 N×C×H×W; then the
            network's picture is rounded too before the two are compared.

    Raises:
        ParityError: a picture differs by more; no file is left.
        OptionError, CheckpointError, OutputError: see `load_generator`, `write_atomically`.
    """
    if tolerance is None:
        tolerance = PIXEL_TOLERANCE if pixels else TOLERANCE
    if not tolerance > 0:
        raise OptionError(f"tolerance {tolerance} is not allowed; give a positive number")
    generator = model if isinstance(model, Generator) else load_generator(model)
    if pixels and generator.in_channels not in (1, 3):
        raise OptionError(
            f"{generator.path} reads {generator.in_channels} channels, which no picture's bytes "
            "have; leave --uint8-io out"
        )
    path = Path(output) if output is not None else generator.path.with_suffix(".onnx")
    if path.suffix.lower() != ".onnx":
        raise OptionError(f"output {path} does not end in .onnx")
    checks: list[Parity] = []

    def write(temporary: Path) -> None:
        write_onnx(
            generator.network,
            temporary,
            in_channels=generator.in_channels,
            multiple=generator.architecture.multiple,
            smallest=generator.architecture.smallest,
            strict=generator.architecture.strict,
            metadata=metadata(generator),
            pixels=pixels,
        )
        check_onnx(temporary)
        checks.extend(compare(generator, OnnxNetwork(temporary)))
        worst = max(checks, key=lambda check: check.max_abs_error)
        if not worst.max_abs_error <= tolerance:
            raise ParityError(
                f"the ONNX model differs from {generator.path} by {worst.max_abs_error:.2g} at "
                f"{worst.height}x{worst.width}, more than {tolerance:g}; nothing was written"
            )

    write_atomically(path, write)
    return ExportResult(path, OPSET, tuple(checks), tolerance, path.stat().st_size, generator.notes)


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


def compare(generator: Generator, network: OnnxNetwork) -> list[Parity]:
    """The difference between `network` and the generator on a photo of each size.

    The generator's picture is rounded to 8 bits where the file's are.
    """
    found = []
    for images in _pictures(generator, _sizes(generator)):
        with torch.inference_mode():
            expected: Tensor = generator.network(images)
        if network.pixels:
            expected = pixels_to_images(images_to_pixels(expected))
        difference = (network(images) - expected).abs()
        height, width = images.shape[-2:]
        found.append(Parity(height, width, float(difference.max()), float(difference.mean())))
    return found


def _sizes(generator: Generator) -> list[tuple[int, int]]:
    if generator.architecture.family == "resnet":
        return [(256, 256), (192, 320), (250, 333)]
    side = drawable_side(256, generator.architecture)
    longer = side + generator.architecture.multiple
    return [(side, side), (side, longer), (longer, side)]


def _pictures(generator: Generator, sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """An input for each size, of as many photos."""
    channels = generator.in_channels
    return [example_input(channels, size, number) for number, size in enumerate(sizes)]
