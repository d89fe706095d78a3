"""The generator of AnimeGANv2 as animegan2-pytorch has it, with any width in any layer."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

EDGES = (0, 1, 0, 1)
"""Left, right, top, bottom: what a convolution of stride 2 mirrors."""


def conv_norm_lrelu(
    channels: int,
    outputs: int,
    size: int = 3,
    *,
    stride: int = 1,
    margin: int | tuple[int, int, int, int] = 1,
    depthwise: bool = False,
) -> nn.Sequential:
    """A convolution that mirrors edges, GroupNorm of one group, and LeakyReLU of 0.2.

    A depthwise one has a bias, as in the original.
    """
    groups = channels if depthwise else 1
    return nn.Sequential(
        nn.ReflectionPad2d(margin),
        nn.Conv2d(channels, outputs, size, stride, groups=groups, bias=depthwise),
        nn.GroupNorm(1, outputs),
        nn.LeakyReLU(0.2),
    )


class InvertedBlock(nn.Module):
    """1x1 to `inner` channels, depthwise 3x3, 1x1 to `outputs`; `skips` adds the input."""

    def __init__(self, channels: int, inner: int, outputs: int, *, skips: bool) -> None:
        super().__init__()
        self.skips = skips
        self.layers = nn.Sequential(
            conv_norm_lrelu(channels, inner, 1, margin=0),
            conv_norm_lrelu(inner, inner, depthwise=True),
            nn.Conv2d(inner, outputs, 1, bias=False),
            nn.GroupNorm(1, outputs),
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return images + out if self.skips else out


class AnimeGenerator(nn.Module):
    """Images N×C×H×W in [-1, 1] -> images of the same range and size.

    Parameter names are those of animegan2-pytorch.

    Args:
        block_a: channels after the 7x7 stem, the first halving and one more convolution.
        block_b: channels after the second halving and one more convolution.
        enter: channels that the first inverted block reads.
        inner: channels inside of each inverted block.
        outer: channels that each inverted block makes.
        skips: of each inverted block, whether it adds what it reads.
        leave: channels after the convolution behind the inverted blocks.
        block_d, block_e: channels after the two convolutions at half, and the three at full
            resolution.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        block_a: Sequence[int] = (32, 64, 64),
        block_b: Sequence[int] = (128, 128),
        enter: int = 128,
        inner: Sequence[int] = (256, 512, 512, 512),
        outer: Sequence[int] = (256, 256, 256, 256),
        skips: Sequence[bool] = (False, True, True, True),
        leave: int = 128,
        block_d: Sequence[int] = (128, 128),
        block_e: Sequence[int] = (64, 64, 32),
    ) -> None:
        super().__init__()
        self.block_a = nn.Sequential(
            conv_norm_lrelu(in_channels, block_a[0], 7, margin=3),
            conv_norm_lrelu(block_a[0], block_a[1], stride=2, margin=EDGES),
            conv_norm_lrelu(block_a[1], block_a[2]),
        )
        self.block_b = nn.Sequential(
            conv_norm_lrelu(block_a[2], block_b[0], stride=2, margin=EDGES),
            conv_norm_lrelu(block_b[0], block_b[1]),
        )
        reads = [enter, *outer]
        self.block_c = nn.Sequential(
            conv_norm_lrelu(block_b[1], enter),
            *(
                InvertedBlock(channels, inside, outside, skips=skip)
                for channels, inside, outside, skip in zip(
                    reads[:-1], inner, outer, skips, strict=True
                )
            ),
            conv_norm_lrelu(reads[-1], leave),
        )
        self.block_d = nn.Sequential(
            conv_norm_lrelu(leave, block_d[0]), conv_norm_lrelu(block_d[0], block_d[1])
        )
        self.block_e = nn.Sequential(
            conv_norm_lrelu(block_d[1], block_e[0]),
            conv_norm_lrelu(block_e[0], block_e[1]),
            conv_norm_lrelu(block_e[1], block_e[2], 7, margin=3),
        )
        self.out_layer = nn.Sequential(
            nn.Conv2d(block_e[2], out_channels, 1, bias=False), nn.Tanh()
        )

    def forward(self, images: Tensor) -> Tensor:
        half = self.block_a(images)
        maps = self.block_d(_resized(self.block_c(self.block_b(half)), half))
        out: Tensor = self.out_layer(self.block_e(_resized(maps, images)))
        return out


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """`maps` in the height and width of `like`, corner pixel on corner pixel."""
    return functional.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=True)
