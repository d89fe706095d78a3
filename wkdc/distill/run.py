"""The run folder: options, metrics, sample pictures and checkpoints of one training run."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from wkdc.checkpoint import Card, save_generator
from wkdc.errors import OutputError
from wkdc.files import write_atomically
from wkdc.images import grid, save_pixels

KEEP = 2
"""How many checkpoints a run folder holds, the latest ones."""


class RunFolder:
    """A new folder `distill-001`, `distill-002`, ... below `root`.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.path = self._make(root)
        self._metrics = (self.path / "metrics.jsonl").open("a", encoding="utf-8")
        self._saved: list[Path] = []
        self.start = self.path / "checkpoints" / "start.pth"

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
        line = json.dumps({"step": step, "seconds": round(seconds, 3), **rounded})
        try:
            self._metrics.write(line + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self._metrics.name}: {error.strerror}; free some room"
            ) from error

    def save_sample(self, step: int, rows: Sequence[Sequence[Tensor]]) -> None:
        """Write a grid of pictures, input | teacher | student, as `samples/step-000123.png`."""
        save_pixels(self.path / "samples" / f"step-{step:06d}.png", grid(rows))

    def keep_start(self, student: Path) -> None:
        """Copy the student as it was before the run to `checkpoints/start.pth`.

        Raises:
            OutputError: the disk is full.
        """
        write_atomically(self.start, lambda file: shutil.copyfile(student, file))

    def save_checkpoint(self, step: int, network: nn.Module, card: Card) -> Path:
        """Write a usable student as `checkpoints/step-000123.pth`, keeping the latest `KEEP`."""
        path = self.path / "checkpoints" / f"step-{step:06d}.pth"
        save_generator(path, network, card)
        self._saved = [*(saved for saved in self._saved if saved != path), path]
        for old in self._saved[:-KEEP]:
            old.unlink(missing_ok=True)
        self._saved = self._saved[-KEEP:]
        return path

    @property
    def latest(self) -> Path:
        """The checkpoint that was saved last, or the student as it was before the run."""
        return self._saved[-1] if self._saved else self.start

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._metrics.close()

    @staticmethod
    def _make(root: Path) -> Path:
        try:
            root.mkdir(parents=True, exist_ok=True)
            taken = [p.name.removeprefix("distill-") for p in root.glob("distill-*")]
            number = max((int(name) for name in taken if name.isdigit()), default=0)
            while True:
                number += 1
                path = root / f"distill-{number:03d}"
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
