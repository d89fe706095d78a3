"""Translate images and videos with a model."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wkdc.data.bands import Range
from wkdc.data.folders import check_range
from wkdc.data.image_writing import endings_for
from wkdc.errors import ImageError, OptionError
from wkdc.inference.files import Alpha, Outcome, Translator, translate_files
from wkdc.inference.jobs import ImageFiles, Job, find_jobs, jobs_left, kinds_of
from wkdc.inference.model import ImageModel, open_model
from wkdc.inference.tiles import Tiling, resolve_tiling
from wkdc.inference.video import VideoResult
from wkdc.system.units import counted


@dataclass(frozen=True)
class TranslateResult:
    """What was translated.

    Attributes:
        outputs: the files written, in the order of the inputs.
        videos: those of them that are videos.
        kept: files that `resume` found and kept.
        skipped: one sentence for each image that could not be read, and for what is missing in
            a video.
        translated: how many images, and frames of videos, were translated.
        seconds: of reading, translating and writing.
        tiling: how large images were tiled, with the defaults filled in; None where they were not.
        notes: what the model's file could not tell and was assumed.
        interrupted: whether Ctrl-C stopped it before the last input.
    """

    outputs: tuple[Path, ...]
    videos: tuple[VideoResult, ...]
    kept: tuple[Path, ...]
    skipped: tuple[str, ...]
    translated: int
    seconds: float
    tiling: Tiling | None
    notes: tuple[str, ...]
    interrupted: bool

    @property
    def per_second(self) -> float:
        """Images and frames a second, reading and writing included."""
        return self.translated / self.seconds


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
    channels the inputs are images of as many bands, or label maps, see
    `wkdc.data.inputs.load_input`.

    Args:
        model: a .pth or .onnx file.
        inputs: images, videos, and folders of them.
        output: a folder; or, for a single input, a file that ends like one of its kind. In a
            folder, images are PNG under the input's name, or TIFF where PNG does not hold them;
            animations keep their ending, and videos do where such a file can be written, and else
            become .mkv.
        overwrite: whether files that exist may be replaced.
        resume: whether inputs whose output exists are left out, since files are written whole or
            not at all.
        shard: (3, 16) translates the third of sixteen parts; each input is in one part.
        tiling: how images larger than a tile are cut; None translates all of them whole.
        depth: bits of a value in the images that are written, 8 or 16; animations and videos have
            8 in any case.
        value_range: the floating-point numbers that are black and white in inputs, and in outputs,
            which are TIFF of such numbers then; animations and videos are skipped.
        alpha: `keep` gives images and animations the transparency of their inputs back; else what
            was transparent was laid on white.
        on_notice: called with what was passed over in folders, and what was lost.
        on_image: called with the number of images and frames done, skipped ones included, and
            their total, as far as the videos say it beforehand.

    Raises:
        OutputError: an output exists, which is checked first, or cannot be written.
        ImageError: nothing can be read.
        OptionError: no such part, no such tiles, options that exclude each other, or an output
            that cannot hold what is asked for.
        MissingExtraError: there are videos, and PyAV is not installed.
        CheckpointError, DeviceError: see `open_model`.
    """
    started = time.monotonic()
    if overwrite and resume:
        raise OptionError("resume keeps what exists, and overwrite replaces it; give one of them")
    opened = model if isinstance(model, ImageModel) else open_model(model, device=device)
    if tiling is not None:
        tiling = resolve_tiling(opened, tiling)
    images = _image_files(opened, depth, alpha, value_range)
    jobs = find_jobs(inputs, Path(output), shard, images=images, on_notice=on_notice)
    jobs, kept = jobs_left(jobs, overwrite=overwrite, resume=resume)
    outcomes: list[Outcome] = []
    interrupted = False
    translator = Translator(opened, tiling, depth, alpha, value_range)
    with contextlib.closing(translate_files(jobs, translator, on_image)) as translated:
        try:
            outcomes.extend(translated)
        except KeyboardInterrupt:
            interrupted = True
    if on_notice is not None:
        _say_depth(jobs, outcomes, depth, on_notice)
    skipped = tuple(problem for outcome in outcomes for problem in outcome.problems)
    outputs = tuple(outcome.output for outcome in outcomes if outcome.output is not None)
    if skipped and not outputs and not interrupted:
        kinds = kinds_of([job.path for job in jobs])
        none = f"none of {len(jobs)} {kinds} could be read: " if len(jobs) > 1 else ""
        raise ImageError(none + skipped[0])
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


def _image_files(
    model: ImageModel, depth: int, alpha: Alpha, value_range: Range | None
) -> ImageFiles:
    """The files that hold what is asked for.

    Raises:
        OptionError: no such depth, alpha or range, or they exclude each other.
    """
    if depth not in (8, 16):
        raise OptionError(f"depth {depth} cannot be written; give 8 or 16")
    if alpha not in ("white", "keep"):
        raise OptionError(f"alpha {alpha} is not understood; give white or keep")
    check_range(value_range)
    if value_range is not None and (alpha == "keep" or depth != 8):
        raise OptionError("files of a range hold floating-point numbers; leave out depth and alpha")
    channels, plain = model.out_channels, model.out_channels in (1, 3)
    if alpha == "keep" and not (plain and model.in_channels in (1, 3)):
        raise OptionError(
            f"{model.path} turns {counted(model.in_channels, 'channel')} into {channels}, and "
            "transparency belongs to grey or RGB; leave out --alpha"
        )
    dtype = torch.uint8 if depth == 8 else torch.uint16
    said = [] if plain else [counted(channels, "channel")]
    if value_range is not None:
        dtype = torch.float32
        said.append("floating-point numbers")
    if depth == 16:
        said.append("16 bits a value")
    if alpha == "keep":
        channels += 1
        said.append("its transparency")
    return ImageFiles(
        ".png" if plain and value_range is None else ".tif",
        endings_for(channels, dtype),
        f" with {' and '.join(said)}" if said else "",
    )


def _say_depth(
    jobs: Sequence[Job], outcomes: Sequence[Outcome], depth: int, on_notice: Callable[[str], None]
) -> None:
    """One line each where files have fewer bits a value than their inputs, or than asked for."""
    cut = sum(outcome.cut for outcome in outcomes)
    if cut:
        on_notice(f"cut to 8 bits a value: {counted(cut, 'image')}; see --depth 16")
    if depth == 16 and any(job.is_video or job.is_animated for job in jobs):
        on_notice("animations and videos are written with 8 bits a value")
