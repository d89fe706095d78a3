"""Models to compare, opened with their teacher and test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.checkpoints.card import Card
from wkdc.checkpoints.checkpoint import reading_for, teacher_path
from wkdc.checkpoints.lineage import student_of
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.run_record import read_record
from wkdc.checkpoints.weight_files import is_exported
from wkdc.data.folders import Data
from wkdc.data.inputs import check_reads
from wkdc.data.layouts import Direction, Layout, read_layout
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.model import ImageModel, open_model
from wkdc.onnx.file import card_of

SMALLEST = 64
"""Least height and width that images are compared at."""


@dataclass(frozen=True)
class Comparison:
    """Opened models and the images to compare them on.

    Attributes:
        teacher: None if no card names one.
        models: in the order given, without the teacher.
        layout: `validation` holds the input images, `real_validation` true images of the target
            domain.
        left_out: one sentence for each image that could not be used.
    """

    teacher: ImageModel | None
    models: tuple[ImageModel, ...]
    layout: Layout
    left_out: tuple[str, ...]

    @property
    def generators(self) -> list[ImageModel]:
        """The teacher, if there is one, and the models."""
        return [*([self.teacher] if self.teacher else []), *self.models]


def open_comparison(
    models: Sequence[str | Path],
    data: Data,
    *,
    teacher: str | Path | None = None,
    size: int,
    direction: Direction = "AtoB",
    seed: int = 0,
    reading: Reading,
    device: str = "cpu",
) -> Comparison:
    """Open models, their teacher and the test images of `data`.

    Args:
        models: .pth and .onnx files; a run's folder stands for its student before and after
            training.
        data: a folder in one of the layouts of `wkdc.data.layouts`, which may have test images
            alone. These are used; if it has none, those that training holds out by `seed`; of a
            plain folder, all images.
        teacher: by default the one that the models' cards name.
        size: height and width to compare at.
        reading: of all .pth files, see `wkdc.checkpoints.checkpoint.reading_for`.

    Raises:
        OptionError: no models, or `size` is too small for one of them.
        CheckpointError, DeviceError: see `open_model`; or the models' channels differ, or their
            cards name several teachers, or a teacher that does not exist.
        DatasetError, ImageError: the images cannot be used.
    """
    if not models:
        raise OptionError("no models were given; give .pth or .onnx files")
    unique: dict[Path, Path] = {}
    for path in (path for model in models for path in _files_of(Path(model), reading)):
        unique.setdefault(path.resolve(), path)  # a run's may be named, too
    paths = list(unique.values())
    cards = {path: card_of(path) for path in paths}
    guide = _teacher_of(cards) if teacher is None else Path(teacher)
    if guide is not None:
        paths = [path for path in paths if path.resolve() != guide.resolve()]
    opened = [
        open_model(path, device=device, reading=reading_for(path, reading, cards.values()))
        for path in [*([guide] if guide else []), *paths]
    ]
    if len({(one.in_channels, one.out_channels) for one in opened}) > 1:
        told = ", ".join(f"{one.path} {one.in_channels} to {one.out_channels}" for one in opened)
        raise CheckpointError(
            f"the models have different channels ({told}); compare models with the same channels"
        )
    smallest = max(SMALLEST, *(one.smallest for one in opened))
    if size < smallest:
        raise OptionError(f"size {size} is too small to compare at; give {smallest} or more")
    left_out: list[str] = []
    layout = read_layout(
        data,
        direction=direction,
        seed=seed,
        smallest=SMALLEST,
        test=True,
        on_notice=left_out.append,
    )
    check_reads(layout, opened[0].path, opened[0].in_channels)
    if guide is None:
        return Comparison(None, tuple(opened), layout, tuple(left_out))
    return Comparison(opened[0], tuple(opened[1:]), layout, tuple(left_out))


def _files_of(model: Path, reading: Reading) -> list[Path]:
    """The file itself; for a run's folder, the student before and after training."""
    if not model.is_dir():
        return [model]
    record = read_record(model)
    student, _ = student_of(record, reading)
    before = [] if record.start is None or record.start == student.path else [record.start]
    return [*before, student.path]


def _teacher_of(cards: Mapping[Path, Card | None]) -> Path | None:
    """The teacher that the models' cards name, None if no card names one.

    Raises:
        CheckpointError: the cards name several, or one that none of them leads to; but an exported
            file may have left its teacher behind.
    """
    named: dict[str, Path | CheckpointError] = {}
    for path, card in cards.items():
        if card is not None and card["teacher"] is not None:
            digest = card["teacher"]["sha256"]
            try:
                named[digest] = teacher_path(path, card, hint="name it with --teacher")
            except CheckpointError as error:  # another one may lie where the teacher is
                if not is_exported(path):
                    named.setdefault(digest, error)
    if len(named) > 1:
        raise CheckpointError(
            f"the models have {len(named)} different teachers; name one with --teacher"
        )
    found = next(iter(named.values()), None)
    if isinstance(found, CheckpointError):
        raise found
    return found
