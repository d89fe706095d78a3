"""PatchGAN discriminators of one scale."""

from collections.abc import Sequence
from typing import Any

from wkdc.checkpoints.file_layers import Layer, read_norm
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm


def is_patchgan(layers: Sequence[Layer]) -> bool:
    """PatchGAN: only 4x4 convolutions in one row, the last with a single output channel."""
    kernels = [layer.kernel for layer in layers if layer.is_conv]
    flat = all(len(layer.path) == 2 for layer in layers)
    return (
        flat
        and len(kernels) >= 3
        and all(kernel.shape[-2:] == (4, 4) for kernel in kernels)
        and kernels[-1].shape[0] == 1
    )


def read_patchgan(layers: list[Layer], norm: Norm | None) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed."""
    convs = [layer for layer in layers if layer.is_conv]
    between = [layer for layer in layers if layer is not convs[0] and layer is not convs[-1]]
    name, affine, notes = read_norm(between, norm)
    options: dict[str, Any] = {
        "in_channels": convs[0].kernel.shape[1],
        "widths": [layer.kernel.shape[0] for layer in convs[:-1]],
        "norm": name,
        "affine": affine,
        "bias": "bias" in convs[1].tensors,
    }
    return Architecture("patchgan", options), notes
