"""Tiles join without a trace where a network looks only so far, and share one image's norm."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Called
from originals import resnet_state_dict, unet_state_dict
from PIL import Image
from torch import nn

from wkdc.data.images import load_pixels, resize_short_side
from wkdc.data.photos import photo_paths
from wkdc.errors import OptionError
from wkdc.inference.model import ImageModel, open_model
from wkdc.inference.tiles import Tiling, resolve_tiling, tiled_translator, translate_whole
from wkdc.networks.pooled_norm import PooledNorm, pool_norms

Call = Callable[..., Called]

PHOTO = photo_paths()[-1]  # the largest, 1024x683


def psnr(left: torch.Tensor, right: torch.Tensor) -> float:
    error = float(((left.double() - right) ** 2).mean())
    return 10 * float(np.log10(255**2 / max(error, 1e-9)))


def copying(multiple: int) -> ImageModel:
    """What translates the image itself, so that only the joints can be seen."""
    return ImageModel(Path("copy.pth"), "", lambda images: images, 3, 3, multiple, multiple)


# --- How tiles join ----------------------------------------------------------------------------


@pytest.mark.parametrize("tiling", [(16, 0), (16, 4), (16, 8), (64, 16), (128, 64)], ids=str)
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (16, 17), (33, 15), (67, 130), (128, 129)])
def test_every_pixel_is_translated_once(size: tuple[int, int], tiling: tuple[int, int]) -> None:
    pixels = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    assert torch.equal(tiled_translator(copying(4), Tiling(*tiling))(pixels), pixels)


def test_no_tile_is_larger_than_asked_nor_off_the_grid() -> None:
    seen: list[torch.Size] = []

    def look(images: torch.Tensor) -> torch.Tensor:
        seen.append(images.shape)
        return images

    model = replace(copying(4), run=look)
    tiled_translator(model, Tiling(32, 8))(torch.zeros(3, 67, 90, dtype=torch.uint8))
    # 67 rows in steps of at most 24: 3 tiles; 90 columns: 4. The last ones are padded to 4.
    assert seen == [torch.Size((1, 3, 32, 32))] * 12


def test_no_seam_where_the_network_looks_only_so_far(tmp_path: Path) -> None:
    """With batch norm. Two blocks look 32 pixels far: a quarter of the overlap, which is cut."""
    torch.save(resnet_state_dict(6, blocks=2, ngf=4, norm="batch"), tmp_path / "batch.pth")
    model = open_model(tmp_path / "batch.pth")
    pixels = resize_short_side(load_pixels(PHOTO), 301)
    whole = translate_whole(model, pixels)
    joined = tiled_translator(model, Tiling(256, 128))(pixels)
    # Two ways to the same sum may fall on either side of a half before they are rounded.
    assert (whole.int() - joined).abs().max() <= 1
    apart = tiled_translator(model, Tiling(256, 0))(pixels)
    assert (whole.int() - apart).abs().max() > 10


# --- One norm for all tiles --------------------------------------------------------------------


def test_pieces_are_normalised_as_the_whole() -> None:
    whole = torch.randn(1, 5, 24, 36) * torch.rand(5, 1, 1) + torch.randn(5, 1, 36)
    norm = nn.InstanceNorm2d(5, affine=True)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    pooled = PooledNorm(norm)
    pieces = torch.cat([piece for row in whole.split(12, 2) for piece in row.split(12, 3)])
    expected = norm(whole)
    expected = torch.cat([piece for row in expected.split(12, 2) for piece in row.split(12, 3)])
    # float32 sums of 864 values in another order
    torch.testing.assert_close(pooled(pieces), expected, atol=1e-5, rtol=1e-5)
    pooled.learning = False
    torch.testing.assert_close(pooled(pieces[:1]), expected[:1], atol=1e-5, rtol=1e-5)


def test_only_norms_of_the_image_at_hand_are_replaced() -> None:
    network = nn.Sequential(
        nn.InstanceNorm2d(3),
        nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, affine=True)),
        nn.InstanceNorm2d(3, track_running_stats=True),
    )
    assert len(pool_norms(network)) == 2
    assert isinstance(network[2], nn.InstanceNorm2d)


def test_statistics_of_the_image_bring_tiles_nearer(teacher: Path) -> None:
    model = open_model(teacher)
    pixels = resize_short_side(load_pixels(PHOTO), 341)
    whole = translate_whole(model, pixels)
    near, far = (
        psnr(tiled_translator(model, Tiling(128, 16, statistics))(pixels), whole)
        for statistics in ("picture", "tile")
    )
    # 6 dB: half the error. A bright sky and dark trees are no alike tiles.
    assert near > far + 6
    # The statistics of one image are not those of the next.
    translate = tiled_translator(model, Tiling(128, 16))
    translate(255 - pixels)
    assert torch.equal(translate(pixels), tiled_translator(model, Tiling(128, 16))(pixels))


# --- What is asked for -------------------------------------------------------------------------


def test_a_unet_takes_tiles_of_its_own_multiples(tmp_path: Path) -> None:
    torch.save(unet_state_dict(8, downs=5, ngf=4), tmp_path / "unet.pth")
    model = open_model(tmp_path / "unet.pth")
    for tiling in (Tiling(48, 0), Tiling(0, 0), Tiling(64, 16), Tiling(64, 64), Tiling(64, -32)):
        with pytest.raises(OptionError, match=r"unet\.pth.*multiple of 32"):
            resolve_tiling(model, tiling)
    pixels = resize_short_side(load_pixels(PHOTO), 100)
    assert tiled_translator(model, Tiling(64, 32))(pixels).shape == pixels.shape


def test_what_is_left_open(onnx_student: Path, student: Path) -> None:
    assert resolve_tiling(open_model(student), Tiling(64, 16)).statistics == "picture"
    assert resolve_tiling(open_model(onnx_student), Tiling(64, 16)).statistics == "tile"
    with pytest.raises(OptionError, match=r"student\.onnx.*\.pth.*--statistics tile"):
        resolve_tiling(open_model(onnx_student), Tiling(64, 16, "picture"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tile", "30"), "multiple of 4"),
        (("--tile", "0"), "from 8 on"),
        (("--tile", "64", "--overlap", "33"), "up to 32"),
        (("--overlap", "64"), "--tile 512"),
        (("--statistics", "tile"), "--tile 512"),
        (("--tile", "64", "--statistics", "none"), "statistics"),
    ],
)
def test_tiles_that_are_none(
    call_wkdc: Call, teacher: Path, photos: Path, arguments: tuple[str, ...], said: str
) -> None:
    called = call_wkdc("translate", teacher, photos, "-o", "out", *arguments)
    assert called.code == 2
    assert said in called.errors[0]
    assert not (photos.parent / "out").exists()


@pytest.mark.parametrize("model", ["teacher.pth", "student.onnx"])
def test_very_wide_and_very_small_images(
    call_wkdc: Call, onnx_student: Path, tmp_path: Path, model: str
) -> None:
    with Image.open(PHOTO) as photo:
        photo.convert("RGB").resize((10_000, 24)).save(tmp_path / "wide.png")
        photo.convert("RGB").resize((1, 1)).save(tmp_path / "dot.png")
    for n, options in enumerate([(), ("--tile", 256, "--overlap", 32)]):
        called = call_wkdc("translate", model, "wide.png", "dot.png", "-o", n, "--json", *options)
        assert (called.code, called.errors) == (0, [])
        tiling = json.loads(called.stdout)["tiling"]
        statistics = "tile" if model.endswith(".onnx") else "picture"
        wanted = {"tile": 256, "overlap": 32, "statistics": statistics} if options else None
        assert tiling == wanted
        sizes = [Image.open(tmp_path / str(n) / f"{name}.png").size for name in ("wide", "dot")]
        assert sizes == [(10_000, 24), (1, 1)]


LITTLE_MEMORY = """
import resource, sys
import psutil
from wkdc.cli import main
import wkdc.inference.model, wkdc.translate
limit = psutil.Process().memory_info().vms + 3 * 2**28
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main(sys.argv[1:])
"""


def test_an_image_beyond_the_memory_is_reported(
    teacher: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """768 MiB beside the libraries; the output of one layer of 4 channels alone is 240 MB."""
    Image.new("RGB", (5000, 3000), "gray").save(tmp_path / "large.png")
    called = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, "translate", teacher, "large.png", "-o", "out"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert called.returncode == 1
    (error,) = [line for line in called.stderr.splitlines() if line.startswith("wkdc:")]
    assert "large.png is 5000x3000, too large for the memory" in error
    assert "--tile 512" in error
