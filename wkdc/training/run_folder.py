"""The run folder: options, metrics, sample images and checkpoints of one training run."""

import errno
import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout
from torch import Tensor, nn

from wkdc.checkpoints.card import Card
from wkdc.checkpoints.checkpoint import save_generator
from wkdc.checkpoints.run_record import read_log, saved_steps, step_of
from wkdc.checkpoints.weight_files import load_sealed, save_sealed
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import grid
from wkdc.errors import CheckpointError, OptionError, OutputError
from wkdc.system.files import write_atomically
from wkdc.training.distributed import Processes
from wkdc.training.tracking import Tracker, Tracking

KEEP = 2
"""How many checkpoints, and how many states, a run folder holds, the latest ones."""


class RunFolder:
    """The folder of one run, which no other process may use meanwhile.

    Args:
        processes: those of the run; the first one holds the lock, and alone writes.

    Raises:
        OptionError: another process uses it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path, processes: Processes) -> None:
        self.path = path
        self._metrics, self._validation = path / "metrics.jsonl", path / "validation.jsonl"
        self._lock = FileLock(path / "lock")
        self._tracking: Tracking | None = None
        if not processes.first:
            return
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OptionError(
                f"{path} is in use by another process; wait for it, or stop it first"
            ) from None
        except OSError as error:
            raise OutputError(f"cannot write into {path}: {error.strerror}") from error

    @classmethod
    def new(cls, root: Path, command: str, processes: Processes) -> Self:
        """A new folder `distill-001`, `distill-002`, ... below `root`, named after the command.

        Raises:
            OutputError: it cannot be made.
        """
        return cls(processes.by_first(lambda: _make(root, command)), processes)

    def write_options(self, options: Mapping[str, Any]) -> None:
        """Write `options.json`: what the run was asked to do, and with what."""
        text = json.dumps(options, indent=2, default=str)
        write_atomically(self.path / "options.json", lambda file: file.write_text(text + "\n"))

    def log(self, step: int, seconds: float, values: Mapping[str, float]) -> None:
        """Add one line to `metrics.jsonl`.

        Raises:
            OutputError: the disk is full.
        """
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        _append(self._metrics, {"step": step, "seconds": round(seconds, 3), **rounded})
        if self._tracking is not None:
            self._tracking.log("train", step, rounded)

    def log_validation(self, step: int, values: Mapping[str, float]) -> None:
        """Add one line to `validation.jsonl`; what is infinite, as of equal images, is null.

        Raises:
            OutputError: the disk is full.
        """
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        _append(self._validation, {"step": step, **finite})
        if self._tracking is not None:
            self._tracking.log("validation", step, values)

    def track(
        self, tracker: Tracker, step: int, settings: Mapping[str, str | float | int | bool | None]
    ) -> None:
        """Let `tracker` show what is logged from now on, after so many steps, too."""
        self._tracking = Tracking(tracker, self.path, step)
        if not step:
            self._tracking.describe(settings)

    def rewind(self, step: int) -> list[dict[str, float]]:
        """Take away what was logged and saved after `step`; the losses of the steps that stay."""
        for path in [
            *saved_steps(self.path, ".pth"),
            *saved_steps(self.path, ".state"),
            *self._bests(),
        ]:
            if step_of(path) > step:
                path.unlink()
        _keep_until(self._validation, step or -1)  # a run's beginning is logged as step 0
        known = ("step", "seconds")
        return [
            {name: value for name, value in values.items() if name not in known}
            for values in _keep_until(self._metrics, step)
        ]

    def save_sample(self, step: int, rows: Sequence[Sequence[Tensor]], direction: str = "") -> None:
        """Write a grid of images, input | teacher | student, as `samples/step-000123.png`.

        Args:
            direction: ends the name, here and below, where a run has a second direction.
        """
        save_pixels(self.path / "samples" / f"{_named(step, direction)}.png", grid(rows))

    def start_of(self, direction: str = "") -> Path:
        """The student as it was before the run, `checkpoints/start.pth`."""
        return self.path / "checkpoints" / f"start{direction and '-' + direction}.pth"

    @property
    def discriminator(self) -> Path:
        """The discriminator to start from, where the run made it smaller."""
        return self.path / "checkpoints" / "discriminator.pth"

    def keep_discriminator(self, content: bytes, processes: Processes) -> None:
        """Write the file `discriminator`, for which all processes wait.

        Raises:
            OutputError: it cannot be written; in every process.
        """
        file = self.discriminator
        processes.by_first(lambda: write_atomically(file, lambda one: one.write_bytes(content)))

    def best_of(self, direction: str = "") -> Path | None:
        """The student that was the best so far, where one is picked."""
        found = [path for path in self._bests() if _direction_of(path) == direction]
        return found[-1] if found else None

    def save_best(self, step: int, network: nn.Module, card: Card, direction: str = "") -> None:
        """Write the best student so far as `checkpoints/best-000123.pth`.

        The one before stays until there is a state of this step, to which a run could go back.
        """
        name = _named(step, direction).replace("step", "best")
        save_generator(self.path / "checkpoints" / f"{name}.pth", network, card)

    def _bests(self) -> list[Path]:
        found = (self.path / "checkpoints").glob("best-*.pth")
        return sorted(found, key=lambda path: (step_of(path), path.name))

    def keep_start(self, student: Path, direction: str = "") -> None:
        """Copy the student as it was before the run.

        Raises:
            OutputError: the disk is full.
        """
        start = self.start_of(direction)
        if student != start:
            write_atomically(start, lambda file: shutil.copyfile(student, file))

    def save_checkpoint(
        self, step: int, network: nn.Module, card: Card, direction: str = ""
    ) -> None:
        """Write a usable student as `checkpoints/step-000123.pth`, keeping the latest `KEEP`."""
        save_generator(self.path / "checkpoints" / f"{_named(step, direction)}.pth", network, card)
        self._keep_latest(".pth")

    def save_state(self, step: int, state: Mapping[str, Any]) -> None:
        """Write `checkpoints/step-000123.state`, which a run goes on from, with its digest."""
        path = self.path / "checkpoints" / f"step-{step:06d}.state"
        save_sealed(path, {"step": step, **state})
        self._keep_latest(".state")
        bests = self._bests()
        for old in set(bests) - {self.best_of(_direction_of(path)) for path in bests}:
            old.unlink()

    def load_state(self, on_notice: Callable[[str], None]) -> dict[str, Any] | None:
        """The latest state that is whole; None where nothing was saved yet.

        Args:
            on_notice: called with one sentence for each that is broken.

        Raises:
            CheckpointError: all are, and there are students that a new beginning would remove.
        """
        states, students = (saved_steps(self.path, suffix) for suffix in (".state", ".pth"))
        for path in reversed(states):
            try:
                return load_sealed(path)
            except CheckpointError:
                on_notice(f"{path} is broken and left out")
        if states and students:
            raise CheckpointError(
                f"no state in {self.path} is whole, so that the run cannot go on; its latest "
                f"student is {students[-1]}: start another run with --student {students[-1]}"
            )
        return None

    def forget_states(self) -> None:
        """Remove all states: the run came to its end."""
        for path in saved_steps(self.path, ".state"):
            path.unlink()

    @property
    def latest(self) -> Path:
        """The checkpoint that was saved last, or the student as it was before the run."""
        saved = saved_steps(self.path, ".pth")
        return saved[-1] if saved else self.start_of()

    def close(self) -> None:
        """Let other processes use the folder."""
        if self._tracking is not None:
            self._tracking.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _keep_latest(self, suffix: str) -> None:
        paths = saved_steps(self.path, suffix)
        kept = sorted({step_of(path) for path in paths})[-KEEP:]
        for path in paths:
            if step_of(path) not in kept:
                path.unlink(missing_ok=True)


def _named(step: int, direction: str) -> str:
    return f"step-{step:06d}{direction and '-' + direction}"


def _direction_of(path: Path) -> str:
    """The direction in `best-000123-reverse.pth`."""
    return path.stem.partition("-")[2].partition("-")[2]


def _append(path: Path, values: Mapping[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some room" if full else "leave the run's folder in its place, and writable"
        raise OutputError(f"cannot write {path}: {error.strerror}; {advice}") from error


def _keep_until(path: Path, step: int) -> list[dict[str, Any]]:
    """Cut a log after `step`; the lines that stay."""
    kept = [values for values in read_log(path) if values["step"] <= step]
    text = "".join(json.dumps(values) + "\n" for values in kept)
    write_atomically(path, lambda file: file.write_text(text))
    return kept


def _make(root: Path, command: str) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        taken = [p.name.removeprefix(f"{command}-") for p in root.glob(f"{command}-*")]
        number = max((int(name) for name in taken if name.isdigit()), default=0)
        while True:
            number += 1
            path = root / f"{command}-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:  # another run took it in the meantime
                continue
            (path / "samples").mkdir()
            (path / "checkpoints").mkdir()
            return path
    except OSError as error:
        raise OutputError(
            f"cannot make a run folder in {root}: {error.strerror}; name another with --runs"
        ) from error
