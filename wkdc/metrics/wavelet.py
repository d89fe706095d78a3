"""The discrete wavelet transform of images, by pytorch-wavelets, in float32 under autocast too."""

import functools
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.errors import OptionError

LEVELS = 4
"""Levels of the transform in Zhang et al. 2022."""


@dataclass(frozen=True)
class Bands:
    """A wavelet decomposition of N×C×H×W images.

    Attributes:
        low: N×C×h×w, the low band (LL) of the last level.
        high: one tensor per level, finest first, N×C×3×h×w: horizontal (LH), vertical (HL) and
            diagonal (HH) detail, in PyWavelets' order (cH, cV, cD).
    """

    low: Tensor
    high: tuple[Tensor, ...]


def decompose(images: Tensor, *, wavelet: str = "haar", levels: int = LEVELS) -> Bands:
    """Transform N×C×H×W images in float32, padded with zeros.

    The Haar coefficients of an image in [-1, 1] are at most 2 at the first level, and twice as
    large at each further level.

    Args:
        wavelet: a discrete wavelet of PyWavelets: haar, db2, bior2.2, ...
        levels: how many times the low band is split, 1 or more.

    Raises:
        OptionError: an unknown wavelet, or no levels.

    Source: Zhang et al. 2022, section 3.2 (Haar, 4 levels).
    """
    if levels < 1:
        raise OptionError(f"{levels} wavelet levels were asked for; 1 or more are needed")
    transform = _transform(wavelet, levels, str(images.device))
    with torch.autocast(images.device.type, enabled=False):
        low, high = transform(images.float())
    return Bands(low, tuple(high))


def check_wavelet(wavelet: str) -> None:
    """Raises: OptionError: `wavelet` is not one of PyWavelets' discrete wavelets."""
    import pywt

    if wavelet not in pywt.wavelist(kind="discrete"):
        raise OptionError(
            f"wavelet {wavelet!r} is not known; choose one of PyWavelets' discrete wavelets, "
            "such as haar, db2 or bior2.2"
        )


@functools.lru_cache(maxsize=16)
def _transform(wavelet: str, levels: int, device: str) -> nn.Module:
    """The module of pytorch-wavelets, built once per setting and device."""
    check_wavelet(wavelet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources, which is deprecated
        from pytorch_wavelets import DWTForward
    with torch.inference_mode(False):  # the filters are cached, and used in training later
        transform: nn.Module = DWTForward(J=levels, wave=wavelet, mode="zero").to(device)
    return transform
