"""Agreement of a .onnx file with the generator that it was made from, in ONNX Runtime."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.example_input import example_input
from wkdc.data.images import images_to_pixels, pixels_to_images
from wkdc.metrics.fidelity import high_band_error, psnr_db
from wkdc.networks.architecture import valid_side
from wkdc.onnx.file import OnnxNetwork


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


def measure_parity(
    generator: Generator, network: OnnxNetwork, images: Sequence[Tensor]
) -> list[Parity]:
    """Compare the outputs of `network` and `generator` on each image.

    The generator's output is rounded to 8 bits if the file's is.

    Args:
        images: 1×C×H×W in [-1, 1].
    """
    found = []
    for image in images:
        with torch.inference_mode():
            expected: Tensor = generator.network(image)
        if network.pixels:
            expected = pixels_to_images(images_to_pixels(expected))
        output = network(image)
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


def parity_sizes(generator: Generator) -> list[tuple[int, int]]:
    """Three sizes (height, width) that the generator takes, not all square."""
    if not generator.architecture.strict and generator.architecture.family != "custom":
        return [(256, 256), (192, 320), (250, 333)]
    side = valid_side(256, generator.architecture)
    longer = side + generator.architecture.multiple
    return [(side, side), (side, longer), (longer, side)]


def example_images(generator: Generator) -> list[Tensor]:
    """A bundled photo of each of `parity_sizes`, 1×C×H×W in [-1, 1]."""
    channels = generator.in_channels
    return [example_input(channels, s, number) for number, s in enumerate(parity_sizes(generator))]
