"""The multi-scale discriminator of pix2pixHD (Wang et al., 2018, section 3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from wkdc.networks.layers import Norm, norm_layer

SLOPE = 0.2
"""Of the leaky ReLUs."""

LayerOutputs = list[list[Tensor]]
"""Of each scale, the finest first: what each of its layers puts out, the scores last."""


class MultiscaleDiscriminator(nn.Module):
    """Judges the patches of an image, and of the same image at a half, a quarter, ... its size.

    Each scale is a PatchGAN with padding 2 of its own weights. Parameter names are those of
    pix2pixHD, which counts scales from the coarsest: `scale0_layer1.0.weight` or, where its layers
    are not kept apart, `layer0.2.weight`.

    Args:
        in_channels: of input and image together.
        widths: for each scale, the coarsest first, the channels of each layer but the last, which
            puts out the scores; all but the last of these have stride 2.
        norm, affine: the normalisation after all but the first, and whether it has parameters.
        bias: whether the normalised convolutions have a bias.
        apart: which of the two namings; the original has the first where its loss matches features.

    Raises:
        OptionError: an unknown norm.
    """

    def __init__(
        self,
        in_channels: int = 6,
        *,
        widths: Sequence[Sequence[int]] = ((64, 128, 256, 512),) * 2,
        norm: Norm = "instance",
        affine: bool | None = None,
        bias: bool = True,
        apart: bool = True,
    ) -> None:
        super().__init__()
        affine = norm == "batch" if affine is None else affine
        self._names: list[list[str]] = []
        for scale, channels in enumerate(widths):
            parts = _scale_layers(in_channels, channels, norm=norm, affine=affine, bias=bias)
            if apart:
                named = {f"scale{scale}_layer{layer}": part for layer, part in enumerate(parts)}
            else:
                named = {f"layer{scale}": [layer for part in parts for layer in part]}
            for name, layers in named.items():
                self.add_module(name, nn.Sequential(*layers))
            self._names.append(list(named))

    def layer_outputs(self, images: Tensor) -> LayerOutputs:
        """N×C×H×W -> what all layers put out, N×c×h×w each; the scores have no sigmoid."""
        found: LayerOutputs = []
        for names in reversed(self._names):
            if found:
                images = functional.avg_pool2d(images, 3, 2, 1, count_include_pad=False)
            hidden, made = images, list[Tensor]()
            for layer in (layer for name in names for layer in self.get_submodule(name).children()):
                hidden = layer(hidden)
                if isinstance(layer, nn.LeakyReLU):
                    made.append(hidden)
            found.append([*made, hidden])
        return found

    def forward(self, images: Tensor) -> Tensor:
        """N×C×H×W -> the scores of all scales in a row, N×P."""
        return torch.cat([layers[-1].flatten(1) for layers in self.layer_outputs(images)], 1)


def layer_outputs(discriminator: nn.Module, images: Tensor) -> LayerOutputs:
    """What `discriminator` makes of N×C×H×W: of any but a multi-scale one, the scores alone."""
    if isinstance(discriminator, MultiscaleDiscriminator):
        return discriminator.layer_outputs(images)
    return [[discriminator(images)]]


def _scale_layers(
    in_channels: int, widths: Sequence[int], *, norm: Norm, affine: bool, bias: bool
) -> list[list[nn.Module]]:
    """The layers of one scale, each a convolution with what follows it."""
    parts: list[list[nn.Module]] = [
        [nn.Conv2d(in_channels, widths[0], 4, 2, 2), nn.LeakyReLU(SLOPE)]
    ]
    for layer in range(1, len(widths)):
        stride = 2 if layer < len(widths) - 1 else 1
        conv = nn.Conv2d(widths[layer - 1], widths[layer], 4, stride, 2, bias=bias)
        parts.append([conv, norm_layer(norm, widths[layer], affine=affine), nn.LeakyReLU(SLOPE)])
    return [*parts, [nn.Conv2d(widths[-1], 1, 4, 1, 2)]]
