"""Image files with more than 8 bits a value, or other than one or three bands.

`pixels` are on the scale of 8 bits: 0 to 255, uint8 where the file has as many bits, else float32
with what the file has beyond them.
"""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
import torch
from PIL import ImageFile
from torch import Tensor

from wkdc.data.decoding import (
    ORIENTATION,
    check_promise,
    check_sides,
    decoding,
    opened_image,
)
from wkdc.errors import ImageError
from wkdc.system.units import counted

# It logs what is odd about a file, which Python would print where nothing was set up for logs.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

Range = tuple[float, float]
"""The numbers of a file that are black and white."""

ARRAYS = (".npy", ".npz")
"""Endings of files of NumPy, H×W, H×W×C or C×H×W."""

MOST_BANDS = 32
"""Of an array H×W×C or C×H×W."""

LUMA = (0.299, 0.587, 0.114)
"""Grey of RGB (ITU-R BT.601), as for 8 bits."""


class Bands(NamedTuple):
    """`pixels` C×H×W as they are stored, whether their last channel is alpha, and `ORIENTATION`."""

    pixels: Tensor
    alpha: bool = False
    orientation: int = 1


def deep_pixels(path: Path, value_range: Range | None = None) -> Bands | None:
    """What a file holds that Pillow would cut to 8 bits or cannot read; None for any other.

    Raises:
        ImageError: it cannot be read, or its floats have no known range.
    """
    match path.suffix.lower():
        case ".npy" | ".npz":
            array = _channels_first(_load_array(path), path)
            return Bands(array_to_pixels(array, path, value_range))
        case ".png" if _png_depth(path) == 16:
            with decoding(path):
                return _png_pixels(path)
        case ".tif" | ".tiff":
            found = _tiff_array(path)
            if found is not None:
                array, alpha, orientation = found
                return Bands(array_to_pixels(array, path, value_range), alpha, orientation)
    return None


def array_to_pixels(array: np.ndarray, path: Path, value_range: Range | None = None) -> Tensor:
    """C×H×W of any numbers -> the same on the scale of 8 bits.

    Integers count by the full range of their type; floats by `value_range`, else by theirs: 0 to 1,
    -1 to 1, or 0 to 255.

    Args:
        path: for the message.

    Raises:
        ImageError: no numbers, or floats of another range.
    """
    if array.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds {array.dtype}; give integers or floating-point numbers")
    values = array.astype(np.float64)
    if array.dtype == np.bool_:
        values *= 255
    elif np.issubdtype(array.dtype, np.integer):
        limits = np.iinfo(array.dtype)
        values -= limits.min
        values /= limits.max - limits.min
        values *= 255
    else:
        values = _scaled(values, path, value_range)
    return torch.from_numpy(np.ascontiguousarray(values.astype(np.float32)))


def _channels_first(array: np.ndarray, path: Path) -> np.ndarray:
    """H×W, H×W×C or C×H×W -> C×H×W; the axis of channels is the last if it is the shortest.

    Raises:
        ImageError: another shape.
    """
    if array.ndim == 2 and array.size:
        return array[None]
    if array.ndim == 3 and array.size:
        if array.shape[2] <= min(array.shape[0], MOST_BANDS):
            return array.transpose(2, 0, 1)
        if array.shape[0] <= MOST_BANDS:
            return array
    raise ImageError(
        f"{path} holds {'x'.join(map(str, array.shape))} numbers; give HxW, HxWxC or CxHxW with at "
        f"most {MOST_BANDS} channels"
    )


def fit_channels(bands: Bands, channels: int, path: Path) -> Tensor:
    """C×H×W with as many channels as are asked for: grey and RGB become each other.

    Alpha is laid on white where one or three are asked for.

    Raises:
        ImageError: the numbers do not fit.
    """
    pixels, count = bands.pixels, len(bands.pixels)
    if count == channels:
        return pixels
    if bands.alpha and channels in (1, 3):
        colours, alpha = pixels[:-1].float(), pixels[-1:].float() / 255
        pixels, count = colours * alpha + 255 * (1 - alpha), count - 1
    if count == channels:
        return pixels
    if (count, channels) == (1, 3):
        return pixels.expand(3, -1, -1).contiguous()
    if (count, channels) == (3, 1):
        weights = torch.tensor(LUMA).view(3, 1, 1)
        return (pixels.float() * weights).sum(0, keepdim=True)
    raise other_channels(path, count, channels)


def other_channels(path: Path, count: int, channels: int, mode: str = "") -> ImageError:
    """The error of a file of `count` channels where `channels` are read.

    Args:
        mode: what Pillow calls the file's.
    """
    named = f" ({mode})" if mode else ""
    other = "" if channels in (1, 3) else ", or label maps (docs/datasets.md)"
    if count == channels + 1 and channels in (1, 3):
        other = ", or mark the last one as alpha in a PNG or TIFF"
    return ImageError(
        f"{path} has {counted(count, 'channel')}{named}, and {channels} "
        f"{'is' if channels == 1 else 'are'} read; give images of "
        f"{counted(channels, 'channel')}{other}"
    )


def _load_array(path: Path) -> np.ndarray:
    with decoding(path):
        # Mapped, an array that is longer than the file is refused before there is memory for it.
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            check_sides(path, found.shape)
            return np.array(found)
        with found:
            if len(found.files) != 1:
                raise ImageError(f"{path} holds {len(found.files)} arrays; save one image a file")
            check_promise(path, found.zip.infolist()[0].file_size)
            array: np.ndarray = found[found.files[0]]
            check_sides(path, array.shape)
            return array


def _png_depth(path: Path) -> int:
    """Bits a value, which stand behind the eight of the signature and the sizes; 0 if too short."""
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if len(head) == 25 and head.startswith(b"\x89PNG") else 0


def _png_pixels(path: Path) -> Bands:
    """A PNG of 16 bits: 65535 is 255. A colour that is transparent becomes alpha.

    Pillow keeps the upper byte of a value, and the lower one if told that bytes come the other way
    round; two channels of two bytes it reads as four of one.
    """
    with opened_image(path) as opened:
        if opened.mode.startswith("I"):
            values = np.asarray(opened).astype(np.float32)[..., None]
        elif opened.tile[0].args == "LA;16B":
            both = _unpacked(opened, "RGBA")
            values = both[..., ::2] * 256 + both[..., 1::2]
        else:
            rawmode = str(opened.tile[0].args)
            with opened_image(path) as again:
                lower = _unpacked(again, rawmode.replace("16B", "16L"))
            values = _unpacked(opened, rawmode) * 256 + lower
        transparent = opened.info.get("transparency")
        orientation = opened.getexif().get(ORIENTATION, 1)
    if transparent is not None:
        hidden = (values == transparent).all(axis=2, keepdims=True)
        values = np.concatenate([values, np.where(hidden, 0, 65535)], axis=2, dtype=np.float32)
    pixels = torch.from_numpy(values / np.float32(257)).permute(2, 0, 1).contiguous()
    return Bands(pixels, len(pixels) in (2, 4), orientation)


def _unpacked(opened: ImageFile.ImageFile, rawmode: str) -> np.ndarray:
    """H×W×C float32 of an image whose bytes are read as `rawmode`."""
    opened.tile = [tile._replace(args=rawmode) for tile in opened.tile]
    return np.asarray(opened).astype(np.float32)


COLOURS: dict[int, int] = {
    tifffile.PHOTOMETRIC.MINISWHITE: 1,
    tifffile.PHOTOMETRIC.MINISBLACK: 1,
    tifffile.PHOTOMETRIC.RGB: 3,
}
"""Channels of a TIFF that are colours; what goes beyond is alpha, or more bands."""


def _tiff_array(path: Path) -> tuple[np.ndarray, bool, int] | None:
    """C×H×W of a TIFF of other than 8 bits or of other bands than Pillow knows.

    And whether its last channel is alpha, not where it is marked as unspecified (0); and how it is
    turned.
    """
    with decoding(path):
        try:
            opened = tifffile.TiffFile(path)
        except tifffile.TiffFileError:
            return None  # Pillow says what is wrong with it
        with opened:
            page = opened.pages.first
            samples = page.samplesperpixel
            colours = COLOURS.get(page.photometric, samples)
            alpha = samples == colours + 1 and 0 not in page.extrasamples
            known = samples == colours or (samples == 4 and alpha)
            whole = page.dtype == np.uint8 and known and len(opened.pages) == 1
            if whole or page.bitspersample in (1, 2, 4):
                return None
            series = opened.series[0]
            check_promise(path, series.nbytes)
            check_sides(path, series.shape)
            array = series.asarray()
            if array.ndim == 3 and page.planarconfig == tifffile.PLANARCONFIG.CONTIG:
                together = samples == array.shape[2] > 1
                array = array.transpose(2, 0, 1) if together else array
            if array.ndim == 2:
                array = array[None]
            if array.ndim != 3 or not array.size:
                raise ImageError(
                    f"{path} holds {'x'.join(map(str, array.shape))} numbers; give one image a file"
                )
            if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and array.dtype.kind in "iu":
                grey = slice(None) if samples == 1 else slice(1)
                array = array.copy()
                array[grey] = ~array[grey]  # 0 is white
            turned = page.tags.get(ORIENTATION)
            return array, alpha, 1 if turned is None else int(turned.value)


def _scaled(values: np.ndarray, path: Path, value_range: Range | None) -> np.ndarray:
    """Floats on the scale of 8 bits, by the range given or the narrowest that holds them."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise ImageError(f"{path} holds NaN or infinity; write numbers from 0 to 1")
    if value_range is not None:
        black, white = value_range
        scaled: np.ndarray = ((values - black) / (white - black) * 255).clip(0, 255)
        return scaled
    if low >= 0 and high <= 1:
        return values * 255
    if low >= -1 and high <= 1:
        return (values + 1) * 127.5
    if low >= 0 and high <= 255:
        return values
    raise ImageError(
        f"{path} holds numbers from {low:.4g} to {high:.4g}; floats are read as 0 to 1, -1 to 1 or "
        "0 to 255: scale them, or give --range LOW,HIGH"
    )
