"""Which channels matter: backward elimination against brute force, and the moments it needs."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from wkdc.errors import OptionError
from wkdc.importance import RIDGE, elimination_order, input_moments, kernel_moments, rank


def loss_without(inputs: Tensor, weights: Tensor, kept: list[int]) -> float:
    """What a linear reader loses with the inputs `kept` alone, refitted: brute force."""
    wanted = inputs @ weights
    # RIDGE as the elimination adds it, in the form of extra rows that keep the kernel as it was.
    damping = (RIDGE * inputs.square().sum(0).mean()).sqrt()
    ridge = damping * torch.eye(inputs.shape[1]).double()
    stacked, target = torch.cat([inputs, ridge]), torch.cat([wanted, ridge @ weights])
    solution = torch.linalg.lstsq(stacked[:, kept], target).solution
    return float((stacked[:, kept] @ solution - target).square().sum())


@pytest.mark.parametrize("readers", [1, 3])
def test_elimination_is_greedy_least_squares(readers: int) -> None:
    torch.manual_seed(readers)
    channels = 7
    inputs = [
        torch.randn(60, channels).double() @ torch.randn(channels, channels).double()
        for _ in range(readers)
    ]
    weights = [torch.randn(channels, 4).double() for _ in range(readers)]
    order = elimination_order([x.T @ x for x in inputs], [w @ w.T for w in weights])
    assert sorted(order) == list(range(channels))
    energies = [float((x @ w).square().sum()) for x, w in zip(inputs, weights, strict=True)]
    left = list(range(channels))
    for out in order[:-1]:

        def cost(channel: int, left: list[int] = left) -> float:
            kept = [c for c in left if c != channel]
            return sum(
                loss_without(x, w, kept) / energy
                for x, w, energy in zip(inputs, weights, energies, strict=True)
            )

        best = min(cost(channel) for channel in left)
        # Both are float64 sums of the same few dozen terms.
        assert cost(out) == pytest.approx(best, rel=1e-9)
        left.remove(out)


def test_a_channel_that_others_can_say_goes_first() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, 6).double()
    inputs[:, 2] = inputs[:, 0] - 2 * inputs[:, 5]
    weights = torch.randn(6, 8).double()
    weights[2] *= 10  # by weight it would be the last to go
    order = elimination_order([inputs.T @ inputs], [weights @ weights.T])
    assert order[0] in (0, 2, 5)


def test_a_channel_that_nobody_reads_goes_first() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, 5).double()
    weights = torch.randn(5, 8).double()
    weights[3] = 0
    assert elimination_order([inputs.T @ inputs], [weights @ weights.T])[0] == 3


def test_every_reader_counts_by_its_own_output() -> None:
    """A reader whose output is a thousand times larger has no louder voice."""
    torch.manual_seed(0)
    pairs = [(torch.randn(100, 5).double(), torch.randn(5, 6).double()) for _ in range(2)]
    covariances = [x.T @ x for x, _ in pairs]
    kernels = [w @ w.T for _, w in pairs]
    louder = [kernels[0], 1e6 * kernels[1]]
    assert elimination_order(covariances, kernels) == elimination_order(covariances, louder)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(3, 5, 3)], ids=["conv", "transposed"]
)
def test_kernel_moments_sum_over_taps_and_outputs(layer: nn.Module) -> None:
    found = kernel_moments(layer.requires_grad_(False))
    by_input = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
    for a, b in itertools.product(range(3), repeat=2):
        pair = layer.weight.select(by_input, a).double() * layer.weight.select(by_input, b).double()
        assert float(found[a, b]) == pytest.approx(float(pair.sum()), rel=1e-12)


def test_input_moments_are_centred_as_the_norm_that_follows_does() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.InstanceNorm2d(2), nn.Conv2d(2, 1, 1)).double()
    images = [(torch.randn(1, 2, 8, 8) + mean).double() for mean in (5, -3)]
    done: list[float] = []
    found = input_moments(network, ["0", "2"], images, on_image=done.append)
    each = sum(64 * torch.cov(image[0].flatten(1), correction=0) for image in images)
    assert torch.allclose(found["0"], each, rtol=1e-12)  # sums of 64 products in float64
    with torch.no_grad():
        inner = torch.cat([network[:2](image)[0].flatten(1) for image in images], 1)
    assert torch.allclose(found["2"], 128 * torch.cov(inner, correction=0), rtol=1e-12)
    assert done == [0.5, 1.0]
    assert not any(layer._forward_pre_hooks for layer in network)


def test_an_unknown_importance() -> None:
    with pytest.raises(OptionError, match="choose readers, magnitude or random"):
        rank(None, "l1", network=nn.Identity(), moments={})  # type: ignore[arg-type]
