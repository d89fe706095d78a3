"""Which images of a data folder play which part, and how each is read."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from torch import Tensor

from wkdc.data.images import list_images, load_pixels, readable_images
from wkdc.data.label_maps import check_labels, load_maps
from wkdc.errors import DatasetError, ImageError

Kind = Literal["unpaired", "paired", "inputs"]
Direction = Literal["AtoB", "BtoA"]

HELD_OUT = 0.1
"""Share of the images set aside for measuring where the data brings no test set."""


@dataclass(frozen=True)
class Apart:
    """Pairs whose parts lie in folders of their own, as pix2pixHD has them.

    Attributes:
        labels: whether the inputs are label maps (`train_label`), not images (`train_A`).
        targets: the true image of every input.
        instances: the map of instances of every label map; empty where there are none.
    """

    labels: bool
    targets: Mapping[Path, Path]
    instances: Mapping[Path, Path]

    def parts_of(self, path: Path) -> list[Path]:
        """The other files that belong to an input."""
        found = (self.targets.get(path), self.instances.get(path))
        return [part for part in found if part is not None]


@dataclass(frozen=True)
class Layout:
    """Which images play which part.

    Attributes:
        kind: `unpaired` (trainA, trainB), `paired` (both side by side in one image, or `apart`),
            or `inputs` (a plain folder; the teacher's images stand for the target domain).
        train: inputs to train on; `real` images of the target domain, for `unpaired`.
        validation: inputs never trained on.
        held_out: whether `validation` was taken out of the training images; `real_held_out`
            whether `real_validation` was.
        direction: which half of a paired image is the input.
        real_validation: images of the target domain that are never trained on, where asked for.
        selection: inputs by which a student is picked, where asked for; neither trained nor
            measured on. `real_selection` of the target domain.
        apart: the files that go with those of `train`, `validation` and `selection`, where pairs
            lie in folders of their own.
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
    apart: Apart | None = None

    @property
    def labels(self) -> bool:
        """Whether inputs are label maps."""
        return self.apart is not None and self.apart.labels

    def parts(self, paths: Sequence[Path]) -> list[Path]:
        """`paths`, each followed by the other files that belong to it."""
        if self.apart is None:
            return list(paths)
        return [part for path in paths for part in (path, *self.apart.parts_of(path))]

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
    folder: Path,
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
        folder: with `trainA`; with `train` (side by side); with `train_label` and `train_img`, or
            `train_A` and `train_B`, where the n-th files of both belong together; or with images.
        direction: `AtoB` or `BtoA`; swaps the domains.
        seed: of the choice of held-out images.
        smallest: images with a shorter side are left out; of paired ones, each half counts.
        both: whether the other direction is trained too, so that images of both domains have to
            be kept for measuring.
        select: whether images are set aside to pick a student by.
        on_notice: called with one sentence for each image left out.

    Raises:
        DatasetError: none of these layouts, `both` without images of both domains, or parts of
            pairs that do not belong together.
        ImageError: no usable image, or a paired image of odd width.
    """
    a, b = ("A", "B") if direction == "AtoB" else ("B", "A")
    domains = (folder / "trainA").is_dir() or (folder / "trainB").is_dir()
    paired = is_paired(folder)
    least = (smallest, 2 * smallest if paired else smallest)

    def usable(paths: Sequence[Path]) -> list[Path]:
        return readable_images(paths, smallest=least, on_skip=on_notice)

    kind: Kind
    real: list[Path] = []
    apart, test = None, list[Path]()
    if is_apart(folder):
        kind, (apart, train, test) = "paired", _find_apart(folder, direction)
        train, test = (_whole(paths, apart, usable) for paths in (train, test))
        tests = []
    elif domains:
        train = usable(list_images(folder / f"train{a}"))
        real = usable(list_images(folder / f"train{b}")) if (folder / f"train{b}").is_dir() else []
        kind = "unpaired" if real else "inputs"
        tests = [folder / f"test{a}"]
    elif paired:
        kind, train = "paired", usable(list_images(folder / "train"))
        tests = [folder / "test", folder / "val"]
    elif folder.is_dir():
        kind, train, tests = "inputs", usable(list_images(folder)), []
    else:
        raise DatasetError(f"{folder} is no folder; give a folder of images")
    if both and kind != "unpaired":
        raise DatasetError(
            f"{folder} has no images of both domains, which two directions need; give a folder "
            "with trainA and trainB"
        )
    there = next((part for part in tests if part.is_dir()), None)
    if there is not None:
        test = usable(list_images(there))
    held_out = not test
    if held_out:
        train, validation = _hold_out(train, seed)
    else:
        validation = test
    real_validation: list[Path] = []
    real_held_out = both and not (folder / f"test{b}").is_dir()
    if real_held_out:
        real, real_validation = _hold_out(real, seed)
    elif both:
        real_validation = usable(list_images(folder / f"test{b}"))
    selection: list[Path] = []
    real_selection: list[Path] = []
    if select:
        for pictures in (train, real) if both else (train,):
            if len(pictures) < 2 or set(pictures) & {*validation, *real_validation}:
                raise DatasetError(
                    f"{folder} has too few images to set some aside for --select best; give more"
                )
        train, selection = _hold_out(train, seed)
    if select and both:
        real, real_selection = _hold_out(real, seed)
    if kind == "paired" and apart is None:
        for path in [*train, *validation, *selection]:
            width = load_pixels(path).shape[-1]
            if width % 2:
                raise ImageError(
                    f"{path} is {width} pixels wide; paired images lie side by side, so the "
                    "width must be even"
                )
    return Layout(
        kind,
        tuple(train),
        tuple(real),
        tuple(validation),
        held_out,
        direction,
        tuple(real_validation),
        tuple(selection),
        tuple(real_selection),
        real_held_out,
        apart,
    )


def is_paired(folder: Path) -> bool:
    """Whether images in `folder` hold an input and its target side by side."""
    domains = (folder / "trainA").is_dir() or (folder / "trainB").is_dir()
    return not domains and (folder / "train").is_dir()


def is_apart(folder: Path) -> bool:
    """Whether pairs in `folder` lie in folders of their own: `train_label`, or `train_A`."""
    return (folder / "train_label").is_dir() or (folder / "train_A").is_dir()


def _find_apart(folder: Path, direction: Direction) -> tuple[Apart, list[Path], list[Path]]:
    """What goes with what, the training inputs, and those for testing, where all parts are there.

    Raises:
        DatasetError: the parts do not belong together, or label maps are to be drawn.
        ImageError: a folder is missing or holds no images.
    """
    labels = (folder / "train_label").is_dir()
    given, wanted = ("label", "img") if labels else ("A", "B")
    if direction == "BtoA":
        if labels:
            raise DatasetError(
                f"direction BtoA would draw the label maps of {folder}, which are inputs alone; "
                "leave --direction out"
            )
        given, wanted = wanted, given
    marked = labels and (folder / "train_inst").is_dir()
    targets: dict[Path, Path] = {}
    instances: dict[Path, Path] = {}
    inputs: dict[str, list[Path]] = {"train": [], "test": []}
    for phase, paths in inputs.items():
        parts = [folder / f"{phase}_{part}" for part in (given, wanted, *["inst"] * marked)]
        if phase == "test" and not all(part.is_dir() for part in parts):
            continue
        paths += list_images(parts[0])
        targets |= match_files(paths, parts[1])
        if marked:
            instances |= match_files(paths, parts[2])
    return Apart(labels, targets, instances), inputs["train"], inputs["test"]


def match_files(paths: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """The image in `folder` that belongs to each of `paths`: the n-th to the n-th, by name.

    Raises:
        DatasetError: there are not as many, or some have names in common and others do not.
        ImageError: `folder` is missing or holds no images.
    """
    others = list_images(folder)
    if len(others) != len(paths):
        raise DatasetError(
            f"{paths[0].parent} holds {len(paths)} images and {folder} {len(others)}; the n-th "
            "of both belong together, so there have to be as many"
        )
    ours, theirs = ({path.stem for path in some} for some in (paths, others))
    if ours & theirs and ours != theirs:
        raise DatasetError(
            f"{folder} has nothing for {paths[0].parent}/{min(ours - theirs)}.*, though others "
            "share their names; give both the same name"
        )
    return dict(zip(paths, others, strict=True))


def _whole(
    paths: Sequence[Path], apart: Apart, usable: Callable[[Sequence[Path]], list[Path]]
) -> list[Path]:
    """Those of `paths` of which every part is `usable`.

    Raises:
        ImageError: there are `paths`, but none of them.
    """
    if not paths:
        return []
    good = set(usable([part for path in paths for part in (path, *apart.parts_of(path))]))
    whole = [path for path in paths if good.issuperset((path, *apart.parts_of(path)))]
    if not whole:
        raise ImageError(f"none of {len(paths)} inputs in {paths[0].parent} has all its parts")
    return whole


def _hold_out(paths: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    """Split off a tenth, at least one image; a single image is both."""
    if len(paths) == 1:
        return paths, paths
    shuffled = random.Random(seed).sample(paths, len(paths))
    count = max(1, round(HELD_OUT * len(paths)))
    return sorted(shuffled[count:]), sorted(shuffled[:count])


Loader = Callable[[Path], tuple[Tensor, ...]]
"""An input's file -> its parts, uint8 C×H×W each: the input, and the truth where it is paired.

Label maps are int32 P×H×W, see `wkdc.data.label_maps`.
"""


def part_loader(layout: Layout, in_channels: int, out_channels: int) -> Loader:
    """The loader for the inputs of `layout`."""
    apart = layout.apart
    if apart is not None:

        def load_apart(path: Path) -> tuple[Tensor, Tensor]:
            target = load_pixels(apart.targets[path], channels=out_channels)
            if apart.labels:
                given = load_maps(path, apart.instances.get(path))
                check_labels(path, given, in_channels)
            else:
                given = load_pixels(path, channels=in_channels)
            if given.shape[-2:] != target.shape[-2:]:
                (height, width), (high, wide) = given.shape[-2:], target.shape[-2:]
                raise ImageError(
                    f"{path} is {width}x{height}, its image {apart.targets[path]} {wide}x{high}; "
                    "they have to lie on each other"
                )
            return given, target

        return load_apart
    if layout.kind != "paired":
        return lambda path: (load_pixels(path, channels=in_channels),)

    def load_halves(path: Path) -> tuple[Tensor, Tensor]:
        given, wanted = (load_pixels(path, channels=n) for n in (in_channels, out_channels))
        middle = given.shape[-1] // 2
        if layout.direction == "AtoB":
            return given[..., :middle], wanted[..., middle:]
        return given[..., middle:], wanted[..., :middle]

    return load_halves
