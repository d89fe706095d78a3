"""What decoders of images and videos do with broken files, what they may take; turned images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from wkdc.errors import ImageError, WkdcError, one_line

FREE_BYTES = 2**28
"""Any file may expand to so much,"""

MOST_RATIO = 100
"""or else to so many times its size. Pillow has a limit of its own: 179 million pixels."""

LONGEST_SIDE = 65_535
"""Of an image: as a JPEG's. Longer ones are headers that were damaged, and take minutes to read."""

ORIENTATION = 0x0112
"""The tag of EXIF and TIFF that says how an image is turned."""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn what a decoder raises on a broken file into an ImageError that names it in one line."""
    try:
        yield
    except WkdcError:
        raise
    except UnidentifiedImageError:
        raise ImageError(f"{path} is no image that can be read") from None
    except Exception as error:  # broken files make decoders raise nearly anything
        raise ImageError(f"{path} cannot be read: {one_line(error)}") from None


@contextmanager
def opened_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The file as Pillow opens it, whose pixels are not read yet.

    Raises:
        ImageError: it is no image that can be read, also while the block reads it.
    """
    with decoding(path), Image.open(path) as opened:
        check_sides(path, opened.size)
        yield opened


def check_sides(path: Path, sides: Sequence[int]) -> None:
    """Refuse an image that is longer than any.

    Raises:
        ImageError: one of `sides` is more than `LONGEST_SIDE`.
    """
    if max(sides, default=0) > LONGEST_SIDE:
        shown = "x".join(map(str, sides))
        raise ImageError(f"{path} is {shown}; sides of at most {LONGEST_SIDE} are read: cut it")


def check_promise(path: Path, promised_bytes: int) -> None:
    """Refuse a small file that says that it holds a huge image, before it is made.

    Raises:
        ImageError: `promised_bytes` are more than `MOST_RATIO` times its size and `FREE_BYTES`.
    """
    held = path.stat().st_size
    if promised_bytes > max(FREE_BYTES, MOST_RATIO * held):
        raise ImageError(
            f"{path} promises {promised_bytes} bytes of numbers in a file of {held}; save it "
            "without compression if it is right"
        )


def upright(pixels: Tensor, orientation: int) -> Tensor:
    """C×H×W turned upright, by its orientation (EXIF 2.3, 4.6.4): 1 where it is already."""
    match orientation:
        case 2:
            return pixels.flip(2)
        case 3:
            return pixels.flip(1, 2)
        case 4:
            return pixels.flip(1)
        case 5:
            return pixels.transpose(1, 2).contiguous()
        case 6:
            return pixels.rot90(-1, (1, 2)).contiguous()
        case 7:
            return pixels.transpose(1, 2).flip(1, 2).contiguous()
        case 8:
            return pixels.rot90(1, (1, 2)).contiguous()
        case _:
            return pixels
