"""PSNR and the high-band error in closed form, and what a distance must keep."""

import math

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wkdc.metrics.fidelity import Fidelity, high_band_error, mean_fidelity, psnr_db
from wkdc.metrics.image_scores import ScoreCollector

# The transform is float32: coefficients below 32 with roundings of 6e-8 of themselves.
SAME_ERROR = 1e-5


def random_image(seed: int, height: int = 32, width: int = 48) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(1, 3, height, width, generator=random) * 2 - 1


@pytest.mark.parametrize("offset", [2.0, 1.0, 0.5, -0.25, 2**-10])
def test_psnr_of_a_constant_offset_in_closed_form(offset: float) -> None:
    target = torch.full((1, 3, 8, 8), -0.5)  # offsets are powers of two: exact in float32
    expected = 20 * math.log10(2 / abs(offset))
    assert psnr_db(target + offset, target) == pytest.approx(expected, abs=1e-9)


def test_psnr_of_one_wrong_pixel_by_hand() -> None:
    target = torch.zeros(1, 1, 2, 2)
    images = target.clone()
    images[0, 0, 1, 0] = -1.0
    assert psnr_db(images, target) == pytest.approx(10 * math.log10(16), abs=1e-9)


def test_psnr_is_infinite_for_equal_images_and_finite_for_the_next_float() -> None:
    target = random_image(1)
    assert psnr_db(target.clone(), target) == math.inf
    images = target.clone()
    images[0, 0, 0, 0] = torch.nextafter(images[0, 0, 0, 0], torch.tensor(2.0))
    assert 100 < psnr_db(images, target) < math.inf


def test_psnr_is_symmetric_and_gains_6_db_when_the_error_halves() -> None:
    target, other = random_image(1), random_image(2)
    assert psnr_db(other, target) == psnr_db(target, other)
    nearer = target + (other - target) / 2
    gain = psnr_db(nearer, target) - psnr_db(other, target)
    # 20 log10 2; the halfway image is rounded to float32, 1e-7 of errors that are about 1.
    assert gain == pytest.approx(20 * math.log10(2), abs=1e-5)


def test_high_band_error_is_its_definition() -> None:
    images, target = random_image(1, 37, 29), random_image(2, 37, 29)
    ours, theirs = (
        pywt.wavedec2(x.double().numpy(), "haar", mode="zero", level=3) for x in (images, target)
    )
    wrong = sum(
        np.square(np.stack(a) - np.stack(b)).sum()
        for a, b in zip(ours[1:], theirs[1:], strict=True)
    )
    total = sum(np.square(np.stack(b)).sum() for b in theirs[1:])
    expected = math.sqrt(wrong / total)
    assert high_band_error(images, target, levels=3) == pytest.approx(expected, rel=SAME_ERROR)


def test_high_band_error_uses_four_levels_unless_told() -> None:
    images, target = random_image(1), random_image(2)
    assert high_band_error(images, target) == high_band_error(images, target, levels=4)
    assert high_band_error(images, target) != high_band_error(images, target, levels=3)


def test_high_band_error_is_nothing_between_a_image_and_itself() -> None:
    assert high_band_error(random_image(1), random_image(1)) == 0


@pytest.mark.parametrize("grey", [0.0, 0.5, -1.0])
def test_high_band_error_is_one_for_a_flat_image(grey: float) -> None:
    flat = torch.full((1, 3, 32, 48), grey)
    assert high_band_error(flat, random_image(1)) == pytest.approx(1, abs=SAME_ERROR)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.75, 1.0, 3.0])
def test_high_band_error_of_scaled_detail_in_closed_form(scale: float) -> None:
    target = random_image(1)
    error = high_band_error(scale * target, target)
    assert error == pytest.approx(abs(scale - 1), abs=SAME_ERROR)


def test_high_band_error_is_blind_to_the_low_band_and_to_a_common_scale() -> None:
    images, target = random_image(1), random_image(2)
    error = high_band_error(images, target)
    blocks = random_image(3, 2, 3).repeat_interleave(16, -2).repeat_interleave(16, -1)
    assert high_band_error(images + blocks, target) == pytest.approx(error, rel=SAME_ERROR)
    assert high_band_error(target + blocks, target) < SAME_ERROR
    assert high_band_error(images / 4, target / 4) == error  # a power of two rounds nothing


def test_high_band_error_where_the_target_has_no_detail() -> None:
    flat = torch.zeros(1, 3, 32, 48)
    assert high_band_error(flat, flat) == 0
    assert high_band_error(random_image(1), flat) == math.inf


def test_mean_fidelity_is_the_mean_over_pairs_by_hand() -> None:
    target = random_image(1)
    pairs = [(target * 0.5, target), (target * 3, target), (target + 0.25, target)]
    fidelity = mean_fidelity(iter(pairs))  # any iterable, read once
    decibels = sum(psnr_db(a, b) for a, b in pairs) / 3
    assert fidelity.images == 3
    assert fidelity.psnr_db == pytest.approx(decibels, abs=1e-9)
    assert fidelity.high_band_error == pytest.approx((0.5 + 2 + 0) / 3, abs=SAME_ERROR)


def test_mean_fidelity_of_one_pair_is_that_pair_and_order_does_not_matter() -> None:
    a, b, target = random_image(1), random_image(2), random_image(3)
    assert mean_fidelity([(a, target)]) == Fidelity(
        psnr_db(a, target), high_band_error(a, target), 1
    )
    assert mean_fidelity([(a, target), (b, target)]) == mean_fidelity([(b, target), (a, target)])


def test_mean_fidelity_of_equal_images() -> None:
    target = random_image(1)
    assert mean_fidelity([(target, target)] * 2) == Fidelity(math.inf, 0.0, 2)


def test_psnr_of_an_infinite_number() -> None:
    target = torch.zeros(1, 3, 8, 8)
    images = target.clone()
    images[0, 0, 0, 0] = math.inf
    assert psnr_db(images, target) == -math.inf


@pytest.mark.parametrize(("shade", "other"), [(130, 125), (0, 255), (20, 60)])
def test_ssim_of_flat_images_in_closed_form(shade: int, other: int) -> None:
    """Without contrast, the term of luminance is left (Wang et al. 2004, equation 6)."""
    scores = ScoreCollector()
    images = [torch.full((1, 3, 64, 64), one / 127.5 - 1) for one in (shade, other)]
    scores.add(*images)
    summary = scores.summary(0)
    assert summary is not None
    least = (0.01 * 255) ** 2
    expected = (2 * shade * other + least) / (shade**2 + other**2 + least)
    # Variances are differences of squares in float32, of 1e-7 beside (0.03)² = 9e-4.
    assert summary.ssim.mean == pytest.approx(expected, abs=1e-3)
