"""Which run taught a student, which student a run made, and on which images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wkdc.checkpoints.checkpoint import Generator, load_beside
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.run_record import Record, read_record
from wkdc.errors import OptionError


def last_options(student: Generator) -> Mapping[str, Any]:
    """The options of the last command on the student's card; empty without a card."""
    history = (student.card or {}).get("history", [])
    options: Mapping[str, Any] = history[-1]["options"] if history else {}
    return options


def student_of(record: Record, reading: Reading) -> tuple[Generator, str | None]:
    """What a run made: its output, else its latest checkpoint, and in words why that.

    Args:
        reading: see `wkdc.checkpoints.checkpoint.reading_for`.

    Raises:
        OptionError: there is no student yet.
        CheckpointError: it cannot be read.
    """
    output = Path(record.options.get("request", {}).get("output") or "")
    beside = record.path.resolve().parents[1] / output.name  # a folder may have been copied
    for path in (record.path.parent.parent / output.name, beside, output):
        if record.finished and path.is_file():
            student = load_beside(path, reading)
            if taught_by(student, record):
                return student, None
    if record.latest is None:
        raise OptionError(f"{record.path} holds no student yet; wait for its first checkpoint")
    reason = (
        f"what it wrote, {output}, is another file now"
        if record.finished
        else "it has not come to its end"
    )
    said = f"{record.path}: {reason}; this is its checkpoint {record.latest.name}"
    return load_beside(record.latest, reading), said


def taught_by(student: Generator, record: Record) -> bool:
    """Whether the run is the one on the student's card: a folder's name may be used again."""
    options, digests = last_options(student), record.options.get("digests", {})
    return all(
        options.get(name) == digests.get(name) for name in ("student_sha256", "data_sha256")
    ) and options.get("seed") == record.options.get("seed")


def record_of(student: Generator) -> Record | None:
    """The run on the student's card, if its folder is still there, as its direction has it."""
    for folder in _candidates(student, last_options(student).get("run")):
        if (folder / "options.json").is_file():
            record = read_record(folder)
            for one in (record, record.reversed()):
                if taught_by(student, one):
                    return one
    return None


def images_of(student: Generator, record: Record | None) -> Path | None:
    """The folder that a student was taught or calibrated on, if it is still there."""
    options = (
        last_options(student) if record is None else {**record.options, **last_options(student)}
    )
    return next(
        (folder for folder in _candidates(student, options.get("data")) if folder.is_dir()), None
    )


def _candidates(student: Generator, named: str | None) -> list[Path]:
    """Where a folder may lie: a card names it as seen from where the command was called."""
    if not named:
        return []
    folder = student.path.parent
    return [folder / named, Path(named), *(above / named for above in folder.resolve().parents[:3])]
