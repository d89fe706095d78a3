"""What the image loses when one group of channels is narrowed, and the rest left alone."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wkdc.pruning.activations import Observation
from wkdc.pruning.channels import ChannelGroup
from wkdc.pruning.importance import Ranking
from wkdc.system.devices import fast_autocast

CROP = 64
"""Height and width of the images' middles that are translated, or the next that fit."""

CROPS = 4
"""How many of them."""

SHARE = 0.25
"""How much of a group is left when its error increase is measured; the ranking gives the rest."""

LEAST = 1e-6
"""A loss below this is rounding, and tells nothing of other widths."""

WORST = 4.0
"""The mean squared error of black for white, in [-1, 1]."""

RIDGE = 1e-4
"""Added to the covariance of the kept channels, by its mean diagonal."""


@torch.inference_mode()
def image_damage(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    rankings: Sequence[Ranking],
    observed: Observation,
    *,
    side: int,
    on_group: Callable[[float], None] | None = None,
) -> list[Tensor]:
    """For each group, what each of its widths from 0 on adds to the image's mean squared error.

    A narrowed group is run, not guessed: every layer that reads it gets, in place of the
    channels that went, what the best linear combination of the others says. That is done for one
    width; between widths the error is taken to follow the ranking's loss. A width of 0 is the block
    replaced by a linear map, the best or none, or infinite where there is no block.

    Args:
        rankings: of the groups, with their losses.
        observed: of whose images the middles of a few are used.
        side: of these middles in pixels, a size that the network takes.
        on_group: called after each group with the share that is done.
    """
    crops = _middles(observed.images, side)
    with fast_autocast(crops.device):
        whole = network(crops).float()

    def error() -> float:
        with fast_autocast(crops.device):
            return float((network(crops).float() - whole).square().mean())

    damage = []
    for number, (group, ranking) in enumerate(zip(groups, rankings, strict=True), 1):
        if ranking.loss is None:
            raise ValueError("without images nothing is known of what a group's loss does")
        width = max(1, round(SHARE * group.channels))
        hooks = [
            _narrow(network, group, ranking.order[:width], name, observed) for name in group.readers
        ]
        try:
            scale = error() / max(float(ranking.loss[width]), LEAST)
        finally:
            for hook in hooks:
                hook.remove()
        curve = (scale * ranking.loss).clamp(max=WORST)
        curve[0] = torch.inf  # without any channel there is no image, but a block may go
        if group.block is not None:
            block, skip = network.get_submodule(group.block), observed.skips[group.block]
            for instead in (skip, torch.eye(len(skip))):
                hook = _leave_out(block, instead)
                try:
                    curve[0] = min(float(curve[0]), error())
                finally:
                    hook.remove()
        damage.append(curve)
        if on_group is not None:
            on_group(number / len(groups))
    return damage


def _middles(images: Sequence[Tensor], size: int) -> Tensor:
    """The middles of up to `CROPS` images, evenly spread: N×C×`size`×`size`."""
    chosen = images[:: max(1, len(images) // CROPS)][:CROPS]
    height, width = chosen[0].shape[-2:]
    size = min(size, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return torch.cat([image[..., top : top + size, left : left + size] for image in chosen])


def _leave_out(block: nn.Module, skip: Tensor) -> torch.utils.hooks.RemovableHandle:
    """Let `block` do no more than the layers that read it can make up for: a linear map."""

    def instead(_: nn.Module, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        apart = inputs[0] - inputs[0].mean((2, 3), keepdim=True)
        mixed = torch.einsum("ck,nkhw->nchw", skip.to(apart.dtype), apart)
        return mixed + out.mean((2, 3), keepdim=True)

    return block.register_forward_hook(instead)


def _narrow(
    network: nn.Module, group: ChannelGroup, kept: Sequence[int], name: str, observed: Observation
) -> torch.utils.hooks.RemovableHandle:
    """Let the layer `name` read only what the channels `kept` of `group` say."""
    channels = torch.tensor(group.readers[name])
    covariance = observed.moments[name][channels][:, channels]
    stay = torch.tensor(sorted(kept))
    ridge = RIDGE * covariance.diagonal().mean().clamp_min(1e-12) * torch.eye(len(stay)).double()
    said = torch.linalg.solve(covariance[stay][:, stay] + ridge, covariance[stay]).T.float()
    said[stay] = torch.eye(len(stay))
    centre = observed.means.get(name)

    def read(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        whole = inputs[0].clone()
        values = whole[:, channels]
        if centre is None:  # by each image's own means, as the norm behind will do
            means = values.mean((2, 3), keepdim=True)
        else:
            means = centre[channels].to(values.dtype)[None, :, None, None]
        apart = (values - means)[:, stay]
        whole[:, channels] = torch.einsum("ck,nkhw->nchw", said.to(apart.dtype), apart) + means
        return (whole,)

    return network.get_submodule(name).register_forward_pre_hook(read)
