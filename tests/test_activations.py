"""The teacher at work: moments, outputs, and what a block does at its simplest."""

import torch
from torch import nn

from wkdc.networks.resnet import ResnetBlock
from wkdc.pruning.activations import POSITIONS, observe, positions_in


def test_moments_are_centred_as_the_norm_that_follows_does() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.InstanceNorm2d(2), nn.Conv2d(2, 1, 1)).double()
    images = [(torch.randn(1, 2, 8, 8) + mean).double() for mean in (5, -3)]
    done: list[float] = []
    found = observe(network, images, on_image=done.append)
    each = sum(64 * torch.cov(image[0].flatten(1), correction=0) for image in images)
    assert torch.allclose(found.moments["0"], each, rtol=1e-12)  # sums of 64 float64 products
    with torch.no_grad():
        inner = torch.cat([network[:2](image)[0].flatten(1) for image in images], 1)
    assert torch.allclose(found.moments["2"], 128 * torch.cov(inner, correction=0), rtol=1e-12)
    assert done == [0.5, 1.0]
    assert not any(layer._forward_hooks for layer in network)


def test_outputs_are_rows_of_places() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1)).double()
    images = [torch.randn(1, 1, 70, 60).double() for _ in range(2)]  # more places than are kept
    found = observe(network, images)
    assert [rows.shape for rows in found.outputs["0"]] == [(POSITIONS, 3)] * 2
    with torch.no_grad():
        whole = network(images[1])[0].flatten(1)
    assert torch.equal(found.outputs["2"][1], whole[:, positions_in(70, 60)].T)


def test_the_skip_of_a_block_is_the_least_squares_fit_of_what_it_does() -> None:
    torch.manual_seed(0)
    block = ResnetBlock(4, 3, norm="none").double()
    images = [torch.randn(1, 4, 12, 12).double() for _ in range(3)]
    skip = observe(nn.Sequential(block), images).skips["0"]

    def centred(maps: torch.Tensor) -> torch.Tensor:
        rows = maps[0].flatten(1).T
        return rows - rows.mean(0)

    with torch.no_grad():
        given = torch.cat([centred(image) for image in images])
        made = torch.cat([centred(block(image)) for image in images])
    best = torch.linalg.lstsq(given, made).solution.T
    # The ridge is a thousandth of the mean variance, so it moves the fit by about as much.
    assert torch.allclose(skip, best, atol=5e-3)
