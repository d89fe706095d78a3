"""The layers of a weight file, as their names and shapes tell them; what all readers share."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from wkdc.errors import CheckpointError
from wkdc.networks.layers import Norm

StateDict = Mapping[str, Tensor]

LONGEST = 500
"""Characters of a name; those of a U-Net grow with its depth, by 8 a level."""


@dataclass
class Layer:
    """The tensors of one module of the file: `model.10.conv_block.1` and what it holds."""

    name: str
    path: tuple[int | str, ...]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def weight(self) -> Tensor | None:
        return self.tensors.get("weight")

    @property
    def is_conv(self) -> bool:
        return self.weight is not None and self.weight.dim() == 4

    @property
    def kernel(self) -> Tensor:
        if self.weight is None or not self.is_conv:
            raise unfit([self.name])
        return self.weight


def check_entries(state_dict: Mapping[Any, Any]) -> None:
    """Raise CheckpointError unless all entries are tensors of some numbers, under usable names."""
    for key, value in state_dict.items():
        if not isinstance(value, Tensor) or not isinstance(key, str):
            raise CheckpointError(
                f"{shortened(key)} is no tensor; save the network's state_dict() instead"
            )
        if len(key) > LONGEST:
            raise CheckpointError(
                f"{shortened(key)} is a name of {len(key)} characters, of at most {LONGEST}; save "
                "the network's state_dict() instead"
            )
        if value.is_nested or value.numel() == 0:
            raise CheckpointError(
                f"{key!r} holds no numbers, or rows of several lengths; save dense weights instead"
            )


def shortened(key: object) -> str:
    """A name as a message shows it."""
    shown = repr(key)
    return shown if len(shown) <= 60 else f"{shown[:60]}..."


def layers_in(state_dict: StateDict) -> list[Layer]:
    """The file's modules in the order of the forward pass, which numeric order gives."""
    found: dict[str, Layer] = {}
    for key, tensor in state_dict.items():
        name, _, leaf = key.rpartition(".") if "." in key else (key, "", "")
        path = tuple(int(part) if part.isdecimal() else part for part in name.split("."))
        found.setdefault(name, Layer(name, path)).tensors[leaf] = tensor
    # A string beside a number cannot be compared: strings sort before numbers here.
    return sorted(
        found.values(),
        key=lambda layer: [(isinstance(part, int), _natural(part)) for part in layer.path],
    )


def _natural(part: int | str) -> list[tuple[bool, int, str]]:
    """A sort key that puts `res9` before `res10`."""
    pieces = re.split(r"(\d+)", part) if isinstance(part, str) else [str(part)]
    return [(p.isdecimal(), int(p) if p.isdecimal() else 0, p) for p in pieces]


def read_norm(layers: Sequence[Layer], norm: Norm | None) -> tuple[Norm, bool, list[str]]:
    """The normalisation, whether it is affine, and the notes on what was assumed.

    `layers` are the normalised convolutions and their norms, without the network's first and last
    convolutions where these have no norm.
    """
    norms = [layer for layer in layers if not layer.is_conv]
    affine = any(layer.weight is not None and layer.weight.dim() == 1 for layer in norms)
    statistics = any("running_mean" in layer.tensors for layer in norms)
    biased = any("bias" in layer.tensors for layer in layers if layer.is_conv)
    if norm is not None:
        return norm, affine, []
    if affine and statistics:
        if not biased:
            return "batch", True, []
        return "batch", True, ["BatchNorm, not an old InstanceNorm (else --norm instance)"]
    if affine or statistics:
        return "instance", affine, []
    if biased:
        return "instance", False, ["InstanceNorm without parameters (else --norm none)"]
    return "none", False, []


def index_of(layer: Layer) -> int:
    """The number at the end of a layer's name."""
    index = layer.path[-1]
    if not isinstance(index, int):
        raise unfit([layer.name])
    return index


def unfit(names: Sequence[str], *, family: str | None = None) -> CheckpointError:
    shown = ", ".join(map(shortened, names[:3])) + (", ..." if len(names) > 3 else "")
    what = f"looks like a {family} network, but" if family else "is no generator that wkdc knows:"
    return CheckpointError(
        f"{what} {shown} does not fit; docs/teachers.md lists the networks that wkdc knows, and "
        "--arch reads one of your own code: see docs/custom.md"
    )
