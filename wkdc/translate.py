"""Translate images and videos with a model."""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wkdc.data.animation import Frame, read_frames, save_frames
from wkdc.data.bands import Range, fit_channels
from wkdc.data.folders import check_range
from wkdc.data.images import (
    as_rgb,
    images_to_deep_pixels,
    images_to_numbers,
    images_to_pixels,
    load_alpha,
    load_pixels,
    save_pixels,
)
from wkdc.data.inputs import has_bands, load_input
from wkdc.errors import DatasetError, ImageError, OptionError, OutputError
from wkdc.inference.jobs import Job, find_jobs, jobs_left, kinds_of
from wkdc.inference.model import ImageModel, open_model
from wkdc.inference.pipeline import ordered_map
from wkdc.inference.tiles import Tiling, ToPixels, resolve_tiling, tiled_translator, translate_whole
from wkdc.inference.video import VideoResult, count_frames, translate_video

Alpha = Literal["white", "keep"]

THREADS = 2
"""Threads that read images, and as many that write them: writing a PNG takes about as long as
translating with a small student."""


@dataclass(frozen=True)
class TranslateResult:
    """What was translated.

    Attributes:
        outputs: the files written, in the order of the inputs.
        videos: those of them that are videos.
        kept: files that `resume` found and kept.
        skipped: one sentence for each image that could not be read, and for what is missing in
            a video.
        drawn: how many images, and frames of videos, were translated.
        seconds: of reading, translating and writing.
        tiling: how large images were tiled, with the defaults filled in; None where they were not.
        notes: what the model's file could not tell and was assumed.
        interrupted: whether Ctrl-C stopped it before the last input.
    """

    outputs: tuple[Path, ...]
    videos: tuple[VideoResult, ...]
    kept: tuple[Path, ...]
    skipped: tuple[str, ...]
    drawn: int
    seconds: float
    tiling: Tiling | None
    notes: tuple[str, ...]
    interrupted: bool

    @property
    def per_second(self) -> float:
        """Images and frames a second, reading and writing included."""
        return self.drawn / self.seconds


def translate(
    model: ImageModel | str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    tiling: Tiling | None = None,
    depth: int = 8,
    alpha: Alpha = "white",
    value_range: Range | None = None,
    device: str = "cpu",
    on_notice: Callable[[str], None] | None = None,
    on_image: Callable[[int, int], None] | None = None,
) -> TranslateResult:
    """Translate every image and every frame of every video in `inputs`, at its own size.

    Threads read and write files while the model translates. KeyboardInterrupt stops it: complete
    files stay, and `resume` continues from there. For a model that reads other than 1 or 3
    channels the inputs are label maps, see `wkdc.data.inputs.load_input`.

    Args:
        model: a .pth or .onnx file.
        inputs: images, videos, and folders of them.
        output: a folder; or, for a single input, a file that ends like one of its kind. In a
            folder, images are PNG under the input's name, videos keep their ending where such a
            file can be written and else become .mkv.
        overwrite: whether files that exist may be replaced.
        resume: whether inputs whose output exists are left out, since files are written whole or
            not at all.
        shard: (3, 16) translates the third of sixteen parts; each input is in one part.
        tiling: how images larger than a tile are cut; None translates all of them whole.
        depth: bits of a value in the images that are written, 8 or 16.
        value_range: the floating-point numbers that are black and white in inputs, and in outputs,
            which are TIFF of such numbers then.
        alpha: `keep` gives images the transparency of their inputs back; else what was transparent
            was laid on white.
        on_notice: called with what was passed over in folders, and what was lost.
        on_image: called with the number of images and frames done, skipped ones included, and
            their total, as far as the videos say it beforehand.

    Raises:
        OutputError: an output exists, which is checked first, or cannot be written.
        ImageError: nothing can be read.
        OptionError: no such part, no such tiles, or both `overwrite` and `resume`.
        MissingExtraError: there are videos, and PyAV is not installed.
        CheckpointError, DeviceError: see `open_model`.
    """
    started = time.monotonic()
    if overwrite and resume:
        raise OptionError("resume keeps what exists, and overwrite replaces it; give one of them")
    opened = model if isinstance(model, ImageModel) else open_model(model, device=device)
    if tiling is not None:
        tiling = resolve_tiling(opened, tiling)
    if depth not in (8, 16) or alpha not in ("white", "keep"):
        raise OptionError(
            f"depth {depth}, alpha {alpha}: give a depth of 8 or 16, and white or keep"
        )
    check_range(value_range)
    if value_range is not None and (alpha == "keep" or depth != 8):
        raise OptionError("files of a range hold floating-point numbers; leave out depth and alpha")
    plain = opened.out_channels in (1, 3) and value_range is None
    ending = ".png" if plain else ".tif"
    jobs = find_jobs(inputs, Path(output), shard, ending=ending, on_notice=on_notice)
    if value_range is not None and any(job.is_video or job.is_animated for job in jobs):
        raise OptionError("a video has no floating-point numbers; translate it without a range")
    jobs, kept = jobs_left(jobs, overwrite=overwrite, resume=resume)
    outcomes: list[_Outcome] = []
    interrupted = False
    translator = _translator(opened, tiling, jobs, depth, alpha, value_range)
    with contextlib.closing(_translate_all(jobs, translator, on_image)) as translated:
        try:
            outcomes.extend(translated)
        except KeyboardInterrupt:
            interrupted = True
    cut = sum(outcome.cut for outcome in outcomes)
    if cut and on_notice is not None:
        on_notice(f"{cut} images have 16 bits a value and were written with 8; see --depth 16")
    skipped = tuple(problem for outcome in outcomes for problem in outcome.problems)
    outputs = tuple(outcome.output for outcome in outcomes if outcome.output is not None)
    if skipped and not outputs and not interrupted:
        kinds = kinds_of([job.path for job in jobs])
        raise ImageError(f"none of {len(jobs)} {kinds} could be read: {skipped[0]}")
    videos = tuple(outcome.video for outcome in outcomes if outcome.video is not None)
    return TranslateResult(
        outputs,
        videos,
        kept,
        skipped,
        len(outputs) - len(videos) + sum(one.frames for one in videos),
        time.monotonic() - started,
        tiling,
        opened.notes,
        interrupted,
    )


@dataclass(frozen=True)
class _Translator:
    """How the file of an image is read for a model of so many channels, and how it is translated.

    `translate` takes pixels C×H×W, or of label maps what `load` returns, and returns pixels.
    """

    channels: int
    load: Callable[[Path], Tensor]
    translate: Callable[[Tensor], Tensor]
    depth: int
    alpha: Alpha


def _translator(
    model: ImageModel,
    tiling: Tiling | None,
    jobs: Sequence[Job],
    depth: int,
    alpha: Alpha,
    value_range: Range | None,
) -> _Translator:
    channels = model.in_channels
    to_pixels: ToPixels = images_to_pixels if depth == 8 else images_to_deep_pixels
    if value_range is not None:
        to_pixels = partial(images_to_numbers, value_range=value_range)
    images = [job.path for job in jobs if not job.is_video]
    if channels in (1, 3) or (images and has_bands(images[0], channels, value_range)):
        return _Translator(
            channels,
            lambda path: load_pixels(path, channels=channels, value_range=value_range),
            partial(translate_whole, model, to_pixels=to_pixels)
            if tiling is None
            else tiled_translator(model, tiling, to_pixels),
            depth,
            alpha,
        )
    video_path = next((job.path for job in jobs if job.is_video), None)
    if video_path is not None or tiling is not None:
        raise OptionError(
            f"{model.path} reads label maps of {channels} channels, which "
            f"{'cannot be tiled' if video_path is None else f'{video_path} does not hold'}; "
            "give label maps, without --tile"
        )
    return _Translator(
        channels,
        lambda path: load_input(path, channels),
        lambda images: to_pixels(model.generate(images)[0]),
        depth,
        alpha,
    )


@dataclass(frozen=True)
class _Outcome:
    """The result of one input: a file, or the reasons why there is none."""

    output: Path | None
    problems: tuple[str, ...] = ()
    video: VideoResult | None = None
    cut: bool = False
    """Whether the input had more bits than the output."""


def _translate_all(
    jobs: Sequence[Job], translator: _Translator, on_image: Callable[[int, int], None] | None
) -> Generator[_Outcome, None, None]:
    """Reading and writing of successive images overlap; a video overlaps with itself only."""
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
    """An image on its way: read or translated, or a sentence that says why it could not be."""

    job: Job
    pixels: Tensor | str
    deep: bool = False
    """Whether the input has more than 8 bits a value."""


def _translate_images(jobs: Iterable[Job], translator: _Translator) -> Iterator[_Outcome]:
    def read(job: Job) -> _Image:
        found = _or_reason(lambda: translator.load(job.path))
        deep = isinstance(found, Tensor) and found.dim() == 3 and found.is_floating_point()
        return _Image(job, found, deep)

    def translated(image: _Image) -> _Image:
        pixels, path = image.pixels, image.job.path
        if isinstance(pixels, str):
            return image
        made = _or_reason(lambda: _translate(translator, path, pixels))
        return replace(image, pixels=made)

    def write(image: _Image) -> _Outcome:
        if isinstance(image.pixels, str):
            return _Outcome(None, (image.pixels,))
        _make_folder(image.job.target.parent)
        transparency = load_alpha(image.job.path) if translator.alpha == "keep" else None
        pixels = image.pixels
        if transparency is not None:
            scale = 1 if translator.depth == 8 else 257
            pixels = torch.cat([pixels, (transparency.int() * scale).to(pixels.dtype)])
        save_pixels(image.job.target, pixels)
        return _Outcome(image.job.target, cut=image.deep and pixels.dtype == torch.uint8)

    with contextlib.ExitStack() as stack:
        images = ordered_map(read, jobs, threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(images))
        written = ordered_map(write, map(translated, images), threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(written))
        yield from written


def _translate_animation(job: Job, translator: _Translator) -> _Outcome:
    """Translate every frame of an animated image; durations stay."""

    def made(frame: Frame) -> Frame:
        pixels = fit_channels(frame.pixels, translator.channels, job.path)
        made = _translate(translator, job.path, pixels.round().to(torch.uint8))
        return Frame(as_rgb(made), frame.duration_ms)

    try:
        frames = [made(frame) for frame in read_frames(job.path)]
        _make_folder(job.target.parent)
        save_frames(job.target, frames)
    except ImageError as error:
        return _Outcome(None, (str(error),))
    return _Outcome(job.target)


def _translate_video(job: Job, translator: _Translator, on_frame: Callable[[], None]) -> _Outcome:
    try:
        count_frames(job.path)  # before a folder is made for nothing
        _make_folder(job.target.parent)
        video = translate_video(
            job.path,
            job.target,
            partial(_translate, translator, job.path),
            channels=translator.channels,
            on_frame=on_frame,
        )
    except ImageError as error:
        return _Outcome(None, (str(error),))
    return _Outcome(job.target, video.problems, video)


def _translate(translator: _Translator, path: Path, pixels: Tensor) -> Tensor:
    """Translate, and name the file where the memory does not suffice.

    Raises:
        ImageError: it does not.
    """
    try:
        return translator.translate(pixels)
    except (RuntimeError, MemoryError) as error:  # PyTorch and ONNX Runtime raise RuntimeErrors
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        height, width = pixels.shape[-2:]
        tiles = translator.channels in (1, 3)
        raise ImageError(
            f"{path} is {width}x{height}, too large for the memory as it is translated; "
            + ("give smaller tiles: --tile 512" if tiles else "scale it down")
        ) from None


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
