"""The channels of a network: which go together, how many of each stay, taking the rest away.

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

from wkdc.complexity import count_params
from wkdc.errors import TargetError

TOLERANCE = 0.02
"""How far, relatively, the ratio may be from what was asked."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together, in every layer that makes or reads them.

    Attributes:
        root: the convolution whose output channels stand for the group.
        channels: how many there are.
        members: Torch-Pruning's list of (layer, which side of it, which of its channels).
        makers, readers: the convolutions that write and read the group, by name, and for each
            channel of the group its number there.
    """

    root: nn.Module
    channels: int
    members: Any
    makers: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, tuple[int, ...]]


def channel_groups(
    network: nn.Module, *, in_channels: int, smallest: int
) -> tuple[Any, list[ChannelGroup]]:
    """Torch-Pruning's dependency graph of `network`, and its groups of removable channels.

    Args:
        network: its weights must require gradients, which the graph is traced along.
        smallest: height and width that `network` draws at.

    Raises:
        TargetError: a layer whose channels the graph cannot follow.
    """
    if any(isinstance(layer, nn.PixelShuffle) for layer in network.modules()):
        raise TargetError(
            "this network doubles its resolution by pixel shuffles, whose channels cannot be "
            "removed; networks with transposed convolutions can be pruned"
        )
    example = torch.zeros(1, in_channels, max(32, smallest), max(32, smallest))
    graph = torch_pruning.DependencyGraph().build_dependency(network, example)
    names = {layer: name for name, layer in network.named_modules()}
    groups = []
    for members in graph.get_all_groups(
        ignored_layers=[picture_layer(network)], root_module_types=list(CONVOLUTIONS)
    ):
        makers: dict[str, tuple[int, ...]] = {}
        readers: dict[str, tuple[int, ...]] = {}
        for dependency, channels in members:
            if isinstance(dependency.layer, CONVOLUTIONS):
                side_of = readers if _reads(dependency) else makers
                side_of[names[dependency.layer]] = tuple(channels)
        root = members[0].dep.layer
        groups.append(ChannelGroup(root, len(members[0].idxs), members, makers, readers))
    return graph, groups


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


def _reads(dependency: Any) -> bool:
    """Whether a member of a group loses inputs, not outputs."""
    return "in_channels" in dependency.pruning_fn.__name__


def choose_widths(
    network: nn.Module,
    groups: Sequence[ChannelGroup],
    ratio: float,
    *,
    positions: Mapping[str, int] | None = None,
) -> list[int]:
    """How many channels each group keeps, so that `network` shrinks by `ratio` within 2 %.

    The same share everywhere, rounded; then, only if that misses, single channels more or less in
    the groups where the relative change is smallest.

    Args:
        positions: of `wkdc.complexity.kernel_positions`, to count MACs; else parameters count.

    Raises:
        TargetError: even one channel a group is too many, and the message names the largest ratio;
            no channel would go; or whole channels do not come within 2 %.
    """
    cost = _Cost(network, groups, positions)
    total = cost.of([group.channels for group in groups])
    smallest = cost.of([1] * len(groups))
    target = total / ratio
    if target < smallest * (1 - TOLERANCE):
        unit = "parameters" if positions is None else "MACs"
        raise TargetError(
            f"infeasible: {target:,.0f} {unit}, ratio {ratio:g}; the smallest network has "
            f"{smallest:,} {unit}, ratio {total / smallest:.1f}"
        )

    def uniform(share: float) -> list[int]:
        return [max(1, round(share * group.channels)) for group in groups]

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if cost.of(uniform(middle)) < target else (low, middle)
    widths = uniform(low)  # at least the ratio that was asked for, where the tolerance allows
    if cost.of(widths) < target * (1 - TOLERANCE):
        widths = min(widths, uniform(high), key=lambda k: abs(cost.of(k) - target))
    while abs(cost.of(widths) - target) > TOLERANCE * 0.9 * target:
        step = 1 if cost.of(widths) < target else -1
        moves = [
            [*widths[:i], width + step, *widths[i + 1 :]]
            for i, width in enumerate(widths)
            if 1 <= width + step <= groups[i].channels
        ]
        best = min(moves, key=lambda k: abs(cost.of(k) - target), default=widths)
        if abs(cost.of(best) - target) >= abs(cost.of(widths) - target):
            break
        widths = best
    if widths == [group.channels for group in groups]:
        raise TargetError(f"ratio {ratio:g} would remove nothing; give a larger one")
    reached = total / cost.of(widths)
    if abs(reached / ratio - 1) > TOLERANCE:
        raise TargetError(
            f"ratio {ratio:g} cannot be met within {TOLERANCE:.0%}: channels are whole; "
            f"the nearest found is {reached:.3g}"
        )
    return widths


def slice_channels(graph: Any, groups: Sequence[ChannelGroup], kept: Sequence[list[int]]) -> None:
    """Remove from the traced network, in place, every channel that is not in `kept`."""
    for group, channels in zip(groups, kept, strict=True):
        removed = sorted(set(range(group.channels)) - set(channels))
        if removed:
            pruning_fn = graph.get_pruner_of_module(group.root).prune_out_channels
            graph.get_pruning_group(group.root, pruning_fn, removed).prune()


class _Cost:
    """Parameters or MACs as a function of the groups' widths, without building the network.

    A layer's weight has (in × out × a constant) entries, each used once at every position of its
    kernel; each axis is a sum of groups' widths and a part that belongs to no group.
    """

    def __init__(
        self,
        network: nn.Module,
        groups: Sequence[ChannelGroup],
        positions: Mapping[str, int] | None,
    ) -> None:
        made: dict[nn.Module, dict[int, int]] = {}
        read: dict[nn.Module, dict[int, int]] = {}
        for number, group in enumerate(groups):
            for dependency, channels in group.members:
                layer = dependency.layer
                reads = isinstance(layer, CONVOLUTIONS) and _reads(dependency)
                (read if reads else made).setdefault(layer, {})[number] = len(channels)
        self._layers: list[tuple[float, float, _Axis, _Axis]] = []
        for name, layer in network.named_modules():
            own = count_params(layer) if not list(layer.children()) else 0
            if not own:
                continue
            if isinstance(layer, CONVOLUTIONS):
                inputs = _Axis(layer.in_channels, read.get(layer, {}), groups)
                makes = _Axis(layer.out_channels, made.get(layer, {}), groups)
                area = layer.weight.numel() / (layer.in_channels * layer.out_channels)
                each = 0.0 if layer.bias is None else 1.0
                if positions is not None:
                    area, each = area * positions[name], 0.0
            else:  # a norm: so many parameters a channel
                width = int(next(layer.parameters()).numel())
                inputs, makes = _Axis(0, {}, groups), _Axis(width, made.get(layer, {}), groups)
                area, each = 0.0, own / width if positions is None else 0.0
            self._layers.append((area, each, inputs, makes))

    def of(self, widths: Sequence[int]) -> int:
        """The cost of the network whose groups have these widths."""
        return round(
            sum(
                (area * reads.at(widths) + each) * makes.at(widths)
                for area, each, reads, makes in self._layers
            )
        )


class _Axis:
    """One channel axis of a layer: `fixed` channels and those of some groups."""

    def __init__(self, size: int, members: dict[int, int], groups: Sequence[ChannelGroup]) -> None:
        self.fixed = size - sum(members.values())
        self.shares = [(n, count / groups[n].channels) for n, count in members.items()]

    def at(self, widths: Sequence[int]) -> float:
        return self.fixed + sum(widths[n] * share for n, share in self.shares)
