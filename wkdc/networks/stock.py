"""The generators of the papers, with as many channels as one likes."""

import math
from typing import Literal

from wkdc.errors import OptionError
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm

Network = Literal["resnet", "unet", "pix2pixhd"]

UNET_SIDE = 256
"""What the largest U-Net is made for: eight levels, the innermost a single pixel."""


def stock_architecture(
    network: Network, *, ngf: int, blocks: int, norm: Norm, side: int
) -> Architecture:
    """The generator of the papers with `ngf` channels in its first layer.

    Args:
        side: of the squares that a U-Net is trained on; it halves them down to a single pixel, at
            most eight times.

    Raises:
        OptionError: an unknown network.
    """
    common = {
        "in_channels": 3,
        "out_channels": 3,
        "norm": norm,
        "affine": norm in ("batch", "batch-per-image"),
        "bias": norm not in ("batch", "batch-per-image"),
    }
    match network:
        case "resnet" | "pix2pixhd":
            halvings = 2 if network == "resnet" else 4
            narrow, stream = [ngf * 2**i for i in range(halvings)], ngf * 2**halvings
            widths = {
                "encoder": narrow,
                "stream": stream,
                "inner": [stream] * blocks,
                "decoder": narrow[::-1],
            }
            common["bias"] = network == "pix2pixhd" or common["bias"]
            return Architecture("resnet", common | widths)
        case "unet":
            levels = max(2, min(8, math.ceil(math.log2(min(side, UNET_SIDE)))))
            down = [ngf * min(2**i, 8) for i in range(levels)]
            widths = {"down": down, "up": down[:-1]}
        case _:
            raise OptionError(f"network {network!r} is not known; choose resnet, unet or pix2pixhd")
    return Architecture(network, common | widths)
