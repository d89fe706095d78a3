"""In which form copies of images teach a student colours that the images lack.

    python tests/benchmarks/colours.py --teacher teacher.pth --data FOLDER --outside OTHERS

Each form takes the place of `wkdc.data.jitter` in the copies that `prune` looks at, of FOLDER.
Measured, to the teacher's images, on OTHERS, and on the same with their channels rotated: red shown
as green, green as blue, blue as red. Rows go to a JSON file in --output as they are made, so that a
run that was stopped goes on where it was.
"""

import argparse
import contextlib
import itertools
import json
import random
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pruning import measure
from torch import Tensor
from torchvision.transforms.v2 import functional

import wkdc
from wkdc.data.calibration import JITTER
from wkdc.data.images import load_square
from wkdc.data.jitter import jitter_colours

PATCHES = 6
"""Rectangles of one colour that are drawn into an image."""

Form = Callable[[Tensor, random.Random], Tensor]
"""An image, ...x3xHxW in [-1, 1], and what draws; an image of the same size."""


def vivid(image: Tensor, rng: random.Random) -> Tensor:
    """Hue likewise, and saturation from none to three times as much."""
    found = functional.adjust_hue((image + 1) / 2, rng.uniform(-0.5, 0.5))
    return functional.adjust_saturation(found, rng.uniform(0, 3)) * 2 - 1


def contrast(image: Tensor, rng: random.Random) -> Tensor:
    found = (jitter_colours(image, rng) + 1) / 2
    return functional.adjust_contrast(found, rng.uniform(0.5, 1.5)) * 2 - 1


def permuted(image: Tensor, rng: random.Random) -> Tensor:
    """Channels in another order: one of the other five."""
    return image[..., rng.choice(list(itertools.permutations(range(3)))[1:]), :, :]


def inverted(image: Tensor, rng: random.Random) -> Tensor:
    """Channels in another order, each inverted or not."""
    signs = torch.tensor([rng.choice((-1.0, 1.0)) for _ in range(3)])
    return permuted(image, rng) * signs[:, None, None]


def gamma(image: Tensor, rng: random.Random) -> Tensor:
    """Another gamma for each channel, from a half to 2, in another order."""
    powers = torch.tensor([2 ** rng.uniform(-1, 1) for _ in range(3)])
    return ((permuted(image, rng) + 1) / 2) ** powers[:, None, None] * 2 - 1


def patches(image: Tensor, rng: random.Random) -> Tensor:
    """Jittered, with rectangles of one colour each."""
    found = jitter_colours(image, rng)
    height, width = image.shape[-2:]
    for _ in range(PATCHES):
        tall, wide = rng.randint(8, height // 3), rng.randint(8, width // 3)
        top, left = rng.randint(0, height - tall), rng.randint(0, width - wide)
        colour = torch.tensor([rng.uniform(-1, 1) for _ in range(3)])
        found[..., top : top + tall, left : left + wide] = colour[:, None, None]
    return found


def noise(image: Tensor, rng: random.Random) -> Tensor:
    """Jittered, with noise of up to a tenth of the range."""
    draws = torch.Generator().manual_seed(rng.getrandbits(32))
    added = torch.randn(image.shape, generator=draws) * rng.uniform(0, 0.2)
    return (jitter_colours(image, rng) + added).clamp(-1, 1)


def zoomed(image: Tensor, rng: random.Random) -> Tensor:
    """Jittered, a part of half to all of the side enlarged."""
    side = image.shape[-1]
    part = int(side * rng.uniform(0.5, 1))
    top, left = (rng.randint(0, side - part) for _ in range(2))
    found = functional.resized_crop(
        jitter_colours(image, rng).reshape(1, *image.shape[-3:]), top, left, part, part, [side] * 2
    )
    return found.reshape(image.shape)


class Blended:
    """Jittered, then mixed with the jittered image before it, by a quarter to three quarters."""

    def __init__(self) -> None:
        self._before: Tensor | None = None

    def __call__(self, image: Tensor, rng: random.Random) -> Tensor:
        found = jitter_colours(image, rng)
        before, self._before = self._before, found
        if before is None:
            return found
        return torch.lerp(found, before, rng.uniform(0.25, 0.75))


FORMS: dict[str, Form] = {
    "jitter": jitter_colours,
    "vivid": vivid,
    "contrast": contrast,
    "permuted": permuted,
    "inverted": inverted,
    "gamma": gamma,
    "patches": patches,
    "noise": noise,
    "zoomed": zoomed,
}


NAMES = ("none", *FORMS, "blended")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("forms", nargs="*", help=f"of {', '.join(NAMES)}; all if left out")
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--outside", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("colours"))
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    if unknown := set(options.forms) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: no such form; give {', '.join(NAMES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    table = options.output / "colours.json"
    rows: dict[str, Any] = json.loads(table.read_text()) if table.exists() else {}
    for seed, name in itertools.product(range(options.seeds), options.forms or NAMES):
        key = f"{name}, seed {seed}"
        if key not in rows:
            path = options.output / f"{key}.pth"
            with in_form(name):
                wkdc.prune(
                    options.teacher,
                    ratio=7,
                    output=path,
                    data=options.data,
                    seed=seed,
                    jitter=0.0 if name == "none" else JITTER,
                )
            rows[key] = measure_twice(options, path)
            table.write_text(json.dumps(rows, indent=1))
            print(key, json.dumps(rows[key]), flush=True)
    print_table(rows)


@contextlib.contextmanager
def in_form(name: str) -> Iterator[None]:
    """While it lasts, images are copied in this form."""
    form = Blended() if name == "blended" else FORMS["jitter" if name == "none" else name]
    with mock.patch("wkdc.data.calibration.jitter_colours", form):
        yield


def measure_twice(options: argparse.Namespace, path: Path) -> dict[str, float]:
    """PSNR and high-band error on the other images, as they are and with channels rotated."""
    images = [load_square(file, 256) for file in sorted(options.outside.iterdir())]
    rotated = measure(options.teacher, path, [image[:, (2, 0, 1)] for image in images])
    return measure(options.teacher, path, images) | {
        f"rotated_{score}": value for score, value in rotated.items()
    }


def print_table(rows: dict[str, Any]) -> None:
    """Means over seeds, and largest less smallest PSNR, as Markdown."""
    groups: dict[str, list[dict[str, float]]] = {}
    for key, row in rows.items():
        groups.setdefault(key.split(", seed ")[0], []).append(row)
    print("| form | seeds | as they are | channels rotated |\n|---|---|---|---|")
    for name, found in groups.items():
        cells = [f"{name} | {len(found)}"]
        for kind in ("", "rotated_"):
            psnr = [row[f"{kind}psnr_db"] for row in found]
            error = statistics.mean(row[f"{kind}high_band_error"] for row in found)
            spread = max(psnr) - min(psnr)
            cells.append(f"{statistics.mean(psnr):.1f} dB ({spread:.1f}), {error:.3f}")
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
