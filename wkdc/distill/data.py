"""The pictures of a run: which folder plays which part, and the crops that are trained on."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from wkdc.errors import DatasetError, ImageError
from wkdc.images import list_images, load_pixels, readable_images, resize_short_side

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
        held_out: whether `validation` was taken out of the training pictures.
        direction: which half of a paired picture is the input.
    """

    kind: Kind
    train: tuple[Path, ...]
    real: tuple[Path, ...]
    validation: tuple[Path, ...]
    held_out: bool
    direction: Direction = "AtoB"


def read_layout(
    folder: Path,
    *,
    direction: Direction = "AtoB",
    seed: int = 0,
    smallest: int = 1,
    on_notice: Callable[[str], None] | None = None,
) -> Layout:
    """Find out what a data folder holds and check that every picture decodes.

    Args:
        folder: with `trainA`, with `train` (side by side), or with pictures.
        direction: `AtoB` or `BtoA`; swaps the domains.
        seed: of the choice of held-out pictures.
        smallest: pictures with a shorter side are left out.
        on_notice: called with one sentence for each picture left out.

    Raises:
        DatasetError: none of the three layouts.
        ImageError: no usable picture, or a paired picture of odd width.
    """
    a, b = ("A", "B") if direction == "AtoB" else ("B", "A")

    def usable(part: Path) -> list[Path]:
        return readable_images(list_images(part), smallest=smallest, on_skip=on_notice)

    real: list[Path] = []
    if (folder / "trainA").is_dir() or (folder / "trainB").is_dir():
        kind: Kind = "unpaired"
        train = usable(folder / f"train{a}")
        real = usable(folder / f"train{b}") if (folder / f"train{b}").is_dir() else []
        kind = "unpaired" if real else "inputs"
        tests = [folder / f"test{a}"]
    elif (folder / "train").is_dir():
        kind, train = "paired", usable(folder / "train")
        tests = [folder / "test", folder / "val"]
    elif folder.is_dir():
        kind, train, tests = "inputs", usable(folder), []
    else:
        raise DatasetError(f"{folder} is no folder; give a folder of pictures")
    test = next((part for part in tests if part.is_dir()), None)
    if test is not None:
        validation, held_out = usable(test), False
    else:
        train, validation = _hold_out(train, seed)
        held_out = True
    if kind == "paired":
        for path in [*train, *validation]:
            width = load_pixels(path).shape[-1]
            if width % 2:
                raise ImageError(
                    f"{path} is {width} pixels wide; paired pictures lie side by side, so the "
                    "width must be even"
                )
    return Layout(kind, tuple(train), tuple(real), tuple(validation), held_out, direction)


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


class Crops:
    """An endless, repeatable sequence of random square crops, flipped half of the time.

    Crop `i` depends on `seed` and `i` alone; each run through the pictures is a new order. The
    parts of one picture are cut alike.

    Args:
        load_size: pictures are resized to this shorter side before they are cut.
        crop: side of the squares in pixels, at most `load_size`.
    """

    def __init__(
        self, paths: Sequence[Path], load: Loader, *, load_size: int, crop: int, seed: int
    ) -> None:
        self._paths = paths
        self._load = load
        self._load_size = load_size
        self._crop = crop
        self._seed = seed

    def at(self, i: int) -> tuple[Tensor, ...]:
        """Crop `i`: uint8 C×crop×crop for each part."""
        path = self._paths[shuffled(len(self._paths), i, self._seed)]
        parts = [resize_short_side(part, self._load_size) for part in self._load(path)]
        draw = random.Random(f"crop {i} of {self._seed}")
        height, width = parts[0].shape[-2:]
        top, left = draw.randint(0, height - self._crop), draw.randint(0, width - self._crop)
        flip = draw.random() < 0.5
        cut = [part[:, top : top + self._crop, left : left + self._crop] for part in parts]
        return tuple(part.flip(-1) if flip else part for part in cut)

    def batch(self, start: int, count: int) -> tuple[Tensor, ...]:
        """Crops `start` to `start + count`: uint8 `count`×C×crop×crop for each part."""
        crops = [self.at(i) for i in range(start, start + count)]
        return tuple(torch.stack(part) for part in zip(*crops, strict=True))


@dataclass(frozen=True)
class Drawings:
    """Crops and what the teacher draws from them, computed once and used several times.

    A flip or crop of a teacher's picture is not the teacher's picture of the flip or crop, so the
    teacher always sees the very crop that the student is trained on.

    Attributes:
        parts: uint8 N×C×crop×crop, the inputs, and the truth where the data is paired.
        targets: float16 N×C×crop×crop in [-1, 1].
    """

    parts: tuple[Tensor, ...]
    targets: Tensor

    def batch(self, start: int, count: int, seed: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Parts (uint8) and targets (float32); each pass through all is a new order."""
        picked = [shuffled(len(self.targets), i, seed) for i in range(start, start + count)]
        return tuple(part[picked] for part in self.parts), self.targets[picked].float()


def shuffled(total: int, i: int, seed: int) -> int:
    """Entry `i` of an endless sequence in which each stretch of `total` is a new permutation."""
    epoch, place = divmod(i, total)
    return _permutation(total, epoch, seed)[place]


@functools.lru_cache(maxsize=8)
def _permutation(total: int, epoch: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(f"epoch {epoch} of {seed}").sample(range(total), total))


class ImagePool:
    """Earlier fakes: half of the time the discriminator sees one of them instead of a new one.

    Source: Shrivastava et al. 2017, as CycleGAN uses it (50 pictures).
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._images: list[Tensor] = []
        self._random = random.Random(seed)

    def exchange(self, images: Tensor) -> Tensor:
        """N×C×H×W fakes in, as many out; some out of earlier calls."""
        if self._size == 0:
            return images
        out = []
        for image in images:
            if len(self._images) < self._size:
                self._images.append(image)
                out.append(image)
            elif self._random.random() < 0.5:
                place = self._random.randrange(self._size)
                out.append(self._images[place])
                self._images[place] = image
            else:
                out.append(image)
        return torch.stack(out)
