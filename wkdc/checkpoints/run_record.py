"""What a run folder tells, also while its run goes on: read only, without its lock."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from wkdc.checkpoints.card import check_texts
from wkdc.errors import CheckpointError, OptionError

T = TypeVar("T")

REVERSE = "reverse"
"""Marks the second direction's files and figures."""


@dataclass(frozen=True)
class Record:
    """A training run as its folder has it.

    Attributes:
        options: what the run was asked to do, and with what; `finished` whether it came to its end.
        losses, validation: one entry for each line that was logged, with its `step`.
        start: the student as it was before the run; None for one that is trained from scratch.
        latest: the checkpoint that was saved last, or `start`; None where there is neither.
    """

    path: Path
    options: dict[str, Any]
    finished: bool
    losses: tuple[dict[str, float], ...]
    validation: tuple[dict[str, float | None], ...]
    start: Path | None
    latest: Path | None

    def reversed(self) -> Self:
        """The same run as its second direction has it; see docs/commands/distill.md."""

        mark = f"{REVERSE}_"

        def own(line: dict[str, T]) -> dict[str, T]:
            names = [name for name in line if name.startswith(mark) or name in ("step", "seconds")]
            return {name.removeprefix(mark): line[name] for name in names}

        start = self.path / "checkpoints" / f"start-{REVERSE}.pth"
        saved = [p for p in saved_steps(self.path, ".pth") if p.stem.endswith(f"-{REVERSE}")]
        known = start if start.is_file() and self.start is not None else None
        return replace(
            self,
            options=self.options | {"digests": own(self.options.get("digests", {}))},
            losses=tuple(map(own, self.losses)),
            validation=tuple(map(own, self.validation)),
            start=known,
            latest=saved[-1] if saved else known,
        )


def read_record(path: Path) -> Record:
    """Read the folder of a run.

    Raises:
        OptionError: it is no run folder.
        CheckpointError: its options cannot be read.
    """
    options = read_options(path)
    start = path / "checkpoints" / "start.pth"
    saved = saved_steps(path, ".pth")
    fresh = options.get("request", {}).get("command") == "train"
    known = start if start.is_file() and not fresh else None
    return Record(
        path,
        options,
        bool(options.get("finished")),
        tuple(read_log(path / "metrics.jsonl")),
        tuple(read_log(path / "validation.jsonl")),
        known,
        saved[-1] if saved else known,
    )


def read_options(path: Path) -> dict[str, Any]:
    """What the run in the folder `path` was asked to do, its `options.json`.

    Raises:
        OptionError: it is no run folder.
        CheckpointError: the file is broken.
    """
    file = path / "options.json"
    if not file.is_file() or not (path / "checkpoints").is_dir():
        raise OptionError(
            f"{path} is no run folder; give one that a command made, such as runs/distill-001"
        )
    try:
        options = json.loads(file.read_text())
        for name in ("request", "digests"):
            if not isinstance(options.get(name, {}), dict):
                raise TypeError(f"{name} has entries")
        check_texts(options.get("request", {}).get("output") or "", options.get("data") or "")
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{file} is broken") from None
    return dict(options)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, up to one that was cut off in the middle, or is damaged."""
    lines: list[dict[str, Any]] = []
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        try:
            values = json.loads(line)
            numbers = all(value is None or type(value) in (int, float) for value in values.values())
            if not numbers or type(values["step"]) is not int:
                break
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            break
        lines.append(values)
    return lines


def saved_steps(path: Path, suffix: str) -> list[Path]:
    """The files `step-*` of a kind in the run folder `path`, the latest last."""
    found = (path / "checkpoints").glob(f"step-*{suffix}")
    return sorted(found, key=lambda file: (step_of(file), file.name))


def step_of(path: Path) -> int:
    """The number in `step-000123.pth`; -1 for a name that is none of ours."""
    number = path.stem.partition("-")[2].partition("-")[0]
    return int(number) if number.isdecimal() else -1
