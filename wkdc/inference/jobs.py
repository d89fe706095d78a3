"""Which files are translated into which: inputs found, outputs named, shards taken."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.data.animation import ANIMATED, is_animated
from wkdc.data.images import SUFFIXES, list_images
from wkdc.errors import ImageError, OptionError, OutputError
from wkdc.inference import video


@dataclass(frozen=True)
class Job:
    """One file to translate, and the file to write."""

    path: Path
    target: Path

    @property
    def is_video(self) -> bool:
        return is_video(self.path)

    @property
    def is_animated(self) -> bool:
        """Whether it is an image of several frames."""
        return is_animated(self.path)


@dataclass(frozen=True)
class ImageFiles:
    """The files that still images are written as.

    Attributes:
        ending: of those in a folder.
        endings: that a file may have which is named.
        holding: what it has to hold, for the message: ` with 16 bits a value`, or nothing.
    """

    ending: str
    endings: tuple[str, ...]
    holding: str = ""


def find_jobs(
    inputs: Sequence[str | Path],
    output: Path,
    shard: tuple[int, int],
    *,
    images: ImageFiles,
    on_notice: Callable[[str], None] | None = None,
) -> list[Job]:
    """The files in `inputs` that belong to `shard`, each with the file to write.

    Args:
        inputs: images, videos, and folders of them.
        output: a folder, or for a single input a file.
        shard: (3, 16) for the third of sixteen parts.
        images: the files that still images become.
        on_notice: called with what else is in a folder.

    Raises:
        OptionError: no such part, no inputs, or an output that does not fit them.
        ImageError: an input does not exist, or a folder holds no images.
    """
    part, parts = shard
    if not 1 <= part <= parts:
        raise OptionError(f"shard {part}/{parts} is none; give 1/{parts} to {parts}/{parts}")
    found = _input_paths(inputs, output, on_notice)
    jobs = map(Job, found, _output_paths(found, output, images))
    return list(jobs)[part - 1 :: parts]


def jobs_left(
    jobs: list[Job], *, overwrite: bool, resume: bool
) -> tuple[list[Job], tuple[Path, ...]]:
    """The jobs to do, and the outputs that `resume` keeps.

    Raises:
        OutputError: an output exists, and neither is asked for.
    """
    existing = [job.target for job in jobs if job.target.exists()]
    if existing and not (overwrite or resume):
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise OutputError(
            f"{existing[0]} exists{more}; give another --output, --resume to keep what exists, or "
            "--overwrite"
        )
    if not resume:
        return jobs, ()
    done = set(existing)
    return [job for job in jobs if job.target not in done], tuple(existing)


def is_video(path: Path) -> bool:
    """Whether the file counts as a video, by its ending."""
    return path.suffix.lower() in video.SUFFIXES


def kinds_of(paths: Sequence[Path]) -> str:
    """What they are, in a word: `images`, `videos`, or `images and videos`."""
    videos = [is_video(path) for path in paths]
    return "videos" if all(videos) else "images and videos" if any(videos) else "images"


def _input_paths(
    inputs: Sequence[str | Path], output: Path, on_notice: Callable[[str], None] | None
) -> dict[Path, Path]:
    """The inputs, each with the folder of the output that it goes to; not what was put out."""
    paths: dict[Path, Path] = {}
    for entry in map(Path, inputs):
        if entry.is_dir():
            suffixes = (*SUFFIXES, *video.SUFFIXES)
            within = list_images(
                entry,
                suffixes=suffixes,
                kinds="images or videos",
                without=output,
                on_notice=on_notice,
            )
            paths |= {path: output / path.parent.relative_to(entry) for path in within}
        elif entry.is_file():
            paths[entry] = output
        else:
            raise ImageError(f"{entry} does not exist; give an image, a video, or a folder of them")
    if not paths:
        raise OptionError("no images were given; give images, videos, or folders of them")
    return paths


def _output_paths(found: Mapping[Path, Path], output: Path, images: ImageFiles) -> list[Path]:
    """Where each input goes; the ending stays in the names of inputs that would share one.

    Args:
        found: the inputs, each with the folder that it goes to.
        images: the files that still images become.
    """
    paths, suffix = list(found), output.suffix.lower()
    if suffix in (*SUFFIXES, *video.SUFFIXES) and not output.is_dir():
        if len(paths) > 1:
            raise OptionError(
                f"{output} is one file, but {len(paths)} {kinds_of(paths)} were given"
            )
        fitting, holding = images.endings, images.holding
        if is_video(paths[0]) or is_animated(paths[0]):
            fitting, holding = video.WRITTEN if is_video(paths[0]) else ANIMATED, ""
        if suffix not in fitting:
            raise OptionError(
                f"{paths[0]} cannot become {output}{holding}; choose {' '.join(fitting)}"
            )
        return [output]
    endings = [
        video.ending_for(path)
        if is_video(path)
        else path.suffix.lower()
        if is_animated(path)
        else images.ending
        for path in paths
    ]
    names = [
        folder / (path.stem + ending)
        for (path, folder), ending in zip(found.items(), endings, strict=True)
    ]
    shared = Counter(names)
    names = [
        name if shared[name] == 1 else name.with_name(path.name.replace(".", "-") + ending)
        for path, name, ending in zip(paths, names, endings, strict=True)
    ]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0].name
        raise OptionError(
            f"two {kinds_of(paths)} would both be written as {twice}; translate their folders one "
            "by one"
        )
    return names
