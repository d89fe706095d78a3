"""Each loss by hand, in closed form or against PyWavelets, and what every loss must keep."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wkdc.errors import OptionError
from wkdc.training.losses import (
    Compared,
    Gan,
    Measure,
    Reduction,
    discriminator_loss,
    generator_loss,
    pixel_loss,
    wavelet_loss,
)

REDUCTIONS: tuple[Reduction, ...] = ("levels", "pixels")

# The losses here are below 10 and sums over some thousand float32 terms: roundings of 6e-8 each,
# added pairwise, stay below 1e-6 of the sum. A wrong term or factor is beyond 1e-2.
SAME_LOSS = 1e-5


def random_images(seed: int, height: int = 32, width: int = 48, count: int = 2) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, height, width, generator=random) * 2 - 1


def distances() -> list[Any]:
    """Every loss that compares images, with a name for the report."""
    cases: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
        ("pixel", pixel_loss),
        ("levels", lambda a, b: wavelet_loss(a, b, reduction="levels")),
        ("pixels", lambda a, b: wavelet_loss(a, b, reduction="pixels")),
        ("db2", lambda a, b: wavelet_loss(a, b, wavelet="db2", levels=2)),
        ("low", lambda a, b: wavelet_loss(a, b, bands="low")),
        ("all", lambda a, b: wavelet_loss(a, b, bands="all", reduction="pixels")),
    ]
    return [pytest.param(loss, id=name) for name, loss in cases]


def expected_wavelet_loss(
    images: Tensor,
    target: Tensor,
    wavelet: str,
    levels: int,
    reduction: str,
    bands: str = "high",
    power: int = 1,
) -> float:
    """The definition, word by word: both images transformed, then compared, in float64."""
    ours, theirs = (
        pywt.wavedec2(x.double().numpy(), wavelet, mode="zero", level=levels)
        for x in (images, target)
    )
    total = 0.0
    for level in range(levels + 1):  # 0 is the low band
        if (level and bands == "low") or (not level and bands == "high"):
            continue
        difference = np.abs(np.stack(ours[level]) - np.stack(theirs[level])) ** power
        total += difference.mean() if reduction == "levels" else difference.sum() / images.numel()
    return total


def test_pixel_loss_by_hand() -> None:
    images = torch.tensor([[[[1.0, -1.0], [0.5, 0.0]]]])
    target = torch.tensor([[[[0.0, 1.0], [0.5, -0.25]]]])
    assert pixel_loss(images, target).item() == (1 + 2 + 0 + 0.25) / 4  # all exact in binary


def test_wavelet_loss_by_hand() -> None:
    # The difference is 1 in one of four pixels: each Haar coefficient is 1/2, three are detail.
    images, target = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    images[0, 0, 0, 1] = 1
    by_level = wavelet_loss(images, target, levels=1, reduction="levels")
    by_pixel = wavelet_loss(images, target, levels=1, reduction="pixels")
    assert by_level.item() == pytest.approx(1 / 2, abs=1e-6)
    assert by_pixel.item() == pytest.approx(3 * (1 / 2) / 4, abs=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_wavelet_loss_adds_up_its_levels_by_hand(reduction: Reduction) -> None:
    # Stripes two pixels high: nothing at level 1; at level 2 each horizontal coefficient is
    # (8 · 1 + 8 · 1) / 4 = 4 for a block of 16 pixels, and the other two of a block are 0.
    rows = (torch.arange(8) // 2 % 2 * 2 - 1).float().reshape(-1, 1).expand(8, 8)
    images, target = rows[None, None], torch.zeros(1, 1, 8, 8)
    expected = {"levels": 4 / 3, "pixels": 4 * 4 / 64}[reduction]
    loss = wavelet_loss(images, target, levels=2, reduction=reduction)
    assert loss.item() == pytest.approx(expected, abs=SAME_LOSS)


@pytest.mark.filterwarnings("ignore:Level value of .* is too high:UserWarning:pywt")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("wavelet", "levels"), [("haar", 1), ("haar", 4), ("db2", 2), ("bior2.2", 3)]
)
def test_wavelet_loss_is_its_definition(wavelet: str, levels: int, reduction: Reduction) -> None:
    for height, width in ((32, 48), (37, 53)):
        images, target = random_images(1, height, width), random_images(2, height, width)
        loss = wavelet_loss(images, target, wavelet=wavelet, levels=levels, reduction=reduction)
        expected = expected_wavelet_loss(images, target, wavelet, levels, reduction)
        assert loss.item() == pytest.approx(expected, rel=SAME_LOSS)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("measure", "power"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("bands", ["high", "low", "all"])
def test_every_choice_of_bands_and_measure_is_its_definition(
    bands: Compared, measure: Measure, power: int, reduction: Reduction
) -> None:
    images, target = random_images(1, 37, 53), random_images(2, 37, 53)
    loss = wavelet_loss(images, target, bands=bands, measure=measure, reduction=reduction)
    expected = expected_wavelet_loss(images, target, "haar", 4, reduction, bands, power)
    assert loss.item() == pytest.approx(expected, rel=SAME_LOSS)


def test_the_squares_of_all_bands_are_the_squares_of_all_pixels() -> None:
    """An orthonormal transform keeps the energy (Parseval)."""
    images, target = random_images(1), random_images(2)
    loss = wavelet_loss(images, target, bands="all", measure="l2", reduction="pixels")
    assert loss.item() == pytest.approx((images - target).square().mean().item(), rel=SAME_LOSS)


def test_the_low_band_sees_a_shift_and_no_detail() -> None:
    images = random_images(1)
    assert wavelet_loss(images + 0.5, images, bands="low", levels=2).item() == pytest.approx(
        0.5 * 4,
        rel=SAME_LOSS,  # each level doubles the coefficient of a constant
    )
    detail = torch.ones(2, 3, 32, 48)
    detail[..., ::2] = -1  # every other column: the mean of each 2x2 block is 0
    assert wavelet_loss(images + detail, images, bands="low").item() < SAME_LOSS


def test_wavelet_loss_is_haar_of_four_levels_summed_by_level_unless_told() -> None:
    images, target = random_images(1), random_images(2)
    expected = expected_wavelet_loss(images, target, "haar", 4, "levels")
    assert wavelet_loss(images, target).item() == pytest.approx(expected, rel=SAME_LOSS)


@pytest.mark.parametrize("loss", distances())
class TestDistances:
    def test_nothing_between_a_picture_and_itself(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images = random_images(1).requires_grad_()
        value = loss(images, images.detach().clone())
        value.backward()
        assert value.item() == 0
        assert images.grad is not None
        assert torch.equal(images.grad, torch.zeros_like(images))  # not NaN where |x| has its kink

    def test_symmetric(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        images, target = random_images(1), random_images(2)
        forth, back = loss(images, target), loss(target, images)
        assert forth > 0
        assert torch.equal(forth, back)  # a sign flip rounds nothing

    def test_twice_the_difference_is_twice_the_loss(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, zero = random_images(1), torch.zeros(2, 3, 32, 48)
        assert torch.equal(loss(2 * images, zero), 2 * loss(images, zero))  # a power of two: exact

    def test_copies_in_a_batch_change_nothing(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, target = random_images(1, count=1), random_images(2, count=1)
        one = loss(images, target).item()
        many = loss(images.repeat(5, 1, 1, 1), target.repeat(5, 1, 1, 1)).item()
        assert many == pytest.approx(one, rel=SAME_LOSS)

    def test_a_batch_costs_the_mean_of_its_pictures(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, target = random_images(1, count=3), random_images(2, count=3)
        target[0] = images[0]  # so that the images' losses differ
        single = [loss(images[i : i + 1], target[i : i + 1]).item() for i in range(3)]
        assert loss(images, target).item() == pytest.approx(sum(single) / 3, rel=SAME_LOSS)

    def test_a_step_down_the_gradient_comes_nearer(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, target = random_images(1).requires_grad_(), random_images(2)
        before = loss(images, target)
        before.backward()
        gradient = images.grad
        assert gradient is not None
        assert torch.isfinite(gradient).all()
        after = loss(images.detach() - 1e-3 * gradient / gradient.norm(), target)
        assert after < before

    def test_autocast_changes_nothing(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        images, target = random_images(1), random_images(2)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(images, target)
        assert torch.equal(value, loss(images, target))

    def test_bfloat16_pictures_are_compared_in_float32(
        self, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        images, target = random_images(1).bfloat16(), random_images(2).bfloat16()
        value = loss(images, target)
        assert value.shape == ()
        assert torch.equal(value, loss(images.float(), target.float()))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_wavelet_loss_is_blind_to_the_low_band_alone(reduction: Reduction) -> None:
    images, target = random_images(1), random_images(2)
    blocks = random_images(3, 2, 3).repeat_interleave(16, -2).repeat_interleave(16, -1)
    loss = wavelet_loss(images, target, reduction=reduction)
    for change in (torch.tensor(0.5), blocks):
        shifted = wavelet_loss(images + change, target, reduction=reduction)
        assert shifted.item() == pytest.approx(loss.item(), rel=SAME_LOSS)
        assert wavelet_loss(target + change, target, reduction=reduction).item() < SAME_LOSS
        assert pixel_loss(target + change, target) > 0.1  # the change itself is not small


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_wavelet_loss_pushes_no_block_mean(reduction: Reduction) -> None:
    images = random_images(1).requires_grad_()
    wavelet_loss(images, random_images(2), reduction=reduction).backward()
    assert images.grad is not None
    blocks = images.grad.unfold(-2, 16, 16).unfold(-2, 16, 16).sum((-2, -1))
    assert images.grad.abs().sum() > 0.1
    # What an orthonormal Haar filter sends back sums to zero over its 16x16 block; the rest is
    # rounding of 256 gradients that are 1e-3 at most.
    assert blocks.abs().max() < 1e-6


def test_wavelet_loss_grows_with_the_levels() -> None:
    images, target = random_images(1), random_images(2)
    losses = [wavelet_loss(images, target, levels=n).item() for n in (1, 2, 3, 4)]
    assert losses == sorted(set(losses))


def test_wavelet_loss_refuses_what_it_does_not_know() -> None:
    images, target = random_images(1), random_images(2)
    with pytest.raises(OptionError, match="reduction 'mean' is not known; choose levels or pixels"):
        wavelet_loss(images, target, reduction="mean")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="0 wavelet levels"):
        wavelet_loss(images, target, levels=0)
    with pytest.raises(OptionError, match="'nope' is not known"):
        wavelet_loss(images, target, wavelet="nope")
    with pytest.raises(OptionError, match="choose high, low or all"):
        wavelet_loss(images, target, bands="middle")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="choose l1 or l2"):
        wavelet_loss(images, target, measure="l3")  # type: ignore[arg-type]


def test_generator_loss_by_hand() -> None:
    scores = torch.tensor([[[[1.0, 0.0], [3.0, 0.5]]]])
    assert generator_loss(scores).item() == (0 + 1 + 4 + 0.25) / 4
    assert generator_loss(torch.ones(2, 1, 3, 3)).item() == 0


def test_discriminator_loss_by_hand() -> None:
    real = torch.tensor([[[[1.0, 0.0]]]])
    fake = torch.tensor([[[[2.0, -1.0]]]])
    assert discriminator_loss(real, fake).item() == (1 / 2 + 5 / 2) / 2
    assert discriminator_loss(torch.ones(2, 1, 3, 3), torch.zeros(2, 1, 3, 3)).item() == 0
    assert discriminator_loss(torch.zeros(2, 1, 3, 3), torch.ones(2, 1, 3, 3)).item() == 1


def test_real_and_fake_weigh_alike_whatever_their_number() -> None:
    real, fake = torch.full((1, 1, 2, 2), 0.5), torch.full((3, 1, 2, 2), 0.5)
    assert discriminator_loss(real, fake).item() == 0.25


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    assert generator_loss(fake, gan="hinge").item() == 0.75
    assert discriminator_loss(real, fake, gan="hinge").item() == (0.5 / 2 + 1.5 / 2) / 2


def test_vanilla_is_the_cross_entropy_of_probabilities() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-2.0, 0.5])
    p_real, p_fake = real.double().sigmoid(), fake.double().sigmoid()
    assert generator_loss(fake, gan="vanilla").item() == pytest.approx(
        -p_fake.log().mean().item(), rel=SAME_LOSS
    )
    assert discriminator_loss(real, fake, gan="vanilla").item() == pytest.approx(
        (-p_real.log().mean() - (1 - p_fake).log().mean()).item() / 2, rel=SAME_LOSS
    )


@pytest.mark.parametrize("gan", ["lsgan", "hinge", "vanilla"])
def test_the_two_sides_pull_apart(gan: Gan) -> None:
    """Between its marks, a score that one side wants higher the other wants lower."""
    scores = torch.tensor([0.25, 0.5, 0.75], requires_grad=True)
    (up,) = torch.autograd.grad(generator_loss(scores, gan=gan), scores)
    (down,) = torch.autograd.grad(discriminator_loss(torch.ones(1), scores, gan=gan), scores)
    assert (up < 0).all()
    assert (down > 0).all()


def test_objectives_that_nobody_knows() -> None:
    with pytest.raises(OptionError, match="choose lsgan, hinge or vanilla"):
        generator_loss(torch.ones(1), gan="wgan")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="choose lsgan, hinge or vanilla"):
        discriminator_loss(torch.ones(1), torch.ones(1), gan="wgan")  # type: ignore[arg-type]


def test_discriminator_loss_mirrors_about_one_half() -> None:
    real, fake = random_images(1), random_images(2)
    forth, back = discriminator_loss(real, fake), discriminator_loss(1 - fake, 1 - real)
    assert forth.item() == pytest.approx(back.item(), rel=SAME_LOSS)


def test_adversarial_losses_do_not_depend_on_the_batch_size() -> None:
    real, fake = random_images(1, count=1), random_images(2, count=1)
    reals, fakes = real.repeat(5, 1, 1, 1), fake.repeat(5, 1, 1, 1)
    assert generator_loss(fakes).item() == pytest.approx(generator_loss(fake).item(), rel=SAME_LOSS)
    assert discriminator_loss(reals, fakes).item() == pytest.approx(
        discriminator_loss(real, fake).item(), rel=SAME_LOSS
    )


def test_adversarial_gradients_in_closed_form() -> None:
    fake = random_images(1, count=1).requires_grad_()
    generator_loss(fake).backward()
    # d/ds of (s - 1)² / n; two roundings of float32 between the orders of computing it.
    assert torch.allclose(fake.grad, 2 * (fake.detach() - 1) / fake.numel(), rtol=1e-6, atol=0)

    real, fake = random_images(2, count=1).requires_grad_(), fake.detach().requires_grad_()
    discriminator_loss(real, fake).backward()
    assert torch.allclose(real.grad, (real.detach() - 1) / real.numel(), rtol=1e-6, atol=0)
    assert torch.allclose(fake.grad, fake.detach() / fake.numel(), rtol=1e-6, atol=0)


def test_adversarial_losses_are_float32_for_bfloat16_scores() -> None:
    # 77/256 and 179/256 away from 0 and 1: their squares need 13 and 15 bits, bfloat16 has 8.
    scores = torch.full((1, 1, 4, 4), 77 / 256, dtype=torch.bfloat16)
    assert generator_loss(scores).item() == (179 / 256) ** 2
    assert discriminator_loss(scores, scores).item() == ((179 / 256) ** 2 + (77 / 256) ** 2) / 2
