"""Errors and energies of models beside their teacher, by wavelet band and by frequency."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wkdc.checkpoints.reading import Reading
from wkdc.data.folders import Data
from wkdc.data.images import load_square
from wkdc.data.inputs import Reader
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.inference.comparison import Comparison, open_comparison
from wkdc.inference.model import ImageModel
from wkdc.metrics.fidelity import BandEnergies
from wkdc.metrics.spectrum import radial_power
from wkdc.metrics.wavelet import LEVELS
from wkdc.networks.layers import Norm
from wkdc.reporting.charts import check_matplotlib, plot_errors, plot_spectra, save_figure
from wkdc.reporting.results import Made
from wkdc.system.files import check_writable, write_atomically

SIZE = 256
"""Height and width that images are compared at."""


FIGURES = (".svg", ".png", ".pdf")

DETAIL = {"lh": "horizontal", "hl": "vertical", "hh": "diagonal"}
FINENESS = ("finest", "second finest", "third finest", "coarsest")


@dataclass(frozen=True)
class Analysis:
    """One model beside its teacher, over all images.

    Attributes:
        name: the model's file, or `input` for the unchanged input.
        sha256: of the file; None for the input.
        error: by Haar band, `lh1` (finest) to `hh4` and `ll4`: the square root of the error's
            energy over the teacher's, 0 for a copy.
        energy: by band, the model's energy over the teacher's: below 1 detail is missing, above 1
            there is too much.
        power: mean of `wkdc.metrics.spectrum.radial_power`.
    """

    name: str
    sha256: str | None
    error: dict[str, float]
    energy: dict[str, float]
    power: tuple[float, ...]

    @property
    def largest_lack(self) -> tuple[str, float] | None:
        """The high band that lacks most of the teacher's energy, and the share that it lacks.

        None if no band lacks energy.
        """
        band, kept = min(
            ((band, kept) for band, kept in self.energy.items() if not band.startswith("ll")),
            key=lambda item: item[1],
        )
        return (band, 1 - kept) if kept < 1 else None

    @property
    def sentence(self) -> str:
        """The largest lack, in words."""
        lack = self.largest_lack
        if lack is None or lack[1] < 0.005:
            return f"{self.name} lacks no detail of its teacher's, band by band"
        band, share = lack
        fineness = FINENESS[int(band[2:]) - 1]
        return (
            f"{self.name} lacks {share:.0%} of the energy of its teacher's {fineness} "
            f"{DETAIL[band[:2]]} detail ({band})"
        )


@dataclass(frozen=True)
class AnalyzeResult:
    """Models beside their teacher.

    Attributes:
        made: what measured it; `seconds` how long that took.
        models: the unchanged input first.
        teacher: its file, of the digest `teacher_sha256`.
        teacher_power: mean spectrum of its images; `real_power` that of true images of the target
            domain, None if the data has none.
        images: how many images; `size` their height and width.
        sentences: the largest lack of each model in words, without the input's.
        figure: the chart's file, None if none was asked for.
    """

    made: Made
    models: tuple[Analysis, ...]
    teacher: Path
    teacher_sha256: str
    teacher_power: tuple[float, ...]
    real_power: tuple[float, ...] | None
    images: int
    size: int
    sentences: tuple[str, ...]
    figure: Path | None
    seconds: float


def analyze(
    models: Sequence[str | Path],
    data: Data,
    *,
    teacher: str | Path | None = None,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction = "AtoB",
    figure: str | Path | None = None,
    norm: Norm | None = None,
    key: str | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> AnalyzeResult:
    """Compare models with their teacher, band by band, after Zhang et al. 2022.

    Args:
        models, data, teacher, direction, seed: see `open_comparison`.
        norm, key, arch: of .pth files that cannot tell, see `load_generator`.
        size: height and width that images are compared at.
        limit: use only the first `limit` images.
        figure: a .svg, .png or .pdf to plot the result into.
        on_progress: called with the current stage and the share of the whole that is done.

    Raises:
        OptionError: no teacher to compare with, a `limit` below 1, or a figure of another kind.
        MissingExtraError: a figure without matplotlib.
        CheckpointError, DeviceError, DatasetError, ImageError, OutputError: see there.
    """
    started = time.monotonic()
    tell = on_progress or (lambda stage, share: None)
    if limit is not None and limit < 1:
        raise OptionError(f"limit is {limit}; give 1 image or more")
    target = None if figure is None else Path(figure)
    if target is not None:
        _check_figure(target)
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
    if comparison.teacher is None:
        raise OptionError("there is nothing to compare with: no card names a teacher; --teacher")
    if size % 2**LEVELS:
        raise OptionError(
            f"size {size} is no multiple of {2**LEVELS}, as {LEVELS} wavelet levels need"
        )
    images = comparison.layout.validation[:limit]
    real = comparison.layout.real_validation[:limit]
    bands, power = _measure(comparison, comparison.teacher, images, real, size, tell)
    analyses = tuple(
        Analysis(name, digest, bands[name].errors(), bands[name].shares(), power[name])
        for name, digest in _named(comparison)
        if bands[name].count
    )
    if target is not None:
        _save_figure(target, analyses, power)
    return AnalyzeResult(
        made=Made.by("analyze", device),
        models=analyses,
        teacher=comparison.teacher.path,
        teacher_sha256=comparison.teacher.sha256,
        teacher_power=power["teacher"],
        real_power=power.get("real"),
        images=len(images),
        size=size,
        sentences=tuple(one.sentence for one in analyses if one.sha256 is not None),
        figure=target,
        seconds=time.monotonic() - started,
    )


def _named(comparison: Comparison) -> list[tuple[str, str | None]]:
    """Names and digests: the unchanged input, then the models."""
    return [("input", None), *((str(one.path), one.sha256) for one in comparison.models)]


def _measure(
    comparison: Comparison,
    teacher: ImageModel,
    images: Sequence[Path],
    real: Sequence[Path],
    size: int,
    tell: Callable[[str, float], None],
) -> tuple[dict[str, BandEnergies], dict[str, tuple[float, ...]]]:
    """Translate `images`: each model's bands beside the teacher's, and each mean spectrum.

    There are spectra of `teacher`, too, and as "real" of the true images, beside inputs or `real`.
    """
    reader = Reader(comparison.layout, teacher.in_channels, teacher.out_channels)
    names = [name for name, _ in _named(comparison)]
    bands = {name: BandEnergies(LEVELS) for name in names}
    power: dict[str, Tensor] = {}

    def add(name: str, image: Tensor, count: int) -> None:
        power[name] = power.get(name, torch.zeros(size // 2)) + radial_power(image) / count

    for number, path in enumerate(images, 1):
        parts = reader.squares(path, size)
        target = teacher.generate(parts[0])
        add("teacher", target, len(images))
        if parts[1:]:
            add("real", parts[1], len(images))
        outputs = [parts[0], *(one.generate(parts[0]) for one in comparison.models)]
        for name, image in zip(names, outputs, strict=True):
            add(name, image, len(images))
            if image.shape == target.shape:
                bands[name].add(image, target)
        tell("translating", number / len(images))
    for path in real:
        image = load_square(
            path,
            size,
            channels=teacher.out_channels,
            value_range=comparison.layout.value_range,
        )
        add("real", image, len(real))
    return bands, {name: tuple(values.tolist()) for name, values in power.items()}


def _check_figure(path: Path) -> None:
    """Check, before anything else is done, that a figure can be made.

    Raises:
        OptionError, MissingExtraError, OutputError: it cannot.
    """
    if path.suffix.lower() not in FIGURES:
        raise OptionError(f"figure {path} does not end in {', '.join(FIGURES)}")
    check_matplotlib("a figure", "figures", "; or leave --figure out")
    check_writable(path)


def _save_figure(
    path: Path, analyses: Sequence[Analysis], power: dict[str, tuple[float, ...]]
) -> None:
    errors = {one.name: one.error for one in analyses}
    spectra = {one.name: one.power for one in analyses}
    charts = (
        lambda axes: plot_errors(axes, errors),
        lambda axes: plot_spectra(axes, spectra, power["teacher"], power.get("real")),
    )
    write_atomically(path, lambda file: save_figure(file, path.suffix, charts))
