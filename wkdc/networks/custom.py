"""Networks of the user's own code, named `package.module:factory`.

The name is always the user's: none is ever taken from a file, which would let the file run code.
"""

import importlib
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.errors import CheckpointError, OptionError

SIDE = 64
"""Pixels that a network is first tried at."""

NORMS = nn.InstanceNorm2d | nn.BatchNorm2d | nn.GroupNorm
"""Those that can be made narrower."""

COARSEST = 256
"""The largest multiple that height and width may have to be of."""


def build_custom(factory: str, shapes: Mapping[str, Sequence[int]]) -> nn.Module:
    """What `factory` makes, with its layers resized until every parameter has its shape.

    Args:
        factory: `package.module:function`, called without arguments; the current folder counts.
        shapes: by the parameter's name in the state dict.

    Raises:
        OptionError: there is no such function, it fails, or what it makes is no module.
        CheckpointError: its layers have other names, or differ by more than their widths.
    """
    network = _called(factory)
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    strange = [name for name in [*shapes, *own] if name not in own or name not in shapes]
    if strange:
        raise CheckpointError(
            f"the weights do not fit {factory}: {strange[0]!r} is only in "
            f"{'the file' if strange[0] in shapes else 'the network'}"
        )
    for name, layer in network.named_modules():
        for leaf, value in layer.named_parameters(recurse=False):
            wanted = tuple(shapes[f"{name}.{leaf}" if name else leaf])
            if value.shape != wanted:
                _resize(layer, f"{name}.{leaf}", leaf, value, wanted)
        for leaf, buffer in layer.named_buffers(recurse=False):
            wanted = tuple(shapes.get(f"{name}.{leaf}" if name else leaf, buffer.shape))
            if buffer.shape != wanted:
                layer.register_buffer(leaf, buffer.new_zeros(wanted))
    return network


def shapes_of(state_dict: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """The shape of every tensor, as plain types."""
    return {name: list(value.shape) for name, value in state_dict.items()}


def examine(network: nn.Module, factory: str) -> dict[str, Any]:
    """What the other commands have to know of a network, found by running it.

    Returns:
        `in_channels` and `out_channels`; `multiple` and `smallest`: height and width of its
        input are multiples of the one, and at least the other.

    Raises:
        CheckpointError: it returns no image of the size of any input that was tried.
    """
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        raise CheckpointError(f"{factory} has no convolution; wkdc is for image-to-image networks")
    multiples = [2**power for power in range(COARSEST.bit_length())]
    # Modules need not be registered in the order in which they are used.
    read = dict.fromkeys([3, 1, *(layer.in_channels for layer in convolutions)])
    for multiple, channels in itertools.product(multiples, read):
        least = -(-SIDE // multiple) * multiple
        found = [_out_channels(network, channels, side) for side in (least, least + multiple)]
        if all(found):
            sides = range(multiple, least + 1, multiple)
            smallest = next(side for side in sides if _out_channels(network, channels, side))
            return {
                "in_channels": channels,
                "out_channels": found[0],
                "multiple": multiple,
                "smallest": smallest,
            }
    raise CheckpointError(
        f"{factory} returns no image of the size of its input: tried N×C×H×W with {_either(read)} "
        f"channels and whole multiples of 1 to {COARSEST}"
    )


def fit_norms(network: nn.Module, channels: int, side: int) -> None:
    """Give norms without parameters, whose width no file knows, that of what they are given.

    Args:
        channels, side: of an image that `network` takes.
    """
    _out_channels(network, channels, side)


def _either(numbers: Iterable[int]) -> str:
    return " or ".join(map(str, numbers))


def _called(factory: str) -> nn.Module:
    """The module that `factory` makes, in evaluation mode."""
    module_name, colon, function = factory.partition(":")
    if not colon or not module_name or not function:
        raise OptionError(f"arch {factory!r} is not understood; give package.module:factory")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        make = getattr(importlib.import_module(module_name), function)
        network = make()
    except Exception as error:  # the user's code may raise anything
        raise OptionError(
            f"arch {factory} cannot be made: {type(error).__name__}: {error}; give "
            "package.module:factory, a function without arguments that returns the network"
        ) from error
    if not isinstance(network, nn.Module):
        raise OptionError(f"arch {factory} returned a {type(network).__name__}, not a torch Module")
    return network.eval()


def _resize(
    layer: nn.Module, name: str, leaf: str, value: nn.Parameter, wanted: tuple[int, ...]
) -> None:
    """Give `layer` a parameter of other width, and the attributes that go with it."""
    depthwise = isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.out_channels
    plain = isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.groups == 1
    known = plain or depthwise or isinstance(layer, NORMS)
    if not known or len(wanted) != value.dim() or wanted[2:] != value.shape[2:]:
        raise CheckpointError(
            f"{name} has shape {tuple(wanted)} in the file and {tuple(value.shape)} in the network"
        )
    setattr(layer, leaf, nn.Parameter(value.detach().new_zeros(wanted)))
    match layer:
        case nn.Conv2d() if depthwise:
            layer.out_channels = layer.in_channels = layer.groups = wanted[0]
        case nn.Conv2d() if leaf == "weight":
            layer.out_channels, layer.in_channels = wanted[:2]
        case nn.ConvTranspose2d() if leaf == "weight":
            layer.in_channels, layer.out_channels = wanted[:2]
        case nn.InstanceNorm2d() | nn.BatchNorm2d():
            layer.num_features = wanted[0]
        case nn.GroupNorm():
            if layer.num_groups == layer.num_channels:
                layer.num_groups = wanted[0]
            layer.num_channels = wanted[0]


@torch.no_grad()
def _out_channels(network: nn.Module, channels: int, side: int) -> int:
    """Channels of what `network` returns at this size; 0 where it fails or changes the size."""
    hooks = [
        layer.register_forward_pre_hook(_fit_width)
        for layer in network.modules()
        if isinstance(layer, nn.InstanceNorm2d) and not layer.affine
    ]
    try:
        output = network(torch.zeros(1, channels, side, side))
    except Exception:  # whatever a network raises at a size that it is not made for
        return 0
    finally:
        for hook in hooks:
            hook.remove()
    fits = isinstance(output, Tensor) and output.dim() == 4 and output.shape[-2:] == (side, side)
    return int(output.shape[1]) if fits else 0


def _fit_width(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    norm.num_features = inputs[0].shape[1]  # type: ignore[assignment]
