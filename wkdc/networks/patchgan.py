"""The PatchGAN discriminator of pix2pix (Isola et al., 2017)."""

from torch import Tensor, nn

from wkdc.networks.layers import Norm, norm_layer


class PatchGAN(nn.Module):
    """Judges every patch of a picture: N×C×H×W in [-1, 1] -> N×1×h×w scores, without a sigmoid.

    Parameter names are those of pytorch-CycleGAN-and-pix2pix. With three strided layers a score
    sees 70x70 pixels. The paper's compressed discriminator has ndf 32: 0.69 M parameters against
    2.76 M at ndf 64 (Zhang et al. 2022, section 3.3).

    Args:
        in_channels: 3 for a colour picture; input and picture together where it is conditional.
        ndf: channels of the first layer.
        strided_layers: convolutions of stride 2.
        norm: the normalisation between.

    Raises:
        OptionError: an unknown norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        ndf: int = 32,
        strided_layers: int = 3,
        norm: Norm = "instance",
    ) -> None:
        super().__init__()
        bias = norm == "instance"
        layers: list[nn.Module] = [nn.Conv2d(in_channels, ndf, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = ndf
        for i in range(1, strided_layers + 1):
            wider = ndf * min(2**i, 8)
            layers += [
                nn.Conv2d(width, wider, 4, 2 if i < strided_layers else 1, 1, bias=bias),
                norm_layer(norm, wider, affine=norm == "batch"),
                nn.LeakyReLU(0.2),
            ]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out
