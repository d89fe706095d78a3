"""How near models draw to their teacher, to true images, and to the target domain."""

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from wkdc.data.images import (
    images_to_pixels,
    load_square,
    pixels_to_images,
    save_pixels,
)
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Direction, Layout
from wkdc.errors import OptionError, OutputError
from wkdc.inference.comparison import open_comparison
from wkdc.inference.model import ImageModel
from wkdc.metrics.distribution import (
    MEANINGFUL_FID,
    SUBSETS,
    Distance,
    Features,
    find_extractor,
    measure_distance,
)
from wkdc.metrics.intervals import Likeness, Likenesses, Perceptual, find_lpips
from wkdc.reporting.results import Made
from wkdc.system.devices import check_device

SIZE = 256
"""Height and width that images are compared at."""

SUBSET_SIZE = 1000
"""Images in a subset for KID where there are more, as torch-fidelity has it."""

NAMED = 5
"""Images that could not be used are named up to this number."""

LEAST = 8
"""Fewer images are no set: each one's third neighbour would be next to any other."""

RESIZE = "shorter side resized (bicubic, antialiased), middle square, 8 bits"


@dataclass(frozen=True)
class Score:
    """What was found of one model.

    Attributes:
        name: the model's file; `input` for the unchanged input, which any model should beat.
        sha256: of the file; None for the input.
        to_teacher, to_truth: image by image; None where there is no teacher, or no true ones.
        from_teacher, from_domain: as a set of images; None without features.
    """

    name: str
    sha256: str | None
    to_teacher: Likeness | None
    to_truth: Likeness | None
    from_teacher: Distance | None
    from_domain: Distance | None


@dataclass(frozen=True)
class Protocol:
    """What the figures depend on.

    Attributes:
        data: the folder; `inputs` how many images were drawn from, `domain` how many true ones
            of the target domain they were compared with; `held_out` whether the inputs were set
            aside from training images by `seed`, because the folder has no test set.
        size: height and width of what is compared; `resize` how images come to it.
        teacher: its file, of the digest `teacher_sha256`.
        extractor, extractor_sha256: of the features, where there are any.
        lpips_sha256: of the files of weights that LPIPS is of, where it was asked for.
        kid_subsets, kid_subset_size: see `wkdc.metrics.distribution`.
    """

    data: str
    inputs: int
    domain: int
    held_out: bool
    direction: Direction
    size: int
    resize: str
    teacher: str | None
    teacher_sha256: str | None
    extractor: str | None
    extractor_sha256: str | None
    lpips_sha256: dict[str, str] | None
    kid_subsets: int | None
    kid_subset_size: int | None
    seed: int


@dataclass(frozen=True)
class EvaluateResult:
    """Scores in the order: the input itself, the teacher, the models.

    Attributes:
        warnings: what a reader of the figures should know.
        made: what measured it; `seconds` how long that took.
    """

    made: Made
    scores: tuple[Score, ...]
    protocol: Protocol
    warnings: tuple[str, ...]
    seconds: float


def evaluate(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    teacher: str | Path | None = None,
    features: Features | None = None,
    weights: str | Path | None = None,
    lpips: bool = False,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction = "AtoB",
    keep: str | Path | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> EvaluateResult:
    """Draw the test images of `data` with every model, and compare.

    Images are written once, as PNG, and read from there; memory does not grow with their number.

    Args:
        models: .pth and .onnx files.
        data: a folder in one of the layouts of `wkdc.data.layouts`; its test images are used,
            else those that training sets aside by `seed`; of a plain folder, all.
        teacher: by default the one that the models' cards name; without any, models are compared
            with true images alone.
        features: what KID, FID, precision and recall are computed from; None leaves them out.
        weights: see `wkdc.metrics.distribution.find_extractor`.
        lpips: adds LPIPS, see `wkdc.metrics.intervals.find_lpips`.
        size: height and width that images are compared at.
        limit: use the first so many images.
        direction: `BtoA` for generators that draw domain A from domain B.
        keep: a new folder for the images; by default they are thrown away.
        arch: what makes custom networks.
        seed: of subsets, intervals and held-out images.
        on_progress: called with what is being done, and the share of it all that is done.

    Raises:
        OptionError: no models, a size that is too small, too few images, or nothing to compare
            with.
        CheckpointError, DeviceError: see `open_model`; or the models' cards name several teachers.
        DatasetError, ImageError: the images cannot be used.
        MetricError, MissingExtraError: the features cannot be computed.
        OutputError: `keep` exists or cannot be written.
    """
    started = time.monotonic()
    tell = on_progress or (lambda stage, share: None)
    if limit is not None and limit < 2:
        raise OptionError(f"limit is {limit}; give 2 images or more")
    extractor = None
    if features is not None:
        extractor = find_extractor(features, None if weights is None else Path(weights))
    elif weights is not None:
        raise OptionError(f"weights {weights} would not be used; give --features inception")
    perceptual = find_lpips(check_device(device)) if lpips else None
    comparison = open_comparison(
        models,
        data,
        teacher=teacher,
        size=size,
        direction=direction,
        seed=seed,
        arch=arch,
        device=device,
    )
    guide, layout, generators = comparison.teacher, comparison.layout, comparison.generators
    given, domain = layout.validation[:limit], layout.real_validation[:limit]
    paired = layout.kind == "paired"
    if not guide and not paired and (extractor is None or not domain):
        raise OptionError(
            "there is nothing to compare with: no model's card names a teacher, and the data has "
            "no true images; give --teacher, or --features and data with testB"
        )
    subset = None if extractor is None else _subset_size(len(given), len(domain))
    names = [
        "input",
        *(["teacher"] if guide else []),
        *(str(one.path) for one in comparison.models),
    ]
    digests = [None, *(one.sha256 for one in generators)]
    with ExitStack() as stack:
        root = _folder(keep, stack)
        truths = root / "domain" if paired or (domain and extractor is not None) else None
        folders = [root / f"{place}-{Path(name).stem}" for place, name in enumerate(names)]
        likenesses = _draw(
            generators,
            given,
            layout,
            folders,
            truths if paired else None,
            size,
            has_teacher=guide is not None,
            write=extractor is not None or keep is not None,
            perceptual=perceptual,
            tell=lambda share: tell("drawing", (0.4 if extractor else 1.0) * share),
        )
        if truths is not None:
            for number, path in enumerate(domain, 1):
                image = load_square(path, size, channels=generators[0].out_channels)
                _write(truths / f"{number:06d}.png", image)
        distances: list[_Distances] = [(None, None)] * len(names)
        if extractor is not None and subset is not None:
            distances = _measure_sets(
                folders,
                truths,
                lambda folder, other: measure_distance(
                    folder,
                    other,
                    extractor,
                    subset_size=subset,
                    seed=seed,
                    device=check_device(device),
                    cache=root / "features",
                ),
                has_teacher=guide is not None,
                tell=lambda share: tell(f"features of {extractor.name}", 0.4 + 0.6 * share),
            )
    scores = [
        Score(name, digest, to_teacher.sum_up(seed), to_truth.sum_up(seed), *found)
        for name, digest, (to_teacher, to_truth), found in zip(
            names, digests, likenesses, distances, strict=True
        )
    ]
    protocol = Protocol(
        data=str(data),
        inputs=len(given),
        domain=len(given) if paired else len(domain),
        held_out=layout.held_out,
        direction=direction,
        size=size,
        resize=RESIZE,
        teacher=None if guide is None else str(guide.path),
        teacher_sha256=None if guide is None else guide.sha256,
        extractor=None if extractor is None else extractor.name,
        extractor_sha256=None if extractor is None else extractor.sha256,
        lpips_sha256=None if perceptual is None else perceptual.sha256,
        kid_subsets=None if extractor is None else SUBSETS,
        kid_subset_size=subset,
        seed=seed,
    )
    made = Made.by("evaluate", device)
    return EvaluateResult(
        made,
        tuple(scores),
        protocol,
        _warnings(protocol, comparison.left_out),
        time.monotonic() - started,
    )


def _subset_size(given: int, domain: int) -> int:
    """Of the subsets for KID: half of the images at most, so that no two are the same.

    Args:
        given, domain: images in the sets; 0 where there is no set of the domain.

    Raises:
        OptionError: too few.
    """
    fewest = min(given, domain or given)
    if fewest < LEAST:
        raise OptionError(
            f"{fewest} images are too few for KID and FID; {LEAST} are the least, some hundreds "
            "a good start"
        )
    return min(SUBSET_SIZE, fewest // 2)


_Distances = tuple[Distance | None, Distance | None]
"""Of one model's images: from the teacher's, and from the true ones."""


def _measure_sets(
    folders: Sequence[Path],
    truths: Path | None,
    measure: Callable[[Path, Path], Distance],
    *,
    has_teacher: bool,
    tell: Callable[[float], None],
) -> list[_Distances]:
    """Compare the images of the input, the teacher and the models as sets."""
    found: list[_Distances] = []
    for place, folder in enumerate(folders):
        tell(place / len(folders))
        taught = measure(folder, folders[1]) if has_teacher and place != 1 else None
        found.append((taught, None if truths is None else measure(folder, truths)))
    tell(1.0)
    return found


def _draw(
    generators: Sequence[ImageModel],
    given: Sequence[Path],
    layout: Layout,
    folders: Sequence[Path],
    truths: Path | None,
    size: int,
    *,
    has_teacher: bool,
    write: bool,
    perceptual: Perceptual | None,
    tell: Callable[[float], None],
) -> list[tuple[Likenesses, Likenesses]]:
    """Draw every image with every model; how near each is to teacher and truth.

    Args:
        folders: where the images of the input and of each drawer go, if they are to be written.
        truths: where the true images go, for paired data.
    """
    first = generators[0]
    reader = Reader(layout, first.in_channels, first.out_channels)
    likenesses = [(Likenesses(perceptual), Likenesses(perceptual)) for _ in folders]
    for number, path in enumerate(given, 1):
        parts = reader.squares(path, size)
        drawn = [_rounded(drawer.draw(parts[0])) for drawer in generators]
        shown = [parts[0], *drawn]
        truth = parts[1] if layout.kind == "paired" else None
        for place, picture in enumerate(shown):
            if has_teacher and place != 1:
                likenesses[place][0].add(picture, drawn[0])
            if truth is not None:
                likenesses[place][1].add(picture, truth)
        if write:
            seen = [reader.shown(parts[0]), *drawn]
            for folder, picture in zip(folders, seen, strict=True):
                _write(folder / f"{number:06d}.png", picture)
            if truth is not None and truths is not None:
                _write(truths / f"{number:06d}.png", truth)
        tell(number / len(given))
    return likenesses


def _rounded(images: Tensor) -> Tensor:
    """As they would be in a file: 8 bits."""
    return pixels_to_images(images_to_pixels(images))


def _write(path: Path, image: Tensor) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make {path.parent}: {error.strerror}") from None
    pixels = images_to_pixels(image[0])
    save_pixels(path, pixels.expand(3, *pixels.shape[1:]))


def _folder(keep: str | Path | None, stack: ExitStack) -> Path:
    if keep is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wkdc-")))
    folder = Path(keep)
    if folder.exists():
        raise OutputError(f"{folder} exists; give another --keep")
    return folder


def _warnings(protocol: Protocol, left_out: Sequence[str]) -> tuple[str, ...]:
    said = [f"left out: {sentence}" for sentence in left_out[:NAMED]]
    if len(left_out) > NAMED:
        said.append(f"{len(left_out) - NAMED} more images were left out")
    if protocol.extractor is not None:
        fewest = min(protocol.inputs, protocol.domain or protocol.inputs)
        if fewest < MEANINGFUL_FID:
            said.append(
                f"FID of {fewest} images is mostly bias, and no figure to publish or to compare "
                f"with another number of images ({MEANINGFUL_FID} are the least); KID is unbiased"
            )
        if fewest < 50:
            said.append(f"precision and recall of {fewest} images are rough")
        if protocol.teacher is not None:
            said.append(
                "sets drawn from the same inputs, as the models' and the teacher's, are no "
                "independent samples: their KID falls below 0 the nearer they are; compare models "
                "by it, and read no size into it"
            )
    if protocol.held_out:
        said.append(
            "the folder has no test set: these images are the ones that training sets aside with "
            f"seed {protocol.seed}"
        )
    return tuple(said)
