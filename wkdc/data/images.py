"""Image files <-> tensors: folders, crops, sizes, and pixels <-> [-1, 1].

`pixels` are C×H×W from 0 to 255, uint8 or, of files with more bits, float32; `images` float32
N×C×H×W in [-1, 1]; one channel is grey, three are RGB.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional

from wkdc.data.animation import is_animated
from wkdc.data.bands import (
    ARRAYS,
    Bands,
    Range,
    deep_pixels,
    fit_channels,
    other_channels,
)
from wkdc.data.decoding import ORIENTATION, decoding, opened_image, upright
from wkdc.data.folders import files_in
from wkdc.data.image_writing import WRITTEN
from wkdc.errors import ImageError

SUFFIXES = (*WRITTEN, ".gif", *ARRAYS)
"""Endings of files that count as images; case does not matter."""


def list_images(
    folder: Path,
    *,
    suffixes: Sequence[str] = SUFFIXES,
    kinds: str = "images",
    without: Path | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> list[Path]:
    """The images in `folder` and below, sorted by path; see `wkdc.data.folders.files_in`.

    Args:
        suffixes: the endings that count, of files of these `kinds`.

    Raises:
        ImageError: no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder} is no folder; give a folder of images")
    paths = files_in(folder, suffixes, kinds=kinds, without=without, on_notice=on_notice)
    if not paths:
        raise ImageError(f"{folder} holds no {kinds}; looked for {' '.join(suffixes)}")
    return paths


def readable_images(
    paths: Sequence[Path],
    *,
    smallest: tuple[int, int] = (1, 1),
    value_range: Range | None = None,
    on_skip: Callable[[str], None] | None = None,
) -> dict[Path, tuple[int, int]]:
    """Those of `paths` that can be decoded and are large enough to train on: height and width.

    Args:
        smallest: the smallest height and width; `value_range` see `load_pixels`.
        on_skip: called with one sentence for each image left out.

    Raises:
        ImageError: none can be used; the message names the first that failed.
    """
    good: dict[Path, tuple[int, int]] = {}
    problems: list[str] = []
    for path in paths:
        try:
            if is_animated(path):
                raise ImageError(f"{path} is animated; give its frames as images")
            _, height, width = load_pixels(path, channels=None, value_range=value_range).shape
        except ImageError as error:
            problems.append(str(error))
            continue
        if height < smallest[0] or width < smallest[1]:
            problems.append(
                f"{path} is {width}x{height}, smaller than the {smallest[1]}x{smallest[0]} needed; "
                "see --crop"
            )
            continue
        good[path] = (height, width)
    if not good:
        first = problems[0] if problems else "no images were given"
        none = f"none of {len(paths)} images can be used: " if len(paths) > 1 else ""
        raise ImageError(none + first)
    if on_skip is not None:
        for problem in problems:
            on_skip(f"skipped: {problem}")
    return good


def load_pixels(
    path: Path, *, channels: int | None = 3, value_range: Range | None = None
) -> Tensor:
    """Read an image as `channels`×H×W, turned as its EXIF orientation says.

    Transparent parts are laid on white; grey becomes RGB or RGB grey where `channels` asks for it.
    Files of more than 8 bits a value come as float32 from 0 to 255, see `wkdc.data.bands`.

    Args:
        channels: 1 for grey, 3 for RGB; 2 and 4 for these with alpha, more for a file of as many
            bands; None for what the file has, or RGB.
        value_range: the floating-point numbers that are black and white.

    Raises:
        ImageError: the file is no image, is broken, or has other channels.
    """
    image, orientation = _read(path, value_range)
    return upright(_with_channels(image, channels, path), orientation)


def _with_channels(image: Bands | Image.Image, channels: int | None, path: Path) -> Tensor:
    """The pixels as stored, C×H×W; see `load_pixels`."""
    if isinstance(image, Bands):
        return image.pixels if channels is None else fit_channels(image, channels, path)
    if channels not in (None, 1, 3):
        if image.mode != {2: "LA", 4: "RGBA"}.get(channels):
            raise other_channels(path, len(image.getbands()), channels, image.mode)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
    if _has_alpha(image):
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    array = np.array(image.convert("L" if channels == 1 else "RGB"))
    pixels = torch.from_numpy(array)
    return pixels.unsqueeze(0) if channels == 1 else pixels.permute(2, 0, 1).contiguous()


def load_alpha(path: Path) -> Tensor | None:
    """The transparency of an image, 1×H×W, 255 where it is opaque, turned as its pixels are.

    uint8, or float32 of a file with more bits. None where it has none, or the file cannot be read.
    """
    try:
        image, orientation = _read(path)
    except ImageError:
        return None
    if isinstance(image, Bands):
        return upright(image.pixels[-1:], orientation) if image.alpha else None
    if not _has_alpha(image):
        return None
    alpha = torch.from_numpy(np.array(image.convert("RGBA").getchannel("A")))
    return upright(alpha.unsqueeze(0), orientation)


def _read(path: Path, value_range: Range | None = None) -> tuple[Bands | Image.Image, int]:
    """What a file holds, as Pillow or `deep_pixels` reads it, and how it is turned."""
    with decoding(path):
        deep = deep_pixels(path, value_range) if path.is_file() else None
    if deep is not None:
        return deep, deep.orientation
    with opened_image(path) as opened:
        opened.load()  # Pillow turns TIFFs while it loads them
        return opened.copy(), opened.getexif().get(ORIENTATION, 1)


def _has_alpha(image: Image.Image) -> bool:
    return "A" in image.getbands() or "transparency" in image.info


def pixels_to_images(pixels: Tensor) -> Tensor:
    """(N×)C×H×W from 0 to 255 -> float32 of the same shape in [-1, 1]."""
    return pixels.float() / 127.5 - 1.0


def images_to_deep_pixels(images: Tensor) -> Tensor:
    """float (N×)C×H×W in [-1, 1] -> uint16 of the same shape, from 0 to 65535, rounded."""
    return ((images.double() + 1.0) * 32767.5).round().clamp(0, 65535).to(torch.uint16)


def images_to_numbers(images: Tensor, value_range: Range) -> Tensor:
    """float (N×)C×H×W in [-1, 1] -> float32 of the same shape: the numbers from black to white."""
    low, high = value_range
    return (low + (images.double() + 1.0) / 2 * (high - low)).clamp(low, high).float()


def images_to_pixels(images: Tensor) -> Tensor:
    """float (N×)C×H×W in [-1, 1] -> uint8 of the same shape, rounded."""
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def resize_short_side(pixels: Tensor, size: int) -> Tensor:
    """C×H×W -> the same with the shorter side `size`, aspect kept.

    Pixels are resized bicubically with antialiasing, label maps (int32) to the nearest id.
    """
    height, width = pixels.shape[-2:]
    short = min(height, width)
    if short == size:
        return pixels
    target = (
        size if height == short else round(height * size / short),
        size if width == short else round(width * size / short),
    )
    if pixels.dtype == torch.int32:  # in float64, which holds every id
        nearest = functional.interpolate(pixels.unsqueeze(0).double(), target, mode="nearest-exact")
        return nearest.squeeze(0).to(torch.int32)
    resized = functional.interpolate(
        pixels.unsqueeze(0).float(), target, mode="bicubic", antialias=True
    )
    resized = resized.squeeze(0).clamp(0, 255)
    return resized.round().to(torch.uint8) if pixels.dtype == torch.uint8 else resized


def center_crop(pixels: Tensor, height: int, width: int) -> Tensor:
    """The central `height`×`width` of (N×)C×H×W, which is at least that large."""
    top = (pixels.shape[-2] - height) // 2
    left = (pixels.shape[-1] - width) // 2
    return pixels[..., top : top + height, left : left + width]


def pixels_to_square(pixels: Tensor, size: int) -> Tensor:
    """Pixels C×H×W -> resized and cropped to the central square: 1×C×`size`×`size` in [-1, 1]."""
    pixels = resize_short_side(pixels, size)
    return pixels_to_images(center_crop(pixels, size, size)).unsqueeze(0)


def load_square(
    path: Path, size: int, *, channels: int = 3, value_range: Range | None = None
) -> Tensor:
    """Load an image, resized and cropped to the central square: 1×C×`size`×`size` in [-1, 1].

    Raises:
        ImageError: see `load_pixels`.
    """
    return pixels_to_square(load_pixels(path, channels=channels, value_range=value_range), size)


def pad_to_multiple(images: Tensor, multiple: int, *, at_least: int = 1) -> Tensor:
    """N×C×H×W, padded at the bottom and right to multiples of `multiple`.

    The padding mirrors the image, or repeats its edge where the image is too small to mirror.

    Args:
        at_least: the smallest height and width of the result.
    """
    height, width = images.shape[-2:]
    down = math.ceil(max(height, at_least) / multiple) * multiple - height
    right = math.ceil(max(width, at_least) / multiple) * multiple - width
    if not down and not right:
        return images
    mode = "reflect" if down < height and right < width else "replicate"
    return functional.pad(images, (0, right, 0, down), mode=mode)


def as_rgb(images: Tensor, bands: Sequence[int] = ()) -> Tensor:
    """(N×)C×H×W -> three channels, to be looked at: the first three, or the first as grey.

    Args:
        bands: others than these where there are more than three, see `ImageFolder`.

    Raises:
        ImageError: there are not so many.
    """
    count = images.shape[-3]
    if not bands or count <= 3:
        bands = (1, 2, 3) if count >= 3 else (1,)
    if max(bands) > count:
        raise ImageError(
            f"bands {','.join(map(str, bands))} are to be shown of images of {count}; give bands "
            f"from 1 to {count}"
        )
    shown = images[..., [band - 1 for band in bands], :, :]
    return shown.expand(*shown.shape[:-3], 3, -1, -1)


def grid(rows: Sequence[Sequence[Tensor]], titles: Sequence[str] = ()) -> Tensor:
    """Rows of images, 1×C×H×W in [-1, 1] of one size -> one image of all, uint8 3×H×W on white.

    Args:
        titles: one for each column, written above it.
    """
    height, width = rows[0][0].shape[-2:]
    gap, top = 4, 22 if titles else 0
    columns = max(len(row) for row in rows)
    sheet = Image.new(
        "RGB",
        (columns * (width + gap) - gap, top + len(rows) * (height + gap) - gap),
        "white",
    )
    for i, row in enumerate(rows):
        for j, cell in enumerate(row):
            pixels = images_to_pixels(as_rgb(cell[0]).cpu())
            image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
            sheet.paste(image, (j * (width + gap), top + i * (height + gap)))
    pen = ImageDraw.Draw(sheet)
    for j, title in enumerate(titles):
        pen.text((j * (width + gap) + 4, 2), title, "black", ImageFont.load_default(15))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1)
