"""What training minimises. Every loss takes N×C×H×W tensors and returns a 0-d tensor."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from wkdc.errors import OptionError
from wkdc.metrics.wavelet import decompose

Compared = Literal["high", "low", "all"]
Measure = Literal["l1", "l2"]
Reduction = Literal["levels", "pixels"]
Gan = Literal["lsgan", "hinge", "vanilla"]


def pixel_loss(images: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference over all pixels and channels, in units of [-1, 1]."""
    return (images.float() - target.float()).abs().mean()


def wavelet_loss(
    images: Tensor,
    target: Tensor,
    *,
    wavelet: str = "haar",
    levels: int = 4,
    bands: Compared = "high",
    measure: Measure = "l1",
    reduction: Reduction = "levels",
) -> Tensor:
    """Difference of wavelet coefficients, by default of the high-frequency bands alone.

    Args:
        images, target: N×C×H×W of the same shape.
        wavelet, levels: see `wkdc.metrics.wavelet.decompose`.
        bands: `high` compares LH, HL and HH of every level; `low` the LL that the last level
            leaves; `all` both.
        measure: `l1` is the absolute difference, `l2` its square.
        reduction: `levels` sums over levels the mean over a level's coefficients, so all levels
            weigh alike (Zhang et al. 2022, equation 5), and the low band as one more; `pixels`
            divides the sum over all coefficients by the number of pixels N·C·H·W, so the finest
            level weighs most.

    Raises:
        OptionError: an unknown wavelet, bands, measure or reduction, or no levels.
    """
    # The transform is linear: transforming the difference once costs half of transforming both.
    found = decompose(images.float() - target.float(), wavelet=wavelet, levels=levels)
    match bands:
        case "high":
            compared = found.high
        case "low":
            compared = (found.low,)
        case "all":
            compared = (*found.high, found.low)
        case _:
            raise OptionError(f"bands {bands!r} are not known; choose high, low or all")
    match measure:
        case "l1":
            wrong = [band.abs() for band in compared]
        case "l2":
            wrong = [band.square() for band in compared]
        case _:
            raise OptionError(f"measure {measure!r} is not known; choose l1 or l2")
    match reduction:
        case "levels":
            return torch.stack([band.mean() for band in wrong]).sum()
        case "pixels":
            return torch.stack([band.sum() for band in wrong]).sum() / images.numel()
        case _:
            raise OptionError(f"reduction {reduction!r} is not known; choose levels or pixels")


def feature_loss(fake: Sequence[Sequence[Tensor]], real: Sequence[Sequence[Tensor]]) -> Tensor:
    """Difference of what a discriminator's layers say of a generated image and of the true one.

    Four times the mean over scales and layers of each layer's mean absolute difference, so that of
    the stock four layers their sum counts, as pix2pixHD has it (Wang et al. 2018, section 3.2).

    Args:
        fake, real: for each scale, what its layers but the last put out, N×c×h×w of the same shape;
            no gradient goes to `real`.
    """
    scales = [
        torch.stack([pixel_loss(a, b.detach()) for a, b in zip(ours, theirs, strict=True)]).mean()
        for ours, theirs in zip(fake, real, strict=True)
    ]
    return 4 * torch.stack(scales).mean()


def generator_loss(fake_scores: Tensor, *, gan: Gan = "lsgan") -> Tensor:
    """What the generator minimises: that its images are taken for real.

    Args:
        fake_scores: what the discriminator says of them, without a sigmoid.
        gan: `lsgan` wants scores of 1 (Mao et al. 2017, equation 9); `vanilla` is the cross entropy
            (Goodfellow et al. 2014, the non-saturating form); `hinge` wants high scores (Lim and Ye
            2017).

    Raises:
        OptionError: an unknown `gan`.
    """
    scores = fake_scores.float()
    match gan:
        case "lsgan":
            return (scores - 1).square().mean()
        case "vanilla":
            return functional.softplus(-scores).mean()
        case "hinge":
            return -scores.mean()
        case _:
            raise OptionError(f"gan {gan!r} is not known; choose lsgan, hinge or vanilla")


def discriminator_loss(real_scores: Tensor, fake_scores: Tensor, *, gan: Gan = "lsgan") -> Tensor:
    """What the discriminator minimises: that it tells real images from fakes.

    Half the sum over both, as pytorch-CycleGAN-and-pix2pix has it.

    Args:
        gan: see `generator_loss`; `lsgan` wants 1 and 0, `hinge` at least 1 and at most -1.

    Raises:
        OptionError: an unknown `gan`.
    """
    real, fake = real_scores.float(), fake_scores.float()
    match gan:
        case "lsgan":
            return ((real - 1).square().mean() + fake.square().mean()) / 2
        case "vanilla":
            return (functional.softplus(-real).mean() + functional.softplus(fake).mean()) / 2
        case "hinge":
            return ((1 - real).relu().mean() + (1 + fake).relu().mean()) / 2
        case _:
            raise OptionError(f"gan {gan!r} is not known; choose lsgan, hinge or vanilla")
