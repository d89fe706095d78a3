"""Scores of images against target images, image by image: PSNR, SSIM, high-band error, LPIPS."""

from dataclasses import dataclass

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from wkdc.metrics.bootstrap import Interval, bootstrap_interval
from wkdc.metrics.fidelity import high_band_error, psnr_db
from wkdc.metrics.lpips import Lpips


@dataclass(frozen=True)
class ImageScores:
    """Mean scores over pairs of images.

    Attributes:
        psnr_db: peak signal-to-noise ratio.
        ssim: structural similarity (Wang et al. 2004), 1 for equal images.
        high_band_error: see `wkdc.metrics.fidelity.high_band_error`.
        lpips: learned perceptual distance (Zhang et al. 2018) of VGG16, 0 for equal images; None
            if it was not asked for.
    """

    psnr_db: Interval
    ssim: Interval
    high_band_error: Interval
    lpips: Interval | None


class ScoreCollector:
    """Scores pairs of images as they come, and keeps the scores only."""

    def __init__(self, lpips: Lpips | None = None) -> None:
        self._lpips = lpips
        self._scores: list[tuple[float, ...]] = []

    def add(self, image: Tensor, target: Tensor) -> None:
        """Score one pair, 1×C×H×W in [-1, 1]; skipped if the channels differ."""
        if image.shape != target.shape:
            return
        # Its luminance term is made for numbers from black at 0 upwards.
        shown, wanted = (image + 1) / 2, (target + 1) / 2
        ssim = structural_similarity_index_measure(shown, wanted, data_range=1.0)
        if isinstance(ssim, tuple):
            raise TypeError("SSIM came with what was not asked for")
        scores = (psnr_db(image, target), float(ssim), high_band_error(image, target))
        more = () if self._lpips is None else (self._lpips.distance(image, target),)
        self._scores.append((*scores, *more))

    def summary(self, seed: int) -> ImageScores | None:
        """Means and intervals over all pairs; None if there were none."""
        if not self._scores:
            return None
        psnr, ssim, high, *more = (
            bootstrap_interval(values, seed) for values in zip(*self._scores, strict=True)
        )
        return ImageScores(psnr, ssim, high, more[0] if more else None)
