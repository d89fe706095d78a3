"""The channels of a network: which go together, and taking some of them away.

Torch-Pruning's dependency graph says which channels must go together: those of the residual
stream in every block that reads or writes it, those of a U-Net's skip in both of its readers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from wkdc.networks.architecture import residual_blocks
from wkdc.pruning.fixed_filters import FixedFilterPruner, fixed_filters
from wkdc.pruning.subpixel import (
    SubpixelConv2d,
    SubpixelPruner,
    join_subpixels,
    phases,
    split_subpixels,
)

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)

NORMS = (nn.InstanceNorm2d, nn.BatchNorm2d, nn.GroupNorm)
"""Those whose channels may go, beside those of convolutions; of GroupNorms, see `may_narrow`."""


@dataclass(frozen=True)
class Flow:
    """How an image goes through a network, as seen while it runs.

    Attributes:
        order: its convolutions by name, in the order in which they are first used.
        usable: those whose channels may go and whose weights may be solved: used once, without
            dilation, with a square kernel, a stride and a padding; without groups, or depthwise.
        norms: by convolution, the norm that takes what it makes, where one does.
    """

    order: tuple[str, ...]
    usable: frozenset[str]
    norms: Mapping[str, nn.Module]


@torch.inference_mode(False)  # whose tensors do not count how often they were changed
@torch.no_grad()
def trace_flow(network: nn.Module, image: Tensor) -> Flow:
    """Run `network` on `image`, N×C×H×W, and look on."""
    used: list[str] = []
    norms: dict[str, nn.Module] = {}
    # Tensors are kept, so that none takes another's id, with their version before any change.
    made: dict[int, tuple[Tensor, int, str]] = {}
    hooks = []
    for name, layer in network.named_modules():
        if list(layer.children()):
            continue

        def look(layer: nn.Module, inputs: Any, out: Any, name: str = name) -> None:
            if isinstance(layer, CONVOLUTIONS):
                used.append(name)
                made[id(out)] = (out, out._version, name)
                return
            given, version, maker = made.get(id(inputs[0]) if inputs else 0, (None, 0, ""))
            if given is None or given._version != version:
                return
            if isinstance(layer, NORMS):
                norms[maker] = layer
            elif isinstance(layer, nn.PixelShuffle | nn.Identity):
                made[id(out)] = (out, out._version, maker)

        hooks.append(layer.register_forward_hook(look))
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    order = tuple(dict.fromkeys(used))
    usable = frozenset(
        name for name in order if used.count(name) == 1 and _is_plain(network.get_submodule(name))
    )
    return Flow(order, usable, norms)


def _is_plain(layer: nn.Module) -> bool:
    # A subclass may do anything in its forward pass, and a hook may change its weights.
    known = type(layer) in (*CONVOLUTIONS, SubpixelConv2d) and not layer._forward_pre_hooks
    if not isinstance(layer, CONVOLUTIONS) or not known or isinstance(layer.padding, str):
        return False
    whole = (layer.groups == 1 or is_depthwise(layer)) and set(layer.dilation) == {1}
    return whole and all(
        len(set(pair)) == 1 for pair in (layer.kernel_size, layer.stride, layer.padding)
    )


def is_depthwise(layer: nn.Module) -> bool:
    """Whether `layer` filters each channel on its own."""
    return isinstance(layer, nn.Conv2d) and (
        1 < layer.groups == layer.in_channels == layer.out_channels
    )


def may_narrow(norm: nn.Module) -> bool:
    """Whether channels of `norm` may go: of a GroupNorm, of one group or of one channel each."""
    if isinstance(norm, nn.GroupNorm):
        return norm.num_groups in (1, norm.num_channels)
    return isinstance(norm, NORMS)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together, in every layer that makes or reads them.

    Attributes:
        root: the convolution whose output channels stand for the group.
        channels: how many there are.
        block: the residual block that they are the inside of, by name: without any of them the
            block is gone, and its skip is left. None elsewhere, where one channel has to stay.
        members: Torch-Pruning's list of (layer, which side of it, which of its channels).
        producers, readers: the convolutions that write and read the group, by name in the order of
            the forward pass, and for each channel of the group its number there; four numbers
            where a pixel shuffle follows.
    """

    root: nn.Module
    channels: int
    block: str | None
    members: Any
    producers: Mapping[str, tuple[int, ...]]
    readers: Mapping[str, tuple[int, ...]]

    def produced_channels(self, name: str, chosen: Sequence[int]) -> list[int]:
        """The channels that the maker `name` puts out for the channels `chosen` of the group."""
        channels = self.producers[name]
        each = len(channels) // self.channels
        return [channels[each * i + k] for i in chosen for k in range(each)]


def example_image(in_channels: int, smallest: int) -> Tensor:
    """A black image that is large enough to trace by: 1×C×H×W.

    Args:
        smallest: least height and width of the network's input; it takes whole multiples of it.
    """
    side = math.ceil(32 / smallest) * smallest
    return torch.zeros(1, in_channels, side, side)


def channel_groups(
    network: nn.Module, *, in_channels: int, smallest: int
) -> tuple[Any, list[ChannelGroup]]:
    """Torch-Pruning's dependency graph of `network`, and its groups of removable channels.

    The groups come in the order in which the forward pass makes them. Channels that any layer but a
    usable convolution or a norm takes part in are left out. Sub-pixel convolutions become single
    layers in `network`, until `slice_channels`.

    Args:
        network: its weights must require gradients, which the graph is traced along.
        smallest: height and width that `network` takes.
    """
    join_subpixels(network)
    example = example_image(in_channels, smallest)
    flow = trace_flow(network, example)
    pruners: dict[type[nn.Module], torch_pruning.BasePruningFunc] = {
        kind: FixedFilterPruner() for kind in fixed_filters(network)
    }
    pruners[SubpixelConv2d] = SubpixelPruner()
    graph = torch_pruning.DependencyGraph().build_dependency(
        network, example, customized_pruners=pruners
    )
    names = {layer: name for name, layer in network.named_modules()}
    order = {name: number for number, name in enumerate(flow.order)}
    groups = []
    for members in graph.get_all_groups(
        ignored_layers=[network.get_submodule(flow.order[-1])],  # it makes the image
        root_module_types=list(CONVOLUTIONS),
    ):
        if not all(_may_shrink(dependency.layer, names, flow) for dependency, _ in members):
            continue
        made: dict[str, tuple[int, ...]] = {}
        read: dict[str, tuple[int, ...]] = {}
        for dependency, channels in members:
            if isinstance(dependency.layer, CONVOLUTIONS):
                part = read if reads(dependency) else made
                part[names[dependency.layer]] = tuple(layer_channels(dependency, channels))
        if not made or not read:
            continue
        root, channels = members[0].dep.layer, len(members[0].idxs)
        block = _block_around(network, [*made, *read])
        producers, readers = (
            {n: part[n] for n in sorted(part, key=order.__getitem__)} for part in (made, read)
        )
        groups.append(ChannelGroup(root, channels, block, members, producers, readers))
    return graph, sorted(groups, key=lambda group: order[next(iter(group.producers))])


def _may_shrink(layer: nn.Module, names: Mapping[nn.Module, str], flow: Flow) -> bool:
    """Whether channels of `layer`, a member of a group, may go; operations without weights may."""
    if isinstance(layer, nn.Parameter):  # of a module that does something of its own with it
        return False
    if isinstance(layer, CONVOLUTIONS):
        return names.get(layer) in flow.usable
    own = any(True for _ in layer.parameters())
    return may_narrow(layer) or not own


def _block_around(network: nn.Module, names: Sequence[str]) -> str | None:
    """The residual block that holds all the layers `names`, if one does."""
    blocks = residual_blocks(network)
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
    single = [
        layer
        for layer in network.modules()
        if isinstance(layer, nn.GroupNorm) and layer.num_groups == layer.num_channels > 1
    ]
    for group, channels in zip(groups, kept, strict=True):
        removed = sorted(set(range(group.channels)) - set(channels))
        if removed and channels:
            pruning_fn = graph.get_pruner_of_module(group.root).prune_out_channels
            graph.get_pruning_group(group.root, pruning_fn, removed).prune()
    for norm in single:  # of one channel in each group, which Torch-Pruning leaves as many
        norm.num_groups = norm.num_channels
    for group, channels in zip(groups, kept, strict=True):
        if not channels and group.block is not None:
            parent, _, leaf = group.block.rpartition(".")
            setattr(network.get_submodule(parent), leaf, nn.Identity())
    split_subpixels(network)
