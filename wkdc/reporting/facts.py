"""What a report's page shows, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from wkdc.checkpoints.run_record import Record
from wkdc.reporting.results import Made


@dataclass(frozen=True)
class File:
    """A weight file."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ComparedImage:
    """One input and its translations, 1×C×H×W in [-1, 1] each.

    Attributes:
        detail: left, top and side of the square where teacher and student differ most.
    """

    name: str
    input: Tensor
    teacher: Tensor
    student: Tensor
    psnr_db: float
    detail: tuple[int, int, int]


@dataclass(frozen=True)
class Exported:
    """The student as .onnx, and its largest difference from the .pth, by size."""

    file: File
    differences: tuple[tuple[str, float], ...]
    precision: str


@dataclass(frozen=True)
class Facts:
    """What a page shows.

    Attributes:
        widths: name of each stage, the teacher's widths and the student's.
        history: of the student's card.
        profile, evaluation, analysis: as `--json` prints them.
        labels: names of models on the page, by digest.
        record: of the run that trained the student, None without a run.
        exported: the student's .onnx, None without one.
        made: when and on what the page was made.
    """

    teacher: File
    student: File
    widths: tuple[tuple[str, Sequence[int], Sequence[int]], ...]
    history: Sequence[Mapping[str, Any]]
    profile: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    analysis: Mapping[str, Any]
    labels: Mapping[str, str]
    images: Sequence[ComparedImage]
    record: Record | None
    exported: Exported | None
    warnings: Sequence[str]
    made: Made


def label_of(facts: Facts, model: Mapping[str, Any]) -> str:
    """The name of a model of a result on the page."""
    if model["sha256"] is None:
        return "input"
    return facts.labels.get(model["sha256"], Path(model["name"]).name)


def student_profile(facts: Facts) -> Mapping[str, Any]:
    """The student's part of the profile."""
    found: list[Mapping[str, Any]] = [
        one for one in facts.profile["models"] if facts.labels.get(one["sha256"]) == "student"
    ]
    return found[0]
