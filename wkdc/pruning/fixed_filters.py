"""Layers without weights that hold a buffer with one entry a channel, such as a fixed blur."""

from collections.abc import Sequence

import torch
import torch_pruning
from torch import nn


def fixed_filters(network: nn.Module) -> set[type[nn.Module]]:
    """The kinds of such layers in `network`."""
    return {
        type(layer)
        for layer in network.modules()
        if _entries(layer)
        and not list(layer.children())
        and not list(layer.parameters())
        and not isinstance(layer, nn.InstanceNorm2d | nn.BatchNorm2d)
    }


def _entries(layer: nn.Module) -> list[int]:
    """The length of each of the layer's own buffers of filters: N×1×K×K or so."""
    return [len(buffer) for buffer in layer.buffers(recurse=False) if buffer.dim() > 1]


class FixedFilterPruner(torch_pruning.BasePruningFunc):  # type: ignore[misc]
    """How Torch-Pruning removes channels of such a layer: its buffers lose their entries."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        count = self.get_out_channels(layer)
        kept = torch.tensor(sorted(set(range(count)) - set(idxs)))
        for name, buffer in list(layer.named_buffers(recurse=False)):
            if buffer.dim() > 1 and len(buffer) == count:
                layer.register_buffer(name, buffer[kept])
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        return max(_entries(layer))

    get_in_channels = get_out_channels
