"""Equal ranges for the channels before every InstanceNorm, with the same images.

InstanceNorm removes each channel's scale and mean, so the convolution before it may have any. With
equal ranges, 8 bits for all channels give each of them enough steps.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.metrics.fidelity import psnr_db

NARROWEST = 0.01
"""Smallest range, relative to the largest: a channel is scaled up at most a hundred times."""

SAME_DB = 60.0
"""PSNR that the equalised network keeps, 20 dB above the error of int8 that is visible. It is not
exact, since the epsilon of each norm then weighs less."""


@dataclass
class _Range:
    """The lowest and highest value of each channel, over all images so far."""

    low: Tensor
    high: Tensor


def equalised(network: nn.Module, images: Sequence[Tensor]) -> nn.Module:
    """A copy of `network` whose convolutions before an InstanceNorm fill one range around 0.

    Each output channel is scaled and shifted by its range over `images`, 1×C×H×W in [-1, 1] each.
    If the result for the first image is not the same to `SAME_DB`, as where other layers read a
    convolution's output too, an unchanged copy is returned.
    """
    changed = copy.deepcopy(network).eval()
    for conv, seen in _ranges(changed, images).items():
        _equalise(conv, seen)
    with torch.inference_mode():
        output, expected = changed(images[0]), network.eval()(images[0])
    if psnr_db(output, expected) >= SAME_DB:
        return changed
    return copy.deepcopy(network).eval()


def _ranges(
    network: nn.Module, images: Sequence[Tensor]
) -> dict[nn.Conv2d | nn.ConvTranspose2d, _Range]:
    """The range of the output of each convolution that an InstanceNorm reads."""
    convs: dict[int, nn.Conv2d | nn.ConvTranspose2d] = {}
    outputs: list[Tensor] = []  # kept, so that no two have the same id
    found: dict[nn.Conv2d | nn.ConvTranspose2d, _Range] = {}

    def after_conv(conv: nn.Module, _: object, output: Tensor) -> None:
        if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
            convs[id(output)] = conv
            outputs.append(output)

    def before_norm(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        conv = convs.get(id(inputs[0]))
        if conv is None:
            return
        low, high = inputs[0].amin((0, 2, 3)), inputs[0].amax((0, 2, 3))
        seen = found.setdefault(conv, _Range(low, high))
        seen.low, seen.high = torch.minimum(seen.low, low), torch.maximum(seen.high, high)

    hooks = [
        layer.register_forward_hook(after_conv)
        for layer in network.modules()
        if type(layer) in (nn.Conv2d, nn.ConvTranspose2d)
        and not layer._forward_pre_hooks  # which may change its weights
        and layer.groups == 1
    ]
    hooks += [
        layer.register_forward_pre_hook(before_norm)
        for layer in network.modules()
        if type(layer) is nn.InstanceNorm2d and not layer.track_running_stats
    ]
    with torch.inference_mode():
        for image in images:
            network(image)
            convs.clear()
            outputs.clear()
    for hook in hooks:
        hook.remove()
    return found


def _equalise(conv: nn.Conv2d | nn.ConvTranspose2d, seen: _Range) -> None:
    middle, radius = (seen.high + seen.low) / 2, (seen.high - seen.low) / 2
    largest = radius.max()
    if not 0 < float(largest) < float("inf"):
        return
    # Scaled up, never down: the epsilon of the norm must not weigh more than before.
    scale = largest / radius.clamp(min=NARROWEST * largest)
    shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
    bias = 0 if conv.bias is None else conv.bias.detach()
    conv.weight = nn.Parameter(conv.weight.detach() * scale.view(shape))
    conv.bias = nn.Parameter((bias - middle) * scale)
