"""What a video file holds: frames as pixels, and packets of sound as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wkdc.errors import ImageError, MissingExtraError

NAMED = 5
"""Broken frames of one video that are named; the others are counted."""

MATRICES = {1: "ITU709", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
"""Colour matrices as ITU-T H.273 numbers them, by the names that PyAV has for them."""

HIGH_DEFINITION = 720
"""Rows from which players take the colours of a file that says nothing for those of BT.709."""


FAITHFUL = 0x2 | 0x2000 | 0x40000
"""FFmpeg's flags for converting colours: bilinear, chroma for every pixel, rounded. Without, it is
faster, and a photo of 1280x720 comes back a step of 8 bits darker: 44 dB instead of 52."""


@dataclass(frozen=True)
class Frame:
    """One frame, upright.

    Attributes:
        pixels: uint8 C×H×W.
        pts: its time, in units of the stream.
        matrix: a key of `MATRICES`, for its colours.
        aspect: width over height of a pixel; None where they are square.
        sound: PyAV's packets that lie before it in the file.
    """

    pixels: Tensor
    pts: int
    matrix: int
    aspect: Fraction | None
    sound: tuple[Any, ...]


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """A video file, and its stream of images.

    Raises:
        ImageError: it cannot be read, or holds no images.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            f"{path} is a video, and PyAV is not installed: pip install 'wkdc[video]'"
        ) from None
    try:
        # A file may name others as its parts; on the net nothing is fetched.
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"{path} is no video that can be read: {error.strerror}") from None
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise ImageError(f"{path} holds no images that move")
        yield container, stream


class Reader:
    """What an open video holds, in the order of the file; read once.

    Attributes:
        sounds: the streams of sound.
        waiting: packets of sound that lie behind the last frame so far.
    """

    def __init__(self, path: Path, container: Any, stream: Any, channels: int) -> None:
        self.path, self.container, self.stream = path, container, stream
        self.channels = channels
        self.sounds = list(container.streams.audio)
        self.waiting: list[Any] = []
        self._size: tuple[int, ...] | None = None
        self._last: int | None = None
        self._broken: list[str] = []
        self._end: str | None = None

    def frames(self) -> Iterator[Frame]:
        """Each that can be decoded; the others are noted."""
        for packet in self._packets():
            if packet.stream in self.sounds:
                if packet.dts is not None:  # else it is the empty one behind the last
                    self.waiting.append(packet)
                continue
            for decoded in self._decode(packet):
                frame = self._upright(decoded)
                if frame is not None:
                    yield frame

    def problems(self) -> tuple[str, ...]:
        """One sentence each for what was left out, once `frames` has ended."""
        found = []
        if self._broken:
            count = len(self._broken)
            more = f" and {count - NAMED} more" if count > NAMED else ""
            found.append(
                f"{self.path}: {count} broken frame{'s' if count > 1 else ''}, at second "
                f"{', '.join(self._broken[:NAMED])}{more}"
            )
        if self._end is not None:
            found.append(f"{self.path}: what follows second {self._end}")
        others = {
            stream.type
            for stream in self.container.streams
            if stream is not self.stream and stream not in self.sounds
        }
        if others:
            found.append(f"{self.path}: its streams of {' and '.join(sorted(others))}")
        return tuple(found)

    def _packets(self) -> Iterator[Any]:
        import av

        try:
            yield from self.container.demux([self.stream, *self.sounds])
        except av.error.FFmpegError as error:
            self._end = f"{self._moment(self._last)} ({error.strerror})"

    def _decode(self, packet: Any) -> list[Any]:
        import av

        try:
            frames: list[Any] = packet.decode()
        except av.error.FFmpegError:
            self._broken.append(self._moment(packet.pts))
            return []
        return frames

    def _upright(self, decoded: Any) -> Frame | None:
        """None, and it is noted, where its data was broken or its size is not the others'."""
        turns = round(decoded.rotation / 90)
        matrix = _matrix(decoded)
        rgb = decoded.reformat(
            format="rgb24", src_colorspace=MATRICES[matrix], interpolation=FAITHFUL
        )
        rgb = np.rot90(rgb.to_ndarray(), turns)
        self._size = self._size or rgb.shape
        if decoded.is_corrupt or rgb.shape != self._size:
            self._broken.append(self._moment(decoded.pts))
            return None
        later = 0 if self._last is None else self._last + 1
        pts = later if decoded.pts is None else decoded.pts
        self._last = pts if self._last is None else max(pts, later)  # encoders want time to pass
        picture = Image.fromarray(rgb).convert("L") if self.channels == 1 else rgb
        pixels = torch.from_numpy(np.array(picture)).reshape(*rgb.shape[:2], self.channels)
        aspect = self.stream.sample_aspect_ratio or None
        if aspect is not None and turns % 2:
            aspect = 1 / aspect
        sound = tuple(self.waiting)
        self.waiting.clear()
        return Frame(pixels.permute(2, 0, 1), self._last, matrix, aspect, sound)

    def _moment(self, pts: int | None) -> str:
        return "unknown" if pts is None else f"{float(pts * self.stream.time_base):.2f}"


def _matrix(decoded: Any) -> int:
    """Which colours a frame has; those of an RGB file, too, are written by its size."""
    if decoded.colorspace in MATRICES:
        return int(decoded.colorspace)
    return 1 if decoded.height >= HIGH_DEFINITION else 6
