"""The original networks, restated as plain functions over a state dict.

pytorch-CycleGAN-and-pix2pix (Zhu et al. 2017, Isola et al. 2017) defines what the parameter names
of a `.pth` mean and what the network computes. These functions say the same with nothing but
`torch.nn.functional`, layer by layer and name by name, so that tests compare wkdc's modules with
something that shares no code with them. All of it is evaluation mode: batch norm reads its running
statistics, dropout does nothing but take up an index.

`*_state_dict` makes seeded random weights under the original names, at widths of any choice, scaled
so that signals neither die nor saturate the last tanh. `*_forward` computes with them.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

NORM_EPSILON = 1e-5  # the default of nn.BatchNorm2d and nn.InstanceNorm2d

StateDict = OrderedDict[str, Tensor]


class _Weights:
    """Fills a state dict with random layers, in the order in which they are asked for."""

    def __init__(self, seed: int, *, norm: str, affine: bool, tracked: bool, bias: bool) -> None:
        self.state_dict: StateDict = OrderedDict()
        self._random = torch.Generator().manual_seed(seed)
        self._norm, self._affine, self._tracked, self._bias = norm, affine, tracked, bias

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)

    def _uniform(self, size: int) -> Tensor:
        return torch.rand(size, generator=self._random)

    def convolution(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        bias: bool | None = None,
        gain: float = 1.0,
    ) -> None:
        scale = gain * (inputs * kernel**2) ** -0.5
        self.state_dict[f"{name}.weight"] = self._normal(outputs, inputs, kernel, kernel) * scale
        self._add_bias(name, outputs, bias)

    def transposed(
        self, name: str, inputs: int, outputs: int, kernel: int, *, bias: bool | None = None
    ) -> None:
        scale = (inputs * (kernel / 2) ** 2) ** -0.5  # stride 2: a quarter of the taps meet a pixel
        self.state_dict[f"{name}.weight"] = self._normal(inputs, outputs, kernel, kernel) * scale
        self._add_bias(name, outputs, bias)

    def _add_bias(self, name: str, outputs: int, bias: bool | None) -> None:
        if self._bias if bias is None else bias:
            self.state_dict[f"{name}.bias"] = self._normal(outputs) * 0.2

    def norm(self, name: str, channels: int) -> None:
        if self._norm == "none":
            return
        if self._norm == "batch" or self._affine:
            self.state_dict[f"{name}.weight"] = 0.6 + 0.8 * self._uniform(channels)
            self.state_dict[f"{name}.bias"] = self._normal(channels) * 0.2
        if self._norm == "batch" or self._tracked:
            self.state_dict[f"{name}.running_mean"] = self._normal(channels) * 0.2
            self.state_dict[f"{name}.running_var"] = 0.3 + 0.9 * self._uniform(channels)
        if self._norm == "batch":
            self.state_dict[f"{name}.num_batches_tracked"] = torch.tensor(1234)


def _convolve(
    state_dict: StateDict, name: str, images: Tensor, *, stride: int = 1, padding: int = 0
) -> Tensor:
    weight, bias = state_dict[f"{name}.weight"], state_dict.get(f"{name}.bias")
    return functional.conv2d(images, weight, bias, stride=stride, padding=padding)


def _transpose(
    state_dict: StateDict, name: str, images: Tensor, *, output_padding: int = 0
) -> Tensor:
    weight, bias = state_dict[f"{name}.weight"], state_dict.get(f"{name}.bias")
    return functional.conv_transpose2d(
        images, weight, bias, stride=2, padding=1, output_padding=output_padding
    )


def _normalise(state_dict: StateDict, name: str, images: Tensor, norm: str) -> Tensor:
    weight, bias = state_dict.get(f"{name}.weight"), state_dict.get(f"{name}.bias")
    if norm == "none":
        return images
    if norm == "instance":  # per image and channel; statistics in the file play no part
        return functional.instance_norm(images, weight=weight, bias=bias, eps=NORM_EPSILON)
    if norm == "batch":
        mean, variance = state_dict[f"{name}.running_mean"], state_dict[f"{name}.running_var"]
        return functional.batch_norm(images, mean, variance, weight, bias, eps=NORM_EPSILON)
    raise ValueError(norm)


def _block_indices(padding: str, dropout: bool) -> tuple[int, int]:
    """Where a residual block's two convolutions stand in its `nn.Sequential`.

    With padding layers and no dropout: pad, conv, norm, relu, pad, conv, norm. Zero padding happens
    inside the convolutions, so both pad layers are missing; dropout adds one after the ReLU.
    """
    pad = 0 if padding == "zero" else 1
    first = pad
    second = first + 3 + int(dropout) + pad
    return first, second


def resnet_state_dict(
    seed: int,
    *,
    blocks: int = 9,
    ngf: int = 8,
    in_channels: int = 3,
    out_channels: int = 3,
    norm: str = "instance",
    affine: bool = False,
    tracked: bool = False,
    bias: bool | None = None,
    padding: str = "reflect",
    dropout: bool = False,
    block_name: str = "conv_block",
    encoder: Sequence[int] | None = None,
    stream: int | None = None,
    inner: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
) -> StateDict:
    """Random weights of a `ResnetGenerator`, by default with the original widths for `ngf`.

    `tracked` adds the running statistics that InstanceNorm wrote before torch 0.4. `bias` is the
    original's rule unless given: the convolutions in front of a norm have one with InstanceNorm
    only. `encoder`, `stream`, `inner` (one per block) and `decoder` are the widths of a pruned net.
    """
    first_width, second_width = encoder or (ngf, 2 * ngf)
    stream = stream or 4 * ngf
    inner = inner or [stream] * blocks
    third_width, fourth_width = decoder or (2 * ngf, ngf)
    bias = norm == "instance" if bias is None else bias
    weights = _Weights(seed, norm=norm, affine=affine, tracked=tracked, bias=bias)

    weights.convolution("model.1", in_channels, first_width, 7)
    weights.norm("model.2", first_width)
    weights.convolution("model.4", first_width, second_width, 3)
    weights.norm("model.5", second_width)
    weights.convolution("model.7", second_width, stream, 3)
    weights.norm("model.8", stream)

    first, second = _block_indices(padding, dropout)
    for block in range(blocks):  # each adds less than it is given, or many blocks would explode
        name = f"model.{10 + block}.{block_name}"
        weights.convolution(f"{name}.{first}", stream, inner[block], 3)
        weights.norm(f"{name}.{first + 1}", inner[block])
        weights.convolution(f"{name}.{second}", inner[block], stream, 3, gain=0.4)
        weights.norm(f"{name}.{second + 1}", stream)

    after = 10 + blocks
    weights.transposed(f"model.{after}", stream, third_width, 3)
    weights.norm(f"model.{after + 1}", third_width)
    weights.transposed(f"model.{after + 3}", third_width, fourth_width, 3)
    weights.norm(f"model.{after + 4}", fourth_width)
    weights.convolution(f"model.{after + 7}", fourth_width, out_channels, 7, bias=True)
    return weights.state_dict


def resnet_forward(
    state_dict: StateDict,
    images: Tensor,
    *,
    blocks: int = 9,
    norm: str = "instance",
    padding: str = "reflect",
    layout: str | None = None,
    dropout: bool = False,
    block_name: str = "conv_block",
) -> Tensor:
    """What a `ResnetGenerator` with these weights computes. N×C×H×W in [-1, 1], in and out.

    `layout` is the padding that the blocks' names were made for, where it is not `padding` itself
    (`nn.Conv2d` with `padding_mode="reflect"` leaves names as zero padding does).
    """

    def convolve(name: str, hidden: Tensor, **options: int) -> Tensor:
        return _convolve(state_dict, name, hidden, **options)

    def activate(name: str, hidden: Tensor) -> Tensor:
        return functional.relu(_normalise(state_dict, name, hidden, norm))

    def padded(hidden: Tensor) -> Tensor:
        mode = {"reflect": "reflect", "replicate": "replicate", "zero": "constant"}[padding]
        return functional.pad(hidden, (1, 1, 1, 1), mode=mode)

    hidden = functional.pad(images, (3, 3, 3, 3), mode="reflect")
    hidden = activate("model.2", convolve("model.1", hidden))
    hidden = activate("model.5", convolve("model.4", hidden, stride=2, padding=1))
    hidden = activate("model.8", convolve("model.7", hidden, stride=2, padding=1))

    first, second = _block_indices(layout or padding, dropout)
    for block in range(blocks):
        name = f"model.{10 + block}.{block_name}"
        inside = activate(f"{name}.{first + 1}", convolve(f"{name}.{first}", padded(hidden)))
        inside = convolve(f"{name}.{second}", padded(inside))
        hidden = hidden + _normalise(state_dict, f"{name}.{second + 1}", inside, norm)

    after = 10 + blocks
    for name, norm_name in (
        (f"model.{after}", f"model.{after + 1}"),
        (f"model.{after + 3}", f"model.{after + 4}"),
    ):
        hidden = activate(norm_name, _transpose(state_dict, name, hidden, output_padding=1))
    hidden = functional.pad(hidden, (3, 3, 3, 3), mode="reflect")
    return torch.tanh(convolve(f"model.{after + 7}", hidden))


def unet_state_dict(
    seed: int,
    *,
    downs: int = 8,
    ngf: int = 8,
    in_channels: int = 3,
    out_channels: int = 3,
    norm: str = "batch",
    affine: bool = False,
    tracked: bool = False,
    bias: bool | None = None,
    down: Sequence[int] | None = None,
    up: Sequence[int] | None = None,
) -> StateDict:
    """Random weights of a `UnetGenerator`, by default with the original widths for `ngf`.

    `down` are the widths that the `downs` convolutions make, outermost first; `up` the widths that
    the transposed convolutions of the levels 1, 2, ... hand out (the outermost, level 0, makes
    the image). In the original, level k hands out as many channels as it was given.
    """
    down = down or [ngf * min(2**level, 8) for level in range(downs)]
    made = [out_channels, *(up or down[:-1])]
    bias = norm == "instance" if bias is None else bias
    weights = _Weights(seed, norm=norm, affine=affine, tracked=tracked, bias=bias)

    def level_weights(level: int, name: str) -> None:
        given = in_channels if level == 0 else down[level - 1]
        if level == 0:
            weights.convolution(f"{name}.0", given, down[0], 4)
            level_weights(1, f"{name}.1.model")
            weights.transposed(f"{name}.3", down[0] + made[1], out_channels, 4, bias=True)
        elif level == downs - 1:
            weights.convolution(f"{name}.1", given, down[level], 4)
            weights.transposed(f"{name}.3", down[level], made[level], 4)
            weights.norm(f"{name}.4", made[level])
        else:
            weights.convolution(f"{name}.1", given, down[level], 4)
            weights.norm(f"{name}.2", down[level])
            level_weights(level + 1, f"{name}.3.model")
            weights.transposed(f"{name}.5", down[level] + made[level + 1], made[level], 4)
            weights.norm(f"{name}.6", made[level])

    level_weights(0, "model.model")
    return weights.state_dict


def unet_forward(
    state_dict: StateDict, images: Tensor, *, downs: int = 8, norm: str = "batch"
) -> Tensor:
    """What a `UnetGenerator` with these weights computes. N×C×H×W in [-1, 1], in and out.

    The original's leaky ReLU works in place, so the skip connection carries its result and not the
    norm's; the ReLU that follows every concatenation makes the two the same.
    """

    def shrink(name: str, hidden: Tensor) -> Tensor:
        return _convolve(state_dict, name, hidden, stride=2, padding=1)

    def grow(name: str, hidden: Tensor) -> Tensor:
        return _transpose(state_dict, name, functional.relu(hidden))

    def skip_block(level: int, name: str, given: Tensor) -> Tensor:
        given = functional.leaky_relu(given, 0.2)
        hidden = shrink(f"{name}.1", given)
        if level == downs - 1:
            hidden = _normalise(state_dict, f"{name}.4", grow(f"{name}.3", hidden), norm)
        else:
            hidden = _normalise(state_dict, f"{name}.2", hidden, norm)
            hidden = skip_block(level + 1, f"{name}.3.model", hidden)
            hidden = _normalise(state_dict, f"{name}.6", grow(f"{name}.5", hidden), norm)
        return torch.cat([given, hidden], dim=1)

    hidden = skip_block(1, "model.model.1.model", shrink("model.model.0", images))
    return torch.tanh(grow("model.model.3", hidden))


def _patchgan_indices(layers: int) -> list[int]:
    """Where the convolutions between the first and the last stand: conv, norm, leaky ReLU each."""
    return [2 + 3 * layer for layer in range(layers)]


def patchgan_state_dict(
    seed: int,
    *,
    ndf: int = 8,
    layers: int = 3,
    in_channels: int = 3,
    norm: str = "instance",
    affine: bool = False,
    tracked: bool = False,
) -> StateDict:
    """Random weights of an `NLayerDiscriminator`; three layers see patches of 70×70 pixels."""
    weights = _Weights(seed, norm=norm, affine=affine, tracked=tracked, bias=norm == "instance")
    weights.convolution("model.0", in_channels, ndf, 4, bias=True)
    width = ndf
    for layer, index in enumerate(_patchgan_indices(layers), start=1):
        given, width = width, ndf * min(2**layer, 8)
        weights.convolution(f"model.{index}", given, width, 4)
        weights.norm(f"model.{index + 1}", width)
    weights.convolution(f"model.{2 + 3 * layers}", width, 1, 4, bias=True)
    return weights.state_dict


def patchgan_forward(
    state_dict: StateDict, images: Tensor, *, layers: int = 3, norm: str = "instance"
) -> Tensor:
    """How real an `NLayerDiscriminator` finds each patch: N×1×h×w, no sigmoid.

    All but the last two convolutions halve the image.
    """
    hidden = functional.leaky_relu(
        _convolve(state_dict, "model.0", images, stride=2, padding=1), 0.2
    )
    for layer, index in enumerate(_patchgan_indices(layers), start=1):
        stride = 1 if layer == layers else 2
        hidden = _convolve(state_dict, f"model.{index}", hidden, stride=stride, padding=1)
        hidden = _normalise(state_dict, f"model.{index + 1}", hidden, norm)
        hidden = functional.leaky_relu(hidden, 0.2)
    return _convolve(state_dict, f"model.{2 + 3 * layers}", hidden, padding=1)


def global_generator_state_dict(
    seed: int,
    *,
    downs: int = 4,
    blocks: int = 9,
    ngf: int = 2,
    in_channels: int = 36,
    out_channels: int = 3,
    norm: str = "instance",
) -> StateDict:
    """Random weights of pix2pixHD's `GlobalGenerator`, by default for 35 labels and their edges.

    Every convolution has a bias, whichever norm follows.
    """
    weights = _Weights(seed, norm=norm, affine=False, tracked=False, bias=True)
    weights.convolution("model.1", in_channels, ngf, 7)
    weights.norm("model.2", ngf)
    for down in range(downs):
        weights.convolution(f"model.{4 + 3 * down}", ngf * 2**down, ngf * 2 ** (down + 1), 3)
        weights.norm(f"model.{5 + 3 * down}", ngf * 2 ** (down + 1))
    stream, start = ngf * 2**downs, 4 + 3 * downs
    for block in range(blocks):
        name = f"model.{start + block}.conv_block"
        weights.convolution(f"{name}.1", stream, stream, 3)
        weights.norm(f"{name}.2", stream)
        weights.convolution(f"{name}.5", stream, stream, 3, gain=0.4)
        weights.norm(f"{name}.6", stream)
    after = start + blocks
    for up in range(downs):
        wide = ngf * 2 ** (downs - up)
        weights.transposed(f"model.{after + 3 * up}", wide, wide // 2, 3)
        weights.norm(f"model.{after + 3 * up + 1}", wide // 2)
    weights.convolution(f"model.{after + 3 * downs + 1}", ngf, out_channels, 7)
    return weights.state_dict


def global_generator_forward(
    state_dict: StateDict,
    images: Tensor,
    *,
    downs: int = 4,
    blocks: int = 9,
    norm: str = "instance",
) -> Tensor:
    """What a `GlobalGenerator` with these weights computes: N×C×H×W -> N×3×H×W in [-1, 1]."""

    def activate(index: int, hidden: Tensor) -> Tensor:
        return functional.relu(_normalise(state_dict, f"model.{index}", hidden, norm))

    hidden = functional.pad(images, (3, 3, 3, 3), mode="reflect")
    hidden = activate(2, _convolve(state_dict, "model.1", hidden))
    for index in range(4, 4 + 3 * downs, 3):
        hidden = _convolve(state_dict, f"model.{index}", hidden, stride=2, padding=1)
        hidden = activate(index + 1, hidden)
    start = 4 + 3 * downs
    for block in range(blocks):
        name = f"model.{start + block}.conv_block"
        inside = functional.pad(hidden, (1, 1, 1, 1), mode="reflect")
        inside = _convolve(state_dict, f"{name}.1", inside)
        inside = functional.relu(_normalise(state_dict, f"{name}.2", inside, norm))
        inside = functional.pad(inside, (1, 1, 1, 1), mode="reflect")
        inside = _convolve(state_dict, f"{name}.5", inside)
        hidden = hidden + _normalise(state_dict, f"{name}.6", inside, norm)
    after = start + blocks
    for index in range(after, after + 3 * downs, 3):
        hidden = _transpose(state_dict, f"model.{index}", hidden, output_padding=1)
        hidden = activate(index + 1, hidden)
    hidden = functional.pad(hidden, (3, 3, 3, 3), mode="reflect")
    return torch.tanh(_convolve(state_dict, f"model.{after + 3 * downs + 1}", hidden))


def _scale_names(scale: int, layers: int, apart: bool) -> list[tuple[str, str]]:
    """Names of each convolution of a scale and of the norm behind it, the first to the last."""
    if apart:
        return [(f"scale{scale}_layer{n}.0", f"scale{scale}_layer{n}.1") for n in range(layers + 2)]
    indices = [0, *_patchgan_indices(layers), 2 + 3 * layers]
    return [(f"layer{scale}.{index}", f"layer{scale}.{index + 1}") for index in indices]


def multiscale_state_dict(
    seed: int,
    *,
    scales: int = 2,
    layers: int = 3,
    ndf: int = 4,
    in_channels: int = 6,
    norm: str = "instance",
    apart: bool = True,
    widths: Sequence[Sequence[int]] | None = None,
) -> StateDict:
    """Random weights of pix2pixHD's `MultiscaleDiscriminator`, by default at stock widths.

    `apart` is how it names its layers where intermediate features are asked for. `widths` are
    those of a pruned one, scale by scale.
    """
    weights = _Weights(seed, norm=norm, affine=False, tracked=False, bias=True)
    for scale in range(scales):
        own = widths[scale] if widths else [min(ndf * 2**n, 512) for n in range(layers + 1)]
        given = in_channels
        names = _scale_names(scale, len(own) - 1, apart)
        for number, (width, (name, norm_name)) in enumerate(zip([*own, 1], names, strict=True)):
            weights.convolution(name, given, width, 4)
            if 0 < number < len(own):
                weights.norm(norm_name, width)
            given = width
    return weights.state_dict


def multiscale_forward(
    state_dict: StateDict,
    images: Tensor,
    *,
    scales: int = 2,
    layers: int = 3,
    norm: str = "instance",
    apart: bool = True,
) -> list[list[Tensor]]:
    """What every number of a `MultiscaleDiscriminator` puts out, from the finest scale on.

    The scale that is numbered last sees the image itself, each one before it half as much.
    """
    found = []
    for scale in reversed(range(scales)):
        names = _scale_names(scale, layers, apart)
        hidden, made = images, []
        for number, (name, norm_name) in enumerate(names):
            stride = 2 if number < layers else 1
            hidden = _convolve(state_dict, name, hidden, stride=stride, padding=2)
            if 0 < number <= layers:
                hidden = _normalise(state_dict, norm_name, hidden, norm)
            if number <= layers:
                hidden = functional.leaky_relu(hidden, 0.2)
            made.append(hidden)
        found.append(made)
        images = functional.avg_pool2d(images, 3, stride=2, padding=(1, 1), count_include_pad=False)
    return found
