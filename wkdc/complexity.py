"""Parameters and multiply-accumulates of a network, counted and not timed."""

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Complexity:
    """What a network costs on paper.

    Attributes:
        params: number of weights.
        macs: multiply-accumulates of convolutions for one picture, each transposed convolution at
            the resolution that it reads.
        macs_output_resolution: the same with transposed convolutions charged at the resolution
            that they write, as Torch-Pruning counts and many papers print.
    """

    params: int
    macs: int
    macs_output_resolution: int


def count_params(network: nn.Module) -> int:
    """Number of weights of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())


def measure_complexity(network: nn.Module, in_channels: int, size: tuple[int, int]) -> Complexity:
    """Count `network` for one picture of `size` (height, width); nothing is computed.

    The convolution's bias is not counted, normalisation and activations neither.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    surplus = 0

    def charge(module: nn.ConvTranspose2d, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal surplus
        per_position = module.weight.numel()
        surplus += per_position * (out[0, 0].numel() - inputs[0][0, 0].numel())

    for module in shadow.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(charge)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shadow(torch.empty(1, in_channels, *size, device="meta"))
    macs = counter.get_total_flops() // 2
    return Complexity(count_params(network), macs, macs + surplus)
