"""Calibration images: a few of the teacher's inputs, without targets."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.folders import Data
from wkdc.data.inputs import Reader, check_reads
from wkdc.data.jitter import has_colour, jitter_colours
from wkdc.data.layouts import Direction, Layout, read_layout
from wkdc.data.photos import photo_paths
from wkdc.errors import CheckpointError
from wkdc.networks.architecture import valid_side

CALIBRATE = 24
"""Default number of calibration images."""

SIZE = 192
"""Their height and width, or the next that the network takes. Small, since enlarging blurs."""

LEAST = 64
"""Images with a shorter side are left out, since enlarging blurs."""

COLOURS = 3
"""Channels of the image that a discriminator is shown beside a label map."""


JITTER = 0.33
"""Default share of the images that are also looked at in other colours. More of them cost time, and
a student that is calibrated on many images some of its nearness on colours that these have."""


@dataclass(frozen=True)
class Calibration:
    """Inputs of the teacher, 1×C×S×S in [-1, 1].

    Attributes:
        images: as they are in the data.
        copies: some of them in other colours.
    """

    images: list[Tensor]
    copies: list[Tensor]


def read_calibration(
    teacher: Generator,
    data: Data | None,
    count: int,
    *,
    jitter: float = 0.0,
    direction: Direction = "AtoB",
    seed: int = 0,
    on_notice: Callable[[str], None] | None = None,
) -> Calibration:
    """Up to `count` training inputs of `data`, evenly spread over their names.

    A discriminator is shown images of the target domain, where there are any; a conditional one
    both halves of a pair. Without `data`, the bundled photos; none, with a notice, where `teacher`
    reads other than 1 or 3 channels.

    Args:
        jitter: share of the images that there is a copy of in other colours. There is none of grey
            images and label maps, nor for a discriminator, which judges colours.
        seed: of the choice of held-out images, and of the colours.

    Raises:
        DatasetError, ImageError: see `read_layout`.
        CheckpointError: a discriminator reads other channels than the images have.
    """
    if count == 0:
        return Calibration([], [])
    if data is None and teacher.in_channels not in (1, 3):
        if on_notice is not None:
            on_notice(
                f"{teacher.path} reads {teacher.in_channels} channels and the bundled photos have "
                "3, so the student is not calibrated; give its inputs with --data"
            )
        return Calibration([], [])
    if data is None:
        layout = Layout("inputs", tuple(photo_paths()), (), (), False, direction)
    else:
        layout = read_layout(
            data, direction=direction, seed=seed, smallest=LEAST, on_notice=on_notice
        )
    files = layout.real if teacher.architecture.is_discriminator and layout.real else layout.train
    reader, seen = _shown_to(teacher, layout)
    size, total = valid_side(SIZE, teacher.architecture), len(files)
    chosen = [files[i * total // count] for i in range(count)] if count < total else files
    images = [torch.cat(reader.squares(path, size)[seen], 1) for path in chosen]
    copies: list[Tensor] = []
    if not (layout.labels or teacher.architecture.is_discriminator):
        rng = random.Random(f"colours of {seed}")
        coloured = [image for image in images if has_colour(image)]
        wanted = round(jitter * len(coloured))
        spread = [coloured[n * len(coloured) // wanted] for n in range(wanted)]
        copies = [jitter_colours(image, rng) for image in spread]
    return Calibration(images, copies)


def _shown_to(teacher: Generator, layout: Layout) -> tuple[Reader, slice]:
    """The reader of the files of `layout`, and which parts of them `teacher` is shown."""
    channels = teacher.in_channels
    if not teacher.architecture.is_discriminator:
        check_reads(layout, teacher.path, channels)
        return Reader(layout, channels, teacher.out_channels), slice(1)
    if layout.labels and channels > COLOURS:
        return Reader(layout, channels - COLOURS, COLOURS), slice(None)
    if layout.kind == "paired" and channels in (2, 6):
        return Reader(layout, channels // 2, channels // 2), slice(None)
    if layout.labels or channels not in (1, 3):
        raise CheckpointError(
            f"{teacher.path} is shown {channels} channels at once; calibrate it on a folder of "
            "pairs, or not at all (--calibrate 0)"
        )
    return Reader(layout, channels, channels), slice(-1, None)
