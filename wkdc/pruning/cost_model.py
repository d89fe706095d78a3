"""What a network costs as a function of its widths: parameters, MACs, and time as modelled."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wkdc.networks.complexity import count_params
from wkdc.onnx.rewrites import LANES, fits_phases, fits_quads
from wkdc.pruning.channels import CONVOLUTIONS, ChannelGroup, is_depthwise, layer_channels, reads

Counted = Literal["params", "macs", "clock"]

WRITE = 155
"""What a value that a layer writes costs, with its norm, activation and padding, in MACs."""

COLUMN = 105
"""What a transposed convolution's values cost before those that overlap are added up, in MACs."""


class Cost:
    """What a network costs as a function of its groups' widths, without building it.

    A convolution's weight has in x out x kernel entries, each used at every position; either axis
    is a sum of groups' widths and a part that belongs to no group.

    Args:
        positions: of `wkdc.networks.complexity.kernel_positions`.
    """

    def __init__(
        self, network: nn.Module, groups: Sequence[ChannelGroup], positions: Mapping[str, int]
    ) -> None:
        made: dict[nn.Module, dict[int, int]] = {}
        read: dict[nn.Module, dict[int, int]] = {}
        blocks = {group.block: n for n, group in enumerate(groups) if group.block is not None}
        for number, group in enumerate(groups):
            for dependency, channels in group.members:
                layer = dependency.layer
                side = read if isinstance(layer, CONVOLUTIONS) and reads(dependency) else made
                side.setdefault(layer, {})[number] = len(layer_channels(dependency, channels))
        self._layers: list[_Layer] = []
        for name, layer in network.named_modules():
            own = count_params(layer) if not list(layer.children()) else 0
            block = next((n for b, n in blocks.items() if name.startswith(f"{b}.")), None)
            if own and isinstance(layer, CONVOLUTIONS):
                reads_each = 1 if is_depthwise(layer) else layer.in_channels
                inputs = _Axis(reads_each, read.get(layer, {}), groups)
                outputs = _Axis(layer.out_channels, made.get(layer, {}), groups)
                kernel = layer.weight.numel() / (reads_each * layer.out_channels)
                each = 0.0 if layer.bias is None else 1.0
                at, form = positions.get(name, 0), _form(layer)
                pixels = at * (layer.stride[0] ** 2 if form in ("phases", "columns") else 1)
                self._layers.append(_Layer(inputs, outputs, kernel, each, at, pixels, block, form))
            elif own:  # a norm: so many parameters a channel
                width = int(next(layer.parameters()).numel())
                outputs = _Axis(width, made.get(layer, {}), groups)
                self._layers.append(_Layer(None, outputs, 0, own / width, 0, 0, block, "plain"))

    def of(self, quantity: Counted, widths: Sequence[int]) -> float:
        """The cost of the network whose groups have these widths."""
        return float(self.of_each(quantity, torch.tensor([widths], dtype=torch.float64)))

    def of_each(self, quantity: Counted, widths: Tensor) -> Tensor:
        """The costs of many: float64 N×groups -> N.

        Args:
            quantity: `params`; `macs`; or `clock`: how long ONNX Runtime takes on a processor, in
                multiply-accumulates: those of channels padded to `LANES`, and `WRITE` and `COLUMN`
                for what moves through memory.
        """
        total = torch.zeros(len(widths), dtype=torch.float64)
        for layer in self._layers:
            alive = 1.0 if layer.block is None else (widths[:, layer.block] > 0).double()
            makes = layer.outputs.at(widths)
            takes = layer.inputs.at(widths) if layer.inputs is not None else torch.zeros(1)
            match quantity:
                case "params":
                    cost = (layer.kernel * takes + layer.each) * makes
                case "macs":
                    cost = layer.kernel * takes * makes * layer.positions
                case "clock":
                    cost = layer.clock(takes, makes)
            total += alive * cost
        return total


Form = Literal["plain", "quads", "phases", "columns"]
"""How ONNX Runtime computes a layer; see `wkdc.onnx.rewrites`."""


def _form(layer: nn.Module) -> Form:
    if isinstance(layer, nn.ConvTranspose2d):
        return "phases" if fits_phases(layer) else "columns"
    return "quads" if isinstance(layer, nn.Conv2d) and fits_quads(layer) else "plain"


@dataclass(frozen=True)
class _Layer:
    """One layer's axes, entries of its kernel, parameters a channel, positions of its kernel,
    pixels that it writes, the group that it vanishes with, and how it is computed."""

    inputs: "_Axis | None"
    outputs: "_Axis"
    kernel: float
    each: float
    positions: int
    pixels: int
    block: int | None
    form: Form

    def clock(self, takes: Tensor, makes: Tensor) -> Tensor:
        """Its time in MACs, where it takes and makes so many channels."""
        lanes = torch.where(takes < LANES, takes, _padded(takes))  # an image's are not padded
        products = self.kernel * lanes * _padded(makes) * self.positions
        columns = self.kernel * (takes + COLUMN) * makes * self.positions
        match self.form:
            case "quads":
                larger = (math.sqrt(self.kernel) + 1) ** 2
                products = larger * lanes * _padded(4 * makes) * self.positions / 4
            case "phases":
                products = torch.where(makes < LANES, columns, products)
            case "columns":
                products = columns
        return products + self.pixels * WRITE * makes


class _Axis:
    """One channel axis of a layer: `fixed` channels and those of some groups."""

    def __init__(self, size: int, members: dict[int, int], groups: Sequence[ChannelGroup]) -> None:
        self._fixed = size - sum(members.values())
        self._shares = [(n, count / groups[n].channels) for n, count in members.items()]

    def at(self, widths: Tensor) -> Tensor:
        total = torch.full((len(widths),), float(self._fixed), dtype=torch.float64)
        for number, share in self._shares:
            total += share * widths[:, number]
        return total


def _padded(channels: Tensor) -> Tensor:
    return (channels / LANES).ceil() * LANES
