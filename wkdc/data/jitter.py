"""Colour jitter: images in colours that the data lacks. A teacher labels any input."""

import random

from torch import Tensor

HUE = 0.5
"""Largest turn of the hue, in turns of the colour wheel: any hue becomes any other."""

SATURATION = (0.6, 1.6)
BRIGHTNESS = (0.75, 1.25)


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
