"""Files translated into files: images, animations and videos, read and written in threads."""

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wkdc.data.animation import Frame, plays_of, read_frames, save_frames
from wkdc.data.bands import Bands, Range, fit_channels, other_channels
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import (
    as_rgb,
    images_to_deep_pixels,
    images_to_numbers,
    images_to_pixels,
    load_alpha,
    load_pixels,
)
from wkdc.data.inputs import load_bands_or_labels
from wkdc.errors import DatasetError, ImageError, OutputError
from wkdc.inference.jobs import Job
from wkdc.inference.model import ImageModel
from wkdc.inference.pipeline import ordered_map
from wkdc.inference.tiles import Tiling, ToPixels, tiled_translator, translate_whole
from wkdc.inference.video import VideoResult, count_frames, translate_video

Alpha = Literal["white", "keep"]

THREADS = 2
"""Threads that read images, and as many that write them: writing a PNG takes about as long as
translating with a small student."""


class Translator:
    """How files are read for a model, and translated.

    Args:
        tiling: with its defaults filled in; None translates images whole.
        depth: bits of a value in the images that are written, 8 or 16; frames have 8.
        alpha: whether inputs' transparency is kept.
        value_range: the numbers that are black and white in inputs and outputs.
    """

    def __init__(
        self,
        model: ImageModel,
        tiling: Tiling | None,
        depth: int,
        alpha: Alpha,
        value_range: Range | None,
    ) -> None:
        self.channels, self.depth, self.alpha = model.in_channels, depth, alpha
        self._model, self._tiled, self._range = model, tiling is not None, value_range
        self._to_pixels: ToPixels = images_to_pixels if depth == 8 else images_to_deep_pixels
        if value_range is not None:
            self._to_pixels = partial(images_to_numbers, value_range=value_range)
        self._translate = (
            partial(translate_whole, model, to_pixels=self._to_pixels)
            if tiling is None
            else tiled_translator(model, tiling, self._to_pixels)
        )

    def load(self, path: Path) -> Tensor:
        """Pixels C×H×W, or of a label map 1×C×H×W as the network reads it.

        Raises:
            ImageError, DatasetError: see `wkdc.data.inputs.load_bands_or_labels`; or a label map
                is to be tiled.
        """
        if self.channels in (1, 3):
            return load_pixels(path, channels=self.channels, value_range=self._range)
        found = load_bands_or_labels(path, self.channels, self._range)
        if found.dim() == 4 and self._tiled:
            raise ImageError(f"{path} is a label map, which cannot be tiled; leave out --tile")
        return found

    def translate(self, path: Path, inputs: Tensor) -> Tensor:
        """What `load` returned -> pixels of the same height and width.

        Raises:
            ImageError: the memory does not suffice.
        """
        try:
            if inputs.dim() == 4:
                return self._to_pixels(self._model.generate(inputs)[0])
            return self._translate(inputs)
        except (RuntimeError, MemoryError) as error:  # PyTorch and ONNX Runtime raise RuntimeErrors
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            height, width = inputs.shape[-2:]
            raise ImageError(
                f"{path} is {width}x{height}, too large for the memory as it is translated; "
                + ("give smaller tiles: --tile 512" if inputs.dim() == 3 else "scale it down")
            ) from None

    def translate_frame(self, path: Path, pixels: Tensor) -> Tensor:
        """A frame, uint8 C×H×W -> uint8 3×H×W: files of several frames have 8 bits a value.

        Raises:
            ImageError: the memory does not suffice.
        """
        made = self.translate(path, pixels)
        if made.dtype == torch.uint16:
            made = (made.float() / 257).round().to(torch.uint8)
        return as_rgb(made)

    def check_frames(self, job: Job) -> None:
        """Raises: ImageError: the frames of a file are not what the model reads."""
        kind = "a video" if job.is_video else "an animation"
        if self._range is not None:
            raise ImageError(
                f"{job.path} is {kind}, which has no floating-point numbers; translate it without "
                "--range"
            )
        if self.channels not in (1, 3):
            raise other_channels(job.path, 3, self.channels, kind)


@dataclass(frozen=True)
class Outcome:
    """The result of one input: a file, or the reasons why there is none.

    Attributes:
        cut: whether the input had more bits than the output.
    """

    output: Path | None
    problems: tuple[str, ...] = ()
    video: VideoResult | None = None
    cut: bool = False


def translate_files(
    jobs: Sequence[Job], translator: Translator, on_image: Callable[[int, int], None] | None
) -> Generator[Outcome, None, None]:
    """Reading and writing of successive images overlap; a video overlaps with itself only.

    Args:
        on_image: called with the number of images and frames done, and their total.

    Raises:
        OutputError: a file cannot be written.
        MissingExtraError: there are videos, and PyAV is not installed.
    """
    frames = {job.path: _frames(job.path) for job in jobs if job.is_video}
    total = len(jobs) - len(frames) + sum(frames.values())
    done = end = 0

    def step(count: int = 1) -> None:
        nonlocal done
        done = min(done + count, end)  # a video may hold more than it says
        if on_image is not None:
            on_image(done, total)

    for (videos, animated), group in itertools.groupby(
        jobs, lambda job: (job.is_video, job.is_animated)
    ):
        if animated:
            for job in group:
                end += 1
                step()
                yield _translate_animation(job, translator)
        elif not videos:
            for outcome in _translate_images(group, translator):
                end += 1
                step()
                yield outcome
        else:
            for job in group:
                end += frames[job.path]
                yield _translate_video(job, translator, step)
                if done < end:
                    step(end - done)


@dataclass(frozen=True)
class _Image:
    """An image on its way: read or translated, or a sentence that says why it could not be.

    Attributes:
        alpha: its transparency, where it has some that is to be kept.
        deep: whether the input has more than 8 bits a value.
    """

    job: Job
    pixels: Tensor | str
    alpha: Tensor | None = None
    deep: bool = False


def _translate_images(jobs: Iterable[Job], translator: Translator) -> Iterator[Outcome]:
    def read(job: Job) -> _Image:
        found = _or_reason(lambda: translator.load(job.path))
        deep = isinstance(found, Tensor) and found.dim() == 3 and found.is_floating_point()
        alpha = load_alpha(job.path) if translator.alpha == "keep" else None
        return _Image(job, found, alpha, deep)

    def translated(image: _Image) -> _Image:
        pixels = image.pixels
        if isinstance(pixels, str):
            return image
        made = _or_reason(lambda: translator.translate(image.job.path, pixels))
        return replace(image, pixels=made)

    def write(image: _Image) -> Outcome:
        pixels, alpha = image.pixels, image.alpha
        if isinstance(pixels, str):
            return Outcome(None, (pixels,))
        _make_folder(image.job.target.parent)
        if alpha is not None:
            scale = 1 if translator.depth == 8 else 257
            pixels = torch.cat([pixels, (alpha.float() * scale).round().to(pixels.dtype)])
        save_pixels(image.job.target, pixels, alpha=alpha is not None)
        return Outcome(image.job.target, cut=image.deep and pixels.dtype == torch.uint8)

    with contextlib.ExitStack() as stack:
        images = ordered_map(read, jobs, threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(images))
        written = ordered_map(write, map(translated, images), threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(written))
        yield from written


def _translate_animation(job: Job, translator: Translator) -> Outcome:
    """Translate every frame of an animated image; durations, and how often it plays, stay."""

    def made(frame: Frame) -> Frame:
        pixels = fit_channels(Bands(frame.pixels), translator.channels, job.path)
        pixels = translator.translate_frame(job.path, pixels.round().to(torch.uint8))
        alpha = frame.alpha if translator.alpha == "keep" else None
        return Frame(pixels, frame.duration_ms, alpha)

    try:
        translator.check_frames(job)
        frames = [made(frame) for frame in read_frames(job.path)]
        _make_folder(job.target.parent)
        save_frames(job.target, frames, plays=plays_of(job.path))
    except ImageError as error:
        return Outcome(None, (str(error),))
    return Outcome(job.target)


def _translate_video(job: Job, translator: Translator, on_frame: Callable[[], None]) -> Outcome:
    try:
        translator.check_frames(job)
        count_frames(job.path)  # before a folder is made for nothing
        _make_folder(job.target.parent)
        video = translate_video(
            job.path,
            job.target,
            partial(translator.translate_frame, job.path),
            channels=translator.channels,
            on_frame=on_frame,
        )
    except ImageError as error:
        return Outcome(None, (str(error),))
    return Outcome(job.target, video.problems, video)


def _or_reason(make: Callable[[], Tensor]) -> Tensor | str:
    try:
        return make()
    except (ImageError, DatasetError) as error:  # the latter of label maps without instance maps
        return str(error)


def _frames(path: Path) -> int:
    """As far as it can be told; a video that cannot be read counts as one frame."""
    try:
        return max(count_frames(path), 1)
    except ImageError:
        return 1


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make {folder}: {error.strerror}; give another --output"
        ) from None
