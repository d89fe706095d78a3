"""The radially averaged power spectrum of an image."""

import torch
from torch import Tensor


def radial_power(images: Tensor) -> Tensor:
    """The radially averaged power spectrum of 1×C×S×S images in [-1, 1]: S/2 values, float64.

    Value k is the mean of |FFT|²/S² over the frequencies whose radius rounds to k cycles an image,
    k = 0 to S/2 - 1, and over channels; white noise of variance v has v everywhere. The mean is
    subtracted, and a Hann window that keeps white noise's power stops the image's edges from
    counting as detail.

    Raises:
        ValueError: the image is not square, or there are several.
    """
    count, _, height, width = images.shape
    if count != 1 or height != width:
        raise ValueError(f"one square image is needed, not {tuple(images.shape)}")
    values = images.double() - images.double().mean((2, 3), keepdim=True)
    window = torch.hann_window(height, periodic=True, dtype=torch.float64)
    taper = window[:, None] * window
    taper = taper / taper.square().mean().sqrt()
    power = torch.fft.fft2(values * taper).abs().square().mean((0, 1)) / height**2
    cycles = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
    radius = (cycles[:, None].square() + cycles.square()).sqrt().round().long().flatten()
    inside = radius < height // 2
    size = height // 2
    total = torch.zeros(size, dtype=torch.float64).index_add_(
        0, radius[inside], power.flatten()[inside]
    )
    return total / torch.bincount(radius[inside], minlength=size)
