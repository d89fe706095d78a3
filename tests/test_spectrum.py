"""Power where it belongs: white noise everywhere, a wave at its frequency, a blur's at the low."""

import math

import pytest
import torch

from wkdc.metrics.spectrum import radial_power


def test_white_noise_has_its_variance_everywhere() -> None:
    torch.manual_seed(0)
    power = sum(radial_power(0.3 * torch.randn(1, 3, 64, 64)) for _ in range(20)) / 20
    assert isinstance(power, torch.Tensor)
    assert power.shape == (32,)
    # From 8 cycles on, a ring averages 50 frequencies, 3 channels and 20 images; the window makes
    # a fifth of them independent: sigma is 1 / sqrt(600) or 4 %, and five of them are allowed.
    assert torch.allclose(power[8:], torch.full((24,), 0.09).double(), rtol=0.2)
    assert float(power[4:].mean()) == pytest.approx(0.09, rel=0.03)


@pytest.mark.parametrize("cycles", [3, 10, 25])
@pytest.mark.parametrize("upright", [True, False])
def test_a_wave_stands_at_its_frequency(cycles: int, upright: bool) -> None:
    phase = 2 * math.pi * cycles * torch.arange(64) / 64
    wave = torch.sin(phase).expand(64, 64)
    power = radial_power((wave if upright else wave.T)[None, None])
    assert int(power.argmax()) == cycles
    rings = torch.arange(32)
    total = power * (2 * math.pi * rings).clamp_min(1)  # a mean over a ring, times its length
    near = (rings - cycles).abs() <= 1  # a Hann window widens a line to its neighbours
    assert float(total[near].sum() / total.sum()) > 0.95


def test_a_constant_has_none_and_a_blur_less_of_the_high() -> None:
    torch.manual_seed(0)
    assert not radial_power(torch.full((1, 3, 32, 32), 0.7)).gt(1e-12).any()
    noise = torch.randn(1, 1, 64, 64)
    blurred = torch.nn.functional.avg_pool2d(noise, 3, 1, 1)
    share = radial_power(blurred) / radial_power(noise)
    assert float(share[2:6].mean()) > 0.7
    assert float(share[20:].mean()) < 0.1


def test_images_have_to_be_single_squares() -> None:
    for shape in ((1, 3, 32, 64), (2, 3, 32, 32)):
        with pytest.raises(ValueError, match="square"):
            radial_power(torch.zeros(shape))
