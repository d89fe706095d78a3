"""Counts by hand, the published figures of the ResNet-9, and Torch-Pruning's own counter."""

import copy

import pytest
import torch
import torch_pruning
from torch import nn

from wkdc.networks.complexity import (
    Complexity,
    count_params,
    kernel_positions,
    measure_activation_bytes,
    measure_complexity,
)
from wkdc.networks.resnet import ResnetGenerator


def resnet_9(ngf: int, **options: object) -> ResnetGenerator:
    widths = {"encoder": (ngf, 2 * ngf), "decoder": (2 * ngf, ngf)}
    return ResnetGenerator(stream=4 * ngf, inner=(4 * ngf,) * 9, **widths, **options)


def count_by_torch_pruning(network: nn.Module, size: tuple[int, int]) -> int:
    picture = torch.empty(1, 3, *size, device="meta")
    macs, _ = torch_pruning.utils.count_ops_and_params(copy.deepcopy(network).to("meta"), picture)
    return int(macs)


def test_a_convolution_and_a_transposed_one_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2, padding=1),  # 10x12 -> 5x6
        nn.ReLU(),
        nn.ConvTranspose2d(5, 7, 3, stride=2, padding=1, output_padding=1),  # -> 10x12
    )
    down, up = 3 * 5 * 9, 5 * 7 * 9
    assert measure_complexity(network, 3, (10, 12)) == Complexity(
        params=(down + 5) + (up + 7),
        macs=down * 5 * 6 + up * 5 * 6,
        macs_output_resolution=down * 5 * 6 + up * 10 * 12,
    )


def test_grouped_convolutions_by_hand() -> None:
    network = nn.Sequential(
        nn.Conv2d(6, 4, 3, padding=1, groups=2, bias=False),
        nn.ConvTranspose2d(4, 8, 2, stride=2, groups=4, bias=False),
    )
    plain, transposed = 4 * 3 * 9, 4 * 2 * 4
    assert measure_complexity(network, 6, (5, 7)) == Complexity(
        params=plain + transposed,
        macs=(plain + transposed) * 5 * 7,
        macs_output_resolution=plain * 5 * 7 + transposed * 10 * 14,
    )


def test_a_layer_used_twice_is_held_once_and_computed_twice() -> None:
    shared = nn.ConvTranspose2d(3, 3, 2, stride=2, bias=False)
    network = nn.Sequential(shared, shared)  # 4x4 -> 8x8 -> 16x16
    weights = 3 * 3 * 4
    assert measure_complexity(network, 3, (4, 4)) == Complexity(
        params=weights,
        macs=weights * (4 * 4 + 8 * 8),
        macs_output_resolution=weights * (8 * 8 + 16 * 16),
    )


def test_biases_norms_and_activations_are_held_but_not_computed() -> None:
    bare = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False))
    dressed = nn.Sequential(
        nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Tanh(), nn.Dropout(0.5)
    )
    assert measure_complexity(dressed, 3, (6, 6)).macs == measure_complexity(bare, 3, (8, 8)).macs
    assert count_params(dressed) == count_params(bare) + 8 + 2 * 8  # a bias, a scale, a shift


def test_a_network_without_weights_costs_nothing() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Tanh())
    assert measure_complexity(network, 3, (8, 8)) == Complexity(0, 0, 0)


# Printed figures are right to half a unit of their last digit; that is the tolerance.
@pytest.mark.parametrize(
    ("ngf", "params_m", "macs_g", "output_resolution_g"),
    [(64, 11.378, 49.55, 56.8), (24, 1.606, 7.26, None), (16, 0.716, 3.33, None)],
)
def test_resnet_9_costs_what_is_published(
    ngf: int, params_m: float, macs_g: float, output_resolution_g: float | None
) -> None:
    cost = measure_complexity(resnet_9(ngf), 3, (256, 256))
    assert cost.params / 1e6 == pytest.approx(params_m, abs=0.0005)
    assert cost.macs / 1e9 == pytest.approx(macs_g, abs=0.005)
    if output_resolution_g is not None:
        assert cost.macs_output_resolution / 1e9 == pytest.approx(output_resolution_g, abs=0.05)


def test_resnet_9_in_closed_form() -> None:
    pixels, n = 256 * 256, 64
    stem, down = 3 * n * 49 * pixels, (n * 2 * n * 9 + 2 * n * 4 * n * 9 / 4) * pixels / 4
    blocks = 18 * (4 * n) ** 2 * 9 * pixels / 16
    up, head = (4 * n * 2 * n * 9 / 4 + 2 * n * n * 9) * pixels / 4, n * 3 * 49 * pixels
    cost = measure_complexity(resnet_9(n), 3, (256, 256))
    assert cost.macs == stem + down + blocks + up + head
    assert cost.macs_output_resolution == stem + down + blocks + 4 * up + head


def test_affine_norms_add_weights_and_no_macs() -> None:
    plain, affine = resnet_9(8), resnet_9(8, affine=True)
    channels = 8 + 16 + 32 + 9 * (32 + 32) + 16 + 8
    assert count_params(affine) - count_params(plain) == 2 * channels
    assert (
        measure_complexity(affine, 3, (64, 64)).macs == measure_complexity(plain, 3, (64, 64)).macs
    )


def test_without_transposed_convolutions_both_figures_are_one() -> None:
    cost = measure_complexity(resnet_9(8, upsampling="subpixel"), 3, (64, 64))
    assert cost.macs_output_resolution == cost.macs > 0


def test_macs_grow_with_the_number_of_pixels() -> None:
    network = resnet_9(8)
    small, tall = (
        measure_complexity(network, 3, (64, 48)),
        measure_complexity(network, 3, (192, 48)),
    )
    assert tall.params == small.params
    assert tall.macs == 3 * small.macs
    assert tall.macs_output_resolution == 3 * small.macs_output_resolution


@pytest.mark.parametrize("ngf", [64, 24, 16])
def test_torch_pruning_counts_the_same_within_one_percent(ngf: int) -> None:
    # Torch-Pruning adds one operation for each value that a bias, a norm or a ReLU touches: at ngf
    # 64 that is 0.16 %, at 16, where fewer products hide them, 0.59 %.
    network = resnet_9(ngf)
    ours = measure_complexity(network, 3, (256, 256)).macs_output_resolution
    theirs = count_by_torch_pruning(network, (256, 256))
    assert 0 < theirs - ours < 0.01 * ours


def test_torch_pruning_counts_bare_convolutions_exactly_the_same() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, bias=False),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1, bias=False),
        nn.ConvTranspose2d(6, 3, 3, stride=3, bias=False),
    )
    ours = measure_complexity(network, 3, (33, 41)).macs_output_resolution
    assert ours == count_by_torch_pruning(network, (33, 41))


def test_nothing_is_computed() -> None:
    # The image alone would be 120 TB; only shapes pass through.
    cost = measure_complexity(nn.Conv2d(3, 4, 3, padding=1), 3, (10**6, 10**7))
    assert cost.macs == 3 * 4 * 9 * 10**13


def test_the_network_itself_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = copy.deepcopy(network.state_dict())
    measure_complexity(network, 3, (8, 8))
    assert all(module.training for module in network.modules())
    assert not network[0]._forward_hooks
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, before[name])


def test_activation_bytes_of_a_hand_sized_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(inplace=True), nn.Conv2d(8, 2, 1))
    # Between the convolutions 8 maps of 16x16 are alive, at the second one 2 more; 4 bytes each.
    assert measure_activation_bytes(network, (1, 3, 16, 16)) == 4 * 256 * (8 + 2)
    assert measure_activation_bytes(network, (5, 3, 16, 16)) == 5 * 4 * 256 * (8 + 2)


def test_a_skip_stays_alive() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            skip = self.first(images)
            out: torch.Tensor = self.second(self.second(skip)) + skip
            return out

    # The skip, what goes into the addition, and its result.
    assert measure_activation_bytes(Skip(), (1, 1, 8, 8)) == 4 * 64 * (4 + 4 + 4)


def test_positions_times_weights_are_the_macs() -> None:
    network = ResnetGenerator(encoder=(4, 8), stream=16, inner=(8,), decoder=(8, 4))
    found = kernel_positions(network, 3, (32, 48))
    macs = sum(count * network.get_submodule(name).weight.numel() for name, count in found.items())
    assert macs == measure_complexity(network, 3, (32, 48)).macs
