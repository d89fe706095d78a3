"""The crops that are trained on, and the teacher's drawings of them."""

import dataclasses
import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from wkdc.data.images import resize_short_side
from wkdc.data.layouts import Loader


class Crops:
    """An endless, repeatable sequence of random square crops, flipped half of the time.

    Crop `i` depends on `seed` and `i` alone; each run through the images is a new order. The
    parts of one image are cut alike.

    Args:
        load_size: images are resized to this shorter side before they are cut.
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

    A flip or crop of a teacher's image is not the teacher's image of the flip or crop, so the
    teacher always sees the very crop that the student is trained on.

    Attributes:
        parts: uint8 N×C×crop×crop, the inputs, and the truth where the data is paired.
        targets: float16 N×C×crop×crop in [-1, 1].
        features: of the teacher there, float16, of the layers that are compared.
    """

    parts: tuple[Tensor, ...]
    targets: Tensor
    features: tuple[Tensor, ...] = ()

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """All crops of one batch or more, in their order."""
        parts = zip(*(one.parts for one in batches), strict=True)
        features = zip(*(one.features for one in batches), strict=True)
        return cls(
            tuple(torch.cat(part) for part in parts),
            torch.cat([one.targets for one in batches]),
            tuple(torch.cat(layer) for layer in features),
        )

    def split(self, size: int) -> list[Self]:
        """Batches of `size`: copies, as a mere view is sent to a process with all the rest."""
        return [
            dataclasses.replace(
                self,
                parts=tuple(one[at].clone() for one in self.parts),
                targets=self.targets[at].clone(),
                features=tuple(one[at].clone() for one in self.features),
            )
            for at in (slice(n, n + size) for n in range(0, len(self.targets), size))
        ]

    def batch(
        self, start: int, count: int, seed: int
    ) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """Parts (uint8), targets and features (float32); each pass through all is a new order."""
        picked = [shuffled(len(self.targets), i, seed) for i in range(start, start + count)]
        features = tuple(one[picked].float() for one in self.features)
        return tuple(part[picked] for part in self.parts), self.targets[picked].float(), features


def shuffled(total: int, i: int, seed: int) -> int:
    """Entry `i` of an endless sequence in which each stretch of `total` is a new permutation."""
    epoch, place = divmod(i, total)
    return _permutation(total, epoch, seed)[place]


@functools.lru_cache(maxsize=8)
def _permutation(total: int, epoch: int, seed: int) -> tuple[int, ...]:
    return tuple(random.Random(f"epoch {epoch} of {seed}").sample(range(total), total))


class ImagePool:
    """Earlier fakes: half of the time the discriminator sees one of them instead of a new one.

    Source: Shrivastava et al. 2017, as CycleGAN uses it (50 images).
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._images: list[Tensor] = []
        self._random = random.Random(seed)

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from: plain types and tensors."""
        version, numbers, gauss = self._random.getstate()
        return {
            "images": [image.cpu() for image in self._images],
            "random": [version, list(numbers), gauss],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self._images = list(state["images"])
        version, numbers, gauss = state["random"]
        self._random.setstate((version, tuple(numbers), gauss))

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
                out.append(self._images[place].to(image.device))
                self._images[place] = image
            else:
                out.append(image)
        return torch.stack(out)
