"""Which pictures of a data folder play which part, and how each is read."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from torch import Tensor

from wkdc.errors import DatasetError, ImageError
from wkdc.images import list_images, load_pixels, readable_images

Kind = Literal["unpaired", "paired", "inputs"]
Direction = Literal["AtoB", "BtoA"]

HELD_OUT = 0.1
"""Share of the pictures set aside for measuring where the data brings no test set."""


@dataclass(frozen=True)
class Layout:
    """Which pictures play which part.

    Attributes:
        kind: `unpaired` (trainA, trainB), `paired` (both side by side in one picture), or `inputs`
            (a plain folder; the teacher's pictures stand for the target domain).
        train: inputs to train on; `real` pictures of the target domain, for `unpaired`.
        validation: inputs never trained on.
        held_out: whether `validation` was taken out of the training pictures; `real_held_out`
            whether `real_validation` was.
        direction: which half of a paired picture is the input.
        real_validation: pictures of the target domain that are never trained on, where asked for.
        selection: inputs by which a student is picked, where asked for; neither trained nor
            measured on. `real_selection` of the target domain.
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

    def reversed(self) -> Self:
        """The same unpaired pictures for the other direction."""
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
    """Find out what a data folder holds and check that every picture can be used.

    Args:
        folder: with `trainA`, with `train` (side by side), or with pictures.
        direction: `AtoB` or `BtoA`; swaps the domains.
        seed: of the choice of held-out pictures.
        smallest: pictures with a shorter side are left out; of paired ones, each half counts.
        both: whether the other direction is trained too, so that pictures of both domains have to
            be kept for measuring.
        select: whether pictures are set aside to pick a student by.
        on_notice: called with one sentence for each picture left out.

    Raises:
        DatasetError: none of the three layouts, or `both` without pictures of both domains.
        ImageError: no usable picture, or a paired picture of odd width.
    """
    a, b = ("A", "B") if direction == "AtoB" else ("B", "A")
    domains = (folder / "trainA").is_dir() or (folder / "trainB").is_dir()
    paired = is_paired(folder)
    least = (smallest, 2 * smallest if paired else smallest)

    def usable(part: Path) -> list[Path]:
        return readable_images(list_images(part), smallest=least, on_skip=on_notice)

    kind: Kind
    real: list[Path] = []
    if domains:
        train = usable(folder / f"train{a}")
        real = usable(folder / f"train{b}") if (folder / f"train{b}").is_dir() else []
        kind = "unpaired" if real else "inputs"
        tests = [folder / f"test{a}"]
    elif paired:
        kind, train = "paired", usable(folder / "train")
        tests = [folder / "test", folder / "val"]
    elif folder.is_dir():
        kind, train, tests = "inputs", usable(folder), []
    else:
        raise DatasetError(f"{folder} is no folder; give a folder of pictures")
    if both and kind != "unpaired":
        raise DatasetError(
            f"{folder} has no pictures of both domains, which two directions need; give a folder "
            "with trainA and trainB"
        )
    test = next((part for part in tests if part.is_dir()), None)
    held_out = test is None
    if test is not None:
        validation = usable(test)
    else:
        train, validation = _hold_out(train, seed)
    real_validation: list[Path] = []
    real_held_out = both and not (folder / f"test{b}").is_dir()
    if real_held_out:
        real, real_validation = _hold_out(real, seed)
    elif both:
        real_validation = usable(folder / f"test{b}")
    selection: list[Path] = []
    real_selection: list[Path] = []
    if select:
        for pictures in (train, real) if both else (train,):
            if len(pictures) < 2 or set(pictures) & {*validation, *real_validation}:
                raise DatasetError(
                    f"{folder} has too few pictures to set some aside for --select best; give more"
                )
        train, selection = _hold_out(train, seed)
    if select and both:
        real, real_selection = _hold_out(real, seed)
    if kind == "paired":
        for path in [*train, *validation, *selection]:
            width = load_pixels(path).shape[-1]
            if width % 2:
                raise ImageError(
                    f"{path} is {width} pixels wide; paired pictures lie side by side, so the "
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
    )


def is_paired(folder: Path) -> bool:
    """Whether pictures in `folder` hold an input and its target side by side."""
    domains = (folder / "trainA").is_dir() or (folder / "trainB").is_dir()
    return not domains and (folder / "train").is_dir()


def _hold_out(paths: list[Path], seed: int) -> tuple[list[Path], list[Path]]:
    """Split off a tenth, at least one picture; a single picture is both."""
    if len(paths) == 1:
        return paths, paths
    shuffled = random.Random(seed).sample(paths, len(paths))
    count = max(1, round(HELD_OUT * len(paths)))
    return sorted(shuffled[count:]), sorted(shuffled[:count])


Loader = Callable[[Path], tuple[Tensor, ...]]
"""A picture's file -> its parts, uint8 C×H×W each: the input, and the truth where it is paired."""


def part_loader(layout: Layout, in_channels: int, out_channels: int) -> Loader:
    """The loader for the inputs of `layout`."""
    if layout.kind != "paired":
        return lambda path: (load_pixels(path, channels=in_channels),)

    def load_halves(path: Path) -> tuple[Tensor, Tensor]:
        given, wanted = (load_pixels(path, channels=n) for n in (in_channels, out_channels))
        middle = given.shape[-1] // 2
        if layout.direction == "AtoB":
            return given[..., :middle], wanted[..., middle:]
        return given[..., middle:], wanted[..., :middle]

    return load_halves
