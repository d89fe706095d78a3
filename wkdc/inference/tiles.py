"""Large images, translated in overlapping tiles with the memory of a few tiles.

InstanceNorm divides by the standard deviation of its input, which differs between an image and its
tiles. With the statistics of the image, these are taken from samples of the whole image that run
through the network as one batch, and all tiles are translated with them. Statistics accumulated
over all tiles were worse than those of each tile: they follow wrong ones in the layers before.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from wkdc.data.images import images_to_pixels, pad_to_multiple, pixels_to_images
from wkdc.errors import OptionError
from wkdc.inference.model import ImageModel
from wkdc.networks.pooled_norm import pool_norms

Statistics = Literal["picture", "tile"]

SAMPLES = 4
"""Samples along the height and the width of an image. Each is half as high and wide as a tile, so
together they take the memory of four tiles. More and smaller ones were no better."""


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        tile: height and width of a tile, in pixels.
        overlap: pixels by which neighbours overlap at least, and over which they are blended.
        statistics: whether InstanceNorm normalises by the statistics of the whole image
            (`picture`) or of each `tile`; None takes `picture` for a .pth, else `tile`.
    """

    tile: int = 512
    overlap: int = 64
    statistics: Statistics | None = None


def resolve_tiling(model: ImageModel, tiling: Tiling) -> Tiling:
    """`tiling` with its defaults for `model` filled in.

    Raises:
        OptionError: tile or overlap do not fit `model`, or it is no .pth and the statistics of
            the image were asked for.
    """
    tile, overlap, step = tiling.tile, tiling.overlap, model.multiple
    least = math.ceil(model.smallest / step) * step
    if tile < least or tile % step:
        raise OptionError(
            f"tile {tile} does not fit {model.path}; give a multiple of {step} from {least} on"
        )
    if overlap % step or not 0 <= overlap <= tile // 2:
        raise OptionError(
            f"overlap {overlap} does not fit {model.path} in tiles of {tile}; give a multiple of "
            f"{step} up to {tile // 2 // step * step}"
        )
    if tiling.statistics == "picture" and model.network is None:
        raise OptionError(
            f"{model.path} computes the statistics of its own input; give a .pth, or "
            "--statistics tile"
        )
    return replace(
        tiling, statistics=tiling.statistics or ("tile" if model.network is None else "picture")
    )


ToPixels = Callable[[Tensor], Tensor]
"""Images in [-1, 1] -> pixels: `images_to_pixels` or the like."""


def tiled_translator(
    model: ImageModel, tiling: Tiling, to_pixels: ToPixels = images_to_pixels
) -> Callable[[Tensor], Tensor]:
    """The function that translates pixels C×H×W in tiles, or whole where it fits into one.

    Raises:
        OptionError: see `resolve_tiling`.
    """
    tiling = resolve_tiling(model, tiling)
    learn: Callable[[Tensor], object] | None = None
    per_tile = model
    if tiling.statistics == "picture" and model.network is not None:
        learn, per_tile = _pooled(model, model.network)

    def translate(pixels: Tensor) -> Tensor:
        if max(pixels.shape[-2:]) <= tiling.tile:
            return translate_whole(model, pixels, to_pixels)
        if learn is not None:
            learn(_samples(pixels, tiling.tile, model))
        return _blended(per_tile, pixels, tiling, to_pixels)

    return translate


def translate_whole(
    model: ImageModel, pixels: Tensor, to_pixels: ToPixels = images_to_pixels
) -> Tensor:
    """Translate pixels C×H×W at once: pixels of the same size."""
    return to_pixels(model.generate(pixels_to_images(pixels).unsqueeze(0))[0])


def _pooled(
    model: ImageModel, network: nn.Module
) -> tuple[Callable[[Tensor], object] | None, ImageModel]:
    """The function that takes the statistics of a batch, and a model that normalises by them."""
    network = copy.deepcopy(network)
    norms = pool_norms(network)
    if not norms:  # no statistics to share
        return None, model
    device = next(network.parameters()).device

    @torch.inference_mode()
    def run(images: Tensor, *, learning: bool = False) -> Tensor:
        for norm in norms:
            norm.learning = learning
        outputs: Tensor = network(images.to(device))
        return outputs.cpu()

    return lambda images: run(images, learning=True), replace(model, run=run)


def _samples(pixels: Tensor, tile: int, model: ImageModel) -> Tensor:
    """Crops of pixels C×H×W, evenly spread: N×C×S×S in [-1, 1]."""
    step = model.multiple
    side = math.ceil(max(2 * tile // SAMPLES, model.smallest) / step) * step
    count = 2 * tile // side
    tops, lefts = (
        [round(n * (size - side) / max(count - 1, 1)) for n in range(count if size > side else 1)]
        for size in pixels.shape[-2:]
    )
    crops = [pixels[:, top : top + side, left : left + side] for top in tops for left in lefts]
    return pad_to_multiple(pixels_to_images(torch.stack(crops)), step, at_least=model.smallest)


def _starts(size: int, tiling: Tiling, step: int) -> list[int]:
    """Starts of the tiles along one axis: multiples of `step`, evenly spread."""
    last = max(math.ceil(size / step) * step - tiling.tile, 0)
    count = math.ceil(last / (tiling.tile - tiling.overlap))
    return [0, *(last * n // count // step * step for n in range(1, count + 1))]


def _weights(starts: list[int], size: int, tiling: Tiling) -> list[Tensor]:
    """The blending weight of each row of each tile along one axis; they sum to 1 everywhere.

    It is 0 over the outer quarter of the overlap, which shows the padding of the tile, and rises
    over the middle half; towards the edge of the image it stays 1.
    """
    shares = torch.zeros(len(starts), size)
    for share, start in zip(shares, starts, strict=True):
        end = min(start + tiling.tile, size)
        inwards = torch.arange(end - start) + 0.5 - tiling.overlap / 4
        ramp = torch.full((end - start,), max(tiling.overlap / 2, 0.5))
        if start > 0:
            ramp = torch.minimum(ramp, inwards)
        if end < size:
            ramp = torch.minimum(ramp, inwards.flip(0))
        share[start:end] = ramp.clamp(min=0)
    shares /= shares.sum(0)
    return [share[start : start + tiling.tile] for share, start in zip(shares, starts, strict=True)]


def _blended(model: ImageModel, pixels: Tensor, tiling: Tiling, to_pixels: ToPixels) -> Tensor:
    """Translate pixels C×H×W tile by tile, holding one row of tiles in float."""
    _, height, width = pixels.shape
    tops, lefts = (_starts(size, tiling, model.multiple) for size in (height, width))
    dtype = to_pixels(torch.zeros(1)).dtype
    output = torch.empty(model.out_channels, height, width, dtype=dtype)
    strip = torch.zeros(model.out_channels, 0, width)
    across = list(zip(lefts, _weights(lefts, width, tiling), strict=True))
    down = list(zip(tops, _weights(tops, height, tiling), strict=True))
    for n, (top, rows) in enumerate(down):
        strip = functional.pad(strip, (0, 0, 0, len(rows) - strip.shape[1]))
        for left, columns in across:
            tile = pixels_to_images(pixels[:, top : top + len(rows), left : left + len(columns)])
            weight = rows.unsqueeze(1) * columns
            strip[:, :, left : left + len(columns)] += model.generate(tile.unsqueeze(0))[0] * weight
        ready = (tops[n + 1] if n + 1 < len(tops) else height) - top
        output[:, top : top + ready] = to_pixels(strip[:, :ready])
        strip = strip[:, ready:]
    return output
