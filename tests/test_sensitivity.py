"""What a narrowed group does to the image, against doing it."""

import math

import pytest
import torch
from torch import nn

from wkdc.networks.resnet import ResnetGenerator
from wkdc.networks.unet import UnetGenerator
from wkdc.pruning.activations import observe
from wkdc.pruning.channels import channel_groups
from wkdc.pruning.importance import rank
from wkdc.pruning.sensitivity import SHARE, image_damage


def test_the_error_increase_is_what_least_squares_leaves_of_the_image() -> None:
    """Of a linear network with 1x1 kernels, it is all that one least-squares fit leaves."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(6, 8, 1), nn.Conv2d(8, 3, 1)).requires_grad_(True)
    images = [torch.randn(1, 6, 64, 64) for _ in range(4)]
    _, groups = channel_groups(network, in_channels=6, smallest=32)
    observed = observe(network, images)
    ranking = rank(groups[0], "readers", network=network, moments=observed.moments)
    shares: list[float] = []
    (found,) = image_damage(network, groups, [ranking], observed, side=64, on_group=shares.append)
    kept = ranking.order[: int(8 * SHARE)]
    with torch.no_grad():
        inner = torch.cat([network[0](image)[0].flatten(1).T for image in images])
        wanted = torch.cat([network(image)[0].flatten(1).T for image in images])
    given, wanted = inner[:, kept] - inner[:, kept].mean(0), wanted - wanted.mean(0)
    left = wanted - given @ torch.linalg.lstsq(given, wanted).solution
    # Each image is centred by its own mean there, by the common one here, and the ridge is 1e-4.
    assert float(found[len(kept)]) == pytest.approx(float(left.square().mean()), rel=0.02)
    assert math.isinf(float(found[0]))
    assert float(found[8]) == 0
    assert bool((found[1:-1] >= found[2:]).all())
    assert shares == [1.0]


def test_a_block_that_does_nothing_can_go() -> None:
    torch.manual_seed(0)
    network = ResnetGenerator(encoder=(8, 8), stream=8, inner=(8, 8), decoder=(8, 8), affine=True)
    with torch.no_grad():
        network.model[11].conv_block[6].weight.zero_()  # the norm at its end
        network.model[11].conv_block[6].bias.zero_()
    network.requires_grad_(True)
    _, groups = channel_groups(network, in_channels=3, smallest=32)
    observed = observe(network, [torch.rand(1, 3, 64, 64) * 2 - 1 for _ in range(2)])
    rankings = [rank(g, "readers", network=network, moments=observed.moments) for g in groups]
    damage = image_damage(network, groups, rankings, observed, side=64)
    by_block = {g.block: d for g, d in zip(groups, damage, strict=True) if g.block is not None}
    # What is left is the rounding of bfloat16, where that is used.
    assert float(by_block["model.11"][0]) < 1e-4 < float(by_block["model.10"][0])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_the_innermost_channels_of_a_unet_are_missed() -> None:
    """At a single pixel each image is its own mean; what differs between images counts."""
    torch.manual_seed(0)
    network = UnetGenerator(down=[8, 8, 8, 16], up=[8, 8, 8]).eval()
    network.requires_grad_(True)
    _, groups = channel_groups(network, in_channels=3, smallest=16)
    (innermost,) = [group for group in groups if group.channels == 16]
    images = [torch.rand(1, 3, 16, 16) * 2 - 1 for _ in range(24)]
    observed = observe(network, images)
    ranking = rank(innermost, "readers", network=network, moments=observed.moments)
    (harm,) = image_damage(network, [innermost], [ranking], observed, side=16)
    assert float(harm[4]) > 0
    assert float(harm[1]) <= 4
