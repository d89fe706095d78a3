"""Models that are to be compared: opened, with their teacher and the images they draw from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.checkpoints.checkpoint import load_generator, teacher_path
from wkdc.checkpoints.lineage import student_of
from wkdc.checkpoints.run_record import read_record
from wkdc.data.inputs import check_reads
from wkdc.data.layouts import Direction, Layout, read_layout
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.model import ImageModel, open_model

SMALLEST = 64
"""Smaller images are compared by nobody."""


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        teacher: None where no card names one.
        models: in the order given, without the teacher.
        left_out: one sentence for each image that could not be used.
        layout: its `validation` holds the images to draw from, `real_validation` true images
            of the target domain.
    """

    teacher: ImageModel | None
    models: tuple[ImageModel, ...]
    layout: Layout
    left_out: tuple[str, ...]

    @property
    def generators(self) -> list[ImageModel]:
        """The teacher, where there is one, and the models."""
        return [*([self.teacher] if self.teacher else []), *self.models]


def open_comparison(
    models: Sequence[str | Path],
    data: str | Path,
    *,
    teacher: str | Path | None = None,
    size: int,
    direction: Direction = "AtoB",
    seed: int = 0,
    arch: str | None = None,
    device: str = "cpu",
) -> Comparison:
    """Open models, the teacher on their cards unless another is named, and test images.

    Args:
        models: .pth and .onnx files; the folder of a run stands for its student before training
            and the one it made.
        data: a folder in one of the layouts of `wkdc.data.layouts`; its test images are used,
            else those that training sets aside by `seed`; of a plain folder, all.
        size: height and width that they shall draw at.
        arch: what makes custom networks.

    Raises:
        OptionError: no models, or one that does not draw at `size`.
        CheckpointError, DeviceError: see `open_model`; or they draw different channels, or their
            cards name several teachers, or one that is not there.
        DatasetError, ImageError: the images cannot be used.
    """
    if not models:
        raise OptionError("no models were given; give .pth or .onnx files")
    paths = [path for model in models for path in _files_of(Path(model), arch)]
    guide = _teacher_of(paths, arch) if teacher is None else Path(teacher)
    if guide is not None:
        paths = [path for path in paths if path.resolve() != guide.resolve()]
    opened = [
        open_model(path, device=device, arch=arch) for path in [*([guide] if guide else []), *paths]
    ]
    if len({(one.in_channels, one.out_channels) for one in opened}) > 1:
        told = ", ".join(f"{one.path} {one.in_channels} to {one.out_channels}" for one in opened)
        raise CheckpointError(f"the models draw different channels ({told}); compare alike ones")
    smallest = max(SMALLEST, *(one.smallest for one in opened))
    if size < smallest:
        raise OptionError(f"size {size} is too small to compare at; give {smallest} or more")
    left_out: list[str] = []
    layout = _pictures(Path(data), direction, seed, left_out.append)
    check_reads(layout, opened[0].path, opened[0].in_channels)
    if guide is None:
        return Comparison(None, tuple(opened), layout, tuple(left_out))
    return Comparison(opened[0], tuple(opened[1:]), layout, tuple(left_out))


def evenly_spread(paths: Sequence[Path], count: int) -> list[Path]:
    """At most `count` of `paths`, from the first to the last at equal steps."""
    count = min(count, len(paths))
    last = max(1, count - 1)
    return [paths[number * (len(paths) - 1) // last] for number in range(count)]


def _files_of(model: Path, arch: str | None) -> list[Path]:
    """The file itself; of a run's folder, the student before training and the one it made."""
    if not model.is_dir():
        return [model]
    record = read_record(model)
    student, _ = student_of(record, arch)
    before = [] if record.start is None or record.start == student.path else [record.start]
    return [*before, student.path]


def _teacher_of(models: Sequence[Path], arch: str | None) -> Path | None:
    """The one teacher that the models' cards name, None where no card names any.

    Raises:
        CheckpointError: they name several, or one that is not there any more.
    """
    named: dict[str, Path] = {}
    for path in models:
        if path.suffix.lower() != ".onnx":
            student = load_generator(path, arch=arch)
            if student.card is not None and student.card["teacher"] is not None:
                digest = student.card["teacher"]["sha256"]
                named[digest] = teacher_path(student, hint="name it with --teacher")
    if len(named) > 1:
        raise CheckpointError(
            f"the models have {len(named)} different teachers; name one with --teacher"
        )
    return next(iter(named.values()), None)


def _pictures(
    data: Path, direction: Direction, seed: int, on_notice: Callable[[str], None]
) -> Layout:
    """The layout with its test images; a plain folder's are all of its images."""
    domains = all((data / f"train{letter}").is_dir() for letter in "AB")
    layout = read_layout(
        data,
        direction=direction,
        seed=seed,
        smallest=SMALLEST,
        both=domains,
        on_notice=on_notice,
    )
    if layout.kind == "inputs" and layout.held_out and not (data / "trainA").is_dir():
        every = tuple(sorted({*layout.train, *layout.validation}))
        return Layout("inputs", every, (), every, False, direction)
    return layout
