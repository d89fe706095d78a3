"""The style-transfer network of pytorch/examples (after Johnson et al., 2016), of any widths.

It computes with colours from 0 to 255, which come and go as images in [-1, 1] here.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

HALF_RANGE = 127.5
"""Colours from 0 to 255 are an image in [-1, 1], plus one, times this."""


class MirroredConv2d(nn.Module):
    """A convolution that mirrors edges, behind a doubling of the resolution where asked for."""

    def __init__(
        self, channels: int, outputs: int, size: int, *, stride: int = 1, doubles: bool = False
    ) -> None:
        super().__init__()
        self.doubles = doubles
        self.reflection_pad = nn.ReflectionPad2d(size // 2)
        self.conv2d = nn.Conv2d(channels, outputs, size, stride)

    def forward(self, images: Tensor) -> Tensor:
        if self.doubles:
            images = functional.interpolate(images, scale_factor=2)
        out: Tensor = self.conv2d(self.reflection_pad(images))
        return out


class StyleBlock(nn.Module):
    """Two 3x3 convolutions with a skip: N×`stream`×H×W -> the same shape."""

    def __init__(self, stream: int, inner: int) -> None:
        super().__init__()
        self.conv1 = MirroredConv2d(stream, inner, 3)
        self.in1 = nn.InstanceNorm2d(inner, affine=True)
        self.conv2 = MirroredConv2d(inner, stream, 3)
        self.in2 = nn.InstanceNorm2d(stream, affine=True)

    def forward(self, images: Tensor) -> Tensor:
        inside = functional.relu(self.in1(self.conv1(images)))
        out: Tensor = images + self.in2(self.conv2(inside))
        return out


class FastNeuralStyle(nn.Module):
    """Images N×C×H×W in [-1, 1] -> images of the same range, which training mode may leave.

    Parameter names are those of pytorch/examples. Height and width come back the same when they
    are multiples of 4; other sizes come back rounded up to it.

    Args:
        encoder: channels after the 9x9 stem and after the first strided convolution.
        stream: channels of the residual stream.
        inner: channels between the two convolutions of each residual block.
        decoder: channels after each of the two doublings of the resolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        encoder: Sequence[int] = (32, 64),
        stream: int = 128,
        inner: Sequence[int] = (128,) * 5,
        decoder: Sequence[int] = (64, 32),
    ) -> None:
        super().__init__()
        first, second = encoder
        third, fourth = decoder
        self.conv1 = MirroredConv2d(in_channels, first, 9)
        self.in1 = nn.InstanceNorm2d(first, affine=True)
        self.conv2 = MirroredConv2d(first, second, 3, stride=2)
        self.in2 = nn.InstanceNorm2d(second, affine=True)
        self.conv3 = MirroredConv2d(second, stream, 3, stride=2)
        self.in3 = nn.InstanceNorm2d(stream, affine=True)
        self._blocks = [f"res{number}" for number in range(1, len(inner) + 1)]
        for name, width in zip(self._blocks, inner, strict=True):
            self.add_module(name, StyleBlock(stream, width))
        self.deconv1 = MirroredConv2d(stream, third, 3, doubles=True)
        self.in4 = nn.InstanceNorm2d(third, affine=True)
        self.deconv2 = MirroredConv2d(third, fourth, 3, doubles=True)
        self.in5 = nn.InstanceNorm2d(fourth, affine=True)
        self.deconv3 = MirroredConv2d(fourth, out_channels, 9)

    def forward(self, images: Tensor) -> Tensor:
        maps = functional.relu(self.in1(self.conv1((images + 1) * HALF_RANGE)))
        maps = functional.relu(self.in2(self.conv2(maps)))
        maps = functional.relu(self.in3(self.conv3(maps)))
        for name in self._blocks:
            maps = self.get_submodule(name)(maps)
        maps = functional.relu(self.in4(self.deconv1(maps)))
        maps = functional.relu(self.in5(self.deconv2(maps)))
        out: Tensor = self.deconv3(maps) / HALF_RANGE - 1
        # Clamped colours have no gradient, so training sees them as they are.
        return out if self.training else out.clamp(-1, 1)
