"""How near images are to others one by one, and how sure so few of them are of it."""

import contextlib
import os
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from wkdc.data.images import images_to_pixels
from wkdc.errors import MetricError
from wkdc.metrics.fidelity import high_band_error, psnr_db
from wkdc.system.files import sha256_of

RESAMPLES = 1000
"""Bootstrap samples that an interval comes from."""

LPIPS_FILES = ("weights-vgg16-lpips.pth", "vgg16-397923af.pth")
"""Weights of LPIPS's last layers (torch-fidelity) and of VGG16 (torchvision)."""


@dataclass(frozen=True)
class Estimate:
    """A mean over images, and the 95 % interval that resampling the images gives."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Likeness:
    """How near images are to others, one by one.

    Attributes:
        psnr_db: peak signal-to-noise ratio.
        ssim: structural similarity (Wang et al. 2004), 1 for equal images.
        high_band_error: see `wkdc.metrics.fidelity.high_band_error`.
        lpips: learned perceptual distance (Zhang et al. 2018), of VGG16, 0 for equal images; None
            where it was not asked for.
    """

    psnr_db: Estimate
    ssim: Estimate
    high_band_error: Estimate
    lpips: Estimate | None


@dataclass(frozen=True)
class Perceptual:
    """LPIPS as torch-fidelity computes it, and the digests of the files that it is of."""

    distance: Callable[[Tensor, Tensor], float]
    sha256: dict[str, str]


def find_lpips(device: torch.device) -> Perceptual:
    """LPIPS of VGG16; torch-fidelity and torchvision fetch its weights into PyTorch's hub folder.

    Raises:
        MetricError: they are not there, and cannot be fetched.
    """
    from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
            network = SampleSimilarityLPIPS("lpips-vgg16", None, "uint8").to(device)
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise MetricError(
            f"LPIPS's weights could not be had: {told}; without a network put "
            f"{' and '.join(LPIPS_FILES)} into {folder}, or leave --lpips out"
        ) from error

    @torch.inference_mode()
    def distance(picture: Tensor, target: Tensor) -> float:
        pixels = (images_to_pixels(one).expand(-1, 3, -1, -1) for one in (picture, target))
        return float(network(*(one.to(device) for one in pixels)))

    return Perceptual(distance, {name: sha256_of(folder / name) for name in LPIPS_FILES})


class Likenesses:
    """Takes images pair by pair, and keeps figures only."""

    def __init__(self, perceptual: Perceptual | None = None) -> None:
        self._perceptual = perceptual
        self._figures: list[tuple[float, ...]] = []

    def add(self, picture: Tensor, target: Tensor) -> None:
        """Compare two images, 1×C×H×W in [-1, 1]; those of other channels are left out."""
        if picture.shape != target.shape:
            return
        ssim = structural_similarity_index_measure(picture, target, data_range=2.0)
        if isinstance(ssim, tuple):
            raise TypeError("SSIM came with what was not asked for")
        figures = (psnr_db(picture, target), float(ssim), high_band_error(picture, target))
        more = () if self._perceptual is None else (self._perceptual.distance(picture, target),)
        self._figures.append((*figures, *more))

    def sum_up(self, seed: int) -> Likeness | None:
        """All of them; None where there were none."""
        if not self._figures:
            return None
        psnr, ssim, high, *more = (
            estimate(values, seed) for values in zip(*self._figures, strict=True)
        )
        return Likeness(psnr, ssim, high, more[0] if more else None)


def estimate(values: Sequence[float], seed: int) -> Estimate:
    """The mean, and the percentile bootstrap's interval (Efron 1979)."""
    draw = random.Random(seed)
    means = sorted(statistics.fmean(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = means[round(0.025 * RESAMPLES)], means[round(0.975 * RESAMPLES) - 1]
    return Estimate(statistics.fmean(values), low, high)
