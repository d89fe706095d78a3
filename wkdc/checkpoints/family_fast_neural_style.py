"""The style-transfer network of pytorch/examples, and any widths of it."""

import re
from collections.abc import Sequence

from wkdc.checkpoints.file_layers import Layer, unfit
from wkdc.networks.architecture import Architecture


def is_fast_neural_style(layers: Sequence[Layer]) -> bool:
    """Residual blocks called `res1` and so on, of convolutions called `conv2d`."""
    return any(re.fullmatch(r"res\d+\.conv1\.conv2d", layer.name) for layer in layers)


def read_fast_neural_style(layers: Sequence[Layer]) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed: nothing.

    Raises:
        CheckpointError: a layer is missing; the message names it.
    """
    named = {layer.name: layer for layer in layers}
    ends = [f"{part}{n}.conv2d" for part in ("conv", "deconv") for n in (1, 2, 3)]
    missing = [name for name in ends if name not in named or not named[name].is_conv]
    if missing:
        raise unfit(missing, family="fast_neural_style")
    made = {layer.name: layer.kernel.shape[0] for layer in layers if layer.is_conv}
    options = {
        "in_channels": named["conv1.conv2d"].kernel.shape[1],
        "out_channels": made["deconv3.conv2d"],
        "encoder": [made["conv1.conv2d"], made["conv2.conv2d"]],
        "stream": made["conv3.conv2d"],
        "inner": [
            width for name, width in made.items() if re.fullmatch(r"res\d+\.conv1\.conv2d", name)
        ],
        "decoder": [made["deconv1.conv2d"], made["deconv2.conv2d"]],
    }
    return Architecture("fast_neural_style", options), []
