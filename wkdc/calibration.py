"""The pictures that a student is calibrated on: a few of the teacher's inputs, unlabelled."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from wkdc.checkpoint import Generator
from wkdc.images import pixels_to_square
from wkdc.layouts import Direction, Layout, part_loader, read_layout
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

    Without `data`, the bundled photos; none where `teacher` draws from no such pictures.

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
    load = part_loader(layout, teacher.in_channels, teacher.out_channels)
    size, total = drawable_side(SIZE, teacher.architecture), len(layout.train)
    chosen = [layout.train[i * total // count] for i in range(count)] if count < total else None
    return [pixels_to_square(load(path)[0], size) for path in chosen or layout.train]
