"""Discriminators of several scales, of pix2pixHD."""

import re
from collections.abc import Sequence
from typing import Any

from wkdc.checkpoints.file_layers import Layer, read_norm
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm


def scales_in(layers: Sequence[Layer]) -> list[list[Layer]]:
    """The layers of each scale of a multi-scale discriminator; none if it is no such network."""
    scales: dict[int, list[Layer]] = {}
    for layer in layers:
        named = re.fullmatch(r"(?:scale(\d+)_layer\d+|layer(\d+))\.\d+", layer.name)
        if named is None:
            return []
        scales.setdefault(int(named[1] or named[2]), []).append(layer)
    convs = [[y.kernel.shape for y in scale if y.is_conv] for scale in scales.values()]
    scoring = all(len(s) >= 2 and s[-1][0] == 1 and {x[-1] for x in s} == {4} for s in convs)
    return [scales[number] for number in sorted(scales)] if scoring else []


def read_multiscale(
    scales: Sequence[Sequence[Layer]], norm: Norm | None
) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed; `scales` are those of `scales_in`."""
    convs = [[layer for layer in scale if layer.is_conv] for scale in scales]
    ends = {end.name for scale in convs for end in (scale[0], scale[-1])}
    between = [layer for scale in scales for layer in scale if layer.name not in ends]
    name, affine, notes = read_norm(between, norm)
    options: dict[str, Any] = {
        "in_channels": convs[0][0].kernel.shape[1],
        "widths": [[layer.kernel.shape[0] for layer in scale[:-1]] for scale in convs],
        "norm": name,
        "affine": affine,
        "bias": any("bias" in layer.tensors for layer in between if layer.is_conv),
        "apart": scales[0][0].name.startswith("scale"),
    }
    return Architecture("multiscale", options), notes
