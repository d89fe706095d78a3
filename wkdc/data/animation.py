"""Animated images (GIF, PNG, WebP, AVIF) as frames and durations, by Pillow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wkdc.data.decoding import decoding
from wkdc.errors import ImageError
from wkdc.system.files import write_atomically

ANIMATED = (".gif", ".png", ".webp", ".avif")
"""Endings of images that may be animated; each is written, too."""


@dataclass(frozen=True)
class Frame:
    """One frame: uint8 3×H×W, transparent parts on white, and how long it is shown."""

    pixels: Tensor
    duration_ms: float


def is_animated(path: Path) -> bool:
    """Whether the file is an image of several frames; one that cannot be read is none."""
    if path.suffix.lower() not in ANIMATED:
        return False
    try:
        with Image.open(path) as opened:
            return getattr(opened, "n_frames", 1) > 1
    except Exception:  # broken files make Pillow raise nearly anything
        return False


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of an animated image, one after the other.

    Raises:
        ImageError: it cannot be read.
    """
    with decoding(path), Image.open(path) as opened:
        for number in range(getattr(opened, "n_frames", 1)):
            opened.seek(number)
            layer = opened.convert("RGBA")
            whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            pixels = torch.from_numpy(np.array(whole.convert("RGB"))).permute(2, 0, 1)
            yield Frame(pixels.contiguous(), float(opened.info.get("duration", 100)))


def save_frames(path: Path, frames: Sequence[Frame], *, loop: int = 0) -> None:
    """Write an animated image of the kind that `path` ends like, whole or not at all.

    Args:
        loop: how often it is shown; 0 for ever.

    Raises:
        OutputError: the file cannot be written.
        ImageError: the ending is none of `ANIMATED`.
    """
    if path.suffix.lower() not in ANIMATED:
        raise ImageError(f"{path} cannot be animated; choose {' '.join(ANIMATED)}")
    images = [Image.fromarray(one.pixels.permute(1, 2, 0).contiguous().numpy()) for one in frames]
    durations = [round(one.duration_ms) for one in frames]

    def write(temporary: Path) -> None:
        first, *others = images
        first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=durations,
            loop=loop,
            quality=90,
        )

    write_atomically(path, write)
