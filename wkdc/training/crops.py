"""The crops that are trained on, and the pool of earlier fakes."""

import functools
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wkdc.data.images import resize_short_side
from wkdc.data.inputs import Loader
from wkdc.data.jitter import jitter_pixels


class Crops:
    """An endless, repeatable sequence of random square crops, flipped half of the time.

    Crop `i` depends on `seed` and `i` alone; each run through the images is a new order. The
    parts of one image are cut alike.

    Args:
        load_size: images are resized to this shorter side before they are cut.
        crop: side of the squares in pixels, at most `load_size`.
        jitter: share of the crops whose first part, an image, gets other colours.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        load: Loader,
        *,
        load_size: int,
        crop: int,
        seed: int,
        jitter: float = 0.0,
    ) -> None:
        self._paths = paths
        self._load = load
        self._load_size = load_size
        self._crop = crop
        self._seed = seed
        self._jitter = jitter

    def at(self, i: int) -> tuple[Tensor, ...]:
        """Crop `i`: C×crop×crop for each part, of the type that `load` gives."""
        path = self._paths[shuffled(len(self._paths), i, self._seed)]
        parts = [resize_short_side(part, self._load_size) for part in self._load(path)]
        rng = random.Random(f"crop {i} of {self._seed}")
        height, width = parts[0].shape[-2:]
        top, left = rng.randint(0, height - self._crop), rng.randint(0, width - self._crop)
        flip = rng.random() < 0.5
        cut = [part[:, top : top + self._crop, left : left + self._crop] for part in parts]
        cut = [part.flip(-1) if flip else part for part in cut]
        if rng.random() < self._jitter:
            cut[0] = jitter_pixels(cut[0], rng)
        return tuple(cut)

    def batch(self, start: int, count: int) -> tuple[Tensor, ...]:
        """Crops `start` to `start + count`: `count`×C×crop×crop for each part."""
        crops = [self.at(i) for i in range(start, start + count)]
        return tuple(torch.stack(part) for part in zip(*crops, strict=True))


def shuffled(total: int, i: int, seed: int) -> int:
    """Entry `i` of an endless sequence in which each stretch of `total` is a new permutation."""
    epoch, index = divmod(i, total)
    return _permutation(total, epoch, seed)[index]


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
                self._images.append(image.clone())  # not a view, which keeps its whole batch
                out.append(image)
            elif self._random.random() < 0.5:
                index = self._random.randrange(self._size)
                out.append(self._images[index].to(image.device))
                self._images[index] = image.clone()
            else:
                out.append(image)
        return torch.stack(out)
