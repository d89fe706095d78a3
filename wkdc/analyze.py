"""Where a student falls short of its teacher: by wavelet band, and by frequency."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wkdc.errors import MissingExtraError, OptionError
from wkdc.files import check_writable, write_atomically
from wkdc.images import load_square, pixels_to_square
from wkdc.layouts import Direction, part_loader
from wkdc.metrics import BandEnergies
from wkdc.spectrum import radial_power
from wkdc.subjects import Subjects, open_subjects

SIZE = 256
"""Height and width that pictures are compared at."""

LEVELS = 4

FIGURES = (".svg", ".png", ".pdf")

DETAIL = {"lh": "horizontal", "hl": "vertical", "hh": "diagonal"}
FINENESS = ("finest", "second finest", "third finest", "coarsest")


@dataclass(frozen=True)
class Analysis:
    """One model beside its teacher, over all pictures.

    Attributes:
        name: the model's file, or `input` for the unchanged input.
        error: of each Haar band, `lh1` (finest) to `hh4` and `ll4`, the root of the error's energy
            over the teacher's: 0 is a copy.
        energy: of each band, the model's energy over the teacher's: below 1 detail is missing,
            above 1 there is more than there should be.
        power: mean of `wkdc.spectrum.radial_power`.
    """

    name: str
    error: dict[str, float]
    energy: dict[str, float]
    power: tuple[float, ...]

    @property
    def largest_lack(self) -> tuple[str, float] | None:
        """The high band that misses the largest share of the teacher's energy, and that share;
        None where none misses any."""
        band, kept = min(
            ((band, kept) for band, kept in self.energy.items() if not band.startswith("ll")),
            key=lambda item: item[1],
        )
        return (band, 1 - kept) if kept < 1 else None


@dataclass(frozen=True)
class AnalyzeResult:
    """What was found.

    Attributes:
        models: the input first.
        teacher: its file; `teacher_power` and `real_power` the spectra of its pictures, and of
            true pictures of the target domain, where the data has them.
        images: how many pictures; `size` their height and width.
        figure: the file that was drawn.
    """

    models: tuple[Analysis, ...]
    teacher: Path
    teacher_power: tuple[float, ...]
    real_power: tuple[float, ...] | None
    images: int
    size: int
    figure: Path | None

    def sentence(self, model: Analysis) -> str:
        """The largest lack of a model in words."""
        lack = model.largest_lack
        if lack is None or lack[1] < 0.005:
            return f"{model.name} lacks no detail of its teacher's, band by band"
        band, share = lack
        fineness = FINENESS[int(band[2:]) - 1]
        return (
            f"{model.name} lacks {share:.0%} of the energy of its teacher's {fineness} "
            f"{DETAIL[band[:2]]} detail ({band})"
        )


def analyze(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    teacher: str | Path | None = None,
    size: int = SIZE,
    limit: int | None = None,
    direction: Direction = "AtoB",
    figure: str | Path | None = None,
    arch: str | None = None,
    device: str = "cpu",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> AnalyzeResult:
    """Compare models with their teacher, band by band, after Zhang et al. 2022.

    Args:
        models, data, teacher, direction, arch, seed: see `wkdc.subjects.open_subjects`.
        size: height and width that pictures are compared at.
        limit: use the first so many pictures.
        figure: a .svg, .png or .pdf to draw the result into.
        on_progress: called with what is being done, and the share of it all that is done.

    Raises:
        OptionError: no teacher to compare with, a `limit` below 1, or a figure of another kind.
        MissingExtraError: a figure without matplotlib.
        CheckpointError, DeviceError, DatasetError, ImageError, OutputError: see there.
    """
    tell = on_progress or (lambda stage, share: None)
    if limit is not None and limit < 1:
        raise OptionError(f"limit is {limit}; give 1 picture or more")
    target = None if figure is None else Path(figure)
    if target is not None:
        _check_figure(target)
    subjects = open_subjects(
        models,
        data,
        teacher=teacher,
        size=size,
        direction=direction,
        seed=seed,
        arch=arch,
        device=device,
    )
    if subjects.teacher is None:
        raise OptionError("there is nothing to compare with: no card names a teacher; --teacher")
    if size % 2**LEVELS:
        raise OptionError(f"size {size} is no multiple of {2**LEVELS}, which {LEVELS} levels halve")
    result = _analyze(subjects, size, limit, target, tell)
    if target is not None:
        write_atomically(target, lambda file: _draw_figure(result, file, target.suffix))
    return result


def _analyze(
    subjects: Subjects,
    size: int,
    limit: int | None,
    figure: Path | None,
    tell: Callable[[str, float], None],
) -> AnalyzeResult:
    guide = subjects.teacher
    if guide is None:
        raise RuntimeError("there is no teacher")
    load = part_loader(subjects.layout, guide.in_channels, guide.out_channels)
    given = subjects.layout.validation[:limit]
    names = ["input", *(str(one.path) for one in subjects.models)]
    bands = {name: BandEnergies(LEVELS) for name in names}
    power: dict[str, Tensor] = {}

    def add(name: str, picture: Tensor) -> None:
        power[name] = power.get(name, torch.zeros(size // 2)) + radial_power(picture) / len(given)

    for number, path in enumerate(given, 1):
        parts = [pixels_to_square(part, size) for part in load(path)]
        wanted = guide.draw(parts[0])
        add("teacher", wanted)
        if parts[1:]:
            add("real", parts[1])
        shown = [parts[0], *(one.draw(parts[0]) for one in subjects.models)]
        for name, picture in zip(names, shown, strict=True):
            add(name, picture)
            if picture.shape == wanted.shape:
                bands[name].add(picture, wanted)
        tell("drawing", number / len(given))
    true = subjects.layout.real_validation
    for path in true:
        real = load_square(path, size, channels=guide.out_channels)
        share = power.get("real", torch.zeros(size // 2))
        power["real"] = share + radial_power(real) / len(true)
    plain = {name: tuple(values.tolist()) for name, values in power.items()}
    return AnalyzeResult(
        tuple(
            Analysis(name, found.errors(), found.shares(), plain[name])
            for name, found in bands.items()
            if found.pictures
        ),
        guide.path,
        plain["teacher"],
        plain.get("real"),
        len(given),
        size,
        figure,
    )


def _check_figure(path: Path) -> None:
    """Make sure that a figure can be drawn, before anything else is done.

    Raises:
        OptionError, MissingExtraError, OutputError: it cannot.
    """
    if path.suffix.lower() not in FIGURES:
        raise OptionError(f"figure {path} does not end in {', '.join(FIGURES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            "a figure needs matplotlib: pip install 'wkdc[figures]'; or leave --figure out"
        ) from None
    check_writable(path)


def _draw_figure(result: AnalyzeResult, file: Path, suffix: str) -> None:
    """Errors by level on the left, spectra beside the teacher's on the right; reads in grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = ("-", "--", "-.", ":")
    marks = "osD^vP*X"
    places = [*range(LEVELS, 0, -1)]
    for number, model in enumerate(result.models):
        style = {
            "linestyle": styles[number % len(styles)],
            "marker": marks[number % len(marks)],
            "color": str(min(0.65, 0.2 * number)),
            "label": model.name,
        }
        levels = [
            math.sqrt(sum(model.error[f"{band}{level}"] ** 2 for band in DETAIL) / len(DETAIL))
            for level in places
        ]
        left.plot(range(LEVELS + 1), [model.error[f"ll{LEVELS}"], *levels], **style)
        ratio = [
            made / wanted if wanted else math.nan
            for made, wanted in zip(model.power[1:], result.teacher_power[1:], strict=True)
        ]
        cycles = [k / result.size for k in range(1, result.size // 2)]
        right.plot(cycles, ratio, **style | {"marker": ""})
    if result.real_power is not None:
        true = [
            a / b if b else math.nan
            for a, b in zip(result.real_power[1:], result.teacher_power[1:], strict=True)
        ]
        right.plot(cycles, true, color="0.75", linewidth=4, zorder=0, label="true pictures")
    right.axhline(1, color="black", linewidth=0.8)
    left.set(
        title="error, of the teacher's energy (0 is a copy)",
        xlabel="coarse to fine: the low band, then details of levels 4 to 1",
        ylim=(0, None),
    )
    left.set_xticks(range(LEVELS + 1), [f"LL{LEVELS}", *(f"level {n}" for n in places)])
    right.set(
        title="power, of the teacher's (1 is as much detail)",
        xlabel="cycles per pixel",
        xlim=(0, 0.5),
        yscale="log",
    )
    for ticks in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
        ticks("{x:.2g}")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(file, format=suffix.lower().removeprefix("."), dpi=150)
