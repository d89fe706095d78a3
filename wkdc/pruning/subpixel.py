"""Sub-pixel convolutions as single layers, so that their channels can be followed and removed.

A convolution makes four channels for each one that a pixel shuffle spreads over twice the height
and width. What is removed is such a channel, all four at once.
"""

from collections.abc import Sequence

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn import functional

FACTOR = 2
"""By which height and width grow."""

PHASES = FACTOR**2
"""Channels of the convolution for each one that comes out."""


class SubpixelConv2d(nn.Conv2d):
    """A convolution and the pixel shuffle behind it: N×C×H×W -> N×`out_channels`/4×2H×2W."""

    def forward(self, images: Tensor) -> Tensor:
        return functional.pixel_shuffle(super().forward(images), FACTOR)


class SubpixelPruner(torch_pruning.BasePruningFunc):  # type: ignore[misc]
    """How Torch-Pruning removes channels of a `SubpixelConv2d`, counted behind the shuffle."""

    def prune_out_channels(self, layer: SubpixelConv2d, idxs: Sequence[int]) -> SubpixelConv2d:
        kept = torch.tensor(phases(sorted(set(range(self.get_out_channels(layer))) - set(idxs))))
        layer.weight = nn.Parameter(layer.weight.detach()[kept])
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[kept])
        layer.out_channels = len(kept)
        return layer

    # Its inputs are those of any convolution, and known as such to Torch-Pruning's criteria.
    prune_in_channels = torch_pruning.prune_conv_in_channels

    def get_out_channels(self, layer: SubpixelConv2d) -> int:
        return layer.out_channels // PHASES

    def get_in_channels(self, layer: SubpixelConv2d) -> int:
        return layer.in_channels


def phases(channels: Sequence[int]) -> list[int]:
    """The convolution's channels that the shuffle makes `channels` of."""
    return [PHASES * channel + phase for channel in channels for phase in range(PHASES)]


def join_subpixels(network: nn.Module) -> None:
    """Make one layer, in place, of every convolution with a pixel shuffle behind it."""
    for row in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number in range(len(row) - 1):
            conv = row[number]
            if type(conv) is nn.Conv2d and _doubles(row[number + 1]) and conv.groups == 1:
                row[number] = _as(SubpixelConv2d, conv)
                row[number + 1] = nn.Identity()


def _doubles(layer: nn.Module) -> bool:
    return isinstance(layer, nn.PixelShuffle) and layer.upscale_factor == FACTOR


def split_subpixels(network: nn.Module) -> None:
    """The inverse of `join_subpixels`, in place."""
    for row in [module for module in network.modules() if isinstance(module, nn.Sequential)]:
        for number in range(len(row) - 1):
            conv = row[number]
            if isinstance(conv, SubpixelConv2d):
                row[number] = _as(nn.Conv2d, conv)
                row[number + 1] = nn.PixelShuffle(FACTOR)


def _as(kind: type[nn.Conv2d], conv: nn.Conv2d) -> nn.Conv2d:
    """The same convolution, with the same parameters, as a layer of another kind."""
    other = kind(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
        dilation=conv.dilation,  # type: ignore[arg-type]
    )
    other.weight, other.bias = conv.weight, conv.bias
    return other
