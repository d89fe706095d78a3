"""The layers that the families share: normalisation and padding by name."""

from typing import Literal

from torch import nn

from wkdc.errors import OptionError

Norm = Literal["instance", "batch", "batch-per-image", "none"]
Padding = Literal["reflect", "replicate", "zero"]


def norm_layer(norm: Norm, channels: int, *, affine: bool) -> nn.Module:
    """The normalisation called `norm` for N×`channels`×H×W features.

    Raises:
        OptionError: `norm` is not one of instance, batch, batch-per-image, none.
    """
    match norm:
        # BatchNorm by the mean and biased variance of one image is InstanceNorm.
        case "instance" | "batch-per-image":
            return nn.InstanceNorm2d(channels, affine=affine)
        case "batch":
            return nn.BatchNorm2d(channels, affine=affine)
        case "none":
            return nn.Identity()
        case _:
            raise OptionError(
                f"norm {norm!r} is not known; choose instance, batch, batch-per-image or none"
            )


def initialise(network: nn.Module) -> None:
    """Give convolutions and norms fresh random weights, as CycleGAN starts: spread 0.02."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d | nn.InstanceNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def padding_layer(padding: Padding, margin: int) -> nn.Module:
    """The layer that adds `margin` pixels on each side, filled as `padding` says.

    Raises:
        OptionError: `padding` is not one of reflect, replicate, zero.
    """
    match padding:
        case "reflect":
            return nn.ReflectionPad2d(margin)
        case "replicate":
            return nn.ReplicationPad2d(margin)
        case "zero":
            return nn.ZeroPad2d(margin)
        case _:
            raise OptionError(
                f"padding {padding!r} is not known; choose reflect, replicate or zero"
            )
