"""What the teacher's layers read and put out on the calibration pictures, seen in one pass."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.channels import CONVOLUTIONS, norms_after
from wkdc.devices import fast_autocast
from wkdc.networks.resnet import ResnetBlock

POSITIONS = 2048
"""Places of a feature map that are kept, in each picture."""

RIDGE = 1e-3
"""Added to the covariance of what a block reads, by its mean diagonal, to solve with it."""


@dataclass(frozen=True)
class Observation:
    """The teacher at work.

    Attributes:
        images: the pictures, 1×C×H×W in [-1, 1].
        moments: by convolution, the covariance of the channels that it reads, float64 C×C, times
            the number of places looked at.
        skips: by residual block, the linear map of channels that does best what the block does:
            C×C, applied to what it reads, less the mean of each picture's channels.
        outputs: by convolution, what it puts out at `places_in` its map, one P×channels a picture,
            in the precision that it was computed in.
    """

    images: Sequence[Tensor]
    moments: Mapping[str, Tensor]
    skips: Mapping[str, Tensor]
    outputs: Mapping[str, Sequence[Tensor]]


@torch.inference_mode()
def observe(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    on_image: Callable[[float], None] | None = None,
) -> Observation:
    """Let `network` draw from `images`.

    In front of InstanceNorm every picture's channels are centred by its own means, as they will be
    there; elsewhere by the means over all pictures, so that differences between pictures count.

    Args:
        images: 1×C×H×W each, in [-1, 1], all of one size.
        on_image: called after each with the share that is done.
    """
    layers = {n: layer for n, layer in network.named_modules() if isinstance(layer, CONVOLUTIONS)}
    moments: dict[str, Tensor] = {}
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    means: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = []
    for name, layer in layers.items():

        def take(_: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            given = inputs[0][0].to(images[0].dtype)
            values = _centred(given)
            moments[name] = moments.get(name, 0) + (values @ values.T).double()
            means[name].append(values.shape[1] ** 0.5 * given.mean((1, 2)).double()[:, None])
            chosen = out[0].flatten(1)[:, places_in(*out.shape[-2:])]
            outputs[name].append(chosen.T.contiguous())

        hooks.append(layer.register_forward_hook(take))
    blocks = {n: block for n, block in network.named_modules() if isinstance(block, ResnetBlock)}
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, block in blocks.items():

        def meet(_: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            given, made = (_centred(maps[0].to(images[0].dtype)) for maps in (inputs[0], out))
            seen = pairs.get(name, (0, 0))
            pairs[name] = (
                seen[0] + (given @ given.T).double(),
                seen[1] + (made @ given.T).double(),
            )

        hooks.append(block.register_forward_hook(meet))
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
    skips = {}
    for name, (own, crossed) in pairs.items():
        ridge = RIDGE * own.diagonal().mean().clamp_min(1e-12) * torch.eye(len(own)).double()
        skips[name] = torch.linalg.solve(own + ridge, crossed.T).T
    return Observation(images, moments, skips, outputs)


def _centred(maps: Tensor) -> Tensor:
    """C×H×W -> C×P: at `places_in` the map, each channel less its mean over all of it."""
    values = maps.flatten(1)
    return values[:, places_in(*maps.shape[-2:])] - values.mean(1, keepdim=True)


def places_in(height: int, width: int) -> Tensor:
    """Up to `POSITIONS` places of a map, as flat indices; always the same ones for its size."""
    total = height * width
    if total <= POSITIONS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:POSITIONS]
