"""A sheet of images: outputs of several models for the same inputs, and where they differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from wkdc.checkpoints.reading import Reading
from wkdc.data.folders import Data, evenly_spread
from wkdc.data.image_writing import endings_for, save_pixels
from wkdc.data.images import as_rgb, grid
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.inference.comparison import open_comparison
from wkdc.metrics.fidelity import most_different_square, psnr_db
from wkdc.networks.layers import Norm
from wkdc.system.files import check_writable

SIZE = 256
"""Height and width of an image on the sheet."""

ZOOM = 4
"""How many times a detail is enlarged."""

GAIN = 4
"""What differences are multiplied by, to make them visible."""

FRAME = (1.0, -1.0, -1.0)
"""The colour of the frame around the detail: red."""


@dataclass(frozen=True)
class Row:
    """One input on the sheet.

    Attributes:
        picture: the input's file.
        psnr_db: of each model against `CompareResult.reference`.
        detail: left, top and side of the square where the models differ most, in pixels.
    """

    picture: Path
    psnr_db: dict[str, float]
    detail: tuple[int, int, int]


@dataclass(frozen=True)
class CompareResult:
    """The sheet that was written.

    Attributes:
        reference: the model that the others are compared with: the teacher, else the first model.
        zoom: how many times details are enlarged; `gain` what differences are multiplied by.
    """

    output: Path
    reference: Path
    rows: tuple[Row, ...]
    zoom: int
    gain: int


def compare(
    models: Sequence[str | Path],
    data: Data,
    *,
    output: str | Path = "comparison.png",
    teacher: str | Path | None = None,
    count: int = 4,
    size: int = SIZE,
    direction: Direction = "AtoB",
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> CompareResult:
    """Write a sheet with three rows for each of `count` inputs, a column for each model.

    The first row shows the images; the second the square where the models differ most, enlarged
    `ZOOM` times; the third the absolute differences from the teacher, or from the first model if
    no card names a teacher: black for none, white from a quarter of the range on (`GAIN`).

    Args:
        models, data, teacher, direction, seed: see `open_comparison`.
        norm, key, arch: of .pth files that cannot tell, see `load_generator`.
        output: the image to write; replaced if it exists.
        count: inputs, evenly spread over the test images.
        size: height and width of each image.
        on_progress: called with the current stage and the share of the whole that is done.

    Raises:
        OptionError: a single model without a teacher, no inputs, or an output that is no image.
        CheckpointError, DeviceError, DatasetError, ImageError, OutputError: see there.
    """
    path = Path(output)
    endings = endings_for(3, torch.uint8)
    if path.suffix.lower() not in endings:
        raise OptionError(
            f"output {path} does not end like an image that is written; choose {' '.join(endings)}"
        )
    if count < 1:
        raise OptionError(f"count is {count}; give 1 image or more")
    check_writable(path)
    comparison = open_comparison(
        models,
        data,
        teacher=teacher,
        size=size,
        direction=direction,
        seed=seed,
        reading=Reading(norm=norm, key=key, arch=arch),
        device=device,
    )
    generators = comparison.generators
    if len(generators) < 2:
        raise OptionError(f"{generators[0].path} is alone; give a second model, or --teacher")
    names = ["teacher" if one is comparison.teacher else str(one.path) for one in generators]
    reader = Reader(comparison.layout, generators[0].in_channels, generators[0].out_channels)
    chosen = evenly_spread(comparison.layout.validation, count)
    cells: list[list[Tensor]] = []
    rows: list[Row] = []
    for number, file in enumerate(chosen, 1):
        inputs = reader.squares(file, size)[0]
        outputs = [one.generate(inputs) for one in generators]
        box = most_different_square(outputs, max(16, size // ZOOM))
        cells += _cells([reader.shown(inputs), *map(reader.seen, outputs)], box)
        scores = [psnr_db(image, outputs[0]) for image in outputs[1:]]
        rows.append(Row(file, dict(zip(names[1:], scores, strict=True)), box))
        if on_progress is not None:
            on_progress("translating", number / len(chosen))
    save_pixels(path, grid(cells, ("input", *names)))
    return CompareResult(path, generators[0].path, tuple(rows), ZOOM, GAIN)


def _cells(shown: Sequence[Tensor], box: tuple[int, int, int]) -> list[list[Tensor]]:
    """The three rows of one input: itself, and the outputs."""
    left, top, side = box
    size = shown[0].shape[-1]
    images = [as_rgb(one) for one in shown]
    zoomed = [
        functional.interpolate(one[..., top : top + side, left : left + side], (size, size))
        for one in images
    ]
    reference = images[1]
    differences = [
        ((one - reference).abs().mean(1, keepdim=True) / 2 * GAIN).clamp(max=1) * 2 - 1
        for one in images
    ]
    return [[_framed(one, box) for one in images], zoomed, differences]


def _framed(images: Tensor, box: tuple[int, int, int]) -> Tensor:
    """1×3×H×W images with a red line around the square."""
    left, top, side = box
    framed = images.clone()
    red = torch.tensor(FRAME)[:, None]
    right, bottom = left + side - 1, top + side - 1
    for row in (top, bottom):
        framed[0, :, row, left : right + 1] = red
    for column in (left, right):
        framed[0, :, top : bottom + 1, column] = red
    return framed
