"""PSNR, high-band error and band energies of images against their targets, without gradients."""

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from wkdc.metrics.wavelet import LEVELS, decompose


def psnr_db(images: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of N×C×H×W images in [-1, 1] in decibels; infinite when equal.

    10 log10(2² / mean squared error over all images): the peak is the width of the range, 2. Minus
    infinity where a number is infinite.
    """
    error = float((images.double() - target.double()).square().mean())
    if error == math.inf:
        return -math.inf
    return math.inf if error == 0 else 10 * math.log10(4.0 / error)


def high_band_error(images: Tensor, target: Tensor, *, levels: int = LEVELS) -> float:
    """Square root of the error's energy in the high Haar bands over the target's energy there.

    0 for equal images, 1 for an image without any detail, above 1 for wrong detail.

    Args:
        images, target: N×C×H×W in [-1, 1].
    """
    error = decompose(images.float() - target.float(), levels=levels).high
    energy = decompose(target.float(), levels=levels).high
    total = float(torch.stack([band.square().sum() for band in energy]).sum())
    wrong = float(torch.stack([band.square().sum() for band in error]).sum())
    return math.sqrt(wrong / total) if total > 0 else (0.0 if wrong == 0 else math.inf)


def most_different_square(images: Sequence[Tensor], side: int) -> tuple[int, int, int]:
    """Left, top and side of the square in which images differ most from the first of them.

    Args:
        images: two or more, 1×C×H×W each, of one shape.
        side: of the square in pixels, at most H and W.
    """
    difference = torch.stack([(one - images[0]).abs().mean((0, 1)) for one in images[1:]]).mean(0)
    sums = functional.avg_pool2d(difference[None, None], side, stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return left, top, side


@dataclass(frozen=True)
class Fidelity:
    """Agreement of one model's images with another's, usually a student's with its teacher's.

    Attributes:
        psnr_db: mean over images of `psnr_db`.
        high_band_error: mean over images of `high_band_error`.
        images: how many images.
    """

    psnr_db: float
    high_band_error: float
    images: int


def mean_fidelity(pairs: Iterable[tuple[Tensor, Tensor]]) -> Fidelity:
    """Compare (image, target) pairs, each 1×C×H×W in [-1, 1], one pair or more."""
    figures = [(psnr_db(a, b), high_band_error(a, b)) for a, b in pairs]
    decibels, errors = zip(*figures, strict=True)
    return Fidelity(statistics.fmean(decibels), statistics.fmean(errors), len(figures))


class BandEnergies:
    """Energies in each band of the Haar transform, summed over images and their targets.

    Bands are named `lh1` (finest) to `hh4`, and `ll4` for the last low band.
    """

    def __init__(self, levels: int = LEVELS) -> None:
        self.count = 0
        self._levels = levels
        self._error: dict[str, float] = {}
        self._images: dict[str, float] = {}
        self._target: dict[str, float] = {}

    def add(self, images: Tensor, target: Tensor) -> None:
        """Add an image, 1×C×H×W in [-1, 1], and its target of the same shape."""
        self.count += 1
        images, target = images.float(), target.float()
        parts = ((self._error, images - target), (self._images, images), (self._target, target))
        for sums, values in parts:
            for name, band in _named_bands(values, self._levels):
                sums[name] = sums.get(name, 0.0) + float(band.double().square().sum())

    def errors(self) -> dict[str, float]:
        """The square root of the error's energy over the targets', by band.

        If the targets have no energy in a band: 0 if the images have none either, else infinite.
        """
        return {name: math.sqrt(_share(self._error[name], e)) for name, e in self._target.items()}

    def shares(self) -> dict[str, float]:
        """The images' energy over the targets', by band; 1 if neither has any."""
        return {
            name: _share(self._images[name], energy) if energy or self._images[name] else 1.0
            for name, energy in self._target.items()
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else (math.inf if part else 0.0)


def mean_band_errors(
    pairs: Iterable[tuple[Tensor, Tensor]], *, levels: int = LEVELS
) -> dict[str, float]:
    """`BandEnergies.errors` of (image, target) pairs, each 1×C×H×W in [-1, 1]."""
    bands = BandEnergies(levels)
    for images, target in pairs:
        bands.add(images, target)
    return bands.errors()


def _named_bands(images: Tensor, levels: int) -> Iterator[tuple[str, Tensor]]:
    bands = decompose(images, levels=levels)
    for level, high in enumerate(bands.high, start=1):
        for index, name in enumerate(("lh", "hl", "hh")):
            yield f"{name}{level}", high[:, :, index]
    yield f"ll{levels}", bands.low
