"""The wavelet transform against PyWavelets, and what any orthonormal transform must keep."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wkdc.errors import OptionError
from wkdc.metrics.wavelet import Bands, _transform, decompose

WAVELETS = ("haar", "db2", "bior2.2")
SIZES = ((32, 48), (37, 29), (6, 33), (1, 5))

# PyWavelets computes in float64 here, decompose in float32: one rounding of a coefficient, which is
# below 32 at level 4, is 2e-6 at most, and a few of them add up. A wrong band is beyond 1e-2.
SAME_BANDS = 1e-5


def random_images(height: int, width: int, count: int = 2, channels: int = 3) -> Tensor:
    random = torch.Generator().manual_seed(100 * height + width)
    return torch.rand(count, channels, height, width, generator=random) * 2 - 1


def energy(bands: Bands) -> float:
    return sum(float(band.double().square().sum()) for band in (bands.low, *bands.high))


@pytest.mark.filterwarnings("ignore:Level value of .* is too high:UserWarning:pywt")
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_every_band_is_that_of_pywavelets(wavelet: str, levels: int) -> None:
    for height, width in SIZES:
        images = random_images(height, width)
        bands = decompose(images, wavelet=wavelet, levels=levels)
        low, *high = pywt.wavedec2(images.double().numpy(), wavelet, mode="zero", level=levels)

        assert bands.low.shape == low.shape
        np.testing.assert_allclose(bands.low.numpy(), low, rtol=0, atol=SAME_BANDS)
        assert len(bands.high) == levels
        for ours, theirs in zip(bands.high, reversed(high), strict=True):  # ours: finest first
            stacked = np.stack(theirs, axis=2)
            assert ours.shape == stacked.shape
            np.testing.assert_allclose(ours.numpy(), stacked, rtol=0, atol=SAME_BANDS)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_the_bands_rebuild_the_image(wavelet: str) -> None:
    for height, width in ((32, 48), (37, 29)):
        images = random_images(height, width)
        bands = decompose(images, wavelet=wavelet, levels=3)
        details = [tuple(band.double().numpy().swapaxes(0, 2)) for band in reversed(bands.high)]
        # swapaxes made 3×C×N×h×w of N×C×3×h×w, so the low band and the images turn likewise.
        low = bands.low.double().numpy().swapaxes(0, 1)
        rebuilt = pywt.waverec2([low, *details], wavelet, mode="zero")[..., :height, :width]
        np.testing.assert_allclose(rebuilt, images.numpy().swapaxes(0, 1), rtol=0, atol=SAME_BANDS)


def test_haar_of_two_by_two_pixels_by_hand() -> None:
    bands = decompose(torch.tensor([[[[1.0, 0.5], [0.25, -0.25]]]]), levels=1)
    # (a + b + c + d) / 2, (a + b - c - d) / 2, (a - b + c - d) / 2, (a - b - c + d) / 2; the filter
    # tap 1/sqrt(2) is rounded in float32, hence not equal to the last bit.
    assert bands.low.item() == pytest.approx(0.75, abs=1e-6)
    assert bands.high[0].flatten().tolist() == pytest.approx([0.75, 0.5, 0.0], abs=1e-6)


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_haar_keeps_the_energy_of_sizes_that_halve_evenly(levels: int) -> None:
    for rows, columns in ((1, 1), (2, 3)):
        images = random_images(rows * 2**levels, columns * 2**levels)
        # Parseval; float32 rounds each coefficient by 6e-8 of itself, level upon level.
        assert energy(decompose(images, levels=levels)) == pytest.approx(
            float(images.double().square().sum()), rel=2e-6
        )


@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_a_constant_has_no_detail_and_a_low_band_doubled_by_each_level(levels: int) -> None:
    bands = decompose(torch.full((1, 3, 32, 48), -0.7), levels=levels)
    scale = 2.0**levels
    # The two Haar taps are the same float32, so a constant's differences vanish almost or quite;
    # what rounding leaves is below 6e-8 of the level's coefficients, of which 1e-6 is 17 times.
    for band in bands.high:
        assert band.abs().max() <= 1e-6 * scale
    assert torch.allclose(bands.low, torch.full_like(bands.low, -0.7 * scale), rtol=1e-6)


def test_adding_a_constant_changes_the_low_band_alone() -> None:
    images = random_images(32, 48)
    plain, shifted = decompose(images), decompose(images + 0.3)
    for before, after in zip(plain.high, shifted.high, strict=True):
        assert torch.allclose(before, after, rtol=0, atol=SAME_BANDS)
    assert torch.allclose(shifted.low - plain.low, torch.tensor(0.3 * 16), rtol=0, atol=SAME_BANDS)


def test_the_transform_is_linear() -> None:
    first, second = random_images(37, 29), random_images(37, 29).flip(-1)
    summed = decompose(2 * first - second, wavelet="db2", levels=2)
    one, two = (decompose(x, wavelet="db2", levels=2) for x in (first, second))
    for whole, a, b in zip(
        (summed.low, *summed.high), (one.low, *one.high), (two.low, *two.high), strict=True
    ):
        assert torch.allclose(whole, 2 * a - b, rtol=0, atol=SAME_BANDS)


@pytest.mark.parametrize(("name", "place"), [("horizontal", 0), ("vertical", 1), ("diagonal", 2)])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_stripes_land_in_the_band_of_their_name_and_width(
    name: str, place: int, level: int
) -> None:
    width = 2**level  # pixels of one stripe: the level whose Haar filter is as long
    rows = torch.arange(16).reshape(-1, 1) // width
    columns = torch.arange(16).reshape(1, -1) // width
    stripes = {
        "horizontal": rows.expand(16, 16),
        "vertical": columns.expand(16, 16),
        "diagonal": rows + columns,  # a chessboard
    }[name]
    images = ((stripes % 2) * 2 - 1).float()[None, None]
    bands = decompose(images, levels=3)

    total = energy(bands)
    assert total == pytest.approx(256, rel=1e-5)
    for i, j in itertools.product(range(3), range(3)):
        share = float(bands.high[i][:, :, j].square().sum()) / total
        assert share == pytest.approx(1.0 if (i, j) == (level, place) else 0.0, abs=1e-6)


def test_images_and_channels_do_not_mix() -> None:
    images = random_images(16, 16)
    whole = decompose(images)
    alone = decompose(images[1:, 2:])
    # Equal but for the order of the sums, which the library may choose by shape.
    assert torch.allclose(whole.low[1:, 2:], alone.low, rtol=0, atol=SAME_BANDS)
    for all_bands, one in zip(whole.high, alone.high, strict=True):
        assert torch.allclose(all_bands[1:, 2:], one, rtol=0, atol=SAME_BANDS)


def test_autocast_leaves_the_transform_in_float32() -> None:
    images = random_images(32, 32)
    expected = decompose(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bands = decompose(images)
    assert torch.equal(bands.low, expected.low)
    for band, reference in zip(bands.high, expected.high, strict=True):
        assert band.dtype == torch.float32
        assert torch.equal(band, reference)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_are_transformed_in_float32(dtype: torch.dtype) -> None:
    images = random_images(16, 16).to(dtype)
    bands, expected = decompose(images), decompose(images.float())
    assert bands.low.dtype == torch.float32
    assert torch.equal(bands.low, expected.low)
    assert all(torch.equal(a, b) for a, b in zip(bands.high, expected.high, strict=True))


def test_gradients_are_those_of_an_orthonormal_transform() -> None:
    images = random_images(16, 16).requires_grad_()
    bands = decompose(images)
    (sum(band.square().sum() for band in (bands.low, *bands.high)) / 2).backward()
    # Half the energy is the same before and after, so its gradient is the image itself.
    assert images.grad is not None
    assert torch.allclose(images.grad, images.detach(), rtol=0, atol=SAME_BANDS)


@pytest.fixture
def fresh_transforms() -> Iterator[None]:
    """No transform is remembered from before, and none afterwards."""
    _transform.cache_clear()
    yield
    _transform.cache_clear()


@pytest.mark.usefixtures("fresh_transforms")
def test_gradients_flow_after_a_first_use_in_inference_mode() -> None:
    with torch.inference_mode():
        decompose(random_images(16, 16))
    images = random_images(16, 16).requires_grad_()
    decompose(images).low.sum().backward()
    assert images.grad is not None
    # The sum of a 16x16 block over its root's size is the low coefficient: 1/16 a pixel.
    assert torch.allclose(images.grad, torch.tensor(1 / 16), rtol=0, atol=SAME_BANDS)


@pytest.mark.parametrize("wavelet", ["nope", "", "Haar", "morl"])  # morl is continuous
def test_an_unknown_wavelet_is_refused_with_what_is_allowed(wavelet: str) -> None:
    with pytest.raises(OptionError, match=rf"{wavelet!r} is not known.*haar, db2 or bior2\.2"):
        decompose(random_images(16, 16), wavelet=wavelet)


@pytest.mark.parametrize("levels", [0, -1])
def test_no_levels_are_refused(levels: int) -> None:
    with pytest.raises(OptionError, match=f"{levels} wavelet levels .* 1 or more"):
        decompose(random_images(16, 16), levels=levels)
