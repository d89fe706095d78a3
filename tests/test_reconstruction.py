"""Reconstruction: least squares against torch.linalg, exact where exactness is possible."""

import copy

import pytest
import torch
from torch import Tensor, nn

from wkdc.pruning.activations import observe, positions_in
from wkdc.pruning.least_squares import NormalEquations
from wkdc.pruning.reconstruction import (
    MOST_RIDGE,
    RIDGE,
    kernel_matrix,
    patches,
    reconstruct,
    set_kernel,
)

LAYERS = {
    "3x3": nn.Conv2d(4, 5, 3),
    "7x7, zero padding": nn.Conv2d(4, 5, 7, padding=3),
    "3x3, reflect padding": nn.Conv2d(4, 5, 3, padding=1, padding_mode="reflect"),
    "strided": nn.Conv2d(4, 5, 3, stride=2, padding=1),
    "strided 4x4": nn.Conv2d(4, 5, 4, stride=2, padding=1),
    "transposed 3x3": nn.ConvTranspose2d(4, 5, 3, stride=2, padding=1, output_padding=1),
    "transposed 4x4": nn.ConvTranspose2d(4, 5, 4, stride=2, padding=1),
}


@pytest.mark.parametrize("size", [(12, 10), (90, 80)], ids=["every place", "some places"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_patches_times_its_kernel(name: str, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = copy.deepcopy(LAYERS[name])
    image = torch.randn(1, 4, *size)
    out = layer(image)
    found = patches(layer, image) @ kernel_matrix(layer) + layer.bias
    expected = out[0].flatten(1)[:, positions_in(*out.shape[-2:])].T
    # The same products of float32, up to 196 of them, added in another order.
    assert torch.allclose(found, expected, atol=1e-5)
    kernel = kernel_matrix(layer).clone()
    set_kernel(layer, torch.zeros_like(kernel))
    assert not layer.weight.any()
    set_kernel(layer, kernel)
    assert torch.equal(layer(image), out)


def pruned_pair(norm: str) -> tuple[nn.Module, nn.Module, dict[str, list[int]]]:
    """A teacher, and a student without half of the channels between its two layers.

    Both in float64, in which nothing is computed in bfloat16.
    """
    norms = {
        "none": list,
        "instance": lambda: [nn.InstanceNorm2d(3, affine=True)],
        "batch": lambda: [nn.BatchNorm2d(3)],
    }
    bias = norm != "batch"
    teacher = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Conv2d(6, 3, 3, bias=bias), *norms[norm]())
    student = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 3, 3, bias=bias), *norms[norm]())
    kept = [1, 2, 4]
    with torch.no_grad():
        if norm == "batch":
            teacher[2].running_mean.normal_()
            teacher[2].running_var.uniform_(0.5, 2)
        student[0].weight.copy_(teacher[0].weight[kept])
        student[0].bias.copy_(teacher[0].bias[kept])
        student[1].weight.copy_(teacher[1].weight[:, kept])
        if norm != "none":
            student[2].load_state_dict(teacher[2].state_dict())
    return teacher.double().eval(), student.double().eval(), {"0": kept}


def images_of(count: int) -> list[Tensor]:
    return [torch.randn(1, 2, 20, 24).double() + number for number in range(count)]


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_removed_channels_that_the_kept_ones_can_say_come_back_exactly(norm: str) -> None:
    """As far as the ridge lets them, which is next to none where nothing is missed."""
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair(norm)
    mix = torch.randn(3, 3).double()
    with torch.no_grad():  # channels 0, 3, 5 are linear combinations of 1, 2, 4
        said = torch.einsum("ij,jchw->ichw", mix, teacher[0].weight[kept["0"]])
        teacher[0].weight[[0, 3, 5]] = said
        teacher[0].bias[[0, 3, 5]] = torch.randn(3).double()
    images = images_of(4)
    fits = reconstruct(student, kept, observe(teacher, images))
    assert fits[1].before > 0.1
    new = torch.randn(1, 2, 30, 30).double()
    # The kernel stays about a ridge away from the exact one, the missed variance the square of
    # that; both are next to the rounding of float64 sums.
    assert fits[1].after < 1e-10
    with torch.no_grad():
        assert torch.allclose(student(new), teacher(new), atol=1e-4)


def test_the_solution_is_that_of_lstsq_on_the_unfolded_problem() -> None:
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair("none")
    images = images_of(3)
    old = student[1].weight.detach().flatten(1).T.clone()
    with torch.no_grad():
        inner = [student[0](image) for image in images]
        wanted = torch.cat([teacher(image)[0].flatten(1).T for image in images])
    rows = torch.cat([nn.functional.unfold(x, 3)[0].T for x in inner])
    given, target = rows - rows.mean(0), wanted - wanted.mean(0)
    # The ridge as extra equations that say: stay at the sliced kernel.
    strength = min(RIDGE * rows.shape[1] / len(rows), MOST_RIDGE)
    stay = (strength * given.square().sum(0).mean()).sqrt() * torch.eye(rows.shape[1]).double()
    solution = torch.linalg.lstsq(
        torch.cat([given, stay]), torch.cat([target, stay @ old])
    ).solution
    reconstruct(student, kept, observe(teacher, images))
    # Both in float64; normal equations lose half of its digits at worst.
    assert torch.allclose(student[1].weight.flatten(1).T, solution, atol=1e-8)
    assert torch.allclose(student[1].bias, wanted.mean(0) - rows.mean(0) @ solution, atol=1e-8)


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_few_equations_are_solved_by_their_own_square(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer equations than unknowns the other form of the same problem is solved."""
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair(norm)
    other = copy.deepcopy(student)
    # 9 places in each of 2 images, for 27 unknowns.
    observed = observe(teacher, [torch.randn(1, 2, 7, 7).double() for _ in range(2)])
    few = reconstruct(student, kept, observed)
    monkeypatch.setattr("wkdc.pruning.reconstruction.FewEquations", NormalEquations)
    many = reconstruct(other, kept, observed)
    # float64; normal equations lose half of its digits at worst.
    for ours, theirs in zip(student.parameters(), other.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-8)
    for one, same in zip(few, many, strict=True):
        assert one.before == pytest.approx(same.before, abs=1e-8)
        assert one.after == pytest.approx(same.after, abs=1e-8)


def test_without_bias_or_norm_the_offset_is_part_of_the_problem() -> None:
    """Nothing could make up for centring: what the layer puts out, mean and all, is the target."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 3, bias=False)]
    teacher = nn.Sequential(*layers).double()
    student = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3, bias=False)).double()
    with torch.no_grad():
        student[0].weight.copy_(teacher[0].weight[:3])
        student[0].bias.copy_(teacher[0].bias[:3])
        student[2].weight.copy_(teacher[2].weight[:, :3])
        images = images_of(3)

        def error() -> float:
            pairs = [(student(image), teacher(image)) for image in images]
            missed = sum(float((a - b).square().sum()) for a, b in pairs)
            return missed / sum(float(b.square().sum()) for _, b in pairs)

        fits = reconstruct(student, {"0": [0, 1, 2]}, observe(teacher, images))
        # float64 sums; every place of these small maps is looked at.
        assert fits[1].after == pytest.approx(error(), rel=1e-6)
        assert fits[1].after < fits[1].before


@pytest.mark.parametrize("norm", ["none", "instance", "batch"])
def test_no_layer_gets_worse(norm: str) -> None:
    torch.manual_seed(1)
    teacher, student, kept = pruned_pair(norm)
    images = images_of(3)

    def error() -> float:
        with torch.no_grad():
            return sum(float((student(i) - teacher(i)).square().sum()) for i in images)

    before = error()
    done: list[float] = []
    fits = reconstruct(student, kept, observe(teacher, images), on_layer=done.append)
    assert [fit.name for fit in fits] == ["0", "1"]
    # Shares of variance, as differences of float64 sums.
    assert all(0 <= fit.after <= fit.before + 1e-12 for fit in fits)
    assert fits[0].before == pytest.approx(0, abs=1e-12)  # its inputs are all there
    assert done == [0.5, 1.0]
    assert error() < before


def test_the_order_of_pictures_does_not_matter() -> None:
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair("instance")
    other = copy.deepcopy(student)
    images = images_of(4)
    reconstruct(student, kept, observe(teacher, images))
    reconstruct(other, kept, observe(teacher, images[::-1]))
    # float64 sums in another order, over a ridge of 1e-4.
    assert torch.allclose(student[1].weight, other[1].weight, atol=1e-10)


def test_a_layer_that_reads_nothing_is_solved_too() -> None:
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair("none")
    with torch.no_grad():
        student[0].weight.zero_()
    observed = observe(teacher, images_of(3))
    with torch.no_grad():
        student[0].register_forward_hook(lambda *_: torch.zeros(3, 3, 18, 22).double())
    fits = reconstruct(student, kept, observed)
    assert fits[1].before == fits[1].after == pytest.approx(1)  # its bias is all that it can say
    assert all(bool(weight.isfinite().all()) for weight in student.parameters())


def test_an_identical_student_stays_what_it_is() -> None:
    torch.manual_seed(0)
    teacher, _, _ = pruned_pair("instance")
    student = copy.deepcopy(teacher)
    fits = reconstruct(student, {}, observe(teacher, images_of(2)))
    assert all(fit.after < 1e-12 for fit in fits)
    for new, old in zip(student.parameters(), teacher.parameters(), strict=True):
        assert torch.allclose(new, old, atol=1e-10)  # float64 noise over the ridge of 1e-4


def test_the_scale_of_a_norm_is_lowered_by_how_well_both_agree() -> None:
    """Least squares for what comes out of InstanceNorm: its unit variance times the correlation."""
    torch.manual_seed(0)
    teacher, student, kept = pruned_pair("instance")
    (image,) = images_of(1)
    reconstruct(student, kept, observe(teacher, [image]))
    with torch.no_grad():
        said, wanted = (n[1](n[0](image))[0].flatten(1) for n in (student, teacher))
    for channel in range(3):
        both = torch.stack([said[channel], wanted[channel]])
        correlation = float(torch.corrcoef(both)[0, 1])
        assert float(student[2].weight[channel].detach()) == pytest.approx(correlation, abs=1e-10)
