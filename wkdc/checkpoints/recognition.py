"""What network a state dict belongs to, told from its key names and tensor shapes alone.

The state dict is the specification: a pruned student with any widths is recognised by the same
code as a stock teacher. Some things leave no trace in some weight files, and the stock default is
then assumed and noted: InstanceNorm without parameters (against no normalisation), BatchNorm
where convolutions have a bias (against an old InstanceNorm that kept running statistics), the
padding of residual blocks, and a transposed convolution (against a sub-pixel one of a width that
fits as well). A U-Net's dropout leaves no trace
either; it does nothing when a trained network draws, so it is left out.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wkdc.errors import CheckpointError
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

StateDict = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recognition:
    """An architecture, the state dict under its names, and what had to be assumed."""

    architecture: Architecture
    state_dict: dict[str, Tensor]
    notes: tuple[str, ...]


@dataclass
class _Layer:
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
            raise _unfit([self.name])
        return self.weight


def recognise(
    state_dict: StateDict,
    *,
    norm: Norm | None = None,
    block_padding: Padding | None = None,
    upsampling: Upsampling | None = None,
) -> Recognition:
    """Tell the generator, or the discriminator, that `state_dict` belongs to.

    Args:
        state_dict: names as pytorch-CycleGAN-and-pix2pix writes them, or close to it.
        norm, block_padding, upsampling: say what the file cannot, see the top of this module.

    Raises:
        CheckpointError: no known generator; the message names the first keys that did not fit.
    """
    layers = _layers(state_dict)
    enhancer = next((y.name for y in layers if re.match(r"model\d+_\d", y.name)), None)
    if enhancer is not None:
        raise CheckpointError(
            f"is a LocalEnhancer of pix2pixHD ({enhancer!r}), which wkdc does not know; of "
            "pix2pixHD's generators it takes the global one alone (--netG global)"
        )
    scales = _scales(layers)
    if scales:
        architecture, notes = _read_multiscale(scales, norm)
    elif _is_discriminator(layers):
        architecture, notes = _read_patchgan(layers, norm)
    elif any(layer.name == "model.model.0" for layer in layers):
        architecture, notes = _read_unet(layers, norm)
    elif any(layer.is_conv and len(layer.path) == 4 for layer in layers):
        architecture, notes = _read_resnet(layers, norm, block_padding, upsampling)
    else:
        raise _unfit([layer.name for layer in layers])
    return Recognition(architecture, _fit(architecture, layers), tuple(notes))


def _layers(state_dict: StateDict) -> list[_Layer]:
    """The file's modules in the order of the forward pass, which numeric order gives."""
    found: dict[str, _Layer] = {}
    for key, tensor in state_dict.items():
        name, _, leaf = key.rpartition(".") if "." in key else (key, "", "")
        path = tuple(int(part) if part.isdecimal() else part for part in name.split("."))
        found.setdefault(name, _Layer(name, path)).tensors[leaf] = tensor
    # A string beside a number cannot be compared: strings sort before numbers here.
    return sorted(
        found.values(),
        key=lambda layer: [(isinstance(part, int), part) for part in layer.path],
    )


def _is_discriminator(layers: Sequence[_Layer]) -> bool:
    """PatchGAN: only 4x4 convolutions in one row, the last with a single output channel."""
    kernels = [layer.kernel for layer in layers if layer.is_conv]
    flat = all(len(layer.path) == 2 for layer in layers)
    return (
        flat
        and len(kernels) >= 3
        and all(kernel.shape[-2:] == (4, 4) for kernel in kernels)
        and kernels[-1].shape[0] == 1
    )


def _read_patchgan(layers: list[_Layer], norm: Norm | None) -> tuple[Architecture, list[str]]:
    convs = [layer for layer in layers if layer.is_conv]
    between = [layer for layer in layers if layer is not convs[0] and layer is not convs[-1]]
    name, affine, notes = _read_norm(between, norm)
    options: dict[str, Any] = {
        "in_channels": convs[0].kernel.shape[1],
        "widths": [layer.kernel.shape[0] for layer in convs[:-1]],
        "norm": name,
        "affine": affine,
        "bias": "bias" in convs[1].tensors,
    }
    return Architecture("patchgan", options), notes


def _scales(layers: Sequence[_Layer]) -> list[list[_Layer]]:
    """The layers of each scale of a multi-scale discriminator; none if it is no such network."""
    scales: dict[int, list[_Layer]] = {}
    for layer in layers:
        named = re.fullmatch(r"(?:scale(\d+)_layer\d+|layer(\d+))\.\d+", layer.name)
        if named is None:
            return []
        scales.setdefault(int(named[1] or named[2]), []).append(layer)
    convs = [[y.kernel.shape for y in scale if y.is_conv] for scale in scales.values()]
    judging = all(len(s) >= 2 and s[-1][0] == 1 and {x[-1] for x in s} == {4} for s in convs)
    return [scales[number] for number in sorted(scales)] if judging else []


def _read_multiscale(
    scales: Sequence[Sequence[_Layer]], norm: Norm | None
) -> tuple[Architecture, list[str]]:
    convs = [[layer for layer in scale if layer.is_conv] for scale in scales]
    ends = {end.name for scale in convs for end in (scale[0], scale[-1])}
    between = [layer for scale in scales for layer in scale if layer.name not in ends]
    name, affine, notes = _read_norm(between, norm)
    options: dict[str, Any] = {
        "in_channels": convs[0][0].kernel.shape[1],
        "widths": [[layer.kernel.shape[0] for layer in scale[:-1]] for scale in convs],
        "norm": name,
        "affine": affine,
        "bias": any("bias" in layer.tensors for layer in between if layer.is_conv),
        "apart": scales[0][0].name.startswith("scale"),
    }
    return Architecture("multiscale", options), notes


def _read_norm(layers: Sequence[_Layer], norm: Norm | None) -> tuple[Norm, bool, list[str]]:
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


def _read_resnet(
    layers: list[_Layer],
    norm: Norm | None,
    block_padding: Padding | None,
    upsampling: Upsampling | None,
) -> tuple[Architecture, list[str]]:
    blocks: dict[int, list[_Layer]] = {}
    odd: list[str] = []
    for layer in layers:
        match layer.path:
            case (str(), int(number), str(), int()):
                blocks.setdefault(number, []).append(layer)
            case (str(), int()):
                pass
            case _:
                odd.append(layer.name)
    convs = {number: [y for y in block if y.is_conv] for number, block in blocks.items()}
    odd += [blocks[number][0].name for number, pair in convs.items() if len(pair) != 2]
    root = {layer.path[0] for block in blocks.values() for layer in block}
    top = [layer for layer in layers if len(layer.path) == 2 and layer.is_conv]
    odd += [layer.name for layer in top if layer.path[0] not in root]
    if odd:
        raise _unfit(odd)
    pairs = list(convs.values())
    before = [layer for layer in top if _index(layer) < min(blocks)]
    after = [layer for layer in top if _index(layer) > min(blocks)]
    _check_ends(before, after)
    name, affine, notes = _read_norm([y for y in layers if y is not after[-1]], norm)
    padding, fused, padding_notes = _read_padding(_index(pairs[0][0]), block_padding)
    stream = before[-1].kernel.shape[0]
    upsampling, decoder, decoder_notes = _read_decoder(stream, after, upsampling)
    options: dict[str, Any] = {
        "in_channels": before[0].kernel.shape[1],
        "out_channels": after[-1].kernel.shape[0],
        "encoder": [y.kernel.shape[0] for y in before[:-1]],
        "stream": stream,
        "inner": [block[0].kernel.shape[0] for block in pairs],
        "decoder": decoder,
        "norm": name,
        "affine": affine,
        "bias": "bias" in before[0].tensors,
        "block_padding": padding,
        "fused_padding": fused,
        "dropout": _index(pairs[0][1]) == (4 if fused else 6),
        "upsampling": upsampling,
    }
    return Architecture("resnet", options), notes + padding_notes + decoder_notes


def _check_ends(before: Sequence[_Layer], after: Sequence[_Layer]) -> None:
    """Stem and head are 7x7, and the resolution is doubled as often as it was halved.

    Raises:
        CheckpointError: they are not; the message names the first layer that does not fit.
    """
    for ends, place in ((before, 0), (after, -1)):
        if len(ends) < 2:
            raise _unfit([layer.name for layer in [*before, *after]])
        if ends[place].kernel.shape[-2:] != (7, 7):
            raise _unfit([ends[place].name])
    if len(after) != len(before):
        stream = before[-1].kernel.shape[0]
        misfits = [layer.name for layer in after if stream not in layer.kernel.shape[:2]]
        raise _unfit(misfits or [layer.name for layer in after])


def _read_decoder(
    stream: int, after: Sequence[_Layer], wanted: Upsampling | None
) -> tuple[Upsampling, list[int], list[str]]:
    """How the decoder doubles the resolution, and its widths: the reading that chains.

    A bias, where there is one, also tells: it is as long as the layer's output.
    """
    kernels = [layer.kernel.shape for layer in after[:-1]]
    axes: dict[Upsampling, tuple[int, int, int]] = {
        "transposed": (0, 1, 1),
        "subpixel": (1, 0, 4),
    }
    fitting: dict[Upsampling, list[int]] = {}
    for upsampling, (reads, makes, spread) in axes.items():
        widths = [shape[makes] // spread for shape in kernels]
        chained = [stream, *widths] == [*(k[reads] for k in kernels), after[-1].kernel.shape[1]]
        biases = [layer.tensors["bias"] for layer in after[:-1] if "bias" in layer.tensors]
        spans = [shape[makes] for shape in kernels]
        if chained and all(len(b) == n for b, n in zip(biases, spans, strict=False)):
            fitting[upsampling] = widths
    if wanted is not None and wanted in fitting:
        return wanted, fitting[wanted], []
    if not fitting or wanted is not None:
        raise _unfit([layer.name for layer in after])
    notes = ["transposed convolutions (else --upsampling subpixel)"] if len(fitting) > 1 else []
    name, widths = next(iter(fitting.items()))
    return name, widths, notes


def _read_padding(index: int, padding: Padding | None) -> tuple[Padding, bool, list[str]]:
    """Padding of the residual blocks, and whether their convolutions pad themselves.

    They do where the block starts with a convolution, which stock code has for zeros only.
    """
    fused = index == 0
    if padding is not None:
        return padding, fused, []
    if fused:
        return "zero", True, ["zero padding in the blocks (else --padding reflect)"]
    return "reflect", False, ["reflection padding in the blocks (else --padding replicate)"]


def _read_unet(layers: list[_Layer], norm: Norm | None) -> tuple[Architecture, list[str]]:
    depth = max(len(layer.path) for layer in layers)
    levels = [[y for y in layers if len(y.path) == n] for n in range(3, depth + 1, 2)]
    convs = [[y for y in level if y.is_conv] for level in levels]
    odd = [level[0].name for level in levels if sum(y.is_conv for y in level) != 2]
    if odd or len(levels) < 2:
        raise _unfit(odd or [layers[0].name])
    name, affine, notes = _read_norm([y for level in levels[1:] for y in level], norm)
    options: dict[str, Any] = {
        "in_channels": convs[0][0].kernel.shape[1],
        "out_channels": convs[0][1].kernel.shape[1],
        "down": [pair[0].kernel.shape[0] for pair in convs],
        "up": [pair[1].kernel.shape[1] for pair in convs[1:]],
        "norm": name,
        "affine": affine,
        "bias": "bias" in convs[0][0].tensors,
        "dropout": False,
    }
    return Architecture("unet", options), notes


def _fit(architecture: Architecture, layers: Sequence[_Layer]) -> dict[str, Tensor]:
    """The file's tensors under the network's names, module by module in the order of both.

    Raises:
        CheckpointError: the file holds too much, too little, or other shapes.
    """
    expected = architecture.build_empty().state_dict()
    keep_statistics = architecture.options["norm"] == "batch"
    kept: list[_Layer] = []
    for layer in layers:
        tensors = {
            leaf: tensor
            for leaf, tensor in layer.tensors.items()
            if keep_statistics or leaf not in STATISTICS
        }
        if tensors:
            kept.append(_Layer(layer.name, layer.path, tensors))
    fitted: dict[str, Tensor] = {}
    unfit: list[str] = []
    wanted = _layers(expected)
    for theirs, ours in zip(kept, wanted, strict=False):
        if keep_statistics and "num_batches_tracked" in ours.tensors:  # absent before torch 0.4
            theirs.tensors.setdefault("num_batches_tracked", torch.tensor(0))
        if {k: v.shape for k, v in theirs.tensors.items()} != {
            k: v.shape for k, v in ours.tensors.items()
        }:
            unfit.append(theirs.name)
        fitted |= {f"{ours.name}.{leaf}": tensor for leaf, tensor in theirs.tensors.items()}
    unfit += [layer.name for layer in kept[len(wanted) :] + wanted[len(kept) :]]
    if unfit:
        raise _unfit(unfit, family=architecture.family)
    return fitted


def _index(layer: _Layer) -> int:
    """The number at the end of a layer's name."""
    place = layer.path[-1]
    if not isinstance(place, int):
        raise _unfit([layer.name])
    return place


def _unfit(names: Sequence[str], *, family: str | None = None) -> CheckpointError:
    shown = ", ".join(repr(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    what = f"looks like a {family} network, but" if family else "is no generator that wkdc knows:"
    return CheckpointError(
        f"{what} {shown} does not fit; known are the ResNet and U-Net generators of "
        "pytorch-CycleGAN-and-pix2pix, and the global one of pix2pixHD"
    )
