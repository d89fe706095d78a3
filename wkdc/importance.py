"""Which channels of a group matter, most important first."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
import torch_pruning
from torch import Tensor, nn

from wkdc.channels import ChannelGroup, norms_after
from wkdc.devices import fast_autocast
from wkdc.errors import OptionError

Importance = Literal["readers", "magnitude", "random"]

RIDGE = 1e-3
"""Added to the inputs' covariance, by its mean diagonal, so that it can be inverted."""


def rank(
    group: ChannelGroup,
    importance: Importance,
    *,
    network: nn.Module,
    moments: Mapping[str, Tensor],
    seed: int = 0,
) -> list[int]:
    """The group's channels, most important first.

    Args:
        importance: `readers` takes away, one by one, the channel that the layers reading the
            group miss least, see `elimination_order`; `magnitude` goes by the sum of squared
            weights over all layers of the group; `random` is the control that any ranking has to
            beat.
        network: the group's, not yet pruned.
        moments: of `input_moments`, for `readers`.
        seed: for `random`.

    Raises:
        OptionError: an unknown importance.
    """
    match importance:
        case "readers":
            covariances, kernels = [], []
            for name, channels in group.readers.items():
                chosen = torch.tensor(channels)
                covariances.append(moments[name][chosen][:, chosen])
                kernels.append(kernel_moments(network.get_submodule(name))[chosen][:, chosen])
            removed = elimination_order(covariances, kernels)
            return removed[::-1]
        case "magnitude":
            scores = torch_pruning.importance.GroupMagnitudeImportance(p=2)(group.members)
            order: list[int] = torch.argsort(scores, descending=True, stable=True).tolist()
            return order
        case "random":
            name = next(iter(group.makers))
            return random.Random(f"{name} of {seed}").sample(range(group.channels), group.channels)
        case _:
            raise OptionError(
                f"importance {importance!r} is not known; choose readers, magnitude or random"
            )


@torch.inference_mode()
def input_moments(
    network: nn.Module,
    names: Sequence[str],
    images: Sequence[Tensor],
    *,
    on_image: Callable[[float], None] | None = None,
) -> dict[str, Tensor]:
    """The covariance of the channels that each layer reads, float64 C×C, times their number.

    In front of InstanceNorm every picture is centred by its own means, as it will be there;
    elsewhere by the means over all pictures, so that differences between pictures count.

    Args:
        names: of convolutions.
        images: 1×C×H×W each, in [-1, 1].
        on_image: called after each with the share that is done.
    """
    moments: dict[str, Tensor] = {}
    means: dict[str, list[Tensor]] = {name: [] for name in names}
    hooks = []
    for name in names:

        def take(_: nn.Module, inputs: tuple[Tensor], name: str = name) -> None:
            values = inputs[0][0].to(images[0].dtype).flatten(1)
            mean = values.mean(1, keepdim=True)
            values = values - mean
            moments[name] = moments.get(name, 0) + (values @ values.T).double()
            means[name].append(values.shape[1] ** 0.5 * mean.double())

        hooks.append(network.get_submodule(name).register_forward_pre_hook(take))
    try:
        for number, image in enumerate(images, 1):
            with fast_autocast(image.device):
                network(image)
            if on_image is not None:
                on_image(number / len(images))
    finally:
        for hook in hooks:
            hook.remove()
    norms = norms_after(network)
    for name, found in means.items():
        if not isinstance(norms.get(name), nn.InstanceNorm2d):
            apart = torch.cat(found, 1)
            apart -= apart.mean(1, keepdim=True)
            moments[name] += apart @ apart.T
    return moments


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


def elimination_order(covariances: Sequence[Tensor], kernels: Sequence[Tensor]) -> list[int]:
    """All channels, the first to go first: backward elimination by what the readers lose.

    Each step removes the channel that costs least when every reader makes the best of the others:
    its weights are refitted by least squares, whose cost is known in closed form (optimal brain
    surgeon; Hassibi and Stork, 1993). A reader's cost counts as a share of what these channels make
    it put out. Exact for 1x1 kernels; in larger ones each tap makes do with the same tap of other
    channels.

    Args:
        covariances: for each reader, C×C, of the channels that it reads.
        kernels: for each reader, C×C, of `kernel_moments`.
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
    order = []
    for _ in range(count):
        costs = (_diagonals(product) / _diagonals(inverse)).sum(0)
        out = int(costs.masked_fill(~present, torch.inf).argmin())
        order.append(out)
        present[out] = False
        # The others' weights move by `share` of the removed one's.
        share = inverse[:, :, out] / inverse[:, out, out, None]
        share[:, ~present] = 0
        row, own = product[:, out].clone(), product[:, out, out, None, None].clone()
        product -= share[:, :, None] * row[:, None] + row[:, :, None] * share[:, None]
        product += own * share[:, :, None] * share[:, None]
        inverse -= share[:, :, None] * inverse[:, out, None].clone()
        inverse[:, out, out] = 1  # gone; keeps the divisions above finite
    return order


def _diagonals(matrices: Tensor) -> Tensor:
    """R×C×C -> R×C."""
    return matrices.diagonal(dim1=1, dim2=2)
