"""Which images of a data folder play which part, and how each is read."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, Self

from torch import Tensor

from wkdc.data.bands import Range
from wkdc.data.folders import Data, as_folder
from wkdc.data.images import list_images, load_pixels, readable_images
from wkdc.data.label_maps import check_labels, load_maps
from wkdc.data.pairs import SeparatePairs, find_separate_pairs, has_separate_pairs
from wkdc.errors import DatasetError, ImageError

Kind = Literal["unpaired", "paired", "inputs"]
Direction = Literal["AtoB", "BtoA"]

HELD_OUT = 0.1
"""Share of the images held out for measuring where the data brings no test set."""


@dataclass(frozen=True)
class Layout:
    """Which images play which part.

    Attributes:
        kind: `unpaired` (trainA, trainB), `paired` (side by side in one image, or in separate
            folders), or `inputs` (a plain folder; the teacher's outputs stand for the target
            domain).
        train: inputs to train on; `real` images of the target domain, for `unpaired`.
        validation: inputs never trained on.
        held_out: whether `validation` was taken out of the training images; `real_held_out`
            whether `real_validation` was.
        direction: which half of a paired image is the input.
        real_validation: images of the target domain that are never trained on, where asked for.
        selection: inputs by which the best student is selected, where asked for; neither trained
            nor measured on. `real_selection` of the target domain.
        pairs: the files that belong to the inputs, where pairs lie in separate folders.
        value_range, bands: see `wkdc.data.folders.ImageFolder`.
    """

    kind: Kind
    train: tuple[Path, ...]
    real: tuple[Path, ...]
    validation: tuple[Path, ...]
    held_out: bool
    direction: Direction = "AtoB"
    real_validation: tuple[Path, ...] = ()
    selection: tuple[Path, ...] = ()
    real_selection: tuple[Path, ...] = ()
    real_held_out: bool = False
    pairs: SeparatePairs | None = None
    value_range: Range | None = None
    bands: tuple[int, ...] = ()

    @property
    def labels(self) -> bool:
        """Whether inputs are label maps."""
        return self.pairs is not None and self.pairs.labels

    def parts(self, paths: Sequence[Path]) -> list[Path]:
        """`paths`, each followed by the other files that belong to it."""
        if self.pairs is None:
            return list(paths)
        return [part for path in paths for part in (path, *self.pairs.parts_of(path))]

    def reversed(self) -> Self:
        """The same unpaired images for the other direction."""
        return replace(
            self,
            train=self.real,
            real=self.train,
            validation=self.real_validation,
            real_validation=self.validation,
            selection=self.real_selection,
            real_selection=self.selection,
            held_out=self.real_held_out,
            real_held_out=self.held_out,
            direction="BtoA" if self.direction == "AtoB" else "AtoB",
        )


def read_layout(
    data: Data,
    *,
    direction: Direction = "AtoB",
    seed: int = 0,
    smallest: int = 1,
    both: bool = False,
    select: bool = False,
    on_notice: Callable[[str], None] | None = None,
) -> Layout:
    """Find out what a data folder holds and check that every image can be used.

    Args:
        data: a folder with `trainA`; with `train` (side by side); with `train_label` and
            `train_img`, or `train_A` and `train_B`, where the n-th files of both belong together;
            or with images.
        direction: `AtoB` or `BtoA`; swaps the domains.
        seed: of the choice of held-out images.
        smallest: images with a shorter side are left out; of paired ones, each half counts.
        both: whether the other direction is trained too, so that images of both domains are held
            out for measuring.
        select: whether images are held out to select the best student by.
        on_notice: called with one sentence for each image left out.

    Raises:
        DatasetError: none of these layouts, `both` without images of both domains, or parts of
            pairs that do not belong together.
        ImageError: no usable image, or a paired image of odd width.
    """
    source = as_folder(data)
    folder = source.path
    least = (smallest, 2 * smallest if is_paired(folder) else smallest)
    images = _Images(least, source.value_range, on_notice)
    layout = _find_training_images(folder, direction, images)
    if both and layout.kind != "unpaired":
        raise DatasetError(
            f"{folder} has no images of both domains, which two directions need; give a folder "
            "with trainA and trainB"
        )
    layout = _with_validation(layout, folder, images, seed)
    if both:
        layout = _with_real_validation(layout, folder, images, seed)
    if select:
        layout = _with_selection(layout, folder, seed, both=both)
    if layout.kind == "paired" and layout.pairs is None:
        paths = (*layout.train, *layout.validation, *layout.selection)
        sides = [_check_width(path, source.value_range) for path in paths]
        if on_notice is not None and all(2 * width <= 3 * height for height, width in sides):
            on_notice(
                f"{folder / 'train'} is read as pairs side by side, but no image there is as wide "
                f"as two; if they are single images, give --data {folder / 'train'}"
            )
    elif layout.kind == "inputs" and on_notice is not None and _holds_both(layout, folder):
        on_notice(
            f"{folder}: images of A and B are all read as inputs; for pairs give A/train and "
            "B/train"
        )
    return replace(layout, value_range=source.value_range, bands=source.bands)


def is_paired(folder: Path) -> bool:
    """Whether images in `folder` hold an input and its target side by side."""
    return not _has_domains(folder) and (folder / "train").is_dir()


def _has_domains(folder: Path) -> bool:
    return (folder / "trainA").is_dir() or (folder / "trainB").is_dir()


@dataclass(frozen=True)
class _Images:
    """Finds the images that can be used, and says what cannot.

    Attributes:
        smallest: the least height and width.
    """

    smallest: tuple[int, int]
    value_range: Range | None
    on_notice: Callable[[str], None] | None

    def usable(self, paths: Sequence[Path]) -> list[Path]:
        return readable_images(
            paths,
            smallest=self.smallest,
            value_range=self.value_range,
            on_skip=self.on_notice,
        )

    def within(self, folder: Path) -> list[Path]:
        return self.usable(list_images(folder, on_notice=self.on_notice))


def _find_training_images(folder: Path, direction: Direction, images: _Images) -> Layout:
    """The layout before images are held out; its `validation` holds test images of pairs only."""
    kind: Kind = "inputs"
    real: list[Path] = []
    if has_separate_pairs(folder):
        pairs, train, test = find_separate_pairs(
            folder, reverse=direction == "BtoA", on_notice=images.on_notice
        )
        train, test = (pairs.complete(paths, images.usable) for paths in (train, test))
        return Layout("paired", tuple(train), (), tuple(test), False, direction, pairs=pairs)
    if _has_domains(folder):
        a, b = direction[0], direction[-1]
        train = images.within(folder / f"train{a}")
        if (folder / f"train{b}").is_dir():
            kind, real = "unpaired", images.within(folder / f"train{b}")
    elif is_paired(folder):
        kind, train = "paired", images.within(folder / "train")
    elif folder.is_dir():
        train = images.within(folder)
    else:
        raise DatasetError(f"{folder} is no folder; give a folder of images")
    return Layout(kind, tuple(train), tuple(real), (), False, direction)


def _with_validation(layout: Layout, folder: Path, images: _Images, seed: int) -> Layout:
    """`layout` with its test images, or else with training images held out."""
    if layout.pairs is None:
        names = ["test", "val"] if layout.kind == "paired" else []
        if _has_domains(folder):
            names = [f"test{layout.direction[0]}"]
        tests = [folder / name for name in names if (folder / name).is_dir()]
        if tests:
            layout = replace(layout, validation=tuple(images.within(tests[0])))
    if layout.validation:
        return layout
    train, validation = _hold_out(layout.train, seed)
    return replace(layout, train=train, validation=validation, held_out=True)


def _with_real_validation(layout: Layout, folder: Path, images: _Images, seed: int) -> Layout:
    """The same of the target domain."""
    test = folder / f"test{layout.direction[-1]}"
    if test.is_dir():
        return replace(layout, real_validation=tuple(images.within(test)))
    real, real_validation = _hold_out(layout.real, seed)
    return replace(layout, real=real, real_validation=real_validation, real_held_out=True)


def _with_selection(layout: Layout, folder: Path, seed: int, *, both: bool) -> Layout:
    """`layout` with training images held out to select by.

    Raises:
        DatasetError: there are too few.
    """
    measured = {*layout.validation, *layout.real_validation}
    for images in (layout.train, layout.real) if both else (layout.train,):
        if len(images) < 2 or measured.intersection(images):
            raise DatasetError(
                f"{folder} has too few images to hold some out for --select best; give more"
            )
    train, selection = _hold_out(layout.train, seed)
    layout = replace(layout, train=train, selection=selection)
    if not both:
        return layout
    real, real_selection = _hold_out(layout.real, seed)
    return replace(layout, real=real, real_selection=real_selection)


def _hold_out(paths: tuple[Path, ...], seed: int) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Split off a tenth, at least one image; a single image is in both parts."""
    if len(paths) == 1:
        return paths, paths
    shuffled = random.Random(seed).sample(paths, len(paths))
    count = max(1, round(HELD_OUT * len(paths)))
    return tuple(sorted(shuffled[count:])), tuple(sorted(shuffled[:count]))


def _holds_both(layout: Layout, folder: Path) -> bool:
    """Whether all images lie in the folders A and B."""
    paths = (*layout.train, *layout.validation)
    return {path.relative_to(folder).parts[0] for path in paths} == {"A", "B"}


def _check_width(path: Path, value_range: Range | None) -> tuple[int, int]:
    """Height and width of an image of two side by side.

    Raises:
        ImageError: they cannot be of one width.
    """
    _, height, width = load_pixels(path, channels=None, value_range=value_range).shape
    if width % 2:
        raise ImageError(
            f"{path} is {width} pixels wide; paired images lie side by side, so the width must be "
            "even"
        )
    return height, width


Loader = Callable[[Path], tuple[Tensor, ...]]
"""An input's file -> its parts, uint8 C×H×W each: the input, and the target where it is paired.

Label maps are int32 P×H×W, see `wkdc.data.label_maps`.
"""


def part_loader(layout: Layout, in_channels: int, out_channels: int) -> Loader:
    """The loader for the inputs of `layout`."""
    load = partial(load_pixels, value_range=layout.value_range)
    if layout.pairs is not None:
        return partial(_load_pair, layout.pairs, load, in_channels, out_channels)
    if layout.kind != "paired":
        return lambda path: (load(path, channels=in_channels),)

    def load_halves(path: Path) -> tuple[Tensor, Tensor]:
        given, wanted = (load(path, channels=n) for n in (in_channels, out_channels))
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
