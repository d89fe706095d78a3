"""Which channels matter: backward elimination against brute force."""

import itertools
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from wkdc.errors import OptionError
from wkdc.pruning.activations import observe
from wkdc.pruning.channels import channel_groups
from wkdc.pruning.importance import (
    RIDGE,
    Importance,
    accumulate_gradients,
    eliminate,
    kernel_moments,
    rank,
)


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
    order, costs = eliminate([x.T @ x for x in inputs], [w @ w.T for w in weights])
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
        # What has been lost so far is the error of the best fit with those that are left.
        assert sum(costs[: order.index(out) + 1]) == pytest.approx(best, rel=1e-9)
    told, again = eliminate([x.T @ x for x in inputs], [w @ w.T for w in weights], order=order)
    assert (told, again) == (order, costs)


def test_a_channel_that_others_can_say_goes_first() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, 6).double()
    inputs[:, 2] = inputs[:, 0] - 2 * inputs[:, 5]
    weights = torch.randn(6, 8).double()
    weights[2] *= 10  # by weight it would be the last to go
    order, _ = eliminate([inputs.T @ inputs], [weights @ weights.T])
    assert order[0] in (0, 2, 5)


def test_a_channel_that_nobody_reads_goes_first() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(200, 5).double()
    weights = torch.randn(5, 8).double()
    weights[3] = 0
    assert eliminate([inputs.T @ inputs], [weights @ weights.T])[0][0] == 3


def test_every_reader_counts_by_its_own_output() -> None:
    """A reader whose output is a thousand times larger has no louder voice."""
    torch.manual_seed(0)
    pairs = [(torch.randn(100, 5).double(), torch.randn(5, 6).double()) for _ in range(2)]
    covariances = [x.T @ x for x, _ in pairs]
    kernels = [w @ w.T for _, w in pairs]
    louder = [kernels[0], 1e6 * kernels[1]]
    assert eliminate(covariances, kernels)[0] == eliminate(covariances, louder)[0]


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 5, 3), nn.ConvTranspose2d(3, 5, 3)], ids=["conv", "transposed"]
)
def test_kernel_moments_sum_over_taps_and_outputs(layer: nn.Module) -> None:
    found = kernel_moments(layer.requires_grad_(False))
    by_input = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
    for a, b in itertools.product(range(3), repeat=2):
        pair = layer.weight.select(by_input, a).double() * layer.weight.select(by_input, b).double()
        assert float(found[a, b]) == pytest.approx(float(pair.sum()), rel=1e-12)


IMPORTANCES = get_args(Importance)


@pytest.mark.parametrize("importance", [name for name in IMPORTANCES if name != "readers"])
def test_a_channel_that_is_never_there_goes_first(importance: Importance) -> None:
    """Half of the channels are dead, weights and all; only chance may keep one of them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 3, 3)
    ).eval()
    dead = [1, 3, 5, 7, 9, 11]
    with torch.no_grad():
        network[1].weight.uniform_(0.5, 2)
        for tensor in (network[0].weight, network[0].bias, network[1].weight, network[1].bias):
            tensor[dead] = 0
        network[3].weight[:, dead] = 0
    _, (group,) = channel_groups(network, in_channels=3, smallest=32)
    images = [torch.rand(1, 3, 32, 32) for _ in range(2)]
    if importance == "taylor":
        accumulate_gradients(network, images)
    moments = observe(network, images).moments
    ranking = rank(group, importance, network=network, moments=moments)
    assert sorted(ranking.order) == list(range(12))
    if importance == "random":
        assert set(ranking.order[:6]) & set(dead)
    elif importance == "fpgm":  # equal kernels are near each other, dead ones among them
        assert set(ranking.order[-2:]) <= set(dead)
    else:
        assert not set(ranking.order[:6]) & set(dead)
        assert ranking.loss is not None
        assert float(ranking.loss[6]) < 1e-6 < float(ranking.loss[5])


def test_a_score_that_the_network_does_not_have() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3))
    _, (group,) = channel_groups(network, in_channels=3, smallest=32)
    with pytest.raises(OptionError, match="norm-scale has no score"):
        rank(group, "norm-scale", network=network, moments={})
    with pytest.raises(OptionError, match="choose readers, magnitude, l1"):
        rank(group, "l0", network=network, moments={})  # type: ignore[arg-type]
