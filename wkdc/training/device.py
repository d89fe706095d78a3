"""Where a run computes, and how precisely."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from wkdc.errors import DeviceError, OptionError
from wkdc.networks.multiscale import LayerOutputs, layer_outputs
from wkdc.system import compilation
from wkdc.system.devices import bfloat16_pays
from wkdc.training.recipe import Precision

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Noise that the teacher's images do not have."""


@dataclass(frozen=True)
class Compute:
    """A device, what networks compute in there, and the order of images in memory.

    Weights are always float32. `accelerate.Accelerator` is not used: it keeps one precision for the
    life of a process, where a second run in another one raises ValueError. A step
    through it took 19.5 instead of 18.7 ms of CPU time, with the same weights. What Accelerate does
    between processes is used: see `Processes`.

    Attributes:
        compiled: whether training steps use torch.compile.
    """

    device: torch.device
    dtype: torch.dtype
    order: torch.memory_format
    compiled: bool = False

    @classmethod
    def of(
        cls, device: torch.device, precision: Precision, batch: int, *, compiled: bool = False
    ) -> Self:
        """For so many images at once; see `choose_dtype`."""
        # With one image, PyTorch 2.15's InstanceNorm misreads channels-last gradients: what comes
        # out points anywhere. With several, they are right.
        order = torch.contiguous_format if batch == 1 else torch.channels_last
        return cls(device, choose_dtype(precision, device), order, compiled)

    @property
    def precision(self) -> str:
        """`float32`, `bfloat16` or `float16`."""
        return str(self.dtype).removeprefix("torch.")

    def scaler(self) -> torch.amp.GradScaler:
        """Keeps small gradients from vanishing in float16; with other types it does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def move(self, network: nn.Module) -> nn.Module:
        """`network`, moved to the device in the run's order."""
        return network.to(self.device, memory_format=self.order)  # type: ignore[call-overload, no-any-return]

    @functools.cached_property
    def in_steps(self) -> Callable[[nn.Module, Tensor], Tensor]:
        """`forward` for the batches of steps, which all have one shape: compiled, if asked for.

        A network that two directions call is compiled once.
        """
        made: dict[nn.Module, Callable[[Tensor], Tensor]] = {}

        def call(network: nn.Module, images: Tensor) -> Tensor:
            if network not in made:
                made[network] = compilation.compiled(network)
            return self.forward(made[network], images)

        return call if self.compiled else self.forward

    def forward(self, network: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Call a network at the run's precision; float32 comes back, on the device."""
        with self._autocast():
            out = network(self._moved(images))
        return out.float()

    def layer_outputs(self, discriminator: nn.Module, images: Tensor) -> LayerOutputs:
        """The same of a discriminator's layers; see `wkdc.networks.multiscale.layer_outputs`."""
        with self._autocast():
            found = layer_outputs(discriminator, self._moved(images))
        return [[made.float() for made in layers] for layers in found]

    def _moved(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=self.order)

    def _autocast(self) -> torch.autocast:
        narrow = self.dtype is not torch.float32
        return torch.autocast(self.device.type, self.dtype, enabled=narrow)

    @torch.no_grad()
    def generate(self, network: nn.Module, images: Tensor) -> Tensor:
        """N×C×H×W that `network` makes of images, in evaluation mode and float32, on the CPU."""
        training = network.training
        out: Tensor = network.eval()(images.to(self.device))
        if training:
            trainable(network)
        return out.cpu()


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """What networks compute in; `auto` is bfloat16 where the device gains by it.

    Raises:
        DeviceError: float16 on a processor, which is slow at it.
        OptionError: an unknown precision.
    """
    match precision:
        case "auto":
            return torch.bfloat16 if bfloat16_pays(device) else torch.float32
        case "float32":
            return torch.float32
        case "bfloat16":
            return torch.bfloat16
        case "float16" if device.type == "cpu":
            raise DeviceError(
                "precision float16 is for GPUs; on the CPU choose bfloat16, float32 or auto"
            )
        case "float16":
            return torch.float16
        case _:
            raise OptionError(
                f"precision {precision!r} is not known; choose auto, float32, bfloat16 or float16"
            )


def trainable(network: nn.Module) -> nn.Module:
    """`network` with gradients and in training mode, but for its dropouts."""
    network.requires_grad_(True).train()
    for module in network.modules():
        if isinstance(module, DROPOUTS):
            module.eval()
    return network
