"""Learned perceptual image patch similarity (LPIPS), as torch-fidelity computes it."""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wkdc.data.images import as_rgb, images_to_pixels
from wkdc.errors import MetricError, one_line
from wkdc.system.files import sha256_of

LPIPS_FILES = ("weights-vgg16-lpips.pth", "vgg16-397923af.pth")
"""Weights of LPIPS's last layers (torch-fidelity) and of VGG16 (torchvision)."""


@dataclass(frozen=True)
class Lpips:
    """LPIPS of VGG16.

    Attributes:
        distance: of two images, 1×C×H×W in [-1, 1] each.
        sha256: of the weight files, by name.
    """

    distance: Callable[[Tensor, Tensor], float]
    sha256: dict[str, str]


def load_lpips(device: torch.device) -> Lpips:
    """Load LPIPS; torch-fidelity and torchvision download its weights into PyTorch's hub folder.

    Raises:
        MetricError: the weights are not there and cannot be downloaded.
    """
    from torch_fidelity.sample_similarity_lpips import SampleSimilarityLPIPS

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    try:
        with Path(os.devnull).open("w") as nothing, contextlib.redirect_stderr(nothing):
            network = SampleSimilarityLPIPS("lpips-vgg16", None, "uint8").to(device)
    except Exception as error:
        raise MetricError(
            f"LPIPS's weights could not be loaded: {one_line(error)}; without a network put "
            f"{' and '.join(LPIPS_FILES)} into {folder}, or leave --lpips out"
        ) from error

    @torch.inference_mode()
    def distance(image: Tensor, target: Tensor) -> float:
        pixels = (images_to_pixels(as_rgb(one)) for one in (image, target))
        return float(network(*(one.to(device) for one in pixels)))

    return Lpips(distance, {name: sha256_of(folder / name) for name in LPIPS_FILES})
