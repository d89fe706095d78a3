"""Layers rewritten in the form that LiteRT's converter takes, and its runtime computes fastest.

LiteRT's XNNPACK has no mirrored padding, and N×H×W×C is its order of axes: an operation that is
not of N×C×H×W tensors alone has its input transposed, and its output back.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from wkdc.networks.blur import BlurUpsample
from wkdc.onnx.rewrites import PhasedConvTranspose2d, better_layer, doubles, replaced


def lowered_for_litert(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode, the same function, with layers replaced."""
    return replaced(network, _better)


class SlicedReflectionPad2d(nn.Module):
    """Mirrored padding as slices and concatenations; XNNPACK joins at most five tensors at once."""

    def __init__(self, pad: nn.ReflectionPad2d) -> None:
        super().__init__()
        self.margins = pad.padding

    def forward(self, images: Tensor) -> Tensor:
        left, right, above, below = self.margins
        for axis, before, after in ((2, above, below), (3, left, right)):
            last = images.shape[axis] - 1
            sides = [range(before, 0, -1), range(last - 1, last - 1 - after, -1)]
            first, second = (
                [torch.cat([images.narrow(axis, at, 1) for at in side], axis)] if side else []
                for side in sides
            )
            images = torch.cat([*first, images, *second], axis)
        return images


class WrittenInstanceNorm2d(nn.Module):
    """InstanceNorm as means and products, all of them N×C×H×W."""

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = (
            None if one is None else nn.Parameter(one.detach()[None, :, None, None])
            for one in (norm.weight, norm.bias)
        )

    def forward(self, images: Tensor) -> Tensor:
        centred = images - _mean(images)
        scale = torch.rsqrt(_mean(centred * centred) + self.eps)
        out = centred * (scale if self.weight is None else scale * self.weight)
        return out if self.bias is None else out + self.bias


def _mean(images: Tensor) -> Tensor:
    """Over height, then width: N×C×1×1. XNNPACK adds one value after the other, so that a mean over
    both at once loses digits."""
    return images.mean(2, keepdim=True).mean(3, keepdim=True)


class PhasedBlurUpsample(nn.Module):
    """`BlurUpsample` as four convolutions interleaved."""

    def __init__(self, blur: BlurUpsample) -> None:
        super().__init__()
        channels = len(blur.filt)
        conv = nn.ConvTranspose2d(
            channels, channels, 4, stride=2, padding=1, groups=channels, bias=False
        )
        conv.weight = nn.Parameter(blur.filt.detach())
        self.twice = PhasedConvTranspose2d(conv)

    def forward(self, images: Tensor) -> Tensor:
        padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
        out: Tensor = self.twice(padded)
        return out[:, :, 2:-2, 2:-2]


def _better(layer: nn.Module) -> nn.Module | None:
    """The replacement of `layer`, or None to keep it."""
    if type(layer) is nn.InstanceNorm2d and not layer.track_running_stats:
        return WrittenInstanceNorm2d(layer)
    if type(layer) is nn.ReflectionPad2d:
        return SlicedReflectionPad2d(layer)
    # Transposed convolutions with output padding, and blurs that enlarge, are refused.
    if type(layer) is nn.ConvTranspose2d and doubles(layer):
        return PhasedConvTranspose2d(layer)
    if type(layer) is BlurUpsample:
        return PhasedBlurUpsample(layer)
    return better_layer(layer)
