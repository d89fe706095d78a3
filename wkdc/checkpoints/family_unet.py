"""U-Net generators of pix2pix."""

from collections.abc import Sequence
from typing import Any

from wkdc.checkpoints.file_layers import Layer, read_norm, unfit
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm


def is_unet(layers: Sequence[Layer]) -> bool:
    """Levels inside of each other, the outermost one called `model.model`."""
    return any(layer.name == "model.model.0" for layer in layers)


def read_unet(layers: list[Layer], norm: Norm | None) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed.

    Raises:
        CheckpointError: a level has more or fewer than two convolutions.
    """
    depth = max(len(layer.path) for layer in layers)
    levels = [[y for y in layers if len(y.path) == n] for n in range(3, depth + 1, 2)]
    convs = [[y for y in level if y.is_conv] for level in levels]
    misfits = [level for level, pair in zip(levels, convs, strict=True) if len(pair) != 2]
    if misfits or len(levels) < 2:
        raise unfit([level[0].name for level in misfits if level] or [layers[0].name])
    name, affine, notes = read_norm([y for level in levels[1:] for y in level], norm)
    options: dict[str, Any] = {
        "in_channels": convs[0][0].kernel.shape[1],
        "out_channels": convs[0][1].kernel.shape[1],
        "down": [pair[0].kernel.shape[0] for pair in convs],
        "up": [pair[1].kernel.shape[1] for pair in convs[1:]],
        "norm": name,
        "affine": affine,
        "bias": "bias" in convs[0][0].tensors,
        "dropout": False,
    }
    return Architecture("unet", options), notes
