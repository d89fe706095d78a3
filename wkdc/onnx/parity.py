"""Agreement of an exported file with the generator that it was made from, in its runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.example_input import example_input
from wkdc.data.images import images_to_pixels, pixels_to_images
from wkdc.errors import ParityError
from wkdc.metrics.fidelity import high_band_error, psnr_db
from wkdc.networks.architecture import valid_side
from wkdc.onnx.precision import Limits


@dataclass(frozen=True)
class Parity:
    """The runtime against PyTorch on one image: largest and mean absolute difference, and more.

    Attributes:
        psnr_db, high_band_error: see `wkdc.metrics.fidelity`.
    """

    height: int
    width: int
    max_abs_error: float
    mean_abs_error: float
    psnr_db: float
    high_band_error: float


class Exported(Protocol):
    """An exported file at work: float32 N×C×H×W in [-1, 1] -> the same; rounded if of `pixels`."""

    pixels: bool

    def __call__(self, images: Tensor, /) -> Tensor: ...


def measure_parity(
    generator: Generator, network: Exported, images: Sequence[Tensor]
) -> list[Parity]:
    """Compare the outputs of `network` and `generator` on each image.

    The generator's output is rounded to 8 bits if the file's is.

    Args:
        images: 1×C×H×W in [-1, 1].

    Raises:
        ParityError: an output has another shape.
    """
    found = []
    for image in images:
        with torch.inference_mode():
            expected: Tensor = generator.network(image)
        if network.pixels:
            expected = pixels_to_images(images_to_pixels(expected))
        output = network(image)
        if output.shape != expected.shape:
            raise ParityError(
                f"the exported network makes {tuple(output.shape)} of {tuple(image.shape)}, and "
                f"{generator.path} {tuple(expected.shape)}; nothing was written"
            )
        difference = (output - expected).abs()
        height, width = image.shape[-2:]
        found.append(
            Parity(
                height,
                width,
                float(difference.max()),
                float(difference.mean()),
                psnr_db(output, expected),
                high_band_error(output, expected),
            )
        )
    return found


def check_parity(
    checks: Sequence[Parity], limits: Limits, source: Path, model: str, instead: str = ""
) -> None:
    """Check that every image is within the limits, and a number: float16 ends at 65504.

    Args:
        source: the generator's file; `model` the exported one in words; `instead` what to try.

    Raises:
        ParityError: one is not.
    """
    for check in sorted(checks, key=lambda check: -check.max_abs_error):
        where = f"{check.height}x{check.width}"
        if not check.max_abs_error <= limits.max_abs_error:
            raise ParityError(
                f"{model} differs from {source} by {check.max_abs_error:.2g} at {where}, more than "
                f"{limits.max_abs_error:g}; nothing was written{instead}"
            )
        if not check.psnr_db >= limits.psnr_db:
            raise ParityError(
                f"{model} is {check.psnr_db:.1f} dB from {source} at {where}, less than "
                f"{limits.psnr_db:g}; nothing was written{instead}"
            )


def parity_sizes(generator: Generator) -> list[tuple[int, int]]:
    """Three sizes (height, width) that the generator takes, not all square."""
    if not generator.architecture.strict and generator.architecture.family != "custom":
        return [(256, 256), (192, 320), (250, 333)]
    side = valid_side(256, generator.architecture)
    longer = side + generator.architecture.multiple
    return [(side, side), (side, longer), (longer, side)]


def example_images(
    generator: Generator, sizes: Sequence[tuple[int, int]] | None = None
) -> list[Tensor]:
    """A bundled photo of each of `sizes`, by default `parity_sizes`: 1×C×H×W in [-1, 1]."""
    channels, chosen = generator.in_channels, sizes or parity_sizes(generator)
    return [example_input(channels, size, number) for number, size in enumerate(chosen)]
