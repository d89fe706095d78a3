"""The discrete wavelet transform: images -> a low band and the high bands of every level.

pytorch-wavelets computes it; here it gets names, float32 under autocast, and its checks.
"""

import functools
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.errors import OptionError


@dataclass(frozen=True)
class Bands:
    """A wavelet decomposition of N×C×H×W images.

    Attributes:
        low: N×C×h×w, the low band (LL) that the last level leaves.
        high: one tensor per level, finest first, N×C×3×h×w: horizontal (LH), vertical (HL) and
            diagonal (HH) detail, in PyWavelets' order (cH, cV, cD).
    """

    low: Tensor
    high: tuple[Tensor, ...]


def decompose(images: Tensor, *, wavelet: str = "haar", levels: int = 4) -> Bands:
    """Transform N×C×H×W images in float32, padded with zeros.

    A Haar transform of an image in [-1, 1] has coefficients up to 2 at the first level and twice
    that at each further one.

    Args:
        wavelet: a discrete wavelet of PyWavelets: haar, db2, bior2.2, ...
        levels: how many times the low band is split again, 1 or more.

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
    """Make sure that `wavelet` can be transformed with.

    Raises:
        OptionError: it is none of PyWavelets' discrete wavelets.
    """
    import pywt

    if wavelet not in pywt.wavelist(kind="discrete"):
        raise OptionError(
            f"wavelet {wavelet!r} is not known; choose one of PyWavelets' discrete wavelets, "
            "such as haar, db2 or bior2.2"
        )


@functools.lru_cache(maxsize=16)
def _transform(wavelet: str, levels: int, device: str) -> nn.Module:
    """The module of pytorch-wavelets, made once per setting and device."""
    check_wavelet(wavelet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources, which warns of its own end
        from pytorch_wavelets import DWTForward
    with torch.inference_mode(False):  # the filters are kept, and later used in training
        transform: nn.Module = DWTForward(J=levels, wave=wavelet, mode="zero").to(device)
    return transform
