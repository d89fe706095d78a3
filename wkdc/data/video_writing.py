"""Write videos from frames and packets of sound."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from wkdc.data.video_reading import FAITHFUL, MATRICES, Frame
from wkdc.errors import OutputError

LIMITED = 1
"""FFmpeg's number of the range from 16 to 235, which nearly all videos have."""

FINEST = Fraction(1, 65535)
"""The shortest time base of MPEG-4 Part 2."""


class _File:
    """The file that FFmpeg writes.

    Once it cannot be written, that is kept as `error`, and FFmpeg is not told: it crashes where
    the head of an MP4 is not written.
    """

    def __init__(self, path: Path) -> None:
        self.name = str(path)  # whose ending is the format
        self.error: OSError | None = None
        self._file = path.open("wb", buffering=0)
        self._at = self._size = 0

    def write(self, data: bytes) -> int:
        try:
            if self.error is None:
                self._file.seek(self._at)
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}
        self._at = start[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()


class VideoWriter:
    """A video to which frames and packets of sound are added; it is opened at the first frame.

    Args:
        target: the name in errors; its ending decides the encoder.
        temporary: the file that is written.
        source: PyAV's stream that the frames come from; its rate and time base are kept.
        sounds: the streams that audio packets come from.

    Attributes:
        frames: how many were written.
        encoder: FFmpeg's name of it.
    """

    def __init__(self, target: Path, temporary: Path, source: Any, sounds: Sequence[Any]) -> None:
        self.target, self.temporary, self.source, self.sounds = target, temporary, source, sounds
        self.frames = 0
        self.encoder, self._options = choose_encoder(target)
        self._file: _File | None = None
        self._container: Any = None
        self._stream: Any = None
        self._copies: dict[int, Any] = {}

    def add(self, frame: Frame) -> None:
        """Copy the sound before a frame, and encode the frame.

        Raises:
            OutputError: the format cannot hold the sound, or the encoder fails.
            OSError: the file cannot be written.
        """
        with self._errors():
            if self._container is None:
                self._open(frame)
            self._copy(frame.sound)
            self._container.mux(self._stream.encode(self._encodable(frame)))
        self.frames += 1

    def finish(self, sound: Sequence[Any]) -> None:
        """Flush the encoder, write the last of the sound, and close the file.

        Raises:
            OutputError: the encoder fails.
            OSError: the file cannot be written.
        """
        with self._errors():
            self._copy(sound)
            self._container.mux(self._stream.encode(None))
            self._container.close()
        self._container = None

    def close(self) -> None:
        """Close a file that was not finished."""
        import av

        if self._container is not None:
            with suppress(av.error.FFmpegError):
                self._container.close()
        if self._file is not None:
            self._file.close()

    def _open(self, frame: Frame) -> None:
        import av

        self._file = _File(self.temporary)
        self._container = av.open(self._file, "w")
        rate = self.source.average_rate or self.source.guessed_rate
        stream = self._container.add_stream(self.encoder, rate, options=self._options)
        _, stream.height, stream.width = frame.pixels.shape
        even = stream.height % 2 == 0 and stream.width % 2 == 0
        stream.pix_fmt = "yuv420p" if even or self.encoder != "libx264" else "yuv444p"
        base = self.source.time_base
        context = stream.codec_context
        context.time_base = max(base, FINEST) if self.encoder == "mpeg4" else base
        context.colorspace, context.color_range = frame.matrix, LIMITED
        context.color_primaries = self.source.codec_context.color_primaries
        context.color_trc = self.source.codec_context.color_trc
        if frame.aspect is not None:
            context.sample_aspect_ratio = frame.aspect
        self._stream = stream
        for sound in self.sounds:
            if sound.codec_context.codec.canonical_name not in self._container.supported_codecs:
                raise OutputError(
                    f"{self.target} cannot hold the sound, which is {sound.codec_context.name}; "
                    "choose a file that ends with .mkv"
                )
            self._copies[sound.index] = self._container.add_stream_from_template(sound)

    def _copy(self, sound: Sequence[Any]) -> None:
        for packet in sound:
            packet.stream = self._copies[packet.stream.index]
            self._container.mux(packet)

    def _encodable(self, frame: Frame) -> Any:
        import av

        rgb = frame.pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
        encodable = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        encodable = encodable.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=MATRICES[frame.matrix],
            dst_color_range=LIMITED,
            interpolation=FAITHFUL,
        )
        encodable.pts, encodable.time_base = frame.pts, self.source.time_base
        return encodable

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import av

        try:
            yield
        except av.error.FFmpegError as error:
            raise OutputError(
                f"cannot write {self.target} with {self.encoder}: {error.strerror}"
            ) from None
        if self._file is not None and self._file.error is not None:
            raise self._file.error


def choose_encoder(target: Path) -> tuple[str, dict[str, str]]:
    """FFmpeg's name of the encoder for the ending of `target`, and its settings.

    H.264 by x264 where PyAV has it, else by OpenH264, else MPEG-4 Part 2; VP9 for .webm. At these
    settings the loss is hard to see.

    Raises:
        OutputError: PyAV has none of them.
    """
    import av

    settings = {
        "libx264": {"crf": "16", "preset": "veryfast"},
        "libopenh264": {"b": "12M"},
        "mpeg4": {"b": "20M", "qmin": "2", "qmax": "4"},
        "libvpx-vp9": {"crf": "24", "b": "0", "deadline": "realtime", "cpu-used": "6"},
    }
    webm = target.suffix.lower() == ".webm"
    for name in ("libvpx-vp9",) if webm else ("libx264", "libopenh264", "mpeg4"):
        if name in av.codecs_available:
            return name, settings[name]
    raise OutputError(f"{target} needs an encoder that this PyAV lacks; choose another ending")
