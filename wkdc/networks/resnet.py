"""The ResNet generator of CycleGAN (after Johnson et al., 2016), with any width in any layer.

CUT, DCLGAN and PyTorch-GAN have the same one with other layers around a change of resolution.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from wkdc.errors import OptionError
from wkdc.networks.blur import BlurDownsample, BlurUpsample
from wkdc.networks.layers import Norm, Padding, norm_layer, padding_layer

Downsampling = Literal["strided", "blurred"]
Upsampling = Literal["transposed", "subpixel", "nearest", "blurred"]
BlockName = Literal["conv_block", "block"]


class ResnetBlock(nn.Module):
    """Two 3x3 convolutions with a skip: N×`stream`×H×W -> the same shape.

    `fused_padding` lets the convolutions pad by themselves, without padding layers, which moves the
    indices in the parameter names; the original code does so for `padding_type=zero`. `name` is
    what the names of parameters call its layers: `conv_block`, or PyTorch-GAN's `block`.
    """

    def __init__(
        self,
        stream: int,
        inner: int,
        *,
        norm: Norm = "instance",
        affine: bool = False,
        bias: bool = True,
        padding: Padding = "reflect",
        fused_padding: bool = False,
        dropout: bool = False,
        name: BlockName = "conv_block",
    ) -> None:
        super().__init__()
        first, second = padding_layer(padding, 1), padding_layer(padding, 1)
        margin = 1 if fused_padding else 0
        mode = padding if fused_padding and padding != "zero" else "zeros"
        layers = nn.Sequential(
            *([] if fused_padding else [first]),
            nn.Conv2d(stream, inner, 3, padding=margin, padding_mode=mode, bias=bias),
            norm_layer(norm, inner, affine=affine),
            nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            *([] if fused_padding else [second]),
            nn.Conv2d(inner, stream, 3, padding=margin, padding_mode=mode, bias=bias),
            norm_layer(norm, stream, affine=affine),
        )
        self.add_module(name, layers)

    def forward(self, images: Tensor) -> Tensor:
        (layers,) = self.children()
        out: Tensor = images + layers(images)
        return out


def downsampling_layers(
    downsampling: Downsampling,
    narrow: int,
    wide: int,
    *,
    norm: Norm,
    affine: bool,
    bias: bool,
) -> list[nn.Module]:
    """Layers that turn N×`narrow`×H×W into N×`wide`×H/2×W/2, with norm and ReLU.

    Raises:
        OptionError: `downsampling` is neither strided nor blurred.
    """
    if downsampling not in ("strided", "blurred"):
        raise OptionError(f"downsampling {downsampling!r} is not known; choose strided or blurred")
    blurred = downsampling == "blurred"
    return [
        nn.Conv2d(narrow, wide, 3, stride=1 if blurred else 2, padding=1, bias=bias),
        norm_layer(norm, wide, affine=affine),
        nn.ReLU(),
        *([BlurDownsample(wide)] if blurred else []),
    ]


def upsampling_layers(
    upsampling: Upsampling, wide: int, narrow: int, *, bias: bool
) -> list[nn.Module]:
    """Layers that turn N×`wide`×H×W into N×`narrow`×2H×2W.

    Raises:
        OptionError: `upsampling` is none of these.
    """
    match upsampling:
        case "transposed":
            return [nn.ConvTranspose2d(wide, narrow, 3, 2, padding=1, output_padding=1, bias=bias)]
        case "subpixel":
            return [nn.Conv2d(wide, 4 * narrow, 3, padding=1, bias=bias), nn.PixelShuffle(2)]
        case "nearest":
            return [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1, bias=bias)]
        case "blurred":
            return [BlurUpsample(wide), nn.Conv2d(wide, narrow, 3, padding=1, bias=bias)]
        case _:
            raise OptionError(
                f"upsampling {upsampling!r} is not known; choose transposed, subpixel, nearest or "
                "blurred"
            )


class ResnetGenerator(nn.Module):
    """Encoder, residual blocks, decoder: images N×C×H×W in [-1, 1] -> images of the same range.

    Parameter names are those of pytorch-CycleGAN-and-pix2pix. Height and width come back the same
    when they are multiples of 2 ** len(encoder); other sizes come back rounded up to it.

    Args:
        encoder: channels after the 7x7 stem and after each strided convolution but the last.
        stream: channels of the residual stream, which the last strided convolution produces.
        inner: channels between the two convolutions of each residual block; its length is the
            number of blocks.
        decoder: channels after each doubling of the resolution, as many as `encoder` has.
        norm, affine: the normalisation after each convolution, and whether it has parameters.
        bias: whether the normalised convolutions have a bias.
        block_padding: how the residual blocks pad.
        fused_padding: see `ResnetBlock`.
        dropout: whether the blocks hold a dropout layer, which only training mode uses.
        downsampling: a strided convolution, or CUT's plain one with a blur behind its ReLU.
        upsampling: a transposed convolution, or a convolution whose channels a pixel shuffle
            spreads over space, or one of pixels that were doubled (PyTorch-GAN) or blurred (CUT).
        block_name: see `ResnetBlock`.

    Raises:
        OptionError: an unknown norm, padding, downsampling or upsampling.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        encoder: Sequence[int] = (64, 128),
        stream: int = 256,
        inner: Sequence[int] = (256,) * 9,
        decoder: Sequence[int] = (128, 64),
        norm: Norm = "instance",
        affine: bool = False,
        bias: bool = True,
        block_padding: Padding = "reflect",
        fused_padding: bool = False,
        dropout: bool = False,
        downsampling: Downsampling = "strided",
        upsampling: Upsampling = "transposed",
        block_name: BlockName = "conv_block",
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(in_channels, encoder[0], 7, bias=bias),
            norm_layer(norm, encoder[0], affine=affine),
            nn.ReLU(),
        ]
        down = [*encoder, stream]
        for narrow, wide in itertools.pairwise(down):
            layers += downsampling_layers(
                downsampling, narrow, wide, norm=norm, affine=affine, bias=bias
            )
        for width in inner:
            layers.append(
                ResnetBlock(
                    stream,
                    width,
                    norm=norm,
                    affine=affine,
                    bias=bias,
                    padding=block_padding,
                    fused_padding=fused_padding,
                    dropout=dropout,
                    name=block_name,
                )
            )
        up = [stream, *decoder]
        for wide, narrow in itertools.pairwise(up):
            layers += [
                *upsampling_layers(upsampling, wide, narrow, bias=bias),
                norm_layer(norm, narrow, affine=affine),
                nn.ReLU(),
            ]
        layers += [nn.ReflectionPad2d(3), nn.Conv2d(up[-1], out_channels, 7), nn.Tanh()]
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out
