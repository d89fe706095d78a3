"""A network without its weights: its family and widths, and the sizes that it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from wkdc.errors import CheckpointError, OptionError
from wkdc.networks.animegan import AnimeGenerator, InvertedBlock
from wkdc.networks.custom import build_custom, fit_norms
from wkdc.networks.fast_neural_style import FastNeuralStyle, StyleBlock
from wkdc.networks.multiscale import MultiscaleDiscriminator
from wkdc.networks.patchgan import PatchGAN
from wkdc.networks.resnet import ResnetBlock, ResnetGenerator
from wkdc.networks.unet import UnetGenerator

SIZE = 256
"""Height and width that MACs and times are given for, or the next that a network takes."""


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        family: `resnet`, `unet`, `fast_neural_style` or `animegan`, `patchgan` or `multiscale` for
            a discriminator, or `custom` for one of the user's own code.
        options: keywords of the family's constructor, plain types only; of a custom one those of
            `wkdc.networks.custom.build_custom` and what `wkdc.networks.custom.examine` found.
    """

    family: str
    options: dict[str, Any]

    def build(self) -> nn.Module:
        """A network of this architecture with fresh weights; a custom one imports its factory."""
        match self.family:
            case "resnet":
                return ResnetGenerator(**self.options)
            case "unet":
                return UnetGenerator(**self.options)
            case "fast_neural_style":
                return FastNeuralStyle(**self.options)
            case "animegan":
                return AnimeGenerator(**self.options)
            case "patchgan":
                return PatchGAN(**self.options)
            case "multiscale":
                return MultiscaleDiscriminator(**self.options)
            case "custom":
                network = build_custom(self.options["factory"], self.options["shapes"])
                fit_norms(network, self.options["in_channels"], self.smallest)
                return network
            case _:
                raise CheckpointError(
                    f"network family {self.family!r} is not known; known are resnet, unet, "
                    "fast_neural_style, animegan, patchgan, multiscale"
                )

    def build_empty(self) -> nn.Module:
        """The network without memory for its weights, on the meta device."""
        with torch.device("meta"):
            return self.build()

    @property
    def is_discriminator(self) -> bool:
        """Whether it is a discriminator, whose scores are no image."""
        return self.family in ("patchgan", "multiscale")

    @property
    def multiple(self) -> int:
        """Height and width of the network's input must be multiples of this."""
        match self.family:
            case "patchgan" | "multiscale" | "animegan":
                return 1
            case "custom":
                return int(self.options["multiple"])
            case "unet":
                return int(2 ** len(self.options["down"]))
            case _:
                return int(2 ** len(self.options["encoder"]))

    @property
    def smallest(self) -> int:
        """The least height and width: a ResNet's blocks mirror edges, so they need two pixels."""
        match self.family:
            case "patchgan":  # its last norm has to see more than one score
                return int(2 ** (len(self.options["widths"]) + 1))
            case "multiscale":  # likewise, in the coarsest scale
                return int(2 ** len(self.options["widths"]))
            case "custom":
                return int(self.options["smallest"])
            case "animegan":  # halves the image twice, and mirrors edges there
                return 8
            case "unet":
                return self.multiple
            case _:
                return 2 * self.multiple

    @property
    def strict(self) -> bool:
        """Whether it fails at other sizes than multiples, instead of rounding them up."""
        return self.family == "unet" or (self.family == "custom" and self.multiple > 1)

    def widths(self) -> list[tuple[str, list[int]]]:
        """The channels of every stage, layer by layer; none of a custom network."""
        o = self.options
        match self.family:
            case "patchgan":
                return [("discriminator", o["widths"])]
            case "multiscale":
                return [(f"scale {scale}", widths) for scale, widths in enumerate(o["widths"])]
            case "unet":
                return [("down", o["down"]), ("up", o["up"])]
            case "animegan":
                names = ("block_a", "block_b", "enter", "inner", "outer", "leave")
                widths = [(name, o[name]) for name in (*names, "block_d", "block_e")]
                return [(n, w if isinstance(w, list) else [w]) for n, w in widths]
            case "resnet" | "fast_neural_style":
                return [
                    ("encoder", o["encoder"]),
                    ("stream", [o["stream"]]),
                    ("inner", o["inner"]),
                    ("decoder", o["decoder"]),
                ]
            case _:
                return []

    def stages(self) -> list[tuple[str, str]]:
        """The width of every stage, named, for people to read."""
        if self.family == "custom":
            kernels = {n: s for n, s in self.options["shapes"].items() if len(s) == 4}
            return [(n.removesuffix(".weight"), f"{s[0]} x {s[1]}") for n, s in kernels.items()]
        return [(name, _joined(widths)) for name, widths in self.widths()]


def residual_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks of `network` that add to what they read, by name: it can do without some."""
    return {
        name: part
        for name, part in network.named_modules()
        if isinstance(part, ResnetBlock | StyleBlock)
        or (isinstance(part, InvertedBlock) and part.skips)
    }


def valid_side(at_least: int, *architectures: Architecture) -> int:
    """The least side of a square, from `at_least` on, that all of `architectures` take."""
    multiple = math.lcm(*(architecture.multiple for architecture in architectures))
    least = max(at_least, *(architecture.smallest for architecture in architectures))
    return math.ceil(least / multiple) * multiple


def measured_size(wanted: tuple[int, int] | None, architecture: Architecture) -> tuple[int, int]:
    """Height and width that MACs and times are given for: `wanted`, by default about `SIZE`.

    Raises:
        OptionError: the network does not take it.
    """
    if wanted is None:
        side = valid_side(SIZE, architecture)
        return side, side
    multiple, smallest = architecture.multiple, architecture.smallest
    if min(wanted) < smallest or any(side % multiple for side in wanted):
        raise OptionError(
            f"size {wanted[0]}x{wanted[1]} does not fit this network; give multiples of "
            f"{multiple}, {smallest} or more"
        )
    return wanted


def _joined(widths: Sequence[int]) -> str:
    """`24, 48`, or `96 x 9` where all are equal."""
    if len(widths) > 2 and len(set(widths)) == 1:
        return f"{widths[0]} x {len(widths)}"
    return ", ".join(map(str, widths))
