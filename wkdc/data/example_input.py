"""Example inputs of a generator, made of the bundled photos."""

from torch import Tensor

from wkdc.data.images import load_pixels, pixels_to_images, resize_short_side
from wkdc.data.label_maps import maps_to_images
from wkdc.data.photos import photo_paths


def example_input(channels: int, size: tuple[int, int], number: int = 0) -> Tensor:
    """Bundled photo `number`, or a label map made of it: 1×`channels`×H×W in [-1, 1].

    Other than 1 or 3 channels are a label map: shades of the photo, and in the last channel the
    edges between them.

    Args:
        size: height and width.
    """
    height, width = size
    pixels = load_pixels(photo_paths()[number], channels=3 if channels == 3 else 1)
    pixels = resize_short_side(pixels, max(size))[:, :height, :width]
    if channels in (1, 3):
        return pixels_to_images(pixels).unsqueeze(0)
    shades = (pixels.int() * (channels - 1) // 256).expand(2, -1, -1)
    return maps_to_images(shades.unsqueeze(0), channels)
