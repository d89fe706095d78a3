"""Large images, drawn in tiles that overlap: memory is that of a few tiles, whatever their size.

InstanceNorm divides by the spread of a whole image, and that of a tile is another. With the
statistics of the image, they are taken once, over samples from all of it that run through the
network as one batch, and every tile is drawn with them. To add up, in a pass or two, what every
layer sees in all tiles is worse than either: its statistics go with wrong ones in layers before it.
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
"""Samples along the height and along the width of an image. Each is half as high and wide as a
tile, together they take the memory of four. More and smaller ones were no better."""


@dataclass(frozen=True)
class Tiling:
    """How large images are cut.

    Attributes:
        tile: height and width of a tile, in pixels.
        overlap: by how much neighbours overlap at least; there one fades into the other.
        statistics: whether InstanceNorm normalises by one mean and spread of the `picture`, or by
            those of each `tile`; None takes the image's where the model is a .pth.
    """

    tile: int = 512
    overlap: int = 64
    statistics: Statistics | None = None


def resolve_tiling(model: ImageModel, tiling: Tiling) -> Tiling:
    """`tiling` for `model`, with nothing left open.

    Raises:
        OptionError: `model` cannot draw tiles of such a size or overlap, or not with the
            statistics of the image, which takes a .pth.
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
            f"{model.path} takes the statistics of what it is given; give a .pth, or --statistics "
            "tile"
        )
    return replace(
        tiling, statistics=tiling.statistics or ("tile" if model.network is None else "picture")
    )


def tiled_translator(model: ImageModel, tiling: Tiling) -> Callable[[Tensor], Tensor]:
    """What draws uint8 C×H×W in tiles: uint8 of the same size. What fits into one is drawn whole.

    Raises:
        OptionError: see `resolve_tiling`.
    """
    tiling = resolve_tiling(model, tiling)
    learn: Callable[[Tensor], object] | None = None
    per_tile = model
    if tiling.statistics == "picture" and model.network is not None:
        learn, per_tile = _pooled(model, model.network)

    def draw(pixels: Tensor) -> Tensor:
        if max(pixels.shape[-2:]) <= tiling.tile:
            return translate_whole(model, pixels)
        if learn is not None:
            learn(_samples(pixels, tiling.tile, model))
        return _blended(per_tile, pixels, tiling)

    return draw


def translate_whole(model: ImageModel, pixels: Tensor) -> Tensor:
    """uint8 C×H×W -> what `model` draws, uint8 of the same size."""
    return images_to_pixels(model.draw(pixels_to_images(pixels).unsqueeze(0))[0])


def _pooled(
    model: ImageModel, network: nn.Module
) -> tuple[Callable[[Tensor], object] | None, ImageModel]:
    """What takes the statistics of a batch, and a model that draws with those."""
    network = copy.deepcopy(network)
    norms = pool_norms(network)
    if not norms:  # nothing that it draws hangs on the whole image
        return None, model
    place = next(network.parameters()).device

    @torch.inference_mode()
    def run(images: Tensor, *, learning: bool = False) -> Tensor:
        for norm in norms:
            norm.learning = learning
        drawn: Tensor = network(images.to(place))
        return drawn.cpu()

    return lambda images: run(images, learning=True), replace(model, run=run)


def _samples(pixels: Tensor, tile: int, model: ImageModel) -> Tensor:
    """N×C×S×S in [-1, 1], spread evenly over uint8 C×H×W."""
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
    """Where tiles begin along one side: multiples of `step`, evenly from the first to the last."""
    last = max(math.ceil(size / step) * step - tiling.tile, 0)
    count = math.ceil(last / (tiling.tile - tiling.overlap))
    return [0, *(last * n // count // step * step for n in range(1, count + 1))]


def _weights(starts: list[int], size: int, tiling: Tiling) -> list[Tensor]:
    """What each tile along one side counts in each of its rows; together 1 everywhere.

    It is 0 over the outer quarter of the overlap, where a tile shows how it was padded, and grows
    over its middle half; towards the edge of the image it stays 1.
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


def _blended(model: ImageModel, pixels: Tensor, tiling: Tiling) -> Tensor:
    """uint8 C×H×W, tile by tile. Of what is drawn, one row of tiles is held in float."""
    _, height, width = pixels.shape
    tops, lefts = (_starts(size, tiling, model.multiple) for size in (height, width))
    drawn = torch.empty(model.out_channels, height, width, dtype=torch.uint8)
    strip = torch.zeros(model.out_channels, 0, width)
    across = list(zip(lefts, _weights(lefts, width, tiling), strict=True))
    down = list(zip(tops, _weights(tops, height, tiling), strict=True))
    for n, (top, rows) in enumerate(down):
        strip = functional.pad(strip, (0, 0, 0, len(rows) - strip.shape[1]))
        for left, columns in across:
            tile = pixels_to_images(pixels[:, top : top + len(rows), left : left + len(columns)])
            weight = rows.unsqueeze(1) * columns
            strip[:, :, left : left + len(columns)] += model.draw(tile.unsqueeze(0))[0] * weight
        ready = (tops[n + 1] if n + 1 < len(tops) else height) - top
        drawn[:, top : top + ready] = images_to_pixels(strip[:, :ready])
        strip = strip[:, ready:]
    return drawn
