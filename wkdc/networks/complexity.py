"""Parameters and multiply-accumulates of a network, counted and not timed."""

import copy
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from wkdc.errors import CheckpointError, one_line


@dataclass(frozen=True)
class Complexity:
    """What a network costs on paper.

    Attributes:
        params: number of weights.
        macs: multiply-accumulates of convolutions and linear layers for one image, each
            transposed convolution at the resolution that it reads.
        macs_output_resolution: the same with transposed convolutions charged at the resolution
            that they write, as Torch-Pruning counts and many papers print.
    """

    params: int
    macs: int
    macs_output_resolution: int


def count_params(network: nn.Module) -> int:
    """Number of weights of `network`."""
    return sum(parameter.numel() for parameter in network.parameters())


def measure_complexity(network: nn.Module, in_channels: int, size: tuple[int, int]) -> Complexity:
    """Count `network` for one image of `size` (height, width); nothing is computed.

    The convolution's bias is not counted, normalisation and activations neither.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    surplus = 0

    def charge(module: nn.ConvTranspose2d, inputs: tuple[torch.Tensor], out: torch.Tensor) -> None:
        nonlocal surplus
        per_position = module.weight.numel()
        surplus += per_position * (out[0, 0].numel() - inputs[0][0, 0].numel())

    for module in shadow.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(charge)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        _run_empty(shadow, torch.empty(1, in_channels, *size, device="meta"))
    macs = counter.get_total_flops() // 2
    return Complexity(count_params(network), macs, macs + surplus)


def kernel_positions(network: nn.Module, in_channels: int, size: tuple[int, int]) -> dict[str, int]:
    """How often each convolution applies its kernel to one image of `size`, by its name.

    Once for each pixel that it writes; a transposed one, for each that it reads.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    found: dict[str, int] = {}
    for name, layer in shadow.named_modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):

            def count(
                layer: nn.Module, inputs: tuple[torch.Tensor], out: torch.Tensor, name: str = name
            ) -> None:
                maps = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else out
                found[name] = found.get(name, 0) + maps[0, 0].numel()

            layer.register_forward_hook(count)
    with torch.no_grad():
        _run_empty(shadow, torch.empty(1, in_channels, *size, device="meta"))
    return found


def measure_activation_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Bytes of the feature maps alive at once, where they are most, while `network` computes.

    Weights and the input are not counted, nor what a convolution's algorithm needs on the side;
    nothing is computed.

    Args:
        shape: of the input, N×C×H×W.
    """
    shadow = copy.deepcopy(network).to("meta").eval()
    images, live = torch.empty(*shape, device="meta"), _LiveBytes()
    with torch.inference_mode(), live:
        _run_empty(shadow, images)
    return live.peak


def _run_empty(shadow: nn.Module, images: torch.Tensor) -> None:
    """Run a network whose tensors have shapes, and no numbers.

    Raises:
        CheckpointError: it needs numbers.
    """
    try:
        shadow(images)
    except RuntimeError as error:
        raise CheckpointError(
            f"the network cannot be counted without running it: {one_line(error)}; its forward "
            "may not decide by values, and makes tensors on the device of its input"
        ) from None


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors from the operation that makes them until they are let go."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        given = {_storage(tensor)._cdata for tensor in _tensors((args, kwargs))}
        out = func(*args, **kwargs)
        for tensor in _tensors(out):
            storage = _storage(tensor)
            key = storage._cdata
            if key not in given and key not in self._sizes:
                self._sizes[key] = storage.nbytes()
                self._now += storage.nbytes()
                weakref.finalize(storage, self._let_go, key)
        self.peak = max(self.peak, self._now)
        return out

    def _let_go(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


def _tensors(values: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
