"""Colours that the data lacks: copies of calibration images with another hue."""

import dataclasses
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Called
from originals import patchgan_state_dict, resnet_state_dict
from PIL import Image

from wkdc.checkpoints.checkpoint import load_discriminator, load_generator
from wkdc.data.calibration import read_calibration
from wkdc.data.inputs import part_loader
from wkdc.data.jitter import jitter_colours, jitter_pixels
from wkdc.data.layouts import read_layout
from wkdc.errors import OptionError
from wkdc.training.crops import Crops
from wkdc.training.recipe import FAITHFUL

Call = Callable[..., Called]

STEP = 2 / 255
"""One grey level in [-1, 1]."""


class Fixed(random.Random):
    """Draws these numbers, one after the other."""

    def __init__(self, *numbers: float) -> None:
        super().__init__(0)
        self.numbers = list(numbers)

    def uniform(self, a: float, b: float) -> float:
        number = self.numbers.pop(0)
        assert a <= number <= b
        return number


def colour(*levels: int) -> torch.Tensor:
    """One pixel of 0..255, 1x3x1x1 in [-1, 1]."""
    return torch.tensor(levels).view(1, 3, 1, 1) / 127.5 - 1


@pytest.mark.parametrize(
    ("given", "hue", "saturation", "brightness", "expected"),
    [
        ((255, 0, 0), 1 / 3, 1.0, 1.0, (0, 255, 0)),
        ((255, 0, 0), -1 / 3, 1.0, 1.0, (0, 0, 255)),
        ((200, 100, 100), 0.5, 1.0, 1.0, (100, 200, 200)),
        ((80, 120, 160), 0.0, 1.0, 1.25, (100, 150, 200)),
        # Saturation 0.6: six tenths of it and four of its luma, 0.299 R + 0.587 G + 0.114 B.
        ((255, 0, 0), 0.0, 0.6, 1.0, (183.5, 30.5, 30.5)),
        ((240, 240, 240), 0.0, 1.0, 1.25, (255, 255, 255)),
    ],
)
def test_a_colour_turns_into_another(
    given: tuple[int, ...],
    hue: float,
    saturation: float,
    brightness: float,
    expected: tuple[float, ...],
) -> None:
    found = jitter_colours(colour(*given), Fixed(hue, saturation, brightness))
    wanted = torch.tensor(expected).view(1, 3, 1, 1) / 127.5 - 1
    # torchvision's luma has four digits: half a grey level is generous.
    assert (found - wanted).abs().max() < STEP / 2


def test_greys_stay_grey_and_inside_the_range() -> None:
    grey = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(1, 3, 8, 8)
    for seed in range(20):
        found = jitter_colours(grey * 2 - 1, random.Random(seed))
        assert (found.amax(1) - found.amin(1)).max() < 1e-5  # float32 at 1.0
        assert found.abs().max() <= 1


def test_other_channels_have_no_hue() -> None:
    with pytest.raises(ValueError, match="not 1"):
        jitter_colours(torch.zeros(1, 1, 4, 4), random.Random(0))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_pixels_keep_their_type_and_range(dtype: torch.dtype) -> None:
    pixels = torch.tensor([255, 0, 0]).view(3, 1, 1).expand(3, 2, 2).to(dtype)
    found = jitter_pixels(pixels, Fixed(1 / 3, 1.0, 1.0))
    assert found.dtype == dtype
    expected = torch.tensor([0.0, 255.0, 0.0]).view(3, 1, 1).expand(3, 2, 2)
    assert (found.float() - expected).abs().max() < 0.5
    grey = torch.full((3, 2, 2), 90).to(dtype)
    assert torch.equal(jitter_pixels(grey, random.Random(0)), grey)


def test_a_share_of_the_crops_gets_other_colours_and_the_others_stay(folder: Path) -> None:
    layout = read_layout(folder / "photos")
    load = part_loader(layout, 3, 3)

    def crops(jitter: float) -> list[torch.Tensor]:
        made = Crops(layout.train, load, load_size=40, crop=16, seed=0, jitter=jitter)
        return [made.at(i)[0] for i in range(300)]

    plain, half, every = crops(0.0), crops(0.5), crops(1.0)
    coloured = [i for i, crop in enumerate(plain) if crop.float().std(0).max() > 0]
    assert len(coloured) == 200  # one photo of three is grey
    changed = sum(not torch.equal(plain[i], half[i]) for i in coloured)
    # 200 draws of one half: six standard deviations of 7.1 are 42.
    assert abs(changed - 100) < 43
    # A hue that is turned by less than a level changes nothing: one in a hundred, say.
    assert sum(not torch.equal(plain[i], every[i]) for i in coloured) > 190
    assert all(torch.equal(a, b) for a, b in zip(half, crops(0.5), strict=True))


@pytest.mark.parametrize("beside", ["adversarial", "truth", "cycle", "identity"])
def test_true_images_have_their_own_colours(beside: str) -> None:
    assert FAITHFUL.jittered == FAITHFUL.jitter > 0
    more: dict[str, float] = {beside: 1.0}
    assert dataclasses.replace(FAITHFUL, **more).jittered == 0


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(OptionError, match="0 to 1"):
        dataclasses.replace(FAITHFUL, jitter=share)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos, of which the second is grey, and networks that could be shown them."""
    levels = {"trainA/a": (200, 40, 40), "trainA/b": (90, 90, 90), "trainA/c": (20, 40, 200)}
    for name, level in {**levels, "testA/d": (9, 9, 9)}.items():
        file = tmp_path / "photos" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 80), level).save(file)
    torch.save(resnet_state_dict(0, blocks=2, ngf=8), tmp_path / "teacher.pth")
    torch.save(resnet_state_dict(0, blocks=2, ngf=8, in_channels=1), tmp_path / "grey.pth")
    torch.save(patchgan_state_dict(0, ndf=8), tmp_path / "net_D.pth")
    return tmp_path


def test_copies_are_of_coloured_images_alone_and_the_same_each_time(folder: Path) -> None:
    teacher = load_generator(folder / "teacher.pth")
    plain = read_calibration(teacher, folder / "photos", 3)
    first = read_calibration(teacher, folder / "photos", 3, jitter=1)
    again = read_calibration(teacher, folder / "photos", 3, jitter=1)
    other = read_calibration(teacher, folder / "photos", 3, jitter=1, seed=1)
    assert plain.copies == []
    assert len(first.copies) == 2  # of each photo that has a colour
    assert len(read_calibration(teacher, folder / "photos", 3, jitter=0.5).copies) == 1
    for images in (first.images, again.images):
        assert all(torch.equal(a, b) for a, b in zip(images, plain.images, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first.copies, again.copies, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first.copies, other.copies, strict=True))


def test_neither_grey_inputs_nor_discriminators_get_copies(folder: Path) -> None:
    grey = load_generator(folder / "grey.pth")
    assert read_calibration(grey, folder / "photos", 3, jitter=1).copies == []
    judge = load_discriminator(folder / "net_D.pth")
    assert read_calibration(judge, folder / "photos", 3, jitter=1).copies == []


def test_prune_says_what_it_looked_at(call_wkdc: Call, folder: Path) -> None:
    photos, ratio = ("--data", folder / "photos"), ("--ratio", "2")
    called = call_wkdc("prune", folder / "teacher.pth", *ratio, *photos, "--jitter", "1")
    assert called.code == 0, called.stderr
    assert "2 copies in other colours" in " ".join(called.stdout.split())
    as_json = call_wkdc("prune", folder / "teacher.pth", *ratio, *photos, "--jitter", "0", "--json")
    found = json.loads(as_json.stdout)
    assert (found["calibrated_on"], found["jittered"]) == (3, 0)


def test_a_share_of_images_that_is_none(call_wkdc: Call, folder: Path) -> None:
    called = call_wkdc("prune", folder / "teacher.pth", "--ratio", "2", "--jitter", "-1")
    assert called.code == 2
    (error,) = called.errors
    assert "jitter is -1" in error
    assert not Path("student.pth").exists()
