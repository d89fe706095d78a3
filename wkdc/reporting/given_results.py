"""Results of other commands that a report shows instead of measuring again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wkdc.errors import OptionError
from wkdc.networks.complexity import count_params
from wkdc.reporting.results import read_result
from wkdc.reporting.subject import Subject

COMMANDS = ("profile", "evaluate", "analyze")

KEYS = {
    "profile": {"models", "size", "batch", "threads", "device", "interval", "warnings"},
    "evaluate": {"scores", "protocol", "warnings"},
    "analyze": {"models", "teacher_sha256", "teacher_power", "real_power", "images", "sentences"},
}
"""Keys that a result of each command must have."""


def read_given_results(
    results: Sequence[str | Path], subject: Subject
) -> dict[str, dict[str, Any]]:
    """Results that commands printed with `--json`, by command, checked to be of this student.

    Raises:
        OptionError: two results of one command, or a result of other files or another version.
    """
    labels, found = subject.labels(), dict[str, dict[str, Any]]()
    for path in results:
        result = read_result(path, COMMANDS)
        command = result["made"]["command"]
        if command in found:
            raise OptionError(f"{path} is a second result of wkdc {command}; give one")
        if not KEYS[command] <= set(result):
            raise OptionError(f"{path} was printed by another version of wkdc; measure again")
        rows = result["scores" if command == "evaluate" else "models"]
        known = [labels.get(row["sha256"]) for row in rows]
        if known.count("student") != 1:
            raise OptionError(
                f"{path} has to be of {subject.student.path} or its .onnx, once; its digests are "
                f"{', '.join(str(row['sha256'])[:12] for row in rows if row['sha256']) or 'none'}, "
                f"the student's {subject.student.sha256[:12]}; measure again, or leave it out"
            )
        _check_teacher(Path(path), command, result, subject)
        found[command] = result
    return found


def _check_teacher(path: Path, command: str, result: Mapping[str, Any], subject: Subject) -> None:
    """Raises: OptionError: the result does not compare with the page's teacher."""
    if command == "profile":  # a teacher's .onnx has a digest of its own
        first = result["models"][0]
        same = first["params"] == count_params(subject.teacher.network)
        same &= first["sha256"] != subject.student.sha256
    elif command == "evaluate":
        same = result["protocol"]["teacher_sha256"] == subject.teacher.sha256
    else:
        same = result["teacher_sha256"] == subject.teacher.sha256
    if not same:
        raise OptionError(
            f"{path} does not compare with the teacher {subject.teacher.path}; measure again with "
            "it" + (" as the first model" if command == "profile" else ", or leave it out")
        )
