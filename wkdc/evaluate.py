"""Scores of models against their teacher, true images and the target domain."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wkdc.checkpoints.reading import Reading
from wkdc.data.folders import Data
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.inference.comparison import Comparison, open_comparison
from wkdc.inference.scoring import OutputFolders, score_models, write_domain
from wkdc.metrics.distribution import (
    SUBSETS,
    Distance,
    Extractor,
    Features,
    find_extractor,
)
from wkdc.metrics.image_scores import ImageScores
from wkdc.metrics.image_sets import Distances, compare_sets, kid_subset_size
from wkdc.metrics.lpips import Lpips, load_lpips
from wkdc.networks.layers import Norm
from wkdc.reporting.protocol import Protocol, protocol_warnings
from wkdc.reporting.results import Made
from wkdc.system.devices import check_device
from wkdc.system.files import write_folder
from wkdc.system.temporary import scratch_folder

SIZE = 256
"""Height and width that images are compared at."""

Progress = Callable[[str, float], None]

RESIZE = "shorter side resized (bicubic, antialiased), middle square, 8 bits"


@dataclass(frozen=True)
class Score:
    """Scores of one model.

    Attributes:
        name: the model's file; `input` for the unchanged input, which any model should beat.
        sha256: of the file; None for the input.
        to_teacher, to_truth: image by image; None without a teacher, or without true images.
        from_teacher, from_domain: as a set of images; None without features.
    """

    name: str
    sha256: str | None
    to_teacher: ImageScores | None
    to_truth: ImageScores | None
    from_teacher: Distance | None
    from_domain: Distance | None


@dataclass(frozen=True)
class EvaluateResult:
    """Scores of the input itself, the teacher and the models, in this order.

    Attributes:
        made: what measured it; `seconds` how long that took.
        warnings: limits of the scores, such as too few images.
    """

    made: Made
    scores: tuple[Score, ...]
    protocol: Protocol
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _Job:
    """What is evaluated, and how.

    Attributes:
        inputs: images to translate; `domain` true images of the target domain, if not paired.
        device: of the metrics' networks.
    """

    comparison: Comparison
    inputs: Sequence[Path]
    domain: Sequence[Path]
    size: int
    seed: int
    device: torch.device
    extractor: Extractor | None
    lpips: Lpips | None

    @property
    def paired(self) -> bool:
        return self.comparison.layout.kind == "paired"

    @property
    def names(self) -> list[str]:
        """The rows of the result: the input itself, the teacher, the models."""
        teacher = ["teacher"] if self.comparison.teacher else []
        return ["input", *teacher, *(str(one.path) for one in self.comparison.models)]


def evaluate(
    models: Sequence[str | Path],
    data: Data,
    *,
    teacher: str | Path | None = None,
    features: Features | None = None,
    weights: str | Path | None = None,
    lpips: bool = False,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction = "AtoB",
    keep: str | Path | None = None,
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> EvaluateResult:
    """Translate the test images of `data` with every model, and score the outputs.

    Outputs are written to PNG files for KID and FID; memory does not grow with their number.

    Args:
        models, data, direction: see `open_comparison`.
        norm, key, arch: of .pth files that cannot tell, see `load_generator`.
        teacher: by default the one that the models' cards name; without one, models are compared
            with true images only.
        features: adds KID, FID, precision and recall of these features.
        weights: see `wkdc.metrics.distribution.find_extractor`.
        lpips: adds LPIPS, see `wkdc.metrics.lpips.load_lpips`.
        size: height and width that images are compared at.
        limit: use only the first `limit` images.
        keep: a new folder to keep the images in, whole or not at all; by default they are deleted.
        seed: of KID's subsets, of the intervals and of the held-out images.
        on_progress: called with the current stage and the share of the whole that is done.

    Raises:
        OptionError: no models, a size that is too small, too few images, or nothing to compare
            with.
        CheckpointError, DeviceError, DatasetError, ImageError: see `open_comparison`.
        MetricError, MissingExtraError: the features cannot be computed.
        OutputError: `keep` exists or cannot be written.
    """
    started = time.monotonic()
    if limit is not None and limit < 2:
        raise OptionError(f"limit is {limit}; give 2 images or more")
    extractor = _find_extractor(features, weights)
    target = check_device(device)
    lpips_model = load_lpips(target) if lpips else None
    comparison = open_comparison(
        models,
        data,
        teacher=teacher,
        size=size,
        direction=direction,
        seed=seed,
        reading=Reading(norm=norm, key=key, arch=arch),
        device=device,
    )
    layout = comparison.layout
    inputs, domain = layout.validation[:limit], layout.real_validation[:limit]
    job = _Job(comparison, inputs, domain, size, seed, target, extractor, lpips_model)
    _check_comparable(job)
    subset_size = None if extractor is None else kid_subset_size(len(inputs), len(domain))
    scores: list[Score] = []

    def measure(root: Path) -> None:
        written = extractor is not None or keep is not None
        scores.extend(_measure(job, root, subset_size, written, on_progress or _silent))

    if keep is not None:
        write_folder(Path(keep), measure)
    else:
        with scratch_folder() as root:
            measure(root)
    protocol = _protocol(job, data, direction, subset_size)
    return EvaluateResult(
        Made.by("evaluate", device),
        tuple(scores),
        protocol,
        protocol_warnings(protocol, comparison.left_out),
        time.monotonic() - started,
    )


def _silent(stage: str, share: float) -> None:
    pass


def _find_extractor(features: Features | None, weights: str | Path | None) -> Extractor | None:
    """The feature extractor, None without features.

    Raises:
        OptionError: weights without features; and see `find_extractor`.
    """
    if features is not None:
        return find_extractor(features, None if weights is None else Path(weights))
    if weights is not None:
        raise OptionError(f"weights {weights} would not be used; give --features inception")
    return None


def _check_comparable(job: _Job) -> None:
    """Raises: OptionError: there is neither a teacher nor any true images to compare with."""
    if job.comparison.teacher or job.paired or (job.extractor is not None and job.domain):
        return
    raise OptionError(
        "there is nothing to compare with: no model's card names a teacher, and the data has "
        "no true images; give --teacher, or --features and data with testB"
    )


def _measure(
    job: _Job, root: Path, subset_size: int | None, written: bool, tell: Progress
) -> tuple[Score, ...]:
    """Write the images into folders of `root`, and score them one by one and as sets."""
    names, generators = job.names, job.comparison.generators
    outputs = tuple(root / f"{index}-{Path(name).stem}" for index, name in enumerate(names))
    has_targets = job.paired or (job.domain and job.extractor is not None)
    targets = root / "domain" if has_targets else None
    images = score_models(
        job.comparison,
        job.inputs,
        job.size,
        OutputFolders(outputs if written else (), targets),
        lpips=job.lpips,
        seed=job.seed,
        on_progress=lambda share: tell("translating", (0.4 if job.extractor else 1.0) * share),
    )
    if targets is not None:
        write_domain(
            job.domain, targets, job.size, generators[0].out_channels, job.comparison.layout
        )
    sets: list[Distances] = [(None, None)] * len(names)
    if job.extractor is not None and subset_size is not None:
        stage = f"features of {job.extractor.name}"
        sets = compare_sets(
            outputs,
            targets,
            job.extractor,
            teacher=1 if job.comparison.teacher else None,
            subset_size=subset_size,
            seed=job.seed,
            device=job.device,
            on_progress=lambda share: tell(stage, 0.4 + 0.6 * share),
        )
    digests = [None, *(one.sha256 for one in generators)]
    return tuple(
        Score(name, digest, *scores, *distances)
        for name, digest, scores, distances in zip(names, digests, images, sets, strict=True)
    )


def _protocol(job: _Job, data: Data, direction: Direction, subset_size: int | None) -> Protocol:
    teacher, extractor = job.comparison.teacher, job.extractor
    return Protocol(
        data=str(data),
        inputs=len(job.inputs),
        domain=len(job.inputs) if job.paired else len(job.domain),
        held_out=job.comparison.layout.held_out,
        direction=direction,
        size=job.size,
        resize=RESIZE,
        teacher=None if teacher is None else str(teacher.path),
        teacher_sha256=None if teacher is None else teacher.sha256,
        extractor=None if extractor is None else extractor.name,
        extractor_sha256=None if extractor is None else extractor.sha256,
        lpips_sha256=None if job.lpips is None else job.lpips.sha256,
        kid_subsets=None if extractor is None else SUBSETS,
        kid_subset_size=subset_size,
        seed=job.seed,
    )
