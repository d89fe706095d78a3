"""What decoders of images and videos do with broken files, and what they may take."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import UnidentifiedImageError

from wkdc.errors import ImageError, WkdcError, one_line

FREE_BYTES = 2**28
"""Any file may expand to so much,"""

MOST_RATIO = 100
"""or else to so many times its size. Pillow has a limit of its own: 179 million pixels."""


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
