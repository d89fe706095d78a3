"""Colour jitter: images in colours that the data lacks. A teacher labels any input."""

import random

import torch
from torch import Tensor

from wkdc.data.images import images_to_pixels, pixels_to_images

HUE = 0.5
"""Largest turn of the hue, in turns of the colour wheel: any hue becomes any other."""

SATURATION = (0.6, 1.6)
BRIGHTNESS = (0.75, 1.25)

GREY = 8 / 127.5
"""Channels that differ by no more, eight of 255 levels, are grey: JPEG is not exact."""


def has_colour(image: Tensor) -> bool:
    """Whether an image, ...×C×H×W in [-1, 1], is RGB and not grey: edges, say, have no hue."""
    if image.shape[-3] != 3:
        return False
    return bool((image.amax(-3) - image.amin(-3)).max() > GREY)


def jitter_pixels(pixels: Tensor, rng: random.Random) -> Tensor:
    """`jitter_colours` for 3×H×W from 0 to 255, uint8 or float32; without colour, unchanged."""
    image = pixels_to_images(pixels)
    if not has_colour(image):
        return pixels
    found = jitter_colours(image, rng)
    return images_to_pixels(found) if pixels.dtype == torch.uint8 else (found + 1) * 127.5


def jitter_colours(image: Tensor, rng: random.Random) -> Tensor:
    """The image with its hue turned, and saturation and brightness multiplied, at random.

    Args:
        image: float32 ...×3×H×W in [-1, 1], RGB; the result likewise.
        rng: draws the three factors, in that order.

    Raises:
        ValueError: other channels than 3.

    Source: `torchvision.transforms.v2.ColorJitter`.
    """
    from torchvision.transforms.v2 import functional

    if image.shape[-3] != 3:
        raise ValueError(f"colours are jittered in 3 channels, not {image.shape[-3]}")
    found: Tensor = (image + 1) / 2
    found = functional.adjust_hue(found, rng.uniform(-HUE, HUE))
    found = functional.adjust_saturation(found, rng.uniform(*SATURATION))
    found = functional.adjust_brightness(found, rng.uniform(*BRIGHTNESS))
    return found.clamp(0, 1) * 2 - 1
