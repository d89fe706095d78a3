"""What pruning a network gave."""

from dataclasses import dataclass
from pathlib import Path

from wkdc.networks.architecture import Architecture
from wkdc.networks.complexity import Complexity
from wkdc.pruning.importance import Importance
from wkdc.pruning.plan import Clock
from wkdc.pruning.reconstruction import LayerFit


@dataclass(frozen=True)
class PruneResult:
    """A student, how it compares with its teacher, and where it was written.

    Attributes:
        output: the file; None for a plan that was only made.
        architecture: the student's; `teacher_architecture` the teacher's.
        widths: the teacher's channels and the student's, by the first layer that makes them; 0
            where a block went.
        expected_psnr_db: a rough guess, from the error increase of each group alone,
            at the untrained student's PSNR to its teacher: good for comparing plans; None without
            images, and for a discriminator.
        psnr_db: the untrained student's PSNR to its teacher, measured on a few of the
            images that it was calibrated on; None where nothing was written, too.
        clock: where the time was measured.
        importance: what decided which channels stay.
        calibrated_on: how many images were looked at, and `source`, whose they are: a folder, or
            None for the bundled photos.
        jittered: how many copies of them in other colours were looked at, too.
        layers: how well each reconstructed layer follows the teacher.
        teacher, student: parameters, and MACs for one image of `size` (height, width).
        teacher_bytes, student_bytes: sizes of the two files.
    """

    output: Path | None
    architecture: Architecture
    teacher_architecture: Architecture
    widths: dict[str, tuple[int, int]]
    expected_psnr_db: float | None
    psnr_db: float | None
    clock: Clock | None
    teacher: Complexity
    student: Complexity
    size: tuple[int, int]
    teacher_bytes: int
    student_bytes: int | None
    importance: Importance
    calibrated_on: int
    jittered: int
    source: Path | None
    layers: tuple[LayerFit, ...]

    @property
    def params_ratio(self) -> float:
        return self.teacher.params / self.student.params

    @property
    def macs_ratio(self) -> float:
        return self.teacher.macs / self.student.macs
