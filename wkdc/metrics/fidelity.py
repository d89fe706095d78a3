"""How near one set of images is to another: figures for people, not for gradients."""

import math
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wkdc.metrics.wavelet import decompose


def psnr_db(images: Tensor, target: Tensor) -> float:
    """Peak signal-to-noise ratio of N×C×H×W images in [-1, 1] in decibels; infinite when equal.

    Of several images it is that of their mean squared error.

    10 log10(2² / mean squared error): the peak is the range's width, 2.
    """
    error = float((images.double() - target.double()).square().mean())
    return math.inf if error == 0 else 10 * math.log10(4.0 / error)


def high_band_error(images: Tensor, target: Tensor, *, levels: int = 4) -> float:
    """Energy of the error in the high Haar bands relative to the target's energy there, as a root.

    0 for equal images, 1 for an image without any detail, above 1 for wrong detail.
    """
    error = decompose(images.float() - target.float(), levels=levels).high
    energy = decompose(target.float(), levels=levels).high
    total = float(torch.stack([band.square().sum() for band in energy]).sum())
    wrong = float(torch.stack([band.square().sum() for band in error]).sum())
    return math.sqrt(wrong / total) if total > 0 else (0.0 if wrong == 0 else math.inf)


@dataclass(frozen=True)
class Fidelity:
    """How near one model's images are to another's, usually a student's to its teacher's.

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
    """Sums, band by band of the Haar transform, over images and their targets.

    The bands' names are `lh1` (finest) to `hh4` and `ll4`, the low band that is left.
    """

    def __init__(self, levels: int = 4) -> None:
        self.pictures = 0
        self._levels = levels
        self._wrong: dict[str, float] = {}
        self._made: dict[str, float] = {}
        self._whole: dict[str, float] = {}

    def add(self, images: Tensor, target: Tensor) -> None:
        """Count an image, 1×C×H×W in [-1, 1], and its target of the same shape."""
        self.pictures += 1
        images, target = images.float(), target.float()
        parts = ((self._wrong, images - target), (self._made, images), (self._whole, target))
        for sums, picture in parts:
            for name, band in _named_bands(picture, self._levels):
                sums[name] = sums.get(name, 0.0) + float(band.double().square().sum())

    def errors(self) -> dict[str, float]:
        """Of each band, the root of the error's energy over the targets'.

        Where the targets have none, 0 if the images have none either, else infinite.
        """
        return {name: math.sqrt(_share(self._wrong[name], e)) for name, e in self._whole.items()}

    def shares(self) -> dict[str, float]:
        """Of each band, the images' energy over the targets'; 1 where neither has any."""
        return {
            name: _share(self._made[name], energy) if energy or self._made[name] else 1.0
            for name, energy in self._whole.items()
        }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else (math.inf if part else 0.0)


def mean_band_errors(
    pairs: Iterable[tuple[Tensor, Tensor]], *, levels: int = 4
) -> dict[str, float]:
    """`BandEnergies.errors` of (image, target) pairs, each 1×C×H×W in [-1, 1]."""
    bands = BandEnergies(levels)
    for images, target in pairs:
        bands.add(images, target)
    return bands.errors()


def _named_bands(images: Tensor, levels: int) -> Iterator[tuple[str, Tensor]]:
    bands = decompose(images, levels=levels)
    for level, high in enumerate(bands.high, start=1):
        for place, name in enumerate(("lh", "hl", "hh")):
            yield f"{name}{level}", high[:, :, place]
    yield f"ll{levels}", bands.low
