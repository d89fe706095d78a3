"""The U-Net generator of pix2pix (Isola et al., 2017), with any width in any layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wkdc.networks.layers import Norm, norm_layer


class UnetLevel(nn.Module):
    """One level: go down, through `submodule`, up again, and put the input beside the result.

    N×`outer`×H×W -> N×(`outer` + `up`)×H×W; the outermost level returns the image alone.
    """

    def __init__(
        self,
        outer: int,
        down: int,
        up: int,
        up_in: int,
        *,
        submodule: "UnetLevel | None",
        outermost: bool = False,
        norm: Norm = "batch",
        affine: bool = True,
        bias: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self.outermost = outermost
        to_down = nn.Conv2d(outer, down, 4, 2, 1, bias=bias)
        to_up = nn.ConvTranspose2d(up_in, up, 4, 2, 1, bias=True if outermost else bias)
        layers: list[nn.Module] = [to_down] if outermost else [nn.LeakyReLU(0.2), to_down]
        if submodule is not None:
            if not outermost:
                layers.append(norm_layer(norm, down, affine=affine))
            layers.append(submodule)
        layers += [nn.ReLU(), to_up]
        layers.append(nn.Tanh() if outermost else norm_layer(norm, up, affine=affine))
        if dropout:
            layers.append(nn.Dropout(0.5))
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out if self.outermost else torch.cat([images, out], 1)


class UnetGenerator(nn.Module):
    """U-Net: images N×C×H×W in [-1, 1] -> images of the same size and range.

    Parameter names are those of pytorch-CycleGAN-and-pix2pix. Height and width must be multiples
    of 2 ** len(down): 128 for seven levels (`unet_128`), 256 for eight (`unet_256`).

    Args:
        down: channels after each strided convolution, from the outermost level to the innermost.
        up: channels after each transposed convolution but the outermost one, which makes the
            image; `up[i]` belongs to level i + 1, so it has one entry less than `down`.
        norm, affine, bias: as in `ResnetGenerator`.
        dropout: whether the three levels above the innermost hold a dropout layer.

    Raises:
        OptionError: an unknown norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        *,
        down: Sequence[int] = (64, 128, 256, 512, 512, 512, 512, 512),
        up: Sequence[int] = (64, 128, 256, 512, 512, 512, 512),
        norm: Norm = "batch",
        affine: bool = True,
        bias: bool = False,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        outer = [in_channels, *down[:-1]]
        widths_up = [out_channels, *up]
        innermost = len(down) - 1
        level: UnetLevel | None = None
        for i in range(innermost, -1, -1):
            level = UnetLevel(
                outer[i],
                down[i],
                widths_up[i],
                down[i] if i == innermost else down[i] + widths_up[i + 1],
                submodule=level,
                outermost=i == 0,
                norm=norm,
                affine=affine,
                bias=bias,
                dropout=dropout and 4 <= i < innermost,
            )
        self.model = level

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)  # type: ignore[misc]
        return out
