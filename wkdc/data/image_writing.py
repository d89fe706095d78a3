"""Files of images as they are written: which endings hold what, and how."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image
from torch import Tensor

from wkdc.errors import ImageError, OutputError
from wkdc.system.files import write_atomically

WRITTEN = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
"""Endings of files of grey or RGB that are written."""

ANY_NUMBERS = (".tif", ".tiff", ".npy")
"""Endings of files that hold any number of channels of any numbers."""


def endings_for(channels: int, dtype: torch.dtype) -> tuple[str, ...]:
    """Endings of the files that hold so many channels of uint8, uint16 or float32."""
    if dtype == torch.uint8 and channels in (1, 3):
        return (*WRITTEN, ".npy")
    if dtype == torch.uint8 and channels in (2, 4):
        return (".png", ".webp", ".avif", *ANY_NUMBERS)
    if dtype == torch.uint16 and channels <= 4:
        return (".png", *ANY_NUMBERS)
    return ANY_NUMBERS


def save_pixels(path: Path, pixels: Tensor, *, alpha: bool = False) -> None:
    """Write uint8, uint16 or float32 C×H×W to `path`, whole or not at all.

    A `.npy` is H×W×C. PNG, WebP and AVIF of 2 or 4 channels have alpha in any case.

    Args:
        alpha: whether the last of 2 or 4 channels is marked as alpha in a TIFF.

    Raises:
        OutputError: the file cannot be written.
        ImageError: the ending of `path` is not that of such an image.
    """
    endings = endings_for(len(pixels), pixels.dtype)
    plain = pixels.dtype == torch.uint8 and len(pixels) in (1, 3)
    array = pixels.permute(1, 2, 0).contiguous().numpy()
    suffix = path.suffix.lower()
    if suffix not in endings:
        kind = "" if plain else f" of {len(pixels)} channels of {array.dtype}"
        raise ImageError(f"{path} does not end like an image{kind}; choose {' '.join(endings)}")

    def write(temporary: Path) -> None:
        if suffix == ".npy":
            content = io.BytesIO()  # NumPy itself does not say why a file cannot be written
            np.save(content, array)
            temporary.write_bytes(content.getbuffer())
        elif suffix in ANY_NUMBERS and not plain:
            temporary.write_bytes(_tiff(array, alpha))
        elif array.dtype == np.uint16:
            temporary.write_bytes(_png_of_16_bits(array))
        else:
            image = Image.fromarray(array[..., 0] if len(pixels) == 1 else array)
            try:
                image.save(temporary, quality=95)
            except ValueError as error:  # larger than the format allows
                raise OutputError(f"cannot write {path}: {error}; choose .png") from None

    write_atomically(path, write)


def _tiff(array: np.ndarray, alpha: bool) -> bytes:
    """H×W×C as a TIFF of C bands."""
    content, channels = io.BytesIO(), array.shape[2]
    rgb = channels == 3 or (alpha and channels == 4)
    photometric = "rgb" if rgb else "minisblack"
    if channels == 1:
        tifffile.imwrite(content, array[..., 0], photometric=photometric)
    else:
        tifffile.imwrite(
            content,
            array,
            photometric=photometric,
            planarconfig="contig",  # else the first axis would be pages
            extrasamples=["unassalpha"] if alpha else None,
        )
    return content.getvalue()


def _png_of_16_bits(array: np.ndarray) -> bytes:
    """A PNG of H×W×C uint16, which Pillow does not write (PNG specification, section 11)."""
    height, width, channels = array.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]  # grey, grey with alpha, RGB, RGBA
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    lines = b"".join(b"\0" + line.tobytes() for line in array.astype(">u2"))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
