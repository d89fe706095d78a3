"""The PatchGAN discriminator of pix2pix (Isola et al., 2017)."""

from collections.abc import Sequence

from torch import Tensor, nn

from wkdc.networks.layers import Norm, norm_layer


def patchgan_widths(ndf: int, strided_layers: int = 3) -> list[int]:
    """The stock widths: `ndf`, doubled by each layer up to eightfold."""
    return [ndf * min(2**i, 8) for i in range(strided_layers + 1)]


class PatchGAN(nn.Module):
    """Judges every patch of an image: N×C×H×W in [-1, 1] -> N×1×h×w scores, without a sigmoid.

    Parameter names are those of pytorch-CycleGAN-and-pix2pix. With three strided layers a score
    sees 70x70 pixels. The paper's compressed discriminator has ndf 32: 0.69 M parameters against
    2.76 M at ndf 64 (Zhang et al. 2022, section 3.3).

    Args:
        in_channels: 3 for a colour image; input and image together where it is conditional.
        widths: channels of each layer but the last, which puts out the scores; all but the last
            of these have stride 2.
        norm, affine: the normalisation after all but the first, and whether it has parameters.
        bias: whether the normalised convolutions have a bias.

    Raises:
        OptionError: an unknown norm.
    """

    def __init__(
        self,
        in_channels: int = 3,
        *,
        widths: Sequence[int] = (32, 64, 128, 256),
        norm: Norm = "instance",
        affine: bool | None = None,
        bias: bool | None = None,
    ) -> None:
        super().__init__()
        affine = norm == "batch" if affine is None else affine
        bias = norm == "instance" if bias is None else bias
        layers: list[nn.Module] = [nn.Conv2d(in_channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for i in range(1, len(widths)):
            stride = 2 if i < len(widths) - 1 else 1
            layers += [
                nn.Conv2d(widths[i - 1], widths[i], 4, stride, 1, bias=bias),
                norm_layer(norm, widths[i], affine=affine),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(widths[-1], 1, 4, 1, 1))
        self.model = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.model(images)
        return out
