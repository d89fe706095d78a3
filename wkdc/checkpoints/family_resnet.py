"""ResNet generators of any widths: CycleGAN's, CUT's, PyTorch-GAN's, pix2pixHD's global one."""

from collections.abc import Sequence
from typing import Any

from wkdc.checkpoints.file_layers import Layer, index_of, read_norm, unfit
from wkdc.networks.architecture import Architecture
from wkdc.networks.layers import Norm, Padding
from wkdc.networks.resnet import Upsampling


def is_resnet(layers: Sequence[Layer]) -> bool:
    """Residual blocks: convolutions inside of a numbered layer of the one sequence."""
    return any(layer.is_conv and len(layer.path) == 4 for layer in layers)


def read_resnet(
    layers: list[Layer],
    norm: Norm | None,
    block_padding: Padding | None,
    upsampling: Upsampling | None,
) -> tuple[Architecture, list[str]]:
    """The architecture, and notes on what was assumed.

    Raises:
        CheckpointError: layers are missing or do not fit; the message names the first ones.
    """
    blocks: dict[int, list[Layer]] = {}
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
        raise unfit(odd)
    pairs = list(convs.values())
    before = [layer for layer in top if index_of(layer) < min(blocks)]
    after = [layer for layer in top if index_of(layer) > min(blocks)]
    _check_ends(before, after)
    name, affine, notes = read_norm([y for y in layers if y is not after[-1]], norm)
    padding, fused, padding_notes = _read_padding(index_of(pairs[0][0]), block_padding)
    stream = before[-1].kernel.shape[0]
    blurs = [index_of(layer) for layer in layers if list(layer.tensors) == ["filt"]]
    upsampling, decoder, decoder_notes = _read_decoder(
        stream, after, max(blocks), upsampling, blurred=any(n > min(blocks) for n in blurs)
    )
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
        "dropout": index_of(pairs[0][1]) == (4 if fused else 6),
        "downsampling": "blurred" if any(n < min(blocks) for n in blurs) else "strided",
        "upsampling": upsampling,
        "block_name": "block" if pairs[0][0].path[2] == "block" else "conv_block",
    }
    return Architecture("resnet", options), notes + padding_notes + decoder_notes


def _check_ends(before: Sequence[Layer], after: Sequence[Layer]) -> None:
    """Stem and head are 7x7, and the resolution is doubled as often as it was halved.

    Raises:
        CheckpointError: they are not; the message names the first layer that does not fit.
    """
    for ends, index in ((before, 0), (after, -1)):
        if len(ends) < 2:
            raise unfit([layer.name for layer in [*before, *after]])
        if ends[index].kernel.shape[-2:] != (7, 7):
            raise unfit([ends[index].name])
    if len(after) != len(before):
        stream = before[-1].kernel.shape[0]
        misfits = [layer.name for layer in after if stream not in layer.kernel.shape[:2]]
        raise unfit(misfits or [layer.name for layer in after])


def _read_decoder(
    stream: int,
    after: Sequence[Layer],
    last_block: int,
    wanted: Upsampling | None,
    *,
    blurred: bool,
) -> tuple[Upsampling, list[int], list[str]]:
    """How the decoder doubles the resolution, and its widths: the reading that chains.

    A bias, where there is one, also tells: it is as long as the layer's output. Where several
    readings chain, the numbers of the layers tell, which count those without weights too.
    """
    kernels = [layer.kernel.shape for layer in after[:-1]]
    biases = [layer.tensors["bias"] for layer in after[:-1] if "bias" in layer.tensors]
    # Which axis is read, which is made, how many of it are one channel, and the layers from the
    # last block to the first convolution, and from the last of the decoder to the head.
    forms: dict[Upsampling, tuple[int, int, int, tuple[int, int]]] = {
        "transposed": (0, 1, 1, (1, 4)),
        "subpixel": (1, 0, 4, (1, 5)),
        "nearest": (1, 0, 1, (2, 4)),
    }
    if blurred:
        forms = {"blurred": (1, 0, 1, (2, 4))}
    fitting: dict[Upsampling, list[int]] = {}
    for upsampling, (reads, makes, spread, _) in forms.items():
        widths = [shape[makes] // spread for shape in kernels]
        chained = [stream, *widths] == [*(k[reads] for k in kernels), after[-1].kernel.shape[1]]
        spans = [shape[makes] for shape in kernels]
        if chained and all(b.shape == (n,) for b, n in zip(biases, spans, strict=False)):
            fitting[upsampling] = widths
    if wanted is not None and wanted in fitting:
        return wanted, fitting[wanted], []
    if not fitting or wanted is not None:
        raise unfit([layer.name for layer in after])
    steps = (index_of(after[0]) - last_block, index_of(after[-1]) - index_of(after[-2]))
    numbered = [name for name in fitting if forms[name][3] == steps]
    name = (numbered or list(fitting))[0]
    others = " or ".join(other for other in fitting if other != name)
    notes = [f"{name} upsampling (else --upsampling {others})"] if others and not numbered else []
    return name, fitting[name], notes


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
