"""The student that a report is about, its teacher, and the run that trained it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.checkpoints.checkpoint import Generator, load_beside, teacher_path
from wkdc.checkpoints.lineage import images_of, last_options, record_of, student_of
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.run_record import Record, read_record
from wkdc.checkpoints.weight_files import is_exported
from wkdc.data.folders import ImageFolder, as_described
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.system.files import sha256_of


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Attributes:
        record: of the run that trained the student, None without a run.
        start: the student before training, None without a run.
        data: the folder that the student was trained or calibrated on, None if it is not known.
        direction: that it was trained in.
        warnings: limits of what is known, such as a run that has not finished.
    """

    student: Generator
    teacher: Generator
    record: Record | None
    start: Path | None
    data: ImageFolder | None
    direction: Direction
    warnings: tuple[str, ...]

    @property
    def models(self) -> list[Path]:
        """The student before training, if there is a run, and the student."""
        return [*([self.start] if self.start else []), self.student.path]

    @property
    def onnx_path(self) -> Path:
        """Where `wkdc export` writes the student."""
        return self.student.path.with_suffix(".onnx")

    def labels(self) -> dict[str, str]:
        """Names of the files on the page, by digest."""
        labels = {self.teacher.sha256: "teacher", self.student.sha256: "student"}
        if self.onnx_path.is_file():
            labels[sha256_of(self.onnx_path)] = "student"
        if self.start is not None:
            labels[sha256_of(self.start)] = "before training"
        return labels

    def widths(self) -> tuple[tuple[str, Sequence[int], Sequence[int]], ...]:
        """Name of each stage, the teacher's channels and the student's."""
        before, after = (one.architecture.widths() for one in (self.teacher, self.student))
        return tuple(
            (name, wide, narrow) for (name, wide), (_, narrow) in zip(before, after, strict=False)
        )


def find_subject(model: Path, teacher: str | Path | None, reading: Reading) -> Subject:
    """Open a student or the latest student of a run, its teacher and its run.

    Raises:
        OptionError: an exported file, or the teacher itself.
        CheckpointError: there is no student, or its teacher does not exist.
    """
    record: Record | None
    if is_exported(model):
        raise OptionError(
            f"{model} does not say how it was made; give the .pth that it was exported from"
        )
    if model.is_dir():
        record = read_record(model)
        student, notice = student_of(record, reading)
    else:
        student, notice = load_beside(model, reading), None
        record = record_of(student)
    if teacher is None:
        teacher = teacher_path(student.path, student.card, hint="name it with --teacher")
    guide = load_beside(teacher, reading, [student.card])
    if guide.sha256 == student.sha256:
        raise OptionError(f"{student.path} is its own teacher {guide.path}; give a student")
    start = None if record is None else record.start
    if start is not None and sha256_of(start) == student.sha256:
        start = None
    folder, said = images_of(student, record), last_options(student)
    return Subject(
        student,
        guide,
        record,
        start,
        None if folder is None else as_described(folder, said),
        said.get("direction", "AtoB"),
        () if notice is None else (notice,),
    )
