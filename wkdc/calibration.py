"""The pictures that a student is calibrated on: a few of the teacher's inputs, unlabelled."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from wkdc.checkpoint import Generator
from wkdc.errors import CheckpointError
from wkdc.images import pixels_to_square
from wkdc.layouts import Direction, Layout, Loader, part_loader, read_layout
from wkdc.photos import photo_paths
from wkdc.recognition import drawable_side

CALIBRATE = 24
"""How many pictures calibrate a student, unless another number is asked for."""

SIZE = 192
"""Their height and width, or the next that the network draws at: small, as enlarging blurs."""

LEAST = 64
"""Pictures with a shorter side calibrate nothing: they would be blurs."""


def calibration_images(
    teacher: Generator,
    data: Path | None,
    count: int,
    *,
    direction: Direction = "AtoB",
    seed: int = 0,
    on_notice: Callable[[str], None] | None = None,
) -> list[Tensor]:
    """Up to `count` training inputs of `data`, evenly spread over their names: 1×C×H×W, squares.

    A discriminator judges the pictures of the other domain, where there are any; a conditional one
    both halves of a pair. Without `data`, the bundled photos; none where `teacher` takes no such
    pictures.

    Raises:
        DatasetError, ImageError: see `read_layout`.
    """
    if count == 0 or (data is None and teacher.in_channels not in (1, 3)):
        return []
    if data is None:
        layout = Layout("inputs", tuple(photo_paths()), (), (), False, direction)
    else:
        layout = read_layout(
            data, direction=direction, seed=seed, smallest=LEAST, on_notice=on_notice
        )
    judge = teacher.architecture.family == "patchgan"
    files = layout.real if judge and layout.real else layout.train
    load = (
        _judged(layout, teacher)
        if judge
        else part_loader(layout, teacher.in_channels, teacher.out_channels)
    )
    size, total = drawable_side(SIZE, teacher.architecture), len(files)
    chosen = [files[i * total // count] for i in range(count)] if count < total else files
    return [
        torch.cat(
            [pixels_to_square(part, size) for part in (load(path) if judge else load(path)[:1])], 1
        )
        for path in chosen
    ]


def _judged(layout: Layout, discriminator: Generator) -> Loader:
    """What `discriminator` is shown, of a picture's file: the picture, or both halves of a pair."""
    channels = discriminator.in_channels
    if layout.kind == "paired" and channels in (2, 6):
        return part_loader(layout, channels // 2, channels // 2)
    if channels not in (1, 3):
        raise CheckpointError(
            f"{discriminator.path} judges {channels} channels at once; calibrate it on a folder of "
            "pairs, or not at all (--calibrate 0)"
        )
    load = part_loader(layout, channels, channels)
    return lambda path: load(path)[-1:]
