"""Models scored on test images, one by one, and their outputs written as folders of PNG files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wkdc.data.image_writing import save_pixels
from wkdc.data.images import as_rgb, images_to_pixels, load_square, pixels_to_images
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Layout
from wkdc.errors import OutputError
from wkdc.inference.comparison import Comparison
from wkdc.metrics.image_scores import ImageScores, ScoreCollector
from wkdc.metrics.lpips import Lpips


@dataclass(frozen=True)
class OutputFolders:
    """Where images are written.

    Attributes:
        outputs: a folder for the inputs, one for each generator; empty if none are written.
        targets: a folder for the true images of the target domain; None if none are written.
    """

    outputs: tuple[Path, ...]
    targets: Path | None


def score_models(
    comparison: Comparison,
    inputs: Sequence[Path],
    size: int,
    folders: OutputFolders,
    *,
    lpips: Lpips | None,
    seed: int,
    on_progress: Callable[[float], None],
) -> list[tuple[ImageScores | None, ImageScores | None]]:
    """Translate `inputs` with every generator, and score the outputs.

    Images are compared as 8 bits, as they are in a file, and are not kept in memory.

    Args:
        size: height and width of the images.
        lpips: None leaves LPIPS out.
        seed: of the bootstrap intervals.
        on_progress: called with the share that is done.

    Returns:
        Scores against the teacher's outputs and against the targets, of the inputs themselves and
        of each generator; None without a teacher, for the teacher, or without targets.
    """
    generators = comparison.generators
    reader = Reader(comparison.layout, generators[0].in_channels, generators[0].out_channels)
    scores = [(ScoreCollector(lpips), ScoreCollector(lpips)) for _ in (None, *generators)]
    teacher_index = None if comparison.teacher is None else 1
    for number, path in enumerate(inputs, 1):
        parts = reader.squares(path, size)
        outputs = [_rounded(one.generate(parts[0])) for one in generators]
        target = parts[1] if comparison.layout.kind == "paired" else None
        for index, image in enumerate([parts[0], *outputs]):
            to_teacher, to_truth = scores[index]
            if teacher_index is not None and index != teacher_index:
                to_teacher.add(image, outputs[0])
            if target is not None:
                to_truth.add(image, target)
        if folders.outputs:
            shown = [reader.shown(parts[0]), *map(reader.seen, outputs)]
            for folder, image in zip(folders.outputs, shown, strict=True):
                write_image(folder, number, image)
            if target is not None and folders.targets is not None:
                write_image(folders.targets, number, reader.seen(target))
        on_progress(number / len(inputs))
    return [(to_teacher.summary(seed), to_truth.summary(seed)) for to_teacher, to_truth in scores]


def write_domain(
    paths: Sequence[Path], folder: Path, size: int, channels: int, layout: Layout
) -> None:
    """Write true images of the target domain into `folder`, as squares of `size`.

    Raises:
        OutputError: the folder cannot be written.
    """
    for number, path in enumerate(paths, 1):
        image = load_square(path, size, channels=channels, value_range=layout.value_range)
        write_image(folder, number, Reader(layout, channels, channels).seen(image))


def write_image(folder: Path, number: int, image: Tensor) -> None:
    """Write 1×C×H×W in [-1, 1] as `000001.png` and so on, in colour.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {folder}: {error.strerror}") from None
    pixels = images_to_pixels(image[0])
    save_pixels(folder / f"{number:06d}.png", as_rgb(pixels))


def _rounded(images: Tensor) -> Tensor:
    """As they would be in a file: 8 bits."""
    return pixels_to_images(images_to_pixels(images))
