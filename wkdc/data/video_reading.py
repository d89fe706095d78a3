"""Read videos: frames as pixels, and packets of sound unchanged."""

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
from wkdc.system.units import counted

NAMED = 5
"""Broken frames of a video that are listed; the others are counted."""

MATRICES = {1: "ITU709", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020"}
"""Colour matrices by their numbers in ITU-T H.273, as PyAV names them."""

HIGH_DEFINITION = 720
"""Rows from which players assume BT.709 for a file that does not name its colours."""


FAITHFUL = 0x2 | 0x2000 | 0x40000
"""FFmpeg's flags for converting colours: bilinear, full chroma, accurate rounding. Without them it
is faster, and a photo of 1280x720 comes back one 8-bit step darker: 44 dB instead of 52."""


@dataclass(frozen=True)
class Frame:
    """One frame, upright.

    Attributes:
        pixels: uint8 C×H×W.
        pts: its time, in the stream's time base.
        matrix: a key of `MATRICES`.
        aspect: width over height of a pixel; None where pixels are square.
        sound: PyAV's audio packets that precede it in the file.
    """

    pixels: Tensor
    pts: int
    matrix: int
    aspect: Fraction | None
    sound: tuple[Any, ...]


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a video: PyAV's container, and its best video stream.

    Raises:
        ImageError: it cannot be read, or has no video stream.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise MissingExtraError(
            f"{path} is a video, and PyAV is not installed: pip install 'wkdc[video]'"
        ) from None
    try:
        # A file may name others as its parts; nothing is fetched from the network. Its notes may be
        # no text.
        container = av.open(
            str(path), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.error.FFmpegError, OSError) as error:
        raise ImageError(f"{path} cannot be read as a video: {error.strerror}") from None
    with container:
        stream = container.streams.best("video")
        if stream is None:
            raise ImageError(f"{path} has no video stream")
        yield container, stream


class VideoReader:
    """The frames and sound of an open video, in the order of the file; read once.

    Attributes:
        sounds: the audio streams.
        waiting: audio packets after the last frame so far.
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
        """The frames that can be decoded; the others are counted as problems."""
        for packet in self._packets():
            if packet.stream in self.sounds:
                if packet.dts is not None:  # the empty packet at the end has none
                    self.waiting.append(packet)
                continue
            for decoded in self._decode(packet):
                frame = self._upright(decoded)
                if frame is not None:
                    yield frame

    def problems(self) -> tuple[str, ...]:
        """One sentence each for what was left out, after `frames` has ended."""
        found = []
        if self._broken:
            count = len(self._broken)
            more = f" and {count - NAMED} more" if count > NAMED else ""
            found.append(
                f"{self.path}: {counted(count, 'broken frame')}, at second "
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
        """The frame with its rotation applied; None where it is broken or of another size."""
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
        self._last = pts if self._last is None else max(pts, later)  # times have to increase
        image = Image.fromarray(rgb).convert("L") if self.channels == 1 else rgb
        pixels = torch.from_numpy(np.array(image)).reshape(*rgb.shape[:2], self.channels)
        aspect = self.stream.sample_aspect_ratio or None
        if aspect is not None and turns % 2:
            aspect = 1 / aspect
        sound = tuple(self.waiting)
        self.waiting.clear()
        return Frame(pixels.permute(2, 0, 1), self._last, matrix, aspect, sound)

    def _moment(self, pts: int | None) -> str:
        return "unknown" if pts is None else f"{float(pts * self.stream.time_base):.2f}"


def _matrix(decoded: Any) -> int:
    """The colour matrix of a frame; where it names none, as for RGB, by its size."""
    if decoded.colorspace in MATRICES:
        return int(decoded.colorspace)
    return 1 if decoded.height >= HIGH_DEFINITION else 6
