"""Which images of a data folder play which part."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from wkdc.data.bands import Range
from wkdc.data.folders import Data, as_folder
from wkdc.data.images import list_images, readable_images
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
    test: bool = False,
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
        test: whether nothing is trained, so that `validation` and `real_validation` alone are
            wanted: test images, else those that training holds out, and of a plain folder all.
        on_notice: called with one sentence for each image left out.

    Raises:
        DatasetError: none of these layouts, `both` without images of both domains, or parts of
            pairs that do not belong together.
        ImageError: no usable image, or a paired image of odd width.
    """
    source = as_folder(data)
    folder = source.path
    least = (smallest, 2 * smallest if is_paired(folder, test=test) else smallest)
    images = _Images(least, source.value_range, seed, test, on_notice)
    layout = _find_images(folder, direction, images, both=both)
    if both and layout.kind != "unpaired":
        raise DatasetError(
            f"{folder} has no images of both domains, which two directions need; give a folder "
            "with trainA and trainB"
        )
    if select:
        layout = _with_selection(layout, folder, seed, both=both)
    if layout.kind == "paired" and layout.pairs is None:
        paths = (*layout.train, *layout.validation, *layout.selection)
        _check_widths(paths, images.sizes)
        sides = [images.sizes[path] for path in paths]
        if on_notice is not None and all(2 * width <= 3 * height for height, width in sides):
            part = folder / paths[0].relative_to(folder).parts[0]
            on_notice(
                f"{part} is read as pairs side by side, but no image there is as wide as two; if "
                f"they are single images, give --data {part}"
            )
    elif layout.kind == "inputs" and on_notice is not None and _holds_both(layout, folder):
        on_notice(
            f"{folder}: images of A and B are all read as inputs; for pairs give A/train and "
            "B/train"
        )
    if on_notice is not None and layout.train and layout.train == layout.validation:
        on_notice(
            f"{layout.train[0]} is the only image, to learn from and to measure on: the numbers "
            "say nothing of others; give more images"
        )
    return replace(layout, value_range=source.value_range, bands=source.bands)


def is_paired(folder: Path, *, test: bool = False) -> bool:
    """Whether images in `folder` hold an input and its target side by side.

    Args:
        test: whether test images alone are enough.
    """
    names = ("train", *(("test", "val") if test else ()))
    return not _has_domains(folder) and any((folder / name).is_dir() for name in names)


def _has_domains(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("trainA", "trainB", "testA", "testB"))


@dataclass(frozen=True)
class _Part:
    """The images of one domain: to train on, and to measure on, which may be held out of these."""

    train: tuple[Path, ...]
    validation: tuple[Path, ...]
    held_out: bool = False


@dataclass(frozen=True)
class _Images:
    """Finds the images that can be used, and says what cannot.

    Attributes:
        smallest: the least height and width.
        test: see `read_layout`.
        sizes: height and width of what was found.
    """

    smallest: tuple[int, int]
    value_range: Range | None
    seed: int
    test: bool
    on_notice: Callable[[str], None] | None
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)

    def usable(self, paths: Sequence[Path]) -> list[Path]:
        found = readable_images(
            paths,
            smallest=self.smallest,
            value_range=self.value_range,
            on_skip=self.on_notice,
        )
        self.sizes.update(found)
        return list(found)

    def listed(self, folder: Path) -> list[Path]:
        return list_images(folder, on_notice=self.on_notice)

    def part(self, train: Path, *tests: Path) -> _Part:
        """The images in `train`, and those in the first of `tests` that is there."""
        there = [folder for folder in tests if folder.is_dir()]
        if there and self.test:
            return _Part((), tuple(self.usable(self.listed(there[0]))))
        listed = self.listed(train)
        usable = tuple(self.usable(listed))
        if there:
            return _Part(usable, tuple(self.usable(self.listed(there[0]))))
        return self.split(usable, listed)

    def split(self, usable: tuple[Path, ...], listed: Sequence[Path]) -> _Part:
        """Hold a tenth out; see `_hold_out`."""
        return _Part(*_hold_out(usable, listed, self.seed), held_out=len(usable) > 1)


def _find_images(folder: Path, direction: Direction, images: _Images, *, both: bool) -> Layout:
    """The layout, with a tenth of the training images held out where there are no test images."""
    if has_separate_pairs(folder, test=images.test):
        pairs, train, test = find_separate_pairs(
            folder,
            reverse=direction == "BtoA",
            test=images.test,
            on_notice=images.on_notice,
        )
        tested = tuple(pairs.complete(test, images.usable))
        usable = () if tested and images.test else tuple(pairs.complete(train, images.usable))
        part = _Part(usable, tested) if tested else images.split(usable, train)
        return _layout("paired", part, direction, pairs=pairs)
    if _has_domains(folder):
        a, b = direction[0], direction[-1]
        part = images.part(folder / f"train{a}", folder / f"test{a}")
        places = [folder / f"train{b}", folder / f"test{b}"]
        if not any(place.is_dir() for place in places[: 1 + images.test]):
            return _layout("inputs", part, direction)
        if both or images.test:
            other = images.part(*places)
        else:
            other = _Part(tuple(images.usable(images.listed(places[0]))), ())
        return replace(
            _layout("unpaired", part, direction),
            real=other.train,
            real_validation=other.validation,
            real_held_out=other.held_out,
        )
    if is_paired(folder, test=images.test):
        tests = (folder / name for name in ("test", "val"))
        return _layout("paired", images.part(folder / "train", *tests), direction)
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder; give a folder of images")
    # A plain folder is where all of its test images are, too.
    return _layout("inputs", images.part(folder, *[folder] * images.test), direction)


def _layout(
    kind: Kind, part: _Part, direction: Direction, pairs: SeparatePairs | None = None
) -> Layout:
    return Layout(kind, part.train, (), part.validation, part.held_out, direction, pairs=pairs)


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
    train, selection = _hold_out(layout.train, layout.train, seed)
    layout = replace(layout, train=train, selection=selection)
    if not both:
        return layout
    real, real_selection = _hold_out(layout.real, layout.real, seed)
    return replace(layout, real=real, real_selection=real_selection)


def _hold_out(
    usable: tuple[Path, ...], listed: Sequence[Path], seed: int
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Split off a tenth, at least one image; a single image is in both parts.

    Args:
        listed: these and those that cannot be used. The tenth is one of all, so that what training
            holds out is not trained on wherever smaller images are usable, too.
    """
    if len(usable) == 1:
        return usable, usable
    shuffled = random.Random(seed).sample(listed, len(listed))
    count, good = max(1, round(HELD_OUT * len(listed))), set(usable)
    among = sum(path in good for path in shuffled[:count])
    order = [path for path in shuffled if path in good]
    count = min(max(1, among), len(order) - 1)
    return tuple(sorted(order[count:])), tuple(sorted(order[:count]))


def _holds_both(layout: Layout, folder: Path) -> bool:
    """Whether all images lie in the folders A and B."""
    paths = (*layout.train, *layout.validation)
    return {path.relative_to(folder).parts[0] for path in paths} == {"A", "B"}


def _check_widths(paths: Sequence[Path], sizes: Mapping[Path, tuple[int, int]]) -> None:
    """Make sure that images of two side by side can be cut in halves.

    Raises:
        ImageError: one cannot.
    """
    for path in paths:
        if sizes[path][1] % 2:
            raise ImageError(
                f"{path} is {sizes[path][1]} pixels wide; paired images lie side by side, so the "
                "width must be even"
            )
