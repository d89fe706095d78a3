"""What the teacher's layers read and put out on the calibration images, seen in one pass."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.networks.architecture import residual_blocks
from wkdc.pruning.channels import trace_flow
from wkdc.system.devices import fast_autocast

POSITIONS = 1536
"""Places of a feature map that are kept, in each image."""

SMALL = 64
"""A map of fewer pixels is not centred by its own means: of a single one nothing would be left."""

RIDGE = 1e-3
"""Added to the covariance of what a block reads, by its mean diagonal, to solve with it."""


@dataclass(frozen=True)
class Observation:
    """The teacher at work.

    Attributes:
        images: the images, 1×C×H×W in [-1, 1].
        generated: the teacher's image of each of them.
        moments: by convolution, the covariance of the channels that it reads, float64 C×C, times
            the number of positions looked at.
        means: by convolution, the means over all images that its inputs were centred by, float64
            C; none where every image was centred by its own.
        skips: by residual block, the linear map of channels that does best what the block does:
            C×C, applied to what it reads, less the mean of each image's channels.
        outputs: by convolution, what it puts out at `positions_in` its map, one P×channels an
            image, in the precision that it was computed in.
        normalised: the same behind its norm, for convolutions that a GroupNorm follows.
    """

    images: Sequence[Tensor]
    generated: Sequence[Tensor]
    moments: Mapping[str, Tensor]
    means: Mapping[str, Tensor]
    skips: Mapping[str, Tensor]
    outputs: Mapping[str, Sequence[Tensor]]
    normalised: Mapping[str, Sequence[Tensor]]


@torch.inference_mode()
def observe(
    network: nn.Module,
    images: Sequence[Tensor],
    *,
    on_image: Callable[[float], None] | None = None,
) -> Observation:
    """Run `network` on `images`, and look on.

    In front of InstanceNorm every image's channels are centred by its own means, as they will be
    there; elsewhere, and on maps so small that little else would be left, by the means over all
    images, so that differences between images count.

    Args:
        images: 1×C×H×W each, in [-1, 1], all of one size.
        on_image: called after each with the share that is done.
    """
    flow = trace_flow(network, images[0])
    layers = {name: network.get_submodule(name) for name in flow.order if name in flow.usable}
    moments: dict[str, Tensor] = {}
    outputs: dict[str, list[Tensor]] = {name: [] for name in layers}
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    positions: dict[str, int] = {}
    normalised: dict[str, list[Tensor]] = {}
    hooks = []
    for name, layer in layers.items():

        def take(_: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            given = inputs[0][0].to(images[0].dtype)
            values = _centred(given)
            moments[name] = moments.get(name, 0) + (values @ values.T).double()
            seen[name].append(given.mean((1, 2)).double()[:, None])
            positions[name] = values.shape[1]
            outputs[name].append(at_places(out[0]).T.contiguous())

        hooks.append(layer.register_forward_hook(take))
    for maker, norm in flow.norms.items():
        if isinstance(norm, nn.GroupNorm) and maker in layers:

            def keep(_: nn.Module, __: object, out: Tensor, maker: str = maker) -> None:
                normalised[maker].append(at_places(out[0]).T.contiguous())

            normalised[maker] = []
            hooks.append(norm.register_forward_hook(keep))
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    for name, block in residual_blocks(network).items():

        def meet(_: nn.Module, inputs: tuple[Tensor], out: Tensor, name: str = name) -> None:
            given, made = (_centred(maps[0].to(images[0].dtype)) for maps in (inputs[0], out))
            own, crossed = pairs.get(name, (0, 0))
            pairs[name] = (
                own + (given @ given.T).double(),
                crossed + (made @ given.T).double(),
            )

        hooks.append(block.register_forward_hook(meet))
    generated: list[Tensor] = []
    try:
        for number, image in enumerate(images, 1):
            with fast_autocast(image.device):
                generated.append(network(image).to(image.dtype))
            if on_image is not None:
                on_image(number / len(images))
    finally:
        for hook in hooks:
            hook.remove()
    means = {}
    for name, found in seen.items():
        if not isinstance(flow.norms.get(name), nn.InstanceNorm2d) or positions[name] < SMALL:
            apart = torch.cat(found, 1)
            means[name] = apart.mean(1)
            apart = apart - means[name][:, None]
            moments[name] += positions[name] * apart @ apart.T
    skips = {}
    for name, (own, crossed) in pairs.items():
        ridge = RIDGE * own.diagonal().mean().clamp_min(1e-12) * torch.eye(len(own)).double()
        skips[name] = torch.linalg.solve(own + ridge, crossed.T).T
    return Observation(images, generated, moments, means, skips, outputs, normalised)


def _centred(maps: Tensor) -> Tensor:
    """C×H×W -> C×P: at `positions_in` the map, each channel less its mean over all of it."""
    values = maps.flatten(1)
    return at_places(maps) - values.mean(1, keepdim=True)


def at_places(maps: Tensor) -> Tensor:
    """C×H×W -> C×P: the values at `positions_in` the map."""
    positions = positions_in(*maps.shape[-2:])
    # gather reads a few times faster here than indexing does
    return maps.flatten(1).gather(1, positions.expand(len(maps), -1))


@functools.lru_cache
def positions_in(height: int, width: int) -> Tensor:
    """Up to `POSITIONS` positions of a map, as flat indices; always the same ones for its size."""
    total = height * width
    if total <= POSITIONS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(0))[:POSITIONS]
