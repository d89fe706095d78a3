"""Label maps -> one-hot channels, and a channel of edges between instances.

`maps` are int32 P×H×W: the label id of each pixel and, in an optional second plane, its instance
id. Networks read 0 and 1 as pix2pixHD's do (Wang et al., 2018, section 3.3): a one-hot channel for
each label, then the edges between instances.
"""

import colorsys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wkdc.data.decoding import opened_image
from wkdc.errors import ImageError

GOLDEN = 0.381966
"""Step between hues, in turns (the golden angle): any number of them stays distinct."""

EDGE = (-1.0, -1.0, -1.0)
"""The colour of edges, black."""


def load_maps(path: Path, instances: Path | None = None) -> Tensor:
    """Read a label map and its instance map: int32 1×H×W or 2×H×W.

    Args:
        path: an image of one channel, or with a palette, whose values are label ids.
        instances: likewise, of any ids that distinguish instances, such as 16-bit ids.

    Raises:
        ImageError: one of them cannot be read, has several channels, or they differ in size.
    """
    planes = [_load_ids(file) for file in (path, instances) if file is not None]
    if planes[0].shape != planes[-1].shape:
        (height, width), (high, wide) = planes[0].shape, planes[-1].shape
        raise ImageError(
            f"{instances} is {wide}x{high}, its label map {path} {width}x{height}; both need "
            "the same size"
        )
    return torch.stack(planes)


def check_labels(path: Path, maps: Tensor, channels: int) -> None:
    """Check that a network of `channels` inputs has one for every label of `maps`.

    Raises:
        ImageError: it does not; the message names `path`, the id and the channels.
    """
    labels, highest = channels - (len(maps) - 1), int(maps[0].max())
    if highest >= labels:
        edges = " and one of edges" if len(maps) > 1 else ""
        raise ImageError(
            f"{path} has label id {highest}, but the network reads {channels} channels, {labels} "
            f"of labels{edges}: ids from 0 to {labels - 1}; change the id, or give the network "
            "that was trained on these maps"
        )


def may_hold_ids(path: Path) -> bool:
    """Whether the file is an image of one channel of whole numbers, as label maps are."""
    try:
        with opened_image(path) as opened:
            return _is_of_ids(opened)
    except ImageError:
        return False


def maps_to_images(maps: Tensor, channels: int) -> Tensor:
    """int32 N×P×H×W -> float32 N×`channels`×H×W of 0 and 1, as the network reads them.

    With instance ids, the last channel is 1 where a pixel's instance differs from that of a
    neighbour left, right, above or below.
    """
    labels = channels - (maps.shape[1] - 1)
    ids = maps[:, :1].long()
    images = torch.zeros(len(maps), labels, *maps.shape[-2:], device=maps.device)
    images.scatter_(1, ids, 1.0)
    if maps.shape[1] == 1:
        return images
    return torch.cat([images, edges(maps[:, 1:])], 1)


def edges(instances: Tensor) -> Tensor:
    """Ids, N×1×H×W -> float32 of the same shape: 1 on both sides of every change."""
    changes = torch.zeros_like(instances, dtype=torch.bool)
    across = instances[..., 1:] != instances[..., :-1]
    down = instances[..., 1:, :] != instances[..., :-1, :]
    changes[..., 1:] |= across
    changes[..., :-1] |= across
    changes[..., 1:, :] |= down
    changes[..., :-1, :] |= down
    return changes.float()


def images_to_colours(images: Tensor) -> Tensor:
    """The result of `maps_to_images` in colours: N×3×H×W in [-1, 1], edges black."""
    ids = images.argmax(1)  # of a label and an edge, the label comes first
    colours = torch.tensor([_colour(number) for number in range(images.shape[1])])
    shown = colours.to(images.device)[ids].permute(0, 3, 1, 2).contiguous()
    marked = images.sum(1, keepdim=True) > 1.5  # a label's 1 and an edge's
    return torch.where(marked, torch.tensor(EDGE).view(1, 3, 1, 1).to(images.device), shown)


def _colour(number: int) -> tuple[float, ...]:
    """RGB in [-1, 1] of label `number`: one of many hues, in one of three shades."""
    shade = (0.9, 0.65, 0.45)[number % 3]
    return tuple(2 * part - 1 for part in colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.7, shade))


def _load_ids(path: Path) -> Tensor:
    """The pixel values of an image as stored: int32 H×W."""
    with opened_image(path) as opened:
        opened.load()
        image = opened.copy()
    if not _is_of_ids(image):
        raise ImageError(
            f"{path} is {image.mode}, no map of ids; give an image of one channel, such as an "
            "8-bit grey PNG, whose values are the ids"
        )
    return torch.from_numpy(np.array(image).astype(np.int32))


def _is_of_ids(image: Image.Image) -> bool:
    return len(image.getbands()) == 1 and image.mode != "F"
