"""The channels of a network: which go together, and taking some of them away.

Torch-Pruning's dependency graph says which channels must go together: those of the residual
stream in every block that reads or writes it, those of a U-Net's skip in both of its readers.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import nn

from wkdc.networks.resnet import ResnetBlock
from wkdc.subpixel import (
    SubpixelConv2d,
    SubpixelPruner,
    join_subpixels,
    phases,
    split_subpixels,
)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together, in every layer that makes or reads them.

    Attributes:
        root: the convolution whose output channels stand for the group.
        channels: how many there are.
        block: the residual block that they are the inside of, by name: without any of them the
            block is gone, and its skip is left. None elsewhere, where one channel has to stay.
        members: Torch-Pruning's list of (layer, which side of it, which of its channels).
        makers, readers: the convolutions that write and read the group, by name in the order of
            the forward pass, and for each channel of the group its number there; four numbers
            where a pixel shuffle follows.
    """

    root: nn.Module
    channels: int
    block: str | None
    members: Any
    makers: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, tuple[int, ...]]

    def made_by(self, name: str, chosen: Sequence[int]) -> list[int]:
        """The channels that the maker `name` puts out for the channels `chosen` of the group."""
        channels = self.makers[name]
        each = len(channels) // self.channels
        return [channels[each * i + k] for i in chosen for k in range(each)]


def channel_groups(
    network: nn.Module, *, in_channels: int, smallest: int
) -> tuple[Any, list[ChannelGroup]]:
    """Torch-Pruning's dependency graph of `network`, and its groups of removable channels.

    The groups come in the order in which the forward pass makes them. Sub-pixel convolutions become
    single layers in `network`, until `slice_channels`.

    Args:
        network: its weights must require gradients, which the graph is traced along.
        smallest: height and width that `network` draws at.
    """
    join_subpixels(network)
    example = torch.zeros(1, in_channels, max(32, smallest), max(32, smallest))
    graph = torch_pruning.DependencyGraph().build_dependency(
        network, example, customized_pruners={SubpixelConv2d: SubpixelPruner()}
    )
    names = {layer: name for name, layer in network.named_modules()}
    place = {name: number for number, name in enumerate(names.values())}
    groups = []
    for members in graph.get_all_groups(
        ignored_layers=[picture_layer(network)], root_module_types=list(CONVOLUTIONS)
    ):
        made: dict[str, tuple[int, ...]] = {}
        read: dict[str, tuple[int, ...]] = {}
        for dependency, channels in members:
            if isinstance(dependency.layer, CONVOLUTIONS):
                side = read if reads(dependency) else made
                side[names[dependency.layer]] = tuple(layer_channels(dependency, channels))
        root, channels = members[0].dep.layer, len(members[0].idxs)
        block = _block_around(network, [*made, *read])
        makers, readers = (
            {n: side[n] for n in sorted(side, key=place.__getitem__)} for side in (made, read)
        )
        groups.append(ChannelGroup(root, channels, block, members, makers, readers))
    return graph, sorted(groups, key=lambda group: place[next(iter(group.makers))])


def picture_layer(network: nn.Module) -> nn.Module:
    """The convolution that draws the picture, whose channels are not to be removed."""
    # Modules are registered in the order of the forward pass.
    return [layer for layer in network.modules() if isinstance(layer, CONVOLUTIONS)][-1]


def norms_after(network: nn.Module) -> dict[str, nn.Module]:
    """The norm that follows each convolution, by the convolution's name, where there is one."""
    kinds = (*CONVOLUTIONS, nn.InstanceNorm2d, nn.BatchNorm2d)
    layers = [(n, layer) for n, layer in network.named_modules() if isinstance(layer, kinds)]
    return {
        name: following
        for (name, layer), (_, following) in itertools.pairwise(layers)
        if isinstance(layer, CONVOLUTIONS) and not isinstance(following, CONVOLUTIONS)
    }


def _block_around(network: nn.Module, names: Sequence[str]) -> str | None:
    """The residual block that holds all the layers `names`, if one does."""
    blocks: list[str] = [name for name, m in network.named_modules() if isinstance(m, ResnetBlock)]
    return next((b for b in blocks if all(name.startswith(f"{b}.") for name in names)), None)


def layer_channels(dependency: Any, channels: Sequence[int]) -> list[int]:
    """Channels of a group as the layer counts them: four for one that a pixel shuffle makes."""
    if isinstance(dependency.layer, SubpixelConv2d) and not reads(dependency):
        return phases(channels)
    return list(channels)


def reads(dependency: Any) -> bool:
    """Whether a member of a group loses inputs, not outputs."""
    return "in_channels" in dependency.pruning_fn.__name__


def slice_channels(
    network: nn.Module, graph: Any, groups: Sequence[ChannelGroup], kept: Sequence[list[int]]
) -> None:
    """Remove from the traced network, in place, every channel that is not in `kept`.

    A block of which none is kept becomes an identity, so that the other layers keep their names.
    """
    for group, channels in zip(groups, kept, strict=True):
        removed = sorted(set(range(group.channels)) - set(channels))
        if removed and channels:
            pruning_fn = graph.get_pruner_of_module(group.root).prune_out_channels
            graph.get_pruning_group(group.root, pruning_fn, removed).prune()
    for group, channels in zip(groups, kept, strict=True):
        if not channels and group.block is not None:
            parent, _, leaf = group.block.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
    split_subpixels(network)
