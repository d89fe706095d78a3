"""BatchNorm by its running statistics beside BatchNorm by each image's own.

The stock test script of pytorch-CycleGAN-and-pix2pix leaves U-Nets in training mode, so what their
users know is the latter.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.checkpoints.recognition import STATISTICS
from wkdc.data.folders import evenly_spread
from wkdc.metrics.fidelity import psnr_db

VISIBLE_DB = 30.0
"""Below that the two differ to the eye: of a U-Net's images (docs/checkpoint-format.md) at 32 dB
they look alike, and at 25 dB a grey background has turned blue."""

IMAGES = 4
"""How many are compared, evenly spread."""


def doubt_statistics(generator: Generator, images: Sequence[Tensor]) -> str | None:
    """One line where the file may be meant the other way; None where that is told, or no matter.

    Args:
        images: see `statistics_psnr_db`.
    """
    found = None if generator.reading.norm else statistics_psnr_db(generator, images)
    if found is None or found >= VISIBLE_DB:
        return None
    return (
        f"by its running statistics {generator.path} makes other images than by each image's own "
        f"({found:.1f} dB); if yours look wrong, it is meant the other way: --norm batch-per-image"
    )


@torch.inference_mode()
def statistics_psnr_db(generator: Generator, images: Sequence[Tensor]) -> float | None:
    """PSNR in dB between what a generator makes of images by either statistics, the mean of a few.

    Args:
        images: 1×C×H×W in [-1, 1].

    Returns:
        None where it has no BatchNorm with running statistics, or there are no images.
    """
    architecture = generator.architecture
    if architecture.options.get("norm") != "batch" or architecture.is_discriminator or not images:
        return None
    options = architecture.options | {"norm": "batch-per-image"}
    network = generator.network
    weights, device = network.state_dict(), next(network.parameters()).device
    other = replace(architecture, options=options).build().eval().to(device)
    other.load_state_dict(
        {n: value for n, value in weights.items() if n.rpartition(".")[2] not in STATISTICS}
    )
    chosen = evenly_spread(images, IMAGES)
    found = [psnr_db(other(image), network(image)) for image in (x.to(device) for x in chosen)]
    return sum(found) / len(found)
