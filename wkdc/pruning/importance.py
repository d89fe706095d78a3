"""Which channels of a group matter, and what is lost without the others."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch_pruning
from torch import Tensor, nn

from wkdc.errors import OptionError
from wkdc.pruning.channels import ChannelGroup

Importance = Literal[
    "readers", "magnitude", "l1", "fpgm", "norm-scale", "taylor", "activation", "random"
]

NEED_IMAGES: tuple[Importance, ...] = ("readers", "taylor", "activation")

RIDGE = 1e-3
"""Added to the inputs' covariance, by its mean diagonal, so that it can be inverted."""


@dataclass(frozen=True)
class Ranking:
    """A group's channels, most important first.

    Attributes:
        order: the channels.
        loss: what the readers lose, summed over them, each as a share of what these channels make
            it put out, when only the first 0, 1, 2 ... channels are left; None without images.
    """

    order: list[int]
    loss: Tensor | None


def rank(
    group: ChannelGroup,
    importance: Importance,
    *,
    network: nn.Module,
    moments: Mapping[str, Tensor],
    seed: int = 0,
) -> Ranking:
    """Rank the channels of `group`.

    Args:
        importance: `readers` takes away, one by one, the channel that the layers reading the
            group miss least, see `eliminate`; `activation` goes by the variance that the readers
            are given. Torch-Pruning's: `magnitude` (squared weights over all layers of the group),
            `l1`, `fpgm` (distance to the other kernels; He et al., 2019), `norm-scale` (of
            BatchNorm; Liu et al., 2017), `taylor` (weights times `accumulate_gradients`; Molchanov
            et al., 2019). `random` is the control that any ranking has to beat.
        network: the teacher's, not pruned.
        moments: of `wkdc.pruning.activations.observe`; empty without images.
        seed: for `random`.

    Raises:
        OptionError: an unknown importance, or one that this group has no answer to.
    """
    order = None if importance == "readers" else _order(group, importance, moments, seed)
    if order is not None and not moments:
        return Ranking(order, None)
    covariances, kernels = [], []
    for name, channels in group.readers.items():
        chosen = torch.tensor(channels)
        covariances.append(moments[name][chosen][:, chosen])
        kernels.append(kernel_moments(network.get_submodule(name))[chosen][:, chosen])
    removed, costs = eliminate(covariances, kernels, None if order is None else order[::-1])
    lost = torch.tensor([0.0, *costs]).double().cumsum(0)
    return Ranking(removed[::-1], lost.flip(0))


def kernel_moments(layer: nn.Module) -> Tensor:
    """Products of a convolution's weights, by input channel, summed over taps and outputs: C×C."""
    if isinstance(layer, nn.ConvTranspose2d):
        weights = layer.weight.detach().flatten(1)
    elif isinstance(layer, nn.Conv2d):
        weights = layer.weight.detach().transpose(0, 1).flatten(1)
    else:
        raise TypeError(f"{type(layer).__name__} is no convolution")
    weights = weights.double()
    return weights @ weights.T


def accumulate_gradients(network: nn.Module, images: Sequence[Tensor]) -> None:
    """Leave in the weights of `network` the gradients that `taylor` reads.

    There is no loss between a network and itself, so the image's product with white noise stands
    for one: each pixel counts alike, in a direction of its own.

    Args:
        images: 1×C×H×W in [-1, 1].
    """
    generator = torch.Generator().manual_seed(0)
    for image in images:
        output = network(image)
        noise = torch.randn(output.shape, generator=generator)
        (output * noise).sum().backward()


def _order(
    group: ChannelGroup, importance: Importance, moments: Mapping[str, Tensor], seed: int
) -> list[int]:
    """The channels by a score of each alone, highest first."""
    kinds = torch_pruning.importance
    match importance:
        case "magnitude":
            scores = kinds.GroupMagnitudeImportance(p=2)(group.members)
        case "l1":
            scores = kinds.GroupMagnitudeImportance(p=1)(group.members)
        case "fpgm":
            scores = kinds.FPGMImportance()(group.members)
        case "norm-scale":
            scores = kinds.BNScaleImportance()(group.members)
        case "taylor":
            scores = kinds.GroupTaylorImportance()(group.members)
        case "activation":
            variances = [
                moments[name].diagonal()[list(channels)] for name, channels in group.readers.items()
            ]
            scores = torch.stack([own / own.sum().clamp_min(1e-12) for own in variances]).sum(0)
        case "random":
            name = next(iter(group.producers))
            return random.Random(f"{name} of {seed}").sample(range(group.channels), group.channels)
        case _:
            raise OptionError(
                f"importance {importance!r} is not known; choose {', '.join(get_args(Importance))}"
            )
    if scores is None or len(scores) != group.channels:
        raise OptionError(
            f"importance {importance} has no score for {next(iter(group.producers))}; take another"
        )
    order: list[int] = torch.argsort(scores, descending=True, stable=True).tolist()
    return order


def eliminate(
    covariances: Sequence[Tensor], kernels: Sequence[Tensor], order: Sequence[int] | None = None
) -> tuple[list[int], list[float]]:
    """All channels, the first to go first, and what the loss of each costs its readers.

    Each step removes the channel that costs least when every reader makes the best of the others:
    its weights are refitted by least squares, whose cost is known in closed form (optimal brain
    surgeon; Hassibi and Stork, 1993). A reader's cost counts as a share of what these channels make
    it put out. Exact for 1x1 kernels; in larger ones each tap makes do with the same tap of other
    channels.

    Args:
        covariances: for each reader, C×C, of the channels that it reads.
        kernels: for each reader, C×C, of `kernel_moments`.
        order: take the channels away in this order instead, and only count what that costs.
    """
    count = len(covariances[0])
    inverses, products = [], []
    for covariance, kernel in zip(covariances, kernels, strict=True):
        damping = RIDGE * covariance.diagonal().mean().clamp_min(1e-12)
        energy = (covariance * kernel).sum().clamp_min(1e-12)
        inverses.append(torch.linalg.inv(covariance + damping * torch.eye(count).double()))
        products.append(kernel / energy)
    inverse, product = torch.stack(inverses), torch.stack(products)
    present = torch.ones(count, dtype=torch.bool)
    removed, spent = [], []
    for step in range(count):
        costs = (_diagonals(product) / _diagonals(inverse)).sum(0)
        out = int(costs.masked_fill(~present, torch.inf).argmin()) if order is None else order[step]
        removed.append(out)
        spent.append(max(0.0, float(costs[out])))
        present[out] = False
        # The others' weights move by `share` of the removed one's.
        share = inverse[:, :, out] / inverse[:, out, out, None]
        share[:, ~present] = 0
        row, own = product[:, out].clone(), product[:, out, out, None, None].clone()
        product -= share[:, :, None] * row[:, None] + row[:, :, None] * share[:, None]
        product += own * share[:, :, None] * share[:, None]
        inverse -= share[:, :, None] * inverse[:, out, None].clone()
        inverse[:, out, out] = 1  # gone; keeps the divisions above finite
    return removed, spent


def _diagonals(matrices: Tensor) -> Tensor:
    """R×C×C -> R×C."""
    return matrices.diagonal(dim1=1, dim2=2)
