"""Animated images (GIF, PNG, WebP, AVIF) as frames and durations, by Pillow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wkdc.data.decoding import opened_image
from wkdc.errors import ImageError
from wkdc.system.files import write_atomically

ANIMATED = (".gif", ".png", ".webp", ".avif")
"""Endings of images that may be animated; each is written, too."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        pixels: uint8 3×H×W, transparent parts on white.
        duration_ms: how long it is shown.
        alpha: uint8 1×H×W, 255 where it is opaque; None where it is so all over.
    """

    pixels: Tensor
    duration_ms: float
    alpha: Tensor | None = None


def is_animated(path: Path) -> bool:
    """Whether the file is an image of several frames; one that cannot be read is none."""
    if path.suffix.lower() not in ANIMATED:
        return False
    try:
        with opened_image(path) as opened:
            return getattr(opened, "n_frames", 1) > 1
    except ImageError:
        return False


def read_frames(path: Path) -> Iterator[Frame]:
    """The frames of an animated image, one after the other.

    Raises:
        ImageError: it cannot be read.
    """
    with opened_image(path) as opened:
        for number in range(getattr(opened, "n_frames", 1)):
            opened.seek(number)
            layer = opened.convert("RGBA")
            whole = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            pixels = torch.from_numpy(np.array(whole.convert("RGB"))).permute(2, 0, 1)
            alpha = torch.from_numpy(np.array(layer.getchannel("A"))).unsqueeze(0)
            yield Frame(
                pixels.contiguous(),
                float(opened.info.get("duration", 100)),
                alpha if bool((alpha < 255).any()) else None,
            )


def plays_of(path: Path) -> int:
    """How often an animated image is shown; 0 for ever, as AVIF always is.

    A GIF counts the times after the first, and says nothing where there is none; PNG and WebP count
    all of them.

    Raises:
        ImageError: it cannot be read.
    """
    with opened_image(path) as opened:
        if opened.format != "GIF":
            return int(opened.info.get("loop", 0))
        again = opened.info.get("loop")
    return 1 if again is None else again and again + 1


def save_frames(path: Path, frames: Sequence[Frame], *, plays: int = 0) -> None:
    """Write an animated image of the kind that `path` ends like, whole or not at all.

    Args:
        plays: how often it is shown; 0 for ever, as in AVIF.

    Raises:
        OutputError: the file cannot be written.
        ImageError: the ending is none of `ANIMATED`.
    """
    if path.suffix.lower() not in ANIMATED:
        raise ImageError(f"{path} cannot be animated; choose {' '.join(ANIMATED)}")
    gif = path.suffix.lower() == ".gif"
    images = _as_pillow(frames, all_or_nothing=gif)
    loop: dict[str, Any] = {"loop": plays - 1 if gif and plays else plays}
    if gif and plays == 1:
        loop = {}
    durations = [round(one.duration_ms) for one in frames]

    def write(temporary: Path) -> None:
        first, *others = images
        first.save(
            temporary,
            save_all=True,
            append_images=others,
            duration=durations,
            quality=90,
            disposal=2 if gif and first.mode == "RGBA" else 0,  # else earlier frames show through
            **loop,
        )
        if path.suffix.lower() == ".webp" and first.mode == "RGBA":
            _mark_alpha(temporary)

    write_atomically(path, write)


def _mark_alpha(path: Path) -> None:
    """Set the flag of a WebP that says that it has alpha (container specification, VP8X).

    The encoder does not where each frame is an opaque rectangle on nothing, and Pillow, among
    others, reads such a file as opaque.
    """
    with path.open("r+b") as file:
        head = file.read(21)
        if head[12:16] == b"VP8X":
            file.seek(20)
            file.write(bytes([head[20] | 0x10]))


def _as_pillow(frames: Sequence[Frame], *, all_or_nothing: bool) -> list[Image.Image]:
    """RGB, or RGBA where one of them is transparent.

    Args:
        all_or_nothing: whether a pixel is transparent or opaque, nothing between, as in GIF.
    """
    if all(one.alpha is None for one in frames):
        stacks = [one.pixels for one in frames]
    else:
        stacks = []
        for one in frames:
            alpha = torch.full_like(one.pixels[:1], 255) if one.alpha is None else one.alpha
            if all_or_nothing:
                alpha = (alpha > 127).to(torch.uint8) * 255
            stacks.append(torch.cat([one.pixels, alpha]))
    return [Image.fromarray(one.permute(1, 2, 0).contiguous().numpy()) for one in stacks]
