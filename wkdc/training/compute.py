"""Where a run computes, and how precisely."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from wkdc.devices import bfloat16_pays
from wkdc.networks.multiscale import Judgement, judge
from wkdc.training.recipe import Precision

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Noise that the teacher's pictures do not have."""


@dataclass(frozen=True)
class Compute:
    """A device, whether networks run in bfloat16 there, and the order of pictures in memory.

    Weights are always float32.
    """

    device: torch.device
    bfloat16: bool
    order: torch.memory_format

    @classmethod
    def of(cls, place: torch.device, precision: Precision, batch: int) -> Self:
        """For so many pictures a step; `auto` is bfloat16 where the device computes in it."""
        pays = precision == "auto" and bfloat16_pays(place)
        # With one picture, PyTorch 2.15's InstanceNorm misreads channels-last gradients: what comes
        # out points anywhere. With several, they are right.
        order = torch.contiguous_format if batch == 1 else torch.channels_last
        return cls(place, pays or precision == "bfloat16", order)

    def place(self, network: nn.Module) -> nn.Module:
        """`network`, moved to the device in the run's order."""
        return network.to(self.device, memory_format=self.order)  # type: ignore[call-overload, no-any-return]

    def forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """Call a network at the run's precision; float32 comes back, on the device."""
        images = images.to(self.device, memory_format=self.order)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            out: Tensor = network(images)
        return out.float()

    def judge(self, discriminator: nn.Module, images: Tensor) -> Judgement:
        """The same of a discriminator's layers; see `wkdc.networks.multiscale.judge`."""
        images = images.to(self.device, memory_format=self.order)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            found = judge(discriminator, images)
        return [[made.float() for made in layers] for layers in found]

    @torch.no_grad()
    def draw(self, network: nn.Module, images: Tensor) -> Tensor:
        """N×C×H×W as `network` draws it in evaluation mode and float32, on the CPU."""
        training = network.training
        out: Tensor = network.eval()(images.to(self.device))
        if training:
            trainable(network)
        return out.cpu()


def trainable(network: nn.Module) -> nn.Module:
    """`network` with gradients and in training mode, but for its dropouts."""
    network.requires_grad_(True).train()
    for module in network.modules():
        if isinstance(module, DROPOUTS):
            module.eval()
    return network
