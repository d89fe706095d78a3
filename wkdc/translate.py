"""Images and videos in, a model's images and videos out."""

import contextlib
import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

from wkdc.data.images import SUFFIXES, images_to_pixels, list_images, load_pixels, save_pixels
from wkdc.data.inputs import load_input
from wkdc.errors import DatasetError, ImageError, OptionError, OutputError
from wkdc.inference import video
from wkdc.inference.model import ImageModel, open_model
from wkdc.inference.pipeline import in_turn
from wkdc.inference.tiles import Tiling, settled, tiled, translate_whole
from wkdc.inference.video import VideoResult, count_frames, translate_video

THREADS = 2
"""That read images, and as many that write them; PNG takes about as long to write as a small
student takes to draw."""

Job = tuple[Path, Path]
"""What is read, and the file that is written."""


@dataclass(frozen=True)
class TranslateResult:
    """What was drawn.

    Attributes:
        outputs: the files written, in the order of the inputs.
        videos: those of them that are videos.
        kept: files that were there already, where that was asked for.
        skipped: one sentence for each image that could not be read, and for what is missing in
            a video.
        drawn: images, and frames of videos.
        seconds: of reading, drawing and writing.
        tiling: how large images were cut, with what was left open; None where they were not.
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
        """Images and frames in a second, of the whole."""
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
    device: str = "cpu",
    on_image: Callable[[int, int], None] | None = None,
) -> TranslateResult:
    """Draw every image and every frame of every video in `inputs` with `model`, at its own size.

    Threads read ahead and write behind while the model draws. KeyboardInterrupt stops it: what is
    written stays, each file whole, and `resume` goes on from there.

    For a model that reads other channels than an image's they are label maps; see
    `wkdc.data.inputs.load_input`.

    Args:
        model: a .pth or .onnx file.
        inputs: images, videos, and folders of them.
        output: a folder; or, for a single input, a file that ends like one of its kind. In a
            folder, images are PNG under the input's name, videos keep their ending where such a
            file can be written and else become .mkv.
        overwrite: whether files that exist may be replaced.
        resume: whether inputs whose file exists are done: files are written whole or not at all.
        shard: (3, 16) draws the third of sixteen parts, none of which has an input of another.
        tiling: how images larger than a tile are cut; None draws all of them whole.
        on_image: called with the images and frames done, skipped ones too, and their number, as
            far as the videos tell it beforehand.

    Raises:
        OutputError: an output exists, before anything is drawn; or cannot be written.
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
        tiling = settled(opened, tiling)
    jobs = _jobs(inputs, Path(output), shard)
    taken = [target for _, target in jobs if target.exists()]
    if taken and not (overwrite or resume):
        raise OutputError(
            f"{taken[0]} exists{f' (and {len(taken) - 1} more)' if len(taken) > 1 else ''}; "
            "give another --output, --resume to keep what exists, or --overwrite"
        )
    if resume:
        there = set(taken)
        jobs = [(path, target) for path, target in jobs if target not in there]
    outcomes: list[_Outcome] = []
    interrupted = False
    with contextlib.closing(_drawn(jobs, _hand(opened, tiling, jobs), on_image)) as drawn:
        try:
            outcomes.extend(drawn)
        except KeyboardInterrupt:
            interrupted = True
    skipped = tuple(problem for outcome in outcomes for problem in outcome.problems)
    outputs = tuple(outcome.output for outcome in outcomes if outcome.output is not None)
    if skipped and not outputs and not interrupted:
        raise ImageError(
            f"none of {len(jobs)} {_kinds([path for path, _ in jobs])} could be read: {skipped[0]}"
        )
    videos = tuple(outcome.video for outcome in outcomes if outcome.video is not None)
    return TranslateResult(
        outputs,
        videos,
        tuple(taken) if resume else (),
        skipped,
        len(outputs) - len(videos) + sum(one.frames for one in videos),
        time.monotonic() - started,
        tiling,
        opened.notes,
        interrupted,
    )


@dataclass(frozen=True)
class _Hand:
    """What reads an image's file for a model of so many channels, and what draws it."""

    channels: int
    load: Callable[[Path], Tensor]
    draw: Callable[[Tensor], Tensor]


def _hand(model: ImageModel, tiling: Tiling | None, jobs: Sequence[Job]) -> _Hand:
    """How `model` draws images, or where it reads other channels, label maps."""
    channels = model.in_channels
    if channels in (1, 3):
        draw = partial(translate_whole, model) if tiling is None else tiled(model, tiling)
        return _Hand(channels, lambda path: load_pixels(path, channels=channels), draw)
    video_path = next((path for path, _ in jobs if _is_video(path)), None)
    if video_path is not None or tiling is not None:
        raise OptionError(
            f"{model.path} reads label maps of {channels} channels, which "
            f"{'tiles are not for' if video_path is None else f'{video_path} has none of'}; "
            "give maps of ids, without --tile"
        )
    return _Hand(
        channels,
        lambda path: load_input(path, channels),
        lambda images: images_to_pixels(model.draw(images)[0]),
    )


def _jobs(inputs: Sequence[str | Path], output: Path, shard: tuple[int, int]) -> list[Job]:
    part, parts = shard
    if not 1 <= part <= parts:
        raise OptionError(f"shard {part}/{parts} is none; give 1/{parts} to {parts}/{parts}")
    paths = _input_paths(inputs)
    return list(zip(paths, _output_paths(paths, output), strict=True))[part - 1 :: parts]


@dataclass(frozen=True)
class _Outcome:
    """What became of one input: a file, or none and why."""

    output: Path | None
    problems: tuple[str, ...] = ()
    video: VideoResult | None = None


def _drawn(
    jobs: Sequence[Job], hand: _Hand, on_image: Callable[[int, int], None] | None
) -> Generator[_Outcome, None, None]:
    """Images that follow one another overlap; a video overlaps with itself."""
    frames = {path: _frames(path) for path, _ in jobs if _is_video(path)}
    total = len(jobs) - len(frames) + sum(frames.values())
    done = end = 0

    def step(count: int = 1) -> None:
        nonlocal done
        done = min(done + count, end)  # a video may hold more than it says
        if on_image is not None:
            on_image(done, total)

    for moves, group in itertools.groupby(jobs, lambda job: _is_video(job[0])):
        if not moves:
            for outcome in _translate_images(group, hand):
                end += 1
                step()
                yield outcome
            continue
        for job in group:
            end += frames[job[0]]
            yield _translate_video(job, hand, step)
            if done < end:
                step(end - done)


@dataclass(frozen=True)
class _Picture:
    """One image on its way: what its file holds, or what was drawn, or why there is neither."""

    path: Path
    target: Path
    pixels: Tensor | str


def _translate_images(jobs: Iterable[Job], hand: _Hand) -> Iterator[_Outcome]:
    def read(job: Job) -> _Picture:
        return _Picture(*job, _or_why(lambda: hand.load(job[0])))

    def drawn(picture: _Picture) -> _Picture:
        pixels = picture.pixels
        if isinstance(pixels, str):
            return picture
        return replace(picture, pixels=_or_why(lambda: _draw(hand, picture.path, pixels)))

    def write(picture: _Picture) -> _Outcome:
        if isinstance(picture.pixels, str):
            return _Outcome(None, (picture.pixels,))
        _make_folder(picture.target.parent)
        save_pixels(picture.target, picture.pixels)
        return _Outcome(picture.target)

    with contextlib.ExitStack() as stack:
        pictures = in_turn(read, jobs, threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(pictures))
        written = in_turn(write, map(drawn, pictures), threads=THREADS, ahead=THREADS)
        stack.enter_context(contextlib.closing(written))
        yield from written


def _translate_video(job: Job, hand: _Hand, on_frame: Callable[[], None]) -> _Outcome:
    path, target = job
    try:
        count_frames(path)  # before a folder is made for nothing
        _make_folder(target.parent)
        drawn = translate_video(
            path, target, partial(_draw, hand, path), channels=hand.channels, on_frame=on_frame
        )
    except ImageError as error:
        return _Outcome(None, (str(error),))
    return _Outcome(target, drawn.problems, drawn)


def _draw(hand: _Hand, path: Path, pixels: Tensor) -> Tensor:
    try:
        return hand.draw(pixels)
    except (RuntimeError, MemoryError) as error:  # PyTorch and ONNX Runtime raise RuntimeErrors
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        height, width = pixels.shape[-2:]
        raise ImageError(
            f"{path} is {width}x{height}, too large for the memory as it is drawn; "
            + ("give smaller tiles: --tile 512" if hand.channels in (1, 3) else "scale it down")
        ) from None


def _or_why(make: Callable[[], Tensor]) -> Tensor | str:
    try:
        return make()
    except (ImageError, DatasetError) as error:  # the latter of label maps without their instances
        return str(error)


def _frames(path: Path) -> int:
    """As far as it can be told; a video that cannot be read counts as one thing to do."""
    try:
        return max(count_frames(path), 1)
    except ImageError:
        return 1


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in video.SUFFIXES


def _input_paths(inputs: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for entry in map(Path, inputs):
        if entry.is_dir():
            paths += list_images(entry, suffixes=(*SUFFIXES, *video.SUFFIXES))
        elif entry.is_file():
            paths.append(entry)
        else:
            raise ImageError(f"{entry} does not exist; give an image, a video, or a folder of them")
    if not paths:
        raise OptionError("no images were given; give images, videos, or folders of them")
    return paths


def _output_paths(paths: Sequence[Path], output: Path) -> list[Path]:
    """Where each input goes; inputs that share a name keep their endings to stay apart."""
    suffix = output.suffix.lower()
    if suffix in (*SUFFIXES, *video.SUFFIXES) and not output.is_dir():
        if len(paths) > 1:
            raise OptionError(f"{output} is one file, but {len(paths)} {_kinds(paths)} were given")
        fitting = video.WRITTEN if _is_video(paths[0]) else SUFFIXES
        if suffix not in fitting:
            raise OptionError(f"{paths[0]} cannot become {output}; choose {' '.join(fitting)}")
        return [output]
    endings = [video.ending_for(path) if _is_video(path) else ".png" for path in paths]
    names = [path.stem + ending for path, ending in zip(paths, endings, strict=True)]
    names = [
        name if names.count(name) == 1 else path.name.replace(".", "-") + ending
        for path, name, ending in zip(paths, names, endings, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OptionError(
            f"two {_kinds(paths)} would both be written as {twice}; translate their folders one "
            "by one"
        )
    return [output / name for name in names]


def _kinds(paths: Sequence[Path]) -> str:
    """What they are, in a word."""
    moving = [_is_video(path) for path in paths]
    return "videos" if all(moving) else "images and videos" if any(moving) else "images"


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make {folder}: {error.strerror}; give another --output"
        ) from None
