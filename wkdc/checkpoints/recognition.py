"""What network a state dict belongs to, told from its key names and tensor shapes alone.

The state dict is the specification: a pruned student with any widths is recognised by the same
code as a stock teacher. Some things leave no trace in some weight files, and the stock default is
then assumed and noted: InstanceNorm without parameters (against no normalisation), BatchNorm
where convolutions have a bias (against an old InstanceNorm that kept running statistics), the
padding of residual blocks, and a transposed convolution (against a sub-pixel one of a width that
fits as well). A U-Net's dropout leaves no trace either; it does nothing in a trained network, so it
is left out.

Each family has a reader, `family_NAME.py`: whether the layers are of its kind, and what they say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wkdc.checkpoints.family_animegan import is_animegan, read_animegan
from wkdc.checkpoints.family_fast_neural_style import (
    is_fast_neural_style,
    read_fast_neural_style,
)
from wkdc.checkpoints.family_multiscale import read_multiscale, scales_in
from wkdc.checkpoints.family_patchgan import is_patchgan, read_patchgan
from wkdc.checkpoints.family_resnet import is_resnet, read_resnet
from wkdc.checkpoints.family_unet import is_unet, read_unet
from wkdc.checkpoints.file_layers import Layer, StateDict, check_entries, layers_in, unfit
from wkdc.errors import CheckpointError
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class Recognition:
    """An architecture, the state dict under its names, and what had to be assumed."""

    architecture: Architecture
    state_dict: dict[str, Tensor]
    notes: tuple[str, ...]


def recognise(
    state_dict: StateDict,
    *,
    norm: Norm | None = None,
    block_padding: Padding | None = None,
    upsampling: Upsampling | None = None,
    skips: Sequence[bool] | None = None,
) -> Recognition:
    """Tell the generator, or the discriminator, that `state_dict` belongs to.

    Args:
        state_dict: names as pytorch-CycleGAN-and-pix2pix writes them, or close to it.
        norm, block_padding, upsampling, skips: say what the file cannot, see the top of this
            module.

    Raises:
        CheckpointError: no known generator, whose message names the first keys that did not fit;
            or one of another norm.
    """
    try:
        return _recognise(state_dict, norm, block_padding, upsampling, skips)
    except CheckpointError:
        if norm is None:
            raise
    options = _recognise(state_dict, None, block_padding, upsampling, skips).architecture.options
    found = f"those of {options['norm']}" if "norm" in options else "a norm of its own"
    raise CheckpointError(f"has no layers of norm {norm}, but {found}; leave out --norm {norm}")


def _recognise(
    state_dict: StateDict,
    norm: Norm | None,
    block_padding: Padding | None,
    upsampling: Upsampling | None,
    skips: Sequence[bool] | None,
) -> Recognition:
    check_entries(state_dict)
    layers = layers_in(state_dict)
    enhancer = next((y.name for y in layers if re.match(r"model\d+_\d", y.name)), None)
    if enhancer is not None:
        raise CheckpointError(
            f"is a LocalEnhancer of pix2pixHD ({enhancer!r}), which wkdc does not know; of "
            "pix2pixHD's generators it takes the global one alone (--netG global)"
        )
    if scales := scales_in(layers):
        architecture, notes = read_multiscale(scales, norm)
    elif is_patchgan(layers):
        architecture, notes = read_patchgan(layers, norm)
    elif is_unet(layers):
        architecture, notes = read_unet(layers, norm)
    elif is_fast_neural_style(layers):
        architecture, notes = read_fast_neural_style(layers)
    elif is_animegan(layers):
        architecture, notes = read_animegan(layers, skips)
    elif is_resnet(layers):
        architecture, notes = read_resnet(layers, norm, block_padding, upsampling)
    else:
        raise unfit([layer.name for layer in layers])
    return Recognition(architecture, _fit(architecture, layers), tuple(notes))


def _fit(architecture: Architecture, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """The file's tensors under the network's names, module by module in the order of both.

    Raises:
        CheckpointError: the file holds too much, too little, or other shapes.
    """
    try:
        expected = architecture.build_empty().state_dict()
    except RuntimeError:  # more numbers than can be counted
        raise unfit([layer.name for layer in layers], family=architecture.family) from None
    keep_statistics = architecture.options.get("norm") == "batch"
    kept: list[Layer] = []
    for layer in layers:
        tensors = {
            leaf: tensor
            for leaf, tensor in layer.tensors.items()
            if keep_statistics or leaf not in STATISTICS
        }
        if tensors:
            kept.append(Layer(layer.name, layer.path, tensors))
    fitted: dict[str, Tensor] = {}
    misfits: list[str] = []
    wanted = layers_in(expected)
    for theirs, ours in zip(kept, wanted, strict=False):
        if keep_statistics and "num_batches_tracked" in ours.tensors:  # absent before torch 0.4
            theirs.tensors.setdefault("num_batches_tracked", torch.tensor(0))
        if {k: v.shape for k, v in theirs.tensors.items()} != {
            k: v.shape for k, v in ours.tensors.items()
        }:
            misfits.append(theirs.name)
        fitted |= {f"{ours.name}.{leaf}": tensor for leaf, tensor in theirs.tensors.items()}
    misfits += [layer.name for layer in kept[len(wanted) :] + wanted[len(kept) :]]
    if misfits:
        raise unfit(misfits, family=architecture.family)
    return fitted
