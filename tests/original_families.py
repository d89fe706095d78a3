"""Generators of other projects, restated as plain functions over a state dict; see `originals`.

- CUT (Park et al. 2020; the DCLGAN of Han et al. 2021 has the same): ResNet with fixed blurs.
- PyTorch-GAN's CycleGAN: nearest upsampling, blocks called `block`.
- pytorch/examples' fast-neural-style (after Johnson et al. 2016): colours from 0 to 255.
- animegan2-pytorch (AnimeGANv2, Chen et al. 2020): GroupNorm, inverted blocks.

`FAMILIES` has all of them by name: random weights under the original names, and what they compute.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from originals import StateDict, global_generator_state_dict, unet_state_dict
from torch import Tensor
from torch.nn import functional

from wkdc.checkpoints.checkpoint import Generator, load_generator

BLUR_DOWN = torch.tensor([1.0, 2.0, 1.0])
BLUR_UP = torch.tensor([1.0, 3.0, 3.0, 1.0])


class _Weights:
    """A state dict filled with random layers, scaled so that signals stay alive."""

    def __init__(self, seed: int) -> None:
        self.random = torch.Generator().manual_seed(seed)
        self.state_dict: StateDict = OrderedDict()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.random)

    def conv(
        self, name: str, reads: int, makes: int, size: int, *, bias: bool = True, gain: float = 1.0
    ) -> None:
        scale = gain * (reads * size**2) ** -0.5
        self.state_dict[f"{name}.weight"] = self.normal(makes, reads, size, size) * scale
        if bias:
            self.state_dict[f"{name}.bias"] = self.normal(makes) * 0.2

    def affine(self, name: str, channels: int) -> None:
        spread = torch.rand(channels, generator=self.random)
        self.state_dict[f"{name}.weight"] = 0.6 + 0.8 * spread
        self.state_dict[f"{name}.bias"] = self.normal(channels) * 0.2

    def blur(self, name: str, taps: Tensor, channels: int) -> None:
        kernel = torch.outer(taps, taps) / 16
        self.state_dict[f"{name}.filt"] = kernel.repeat(channels, 1, 1, 1)


def _conv(weights: StateDict, name: str, maps: Tensor, **options: int) -> Tensor:
    bias = weights.get(f"{name}.bias")
    return functional.conv2d(maps, weights[f"{name}.weight"], bias, **options)


def _mirrored(maps: Tensor, *margin: int) -> Tensor:
    return functional.pad(maps, margin, mode="reflect")


def cut_state_dict(
    seed: int, *, ngf: int = 12, blocks: int = 3, antialias: bool = True, antialias_up: bool = True
) -> StateDict:
    weights = _Weights(seed)
    weights.conv("model.1", 3, ngf, 7)
    index = 4
    for level in (1, 2):
        weights.conv(f"model.{index}", ngf * level, 2 * ngf * level, 3)
        if antialias:
            weights.blur(f"model.{index + 3}", BLUR_DOWN, 2 * ngf * level)
        index += 4 if antialias else 3
    for _ in range(blocks):
        weights.conv(f"model.{index}.conv_block.1", 4 * ngf, 4 * ngf, 3)
        weights.conv(f"model.{index}.conv_block.5", 4 * ngf, 4 * ngf, 3, gain=0.4)
        index += 1
    for level in (4, 2):
        wide, narrow = ngf * level, ngf * level // 2
        if antialias_up:
            weights.blur(f"model.{index}", BLUR_UP, wide)
            weights.conv(f"model.{index + 1}", wide, narrow, 3)
            index += 4
        else:
            weights.conv(f"model.{index}", narrow, wide, 3, bias=False)  # transposed: reads x makes
            weights.state_dict[f"model.{index}.bias"] = weights.normal(narrow) * 0.2
            index += 3
    weights.conv(f"model.{index + 1}", ngf, 3, 7)
    return weights.state_dict


def cut_forward(
    weights: StateDict,
    images: Tensor,
    *,
    blocks: int = 3,
    antialias: bool = True,
    antialias_up: bool = True,
) -> Tensor:
    """The published layers in their order, InstanceNorm without parameters behind each."""

    def settled(maps: Tensor) -> Tensor:
        return functional.relu(functional.instance_norm(maps))

    maps = settled(_conv(weights, "model.1", _mirrored(images, 3, 3, 3, 3)))
    index = 4
    for _ in (1, 2):
        stride = 1 if antialias else 2
        maps = settled(_conv(weights, f"model.{index}", maps, stride=stride, padding=1))
        if antialias:
            kernel = weights[f"model.{index + 3}.filt"]
            maps = _mirrored(maps, 1, 1, 1, 1)
            maps = functional.conv2d(maps, kernel, stride=2, groups=maps.shape[1])
        index += 4 if antialias else 3
    for _ in range(blocks):
        name = f"model.{index}.conv_block"
        inside = settled(_conv(weights, f"{name}.1", _mirrored(maps, 1, 1, 1, 1)))
        inside = _conv(weights, f"{name}.5", _mirrored(inside, 1, 1, 1, 1))
        maps = maps + functional.instance_norm(inside)
        index += 1
    for _ in (1, 2):
        if antialias_up:
            kernel = weights[f"model.{index}.filt"]
            maps = functional.pad(maps, (1, 1, 1, 1), mode="replicate")
            # pad_size of a filter of four is 1; the surplus row and column are cut at both ends
            maps = functional.conv_transpose2d(
                maps, kernel, stride=2, padding=2, groups=maps.shape[1]
            )[:, :, 1:, 1:][:, :, :-1, :-1]
            maps = settled(_conv(weights, f"model.{index + 1}", maps, padding=1))
            index += 4
        else:
            maps = functional.conv_transpose2d(
                maps,
                weights[f"model.{index}.weight"],
                weights[f"model.{index}.bias"],
                stride=2,
                padding=1,
                output_padding=1,
            )
            maps = settled(maps)
            index += 3
    return torch.tanh(_conv(weights, f"model.{index + 1}", _mirrored(maps, 3, 3, 3, 3)))


def pytorch_gan_state_dict(seed: int, *, ngf: int = 12, blocks: int = 3) -> StateDict:
    weights = _Weights(seed)
    weights.conv("model.1", 3, ngf, 7)
    weights.conv("model.4", ngf, 2 * ngf, 3)
    weights.conv("model.7", 2 * ngf, 4 * ngf, 3)
    for number in range(blocks):
        weights.conv(f"model.{10 + number}.block.1", 4 * ngf, 4 * ngf, 3)
        weights.conv(f"model.{10 + number}.block.5", 4 * ngf, 4 * ngf, 3, gain=0.4)
    index = 10 + blocks  # nn.Upsample has a number and no weights
    weights.conv(f"model.{index + 1}", 4 * ngf, 2 * ngf, 3)
    weights.conv(f"model.{index + 5}", 2 * ngf, ngf, 3)
    weights.conv(f"model.{index + 9}", ngf, 3, 7)
    return weights.state_dict


def pytorch_gan_forward(weights: StateDict, images: Tensor, *, blocks: int = 3) -> Tensor:
    def settled(maps: Tensor) -> Tensor:
        return functional.relu(functional.instance_norm(maps))

    maps = settled(_conv(weights, "model.1", _mirrored(images, 3, 3, 3, 3)))
    for name in ("model.4", "model.7"):
        maps = settled(_conv(weights, name, maps, stride=2, padding=1))
    for number in range(blocks):
        name = f"model.{10 + number}.block"
        inside = settled(_conv(weights, f"{name}.1", _mirrored(maps, 1, 1, 1, 1)))
        inside = _conv(weights, f"{name}.5", _mirrored(inside, 1, 1, 1, 1))
        maps = maps + functional.instance_norm(inside)
    for index in (11 + blocks, 15 + blocks):
        maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps = settled(_conv(weights, f"model.{index}", maps, padding=1))
    return torch.tanh(_conv(weights, f"model.{19 + blocks}", _mirrored(maps, 3, 3, 3, 3)))


def style_state_dict(seed: int, *, width: int = 12, blocks: int = 5) -> StateDict:
    weights = _Weights(seed)
    wide = 4 * width

    def layer(conv: str, norm: str, reads: int, makes: int, size: int, gain: float = 1.0) -> None:
        weights.conv(f"{conv}.conv2d", reads, makes, size, gain=gain)
        weights.affine(norm, makes)

    layer("conv1", "in1", 3, width, 9)
    layer("conv2", "in2", width, 2 * width, 3)
    layer("conv3", "in3", 2 * width, wide, 3)
    for number in range(1, blocks + 1):
        layer(f"res{number}.conv1", f"res{number}.in1", wide, wide, 3)
        layer(f"res{number}.conv2", f"res{number}.in2", wide, wide, 3)
    layer("deconv1", "in4", wide, 2 * width, 3)
    layer("deconv2", "in5", 2 * width, width, 3)
    weights.conv("deconv3.conv2d", width, 3, 9, gain=40.0)
    weights.state_dict["deconv3.conv2d.bias"] += 127.5  # colours of 0..255
    return weights.state_dict


def style_forward(weights: StateDict, images: Tensor, *, blocks: int = 5) -> Tensor:
    """The original on colours of 0..255, and images of [-1, 1] around it."""

    def settled(conv: str, norm: str, maps: Tensor, size: int, stride: int = 1) -> Tensor:
        half = size // 2
        maps = _conv(weights, f"{conv}.conv2d", _mirrored(maps, *[half] * 4), stride=stride)
        gain, shift = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
        return functional.instance_norm(maps, weight=gain, bias=shift)

    maps = functional.relu(settled("conv1", "in1", (images + 1) / 2 * 255, 9))
    maps = functional.relu(settled("conv2", "in2", maps, 3, 2))
    maps = functional.relu(settled("conv3", "in3", maps, 3, 2))
    for number in range(1, blocks + 1):
        inside = functional.relu(settled(f"res{number}.conv1", f"res{number}.in1", maps, 3))
        maps = settled(f"res{number}.conv2", f"res{number}.in2", inside, 3) + maps
    for conv, norm in (("deconv1", "in4"), ("deconv2", "in5")):
        maps = maps.repeat_interleave(2, 2).repeat_interleave(2, 3)
        maps = functional.relu(settled(conv, norm, maps, 3))
    colours = _conv(weights, "deconv3.conv2d", _mirrored(maps, 4, 4, 4, 4))
    return colours.clamp(0, 255) / 255 * 2 - 1


def anime_state_dict(seed: int, *, width: int = 8) -> StateDict:
    weights = _Weights(seed)

    def layer(name: str, reads: int, makes: int, size: int = 3) -> None:
        weights.conv(f"{name}.1", reads, makes, size, bias=False)
        weights.affine(f"{name}.2", makes)

    def block(name: str, reads: int, makes: int) -> None:
        layer(f"{name}.layers.0", reads, 2 * reads, 1)
        weights.conv(f"{name}.layers.1.1", 1, 2 * reads, 3)  # depthwise: one input each
        weights.affine(f"{name}.layers.1.2", 2 * reads)
        weights.conv(f"{name}.layers.2", 2 * reads, makes, 1, bias=False)
        weights.affine(f"{name}.layers.3", makes)

    layer("block_a.0", 3, width, 7)
    layer("block_a.1", width, 2 * width)
    layer("block_a.2", 2 * width, 2 * width)
    layer("block_b.0", 2 * width, 4 * width)
    layer("block_b.1", 4 * width, 4 * width)
    layer("block_c.0", 4 * width, 4 * width)
    block("block_c.1", 4 * width, 8 * width)
    for number in (2, 3, 4):
        block(f"block_c.{number}", 8 * width, 8 * width)
    layer("block_c.5", 8 * width, 4 * width)
    layer("block_d.0", 4 * width, 4 * width)
    layer("block_d.1", 4 * width, 4 * width)
    layer("block_e.0", 4 * width, 2 * width)
    layer("block_e.1", 2 * width, 2 * width)
    layer("block_e.2", 2 * width, width, 7)
    weights.conv("out_layer.0", width, 3, 1, bias=False)
    return weights.state_dict


def anime_forward(weights: StateDict, images: Tensor, *, blocks: int = 4) -> Tensor:
    def settled(name: str, maps: Tensor, margin: tuple[int, ...], **options: int) -> Tensor:
        if any(margin):
            maps = _mirrored(maps, *margin)
        maps = normed(f"{name}.2", _conv(weights, f"{name}.1", maps, **options))
        return functional.leaky_relu(maps, 0.2)

    def normed(name: str, maps: Tensor) -> Tensor:
        gain, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.group_norm(maps, 1, gain, shift)

    def resized(maps: Tensor, like: Tensor) -> Tensor:
        size = like.shape[-2:]
        return functional.interpolate(maps, size, mode="bilinear", align_corners=True)

    even = (1, 1, 1, 1)
    maps = settled("block_a.0", images, (3, 3, 3, 3))
    maps = settled("block_a.1", maps, (0, 1, 0, 1), stride=2)
    half = settled("block_a.2", maps, even)
    maps = settled("block_b.0", half, (0, 1, 0, 1), stride=2)
    maps = settled("block_c.0", settled("block_b.1", maps, even), even)
    for number in range(1, blocks + 1):
        name = f"block_c.{number}.layers"
        inside = settled(f"{name}.0", maps, (0, 0, 0, 0))
        inside = settled(f"{name}.1", inside, even, groups=inside.shape[1])
        inside = normed(f"{name}.3", _conv(weights, f"{name}.2", inside))
        maps = maps + inside if maps.shape[1] == inside.shape[1] else inside
    maps = resized(settled(f"block_c.{blocks + 1}", maps, even), half)
    maps = settled("block_d.1", settled("block_d.0", maps, even), even)
    maps = settled("block_e.1", settled("block_e.0", resized(maps, images), even), even)
    maps = settled("block_e.2", maps, (3, 3, 3, 3))
    return torch.tanh(_conv(weights, "out_layer.0", maps))


@dataclass(frozen=True)
class Family:
    """Random weights under the original's names, what they compute, and the family's name."""

    weights: Callable[[int], StateDict]
    forward: Callable[[StateDict, Tensor], Tensor]
    name: str


FAMILIES = {
    "cut": Family(cut_state_dict, cut_forward, "resnet"),
    "cut-no-antialias": Family(
        lambda seed: cut_state_dict(seed, antialias=False),
        lambda weights, images: cut_forward(weights, images, antialias=False),
        "resnet",
    ),
    "cut-no-antialias-up": Family(
        lambda seed: cut_state_dict(seed, antialias_up=False),
        lambda weights, images: cut_forward(weights, images, antialias_up=False),
        "resnet",
    ),
    "pytorch-gan": Family(pytorch_gan_state_dict, pytorch_gan_forward, "resnet"),
    "fast-neural-style": Family(style_state_dict, style_forward, "fast_neural_style"),
    "animegan": Family(anime_state_dict, anime_forward, "animegan"),
}

SAVED = (*FAMILIES, "unet, batch", "unet, batch-per-image", "pix2pixHD")
"""What `saved_family` knows."""


def saved_family(name: str, path: Path) -> Generator:
    """A small generator of one of the families that wkdc reads."""
    match name:
        case "unet, batch":
            torch.save(unet_state_dict(4, downs=6, ngf=4, tracked=True), path)
        case "unet, batch-per-image":
            torch.save(unet_state_dict(4, downs=6, ngf=4), path)
            return load_generator(path, norm="batch-per-image")
        case "pix2pixHD":
            torch.save(global_generator_state_dict(2, downs=2, blocks=2, in_channels=5), path)
        case _:
            torch.save(FAMILIES[name].weights(1), path)
    return load_generator(path)
