"""Small videos, made of the bundled photos, as cameras, recorders and bad disks make them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from wkdc.data.photos import photo_paths
from wkdc.data.video_reading import FAITHFUL

Array = np.ndarray

SIZE = (128, 96)  # width and height
SOUND_HZ = 44100


def photo_frames(count: int, size: tuple[int, int] = SIZE) -> list[Array]:
    """`count` frames, uint8 H×W×3, each of another photo than those beside it."""
    photos = []
    for path in photo_paths():
        with Image.open(path) as photo:
            photos.append(np.array(photo.convert("RGB").resize(size)))
    return [photos[n % len(photos)] for n in range(count)]


def make_video(
    path: Path,
    frames: Sequence[Array],
    *,
    rate: int | Fraction = 24,
    milliseconds: Sequence[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    sound: str | None = None,
    turned: int = 0,
) -> Path:
    """A video file.

    Args:
        milliseconds: the time of each frame; None follows `rate`.
        sound: a codec for as long a tone.
        turned: degrees, counter-clockwise, that players turn it by.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.options = {"crf": "12", "qmax": "3"} if codec != "ffv1" else {}
        if milliseconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        tone = container.add_stream(sound, rate=SOUND_HZ, layout="mono") if sound else None
        for n, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
            if milliseconds is not None:
                frame.pts, frame.time_base = milliseconds[n], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            _add_tone(container, tone, seconds=len(frames) / float(rate))
    return path


def _add_tone(container: Any, stream: Any, *, seconds: float) -> None:
    for start in range(0, int(seconds * SOUND_HZ), 1024):
        wave = np.sin(np.arange(start, start + 1024) * 0.05).astype(np.float32)[None] * 0.3
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_HZ, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def moments(path: Path) -> list[float]:
    """The time of each frame, in seconds."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


def decoded(path: Path) -> list[Array]:
    """Its frames, uint8 H×W×3, as they are stored."""
    with av.open(str(path)) as container:
        return [
            frame.reformat(format="rgb24", interpolation=FAITHFUL).to_ndarray()
            for frame in container.decode(video=0)
        ]


def sound_packets(path: Path) -> list[tuple[int | None, bytes]]:
    """The compressed sound and its times, as it lies in the file."""
    with av.open(str(path)) as container:
        return [(packet.pts, bytes(packet)) for packet in container.demux(audio=0) if packet.size]


def spoil(path: Path, numbers: Sequence[int]) -> None:
    """Overwrite the images of these packets, in the order of the file."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        start, size = packets[number]
        data[start : start + size] = b"\x5a" * size
    path.write_bytes(data)
