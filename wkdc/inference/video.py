"""Videos, frame by frame, through PyAV: decoded, drawn and encoded side by side, sound copied."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from torch import Tensor

from wkdc.data.video_reading import Frame, Reader, opened
from wkdc.data.video_writing import Writer
from wkdc.errors import ImageError
from wkdc.inference.pipeline import ordered_map, prefetch
from wkdc.system.files import write_atomically

SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"),
    *(".mts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp"),
)
"""Endings of the files that count as videos; case does not matter."""

WRITTEN = (".mp4", ".mov", ".mkv", ".webm")
"""Those of them that are written."""

FRAMES_AHEAD = 2
"""Decoded frames that wait for the network, and drawn ones that wait for the encoder."""


@dataclass(frozen=True)
class VideoResult:
    """One video, drawn.

    Attributes:
        path: the file written.
        frames: in it.
        encoder: that wrote them, by FFmpeg's name, such as libx264.
        sounds: streams of sound that were copied.
        problems: one sentence each for what is not in it.
    """

    path: Path
    frames: int
    encoder: str
    sounds: int
    problems: tuple[str, ...]


def ending_for(path: Path) -> str:
    """How the name of the video made from the one at `path` ends: alike, or .mkv, which holds all.

    A .m4v is a .mp4 by another name.
    """
    suffix = path.suffix.lower().replace(".m4v", ".mp4")
    return suffix if suffix in WRITTEN else ".mkv"


def count_frames(path: Path) -> int:
    """Frames of a video, as its head says, or by its duration and rate; 0 where neither is known.

    Raises:
        ImageError: the file is no video that can be read.
        MissingExtraError: PyAV is not installed.
    """
    with opened(path) as (container, stream):
        if stream.frames:
            return int(stream.frames)
        seconds = Fraction(container.duration or 0, 1_000_000)
        return round(seconds * (stream.average_rate or 0))


def translate_video(
    path: Path,
    target: Path,
    draw: Callable[[Tensor], Tensor],
    *,
    channels: int = 3,
    on_frame: Callable[[], None] | None = None,
) -> VideoResult:
    """Write the video that `draw` makes of the one at `path`: whole, or not at all.

    Size, times of the frames and sound stay; frames that the file wants turned are turned upright
    before they are drawn. It is 8 bits deep, with the colour matrix of the source.

    Args:
        target: ends with one of `WRITTEN`.
        draw: uint8 `channels`×H×W -> uint8 of the same size, 1 or 3 channels; called in the
            caller's thread, while others decode and encode.
        channels: 1 for grey, 3 for RGB.
        on_frame: called for each frame written.

    Raises:
        ImageError: no frame can be decoded.
        OutputError: the file cannot be written, or one that ends so cannot hold the sound.
        MissingExtraError: PyAV is not installed.
    """
    results: list[VideoResult] = []

    def drawn(frame: Frame) -> Frame:
        return replace(frame, pixels=draw(frame.pixels))

    def fill(temporary: Path) -> None:
        with opened(path) as (container, stream), ExitStack() as stack:
            reader = Reader(path, container, stream, channels)
            writer = stack.enter_context(closing(Writer(target, temporary, stream, reader.sounds)))
            frames = prefetch(reader.frames(), ahead=FRAMES_AHEAD)
            stack.enter_context(closing(frames))
            written = ordered_map(writer.add, map(drawn, frames), threads=1, ahead=FRAMES_AHEAD)
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
