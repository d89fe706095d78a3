"""How near pictures are to others one by one, and how sure so few of them are of it."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from wkdc.metrics import high_band_error, psnr_db

RESAMPLES = 1000
"""Bootstrap samples that an interval comes from."""


@dataclass(frozen=True)
class Estimate:
    """A mean over pictures, and the 95 % interval that resampling the pictures gives."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Likeness:
    """How near pictures are to others, one by one.

    Attributes:
        psnr_db: peak signal-to-noise ratio.
        ssim: structural similarity (Wang et al. 2004), 1 for equal pictures.
        high_band_error: see `wkdc.metrics.high_band_error`.
    """

    psnr_db: Estimate
    ssim: Estimate
    high_band_error: Estimate


class Likenesses:
    """Takes pictures pair by pair, and keeps figures only."""

    def __init__(self) -> None:
        self._figures: list[tuple[float, float, float]] = []

    def add(self, picture: Tensor, target: Tensor) -> None:
        """Compare two pictures, 1×C×H×W in [-1, 1]; those of other channels are left out."""
        if picture.shape != target.shape:
            return
        ssim = structural_similarity_index_measure(picture, target, data_range=2.0)
        if isinstance(ssim, tuple):
            raise TypeError("SSIM came with what was not asked for")
        figures = (psnr_db(picture, target), float(ssim), high_band_error(picture, target))
        self._figures.append(figures)

    def sum_up(self, seed: int) -> Likeness | None:
        """All of them; None where there were none."""
        if not self._figures:
            return None
        return Likeness(*(estimate(values, seed) for values in zip(*self._figures, strict=True)))


def estimate(values: Sequence[float], seed: int) -> Estimate:
    """The mean, and the percentile bootstrap's interval (Efron 1979)."""
    draw = random.Random(seed)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return Estimate(statistics.fmean(values), low, high)
