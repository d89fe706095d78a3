"""What training minimises. Every loss takes N×C×H×W tensors and returns a 0-d tensor."""

from typing import Literal

import torch
from torch import Tensor

from wkdc.errors import OptionError
from wkdc.wavelet import decompose

Reduction = Literal["levels", "pixels"]


def pixel_loss(images: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over all pixels and channels, in units of [-1, 1]."""
    return (images.float() - target.float()).abs().mean()


def wavelet_loss(
    images: Tensor,
    target: Tensor,
    *,
    wavelet: str = "haar",
    levels: int = 4,
    reduction: Reduction = "levels",
) -> Tensor:
    """Absolute difference of the high-frequency bands (LH, HL, HH); the low band is left alone.

    Args:
        images, target: N×C×H×W of the same shape.
        wavelet, levels: see `wkdc.wavelet.decompose`.
        reduction: `levels` sums over levels the mean over a level's coefficients, so all levels
            weigh alike (Zhang et al. 2022, equation 5); `pixels` divides the sum over all
            coefficients by the number of pixels N·C·H·W, so the finest level weighs most.

    Raises:
        OptionError: an unknown wavelet or reduction, or no levels.
    """
    # The transform is linear: transforming the difference once costs half of transforming both.
    bands = decompose(images.float() - target.float(), wavelet=wavelet, levels=levels)
    match reduction:
        case "levels":
            return torch.stack([band.abs().mean() for band in bands.high]).sum()
        case "pixels":
            return torch.stack([band.abs().sum() for band in bands.high]).sum() / images.numel()
        case _:
            raise OptionError(f"reduction {reduction!r} is not known; choose levels or pixels")


def generator_loss(fake_scores: Tensor) -> Tensor:
    """What the generator minimises against a least-squares discriminator: scores of 1.

    Source: Mao et al. 2017, equation 9.
    """
    return (fake_scores.float() - 1).square().mean()


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """What a least-squares discriminator minimises: 1 for real pictures, 0 for fakes.

    Half the sum of both, as pytorch-CycleGAN-and-pix2pix has it. Source: Mao et al. 2017.
    """
    real = (real_scores.float() - 1).square().mean()
    return (real + fake_scores.float().square().mean()) / 2
