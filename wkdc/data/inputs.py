"""Inputs as a network reads them: images in [-1, 1], or label maps as channels of 0 and 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from wkdc.data.bands import Range
from wkdc.data.images import (
    as_rgb,
    center_crop,
    list_images,
    load_pixels,
    pixels_to_images,
    resize_short_side,
)
from wkdc.data.label_maps import (
    check_labels,
    images_to_colours,
    load_maps,
    maps_to_images,
    may_hold_ids,
)
from wkdc.data.layouts import Layout
from wkdc.data.pairs import SeparatePairs, match_files
from wkdc.errors import DatasetError, ImageError
from wkdc.system.units import counted


@dataclass(frozen=True)
class Reader:
    """Reads the inputs of a layout, with their targets where they are paired.

    Attributes:
        in_channels, out_channels: of the generator that reads them.
    """

    layout: Layout
    in_channels: int
    out_channels: int

    def load(self, path: Path) -> tuple[Tensor, ...]:
        """The parts of an input as stored in files, see `Loader`."""
        return part_loader(self.layout, self.in_channels, self.out_channels)(path)

    def images(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Parts as `load` returns them, in batches -> float32 N×C×H×W as networks read them."""
        return [
            maps_to_images(part, self.in_channels)
            if part.dtype == torch.int32
            else pixels_to_images(part)
            for part in parts
        ]

    def squares(self, path: Path, size: int) -> list[Tensor]:
        """The parts of an input, resized and cropped to the central square: 1×C×`size`×`size` each.

        Raises:
            ImageError: see `wkdc.data.images.load_pixels` and `wkdc.data.label_maps.check_labels`.
        """
        resized = [resize_short_side(part, size) for part in self.load(path)]
        return self.images([center_crop(part, size, size).unsqueeze(0) for part in resized])

    def shown(self, inputs: Tensor) -> Tensor:
        """Inputs as shown to people: the bands to be shown of images, label maps in colours."""
        return images_to_colours(inputs) if self.layout.labels else self.seen(inputs)

    def seen(self, images: Tensor) -> Tensor:
        """Outputs as shown to people: the bands to be shown, of more than three."""
        return as_rgb(images, self.layout.bands) if images.shape[1] > 3 else images


Loader = Callable[[Path], tuple[Tensor, ...]]
"""An input's file -> its parts, C×H×W each: the input, and the target where it is paired.

Images are uint8, or float32 from 0 to 255 of a file with more bits. Label maps are int32 P×H×W, see
`wkdc.data.label_maps`.
"""


def part_loader(layout: Layout, in_channels: int, out_channels: int) -> Loader:
    """The loader for the inputs of `layout`."""
    load = partial(load_pixels, value_range=layout.value_range)
    if layout.pairs is not None:
        return partial(_load_pair, layout.pairs, load, in_channels, out_channels)
    if layout.kind != "paired":
        return lambda path: (load(path, channels=in_channels),)

    def load_halves(path: Path) -> tuple[Tensor, Tensor]:
        given = load(path, channels=in_channels)
        alike = in_channels == out_channels
        wanted = given if alike else load(path, channels=out_channels)
        middle = given.shape[-1] // 2
        if layout.direction == "AtoB":
            return given[..., :middle], wanted[..., middle:]
        return given[..., middle:], wanted[..., :middle]

    return load_halves


def _load_pair(
    pairs: SeparatePairs,
    load: Callable[..., Tensor],
    in_channels: int,
    out_channels: int,
    path: Path,
) -> tuple[Tensor, Tensor]:
    target = load(pairs.targets[path], channels=out_channels)
    if pairs.labels:
        given = load_maps(path, pairs.instances.get(path))
        check_labels(path, given, in_channels)
    else:
        given = load(path, channels=in_channels)
    if given.shape[-2:] != target.shape[-2:]:
        (height, width), (other_height, other_width) = given.shape[-2:], target.shape[-2:]
        raise ImageError(
            f"{path} is {width}x{height}, its target {pairs.targets[path]} "
            f"{other_width}x{other_height}; both need the same size"
        )
    return given, target


def check_reads(layout: Layout, path: Path, in_channels: int) -> None:
    """Check that the generator in `path` reads inputs such as those of `layout`.

    Raises:
        DatasetError: it reads other channels.
    """
    first = (*layout.train, *layout.validation)[:1]
    if not layout.labels and in_channels not in (1, 3) and first:
        try:
            load_pixels(first[0], channels=in_channels, value_range=layout.value_range)
        except ImageError as error:
            raise DatasetError(
                f"{path} reads {counted(in_channels, 'channel')}: {error}; label maps "
                "lie in train_label"
            ) from None
    if layout.pairs is not None and layout.pairs.instances and in_channels < 2:
        raise DatasetError(
            f"{path} reads 1 channel, but label maps with the edges of train_inst need 2 or "
            "more; give data without train_inst"
        )


def check_inputs(layout: Layout, in_channels: int, out_channels: int) -> None:
    """Read all inputs of separate pairs, so that errors are found before training.

    Raises:
        ImageError: a label beyond the channels, or parts of different sizes.
    """
    if layout.pairs is not None:
        for path in (*layout.train, *layout.validation, *layout.selection):
            part_loader(layout, in_channels, out_channels)(path)


def channels_for(layout: Layout) -> int:
    """The input channels of a generator for these inputs.

    3 for images; for label maps one for every id up to the highest, and one for the edges of
    instances where there are instance maps.

    Raises:
        ImageError: see `wkdc.data.label_maps.load_maps`.
    """
    if layout.pairs is None or not layout.labels:
        return 3
    paths = (*layout.train, *layout.validation, *layout.selection)
    highest = max(int(load_maps(path).max()) for path in paths)
    return 1 + highest + (1 if layout.pairs.instances else 0)


def load_bands_or_labels(path: Path, channels: int, value_range: Range | None) -> Tensor:
    """An image of so many bands as pixels `channels`×H×W; or, as the network reads it, a label map.

    The latter is 1×`channels`×H×W, see `load_input`.

    Raises:
        ImageError, DatasetError: see `wkdc.data.images.load_pixels` and `load_input`.
    """
    try:
        return load_pixels(path, channels=channels, value_range=value_range)
    except ImageError:
        if not may_hold_ids(path):
            raise
    return load_input(path, channels)


def load_input(path: Path, in_channels: int) -> Tensor:
    """Load a label map as the input of a generator, 1×`in_channels`×H×W.

    If its folder is called `NAME_label` and there is a folder `NAME_inst` beside it, the file of
    the same name or position there is its instance map.

    Raises:
        ImageError: the file cannot be read, or has labels beyond the channels.
        DatasetError: the two folders do not belong together.
    """
    maps = load_maps(path, _instances_beside(path))
    check_labels(path, maps, in_channels)
    return maps_to_images(maps.unsqueeze(0), in_channels)


def _instances_beside(path: Path) -> Path | None:
    folder = path.absolute().parent
    phase, _, part = folder.name.rpartition("_")
    beside = folder.with_name(f"{phase}_inst")
    if part != "label" or not beside.is_dir():
        return None
    alike = beside / path.name
    if alike.is_file():
        return alike
    found = match_files(list_images(folder), beside).get(folder / path.name)
    if found is None:
        raise ImageError(f"{path} has no instance map in {beside}; give both the same name")
    return found
