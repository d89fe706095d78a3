"""Translate videos frame by frame: decoded and encoded by PyAV in threads, sound copied."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from wkdc.data.video_reading import Frame, VideoReader, open_video
from wkdc.data.video_writing import VideoWriter
from wkdc.errors import ImageError
from wkdc.inference.pipeline import ordered_map, prefetch
from wkdc.system.files import write_atomically

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp"),
)
"""Endings of files that count as videos; case does not matter."""

WRITTEN = (".mp4", ".mov", ".mkv", ".webm")
"""Endings of videos that can be written."""

FRAMES_AHEAD = 2
"""Most decoded frames that wait for the network, and translated ones that wait for the encoder."""


@dataclass(frozen=True)
class VideoResult:
    """A translated video.

    Attributes:
        path: the file written.
        frames: their number.
        encoder: FFmpeg's name of it, such as libx264.
        sounds: how many audio streams were copied.
        problems: one sentence each for what was left out.
    """

    path: Path
    frames: int
    encoder: str
    sounds: int
    problems: tuple[str, ...]


def ending_for(path: Path) -> str:
    """The ending of the translated video: that of `path` where it can be written, else .mkv.

    A .m4v becomes a .mp4, which is the same format.
    """
    suffix = path.suffix.lower().replace(".m4v", ".mp4")
    return suffix if suffix in WRITTEN else ".mkv"


def count_frames(path: Path) -> int:
    """Frames of a video by its header, or by duration and rate; 0 where neither is known.

    Raises:
        ImageError: the file cannot be read as a video.
        MissingExtraError: PyAV is not installed.
    """
    with open_video(path) as (container, stream):
        if stream.frames:
            return int(stream.frames)
        seconds = Fraction(container.duration or 0, 1_000_000)
        return round(seconds * (stream.average_rate or 0))


def translate_video(
    path: Path,
    target: Path,
    translate: Callable[[Tensor], Tensor],
    *,
    channels: int = 3,
    on_frame: Callable[[], None] | None = None,
) -> VideoResult:
    """Write the video at `path` with every frame translated, whole or not at all.

    Size, frame times and sound stay. Rotation is applied before `translate`. The result has 8 bits
    a channel and the colour matrix of the source.

    Args:
        target: ends with one of `WRITTEN`.
        translate: uint8 `channels`×H×W -> uint8 of the same size, 1 or 3 channels; called in the
            caller's thread, while other threads decode and encode.
        channels: 1 for grey, 3 for RGB.
        on_frame: called for each frame written.

    Raises:
        ImageError: no frame can be decoded.
        OutputError: the file cannot be written, or its format cannot hold the sound.
        MissingExtraError: PyAV is not installed.
    """
    results: list[VideoResult] = []

    def translated(frame: Frame) -> Frame:
        return replace(frame, pixels=translate(frame.pixels))

    def fill(temporary: Path) -> None:
        with open_video(path) as (container, stream), ExitStack() as stack:
            reader = VideoReader(path, container, stream, channels)
            writer = stack.enter_context(
                closing(VideoWriter(target, temporary, stream, reader.sounds))
            )
            frames = prefetch(reader.frames(), ahead=FRAMES_AHEAD)
            stack.enter_context(closing(frames))
            written = ordered_map(
                writer.add, map(translated, frames), threads=1, ahead=FRAMES_AHEAD
            )
            stack.enter_context(closing(written))
            for _ in written:
                if on_frame is not None:
                    on_frame()
            if not writer.frames:
                raise ImageError(f"{path} has no frame that can be decoded")
            writer.finish(reader.waiting)
            results.append(
                VideoResult(
                    target, writer.frames, writer.encoder, len(reader.sounds), reader.problems()
                )
            )

    write_atomically(target, fill)
    return results[0]
