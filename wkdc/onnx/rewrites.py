"""Layers rewritten in the form that ONNX Runtime computes fastest and most exactly.

On a CPU, ONNX Runtime multiplies `LANES` channels at once, and pads to multiples of them. It
computes a transposed convolution without them, over a matrix kernel² times the size.
"""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

LANES = 16
"""Channels that ONNX Runtime multiplies at once on a CPU."""


def lowered(network: nn.Module) -> nn.Module:
    """A copy of `network` in evaluation mode, the same function, with slow layers replaced."""
    return replaced(network, better_layer)


def replaced(network: nn.Module, better: Callable[[nn.Module], nn.Module | None]) -> nn.Module:
    """A copy of `network` in evaluation mode, with layers replaced by the `better` ones.

    Args:
        better: a layer's replacement, or None to keep it.
    """
    network = copy.deepcopy(network).eval()
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if child._forward_pre_hooks or child._forward_hooks:  # which may change its weights
                continue
            new = better(child)
            if new is not None:
                setattr(parent, name, new)
    return network


class CentredInstanceNorm(nn.Module):
    """InstanceNorm that subtracts the mean first, which keeps its precision in ONNX Runtime.

    ONNX Runtime scales first and adds an offset, which cancels where the mean is large beside the
    deviation: of a flat image nothing but rounding would be left.
    """

    def __init__(self, norm: nn.InstanceNorm2d) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.norm(images - images.mean((2, 3), keepdim=True))
        return out


class QuadConv2d(nn.Module):
    """A convolution to few channels that computes 2x2 pixels at a time: stride 2, then a shuffle.

    The kernel is one larger, but the lanes hold four pixels instead of one.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        size = (conv.kernel_size[0], conv.kernel_size[1])
        self.conv = nn.Conv2d(
            conv.in_channels,
            4 * conv.out_channels,
            (size[0] + 1, size[1] + 1),
            stride=2,
            bias=conv.bias is not None,
        )
        shape = (conv.out_channels, 4, conv.in_channels, size[0] + 1, size[1] + 1)
        kernel = conv.weight.new_zeros(shape)
        for pixel in range(4):
            top, left = divmod(pixel, 2)
            kernel[:, pixel, :, top : top + size[0], left : left + size[1]] = conv.weight.detach()
        self.conv.weight = nn.Parameter(kernel.flatten(0, 1))
        if conv.bias is not None:
            self.conv.bias = nn.Parameter(conv.bias.detach().repeat_interleave(4))
        rows, columns = (int(margin) for margin in conv.padding)
        # Of an odd height or width, the second half of the last pair is cut off.
        self.margins = (columns, columns + 1, rows, rows + 1)
        self.lost = (size[0] - 1 - 2 * rows, size[1] - 1 - 2 * columns)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2] - self.lost[0], images.shape[3] - self.lost[1]
        output = functional.pixel_shuffle(self.conv(functional.pad(images, self.margins)), 2)
        return output[:, :, :height, :width]


class PhasedConvTranspose2d(nn.Module):
    """A transposed convolution that doubles height and width, as four convolutions interleaved.

    All output pixels with even row and even column use the same taps of the kernel; so do the
    three other phases. Groups, where there are any, are of one channel.
    """

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        rows, columns = (_phases(conv, axis) for axis in (0, 1))
        self.phases = nn.ModuleList()
        self.margins: list[tuple[int, int, int, int]] = []
        for taps_down, above, below in rows:
            for taps_right, left, right in columns:
                kernel = conv.weight.detach()[:, :, taps_down][:, :, :, taps_right]
                phase = nn.Conv2d(
                    conv.in_channels,
                    conv.out_channels,
                    (len(taps_down), len(taps_right)),
                    bias=conv.bias is not None,
                    groups=conv.groups,
                )
                kernel = kernel if conv.groups > 1 else kernel.transpose(0, 1)
                phase.weight = nn.Parameter(kernel.contiguous())
                if conv.bias is not None:
                    phase.bias = nn.Parameter(conv.bias.detach().clone())
                self.phases.append(phase)
                self.margins.append((left, right, above, below))

    def forward(self, images: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        double = [2 * side for side in images.shape[-2:]]
        if output_size is not None and list(output_size[-2:]) != double:
            raise ValueError(f"output_size {list(output_size)} is not twice the input's {double}")
        outputs = [
            phase(functional.pad(images, margin) if any(margin) else images)
            for phase, margin in zip(self.phases, self.margins, strict=True)
        ]
        lines = [torch.stack(outputs[row : row + 2], -1).flatten(3) for row in (0, 2)]
        return torch.stack(lines, 3).flatten(2, 3)


def better_layer(layer: nn.Module) -> nn.Module | None:
    """The replacement of `layer`, or None to keep it."""
    # A subclass may do anything in its forward pass.
    if type(layer) is nn.InstanceNorm2d and not layer.track_running_stats:
        return CentredInstanceNorm(layer)
    if type(layer) is nn.ConvTranspose2d and fits_phases(layer):
        return PhasedConvTranspose2d(layer)
    if type(layer) is nn.Conv2d and fits_quads(layer):
        return QuadConv2d(layer)
    return None


def fits_phases(conv: nn.ConvTranspose2d) -> bool:
    """Whether `PhasedConvTranspose2d` is the same function as `conv`, and faster.

    Fewer channels than lanes would be padded four times.
    """
    return doubles(conv) and conv.out_channels >= LANES


def doubles(conv: nn.ConvTranspose2d) -> bool:
    """Whether `PhasedConvTranspose2d` is the same function as `conv`."""
    twice = all(
        conv.kernel_size[axis] + conv.output_padding[axis] - 2 * int(conv.padding[axis]) == 2
        and conv.kernel_size[axis] > 1
        for axis in (0, 1)
    )
    plain = conv.groups == 1 and conv.stride == (2, 2) and conv.dilation == (1, 1)
    return twice and plain


def fits_quads(conv: nn.Conv2d) -> bool:
    """Whether `QuadConv2d` is the same function as `conv`, and faster."""
    plain = conv.groups == 1 and conv.stride == (1, 1) and conv.dilation == (1, 1)
    padded = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    large = conv.kernel_size[0] > 1 and conv.kernel_size[1] > 1
    return plain and padded and large and 4 * conv.out_channels <= LANES


def _phases(conv: nn.ConvTranspose2d, axis: int) -> list[tuple[list[int], int, int]]:
    """For the even and the odd outputs of an axis: taps in order, zeros before, zeros after."""
    size, padding = conv.kernel_size[axis], int(conv.padding[axis])
    found = []
    for phase in (0, 1):
        # Output 2 p + phase takes input p + offset by tap phase + padding - 2 offset.
        taps = [tap for tap in reversed(range(size)) if (phase + padding - tap) % 2 == 0]
        offsets = [(phase + padding - tap) // 2 for tap in taps]
        found.append((taps, max(0, -offsets[0]), max(0, offsets[-1])))
    return found
