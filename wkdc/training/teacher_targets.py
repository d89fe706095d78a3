"""The teacher's outputs on training crops: computed ahead, used several times, kept on disk."""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from wkdc.checkpoints.weight_files import load_sealed, save_sealed
from wkdc.errors import CheckpointError, OutputError
from wkdc.training.crops import shuffled
from wkdc.training.distributed import Processes
from wkdc.training.loop import StepReport
from wkdc.training.recipe import Recipe
from wkdc.training.run_config import RunConfig

if TYPE_CHECKING:
    from wkdc.training.direction import TrainingDirection

MAX_PIXELS = 4096 * 128 * 128
"""Of all crops whose targets are computed ahead: 0.6 GB, and 0.5 GB of a ResNet-9's features."""

TARGET_SHARE = 0.2
"""Share of a time budget that the teachers may spend on targets."""

CACHE_BYTES = 4_000_000_000
"""Of all cached targets together; the ones that were used longest ago go first."""


@dataclass(frozen=True)
class Targets:
    """Crops and the teacher's outputs on them, computed once and used several times.

    A flip or crop of a teacher's image is not the teacher's image of the flip or crop, so the
    teacher always sees the very crop that the student is trained on.

    Attributes:
        parts: N×C×crop×crop as `Crops` gives them: the inputs, and the truth of paired data.
        targets: float16 N×C×crop×crop in [-1, 1].
        features: of the teacher there, float16, of the layers that are compared.
    """

    parts: tuple[Tensor, ...]
    targets: Tensor
    features: tuple[Tensor, ...] = ()

    @classmethod
    def joined(cls, batches: Sequence[Self]) -> Self:
        """All crops of one batch or more, in their order."""
        parts = zip(*(one.parts for one in batches), strict=True)
        features = zip(*(one.features for one in batches), strict=True)
        return cls(
            tuple(torch.cat(part) for part in parts),
            torch.cat([one.targets for one in batches]),
            tuple(torch.cat(layer) for layer in features),
        )

    def split(self, size: int) -> list[Self]:
        """Batches of `size`: copies, as a mere view is sent to a process with all the rest."""
        return [
            dataclasses.replace(
                self,
                parts=tuple(one[at].clone() for one in self.parts),
                targets=self.targets[at].clone(),
                features=tuple(one[at].clone() for one in self.features),
            )
            for at in (slice(n, n + size) for n in range(0, len(self.targets), size))
        ]

    def batch(
        self, start: int, count: int, seed: int
    ) -> tuple[tuple[Tensor, ...], Tensor, tuple[Tensor, ...]]:
        """Parts, targets and features (float32); each pass through all is a new order."""
        picked = [shuffled(len(self.targets), i, seed) for i in range(start, start + count)]
        features = tuple(one[picked].float() for one in self.features)
        return tuple(part[picked] for part in self.parts), self.targets[picked].float(), features


class TargetCache:
    """Targets of one teacher, on one sequence of crops, in one file.

    Args:
        folder: where the files lie.
        key: all that the targets depend on, as JSON has it.
        most_bytes: of all files in the folder.
        on_notice: called with one sentence for each thing that the user should know.
    """

    def __init__(
        self,
        folder: Path,
        key: Mapping[str, Any],
        *,
        most_bytes: int = CACHE_BYTES,
        on_notice: Callable[[str], None],
    ) -> None:
        self._key = json.dumps(key, sort_keys=True)
        digest = hashlib.sha256(self._key.encode()).hexdigest()
        self.path = folder / f"targets-{digest[:16]}.pth"
        self._most_bytes = most_bytes
        self._notice = on_notice

    def load(self) -> tuple[Targets, float] | None:
        """The targets, and for how long a run in seconds they are enough; None if there are none.

        Those that are damaged, or not of this key, are named and left out.
        """
        try:
            if not self.path.exists():
                return None
            content = load_sealed(self.path)
        except OSError as error:
            self._notice(f"cannot read {self.path}: {error.strerror}; the teacher runs again")
            return None
        except CheckpointError as error:
            self._notice(f"{error}; the teacher runs again")
            return None
        if content.get("key") != self._key:
            self._notice(
                f"{self.path} holds the outputs of another teacher, or of other crops; the teacher "
                "runs again"
            )
            return None
        parts: list[Tensor] = content["parts"]
        with contextlib.suppress(OSError):  # of another user, or on a disk that is only read
            os.utime(self.path)
        features: list[Tensor] = content["features"]
        found = Targets(tuple(parts), content["targets"], tuple(features))
        return found, float(content["seconds"])

    def save(self, targets: Targets, seconds: float) -> None:
        """Keep `targets`, and remove what is too much; a full disk is only said.

        Args:
            seconds: for how long a run they are enough; 0 where the run was counted in steps.
        """
        held = (*targets.parts, targets.targets, *targets.features)
        size = sum(one.nbytes for one in held)
        if size > self._most_bytes:
            self._notice(
                f"the teacher's outputs are not cached: {size / 1e9:.1f} GB are more than the "
                f"{self._most_bytes / 1e9:.1f} that are kept"
            )
            return
        content = {
            "key": self._key,
            "seconds": seconds,
            "parts": list(targets.parts),
            "targets": targets.targets,
            "features": list(targets.features),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_sealed(self.path, content)
            self._tidy()
        except (OSError, OutputError) as error:
            self._notice(f"the teacher's outputs are not cached: {error}")

    def _tidy(self) -> None:
        """Remove the files that were used longest ago, until the others are not too much."""
        files = [(path, path.stat()) for path in self.path.parent.glob("targets-*.pth")]
        files.sort(key=lambda one: (one[0] != self.path, -one[1].st_mtime))
        total = 0
        for path, found in files:
            total += found.st_size
            if total > self._most_bytes and path != self.path:
                path.unlink(missing_ok=True)


def batches_of(step: int, recipe: Recipe) -> range:
    """The numbers of the batches that a step is made of."""
    return range(step * recipe.accumulate, (step + 1) * recipe.accumulate)


def compute_ahead(
    directions: Sequence["TrainingDirection"],
    config: RunConfig,
    processes: Processes,
    *,
    started: float,
    again: int | None,
    on_step: Callable[[StepReport], None],
    on_notice: Callable[[str], None],
) -> int:
    """Compute targets before training, if the recipe says so; of how many crops.

    Args:
        started: `time.monotonic()` of the run's start.
        again: how many there were when the run began, where it goes on.
    """
    recipe, budget = config.recipe, config.budget
    if recipe.reuse == 1 or any(direction.teacher is None for direction in directions):
        return 0
    wanted = again or max(1, MAX_PIXELS // recipe.crop**2)
    together = recipe.images_per_step * processes.count
    cached, enough_for = _open_caches(directions, config, processes, on_notice)
    if budget.steps is not None and again is None:
        wanted = min(wanted, -(-budget.steps * together // recipe.reuse))
    count = 0
    while count < wanted:
        (share,) = processes.of_first([budget.progress(0, time.monotonic() - started)])
        enough = share > TARGET_SHARE or enough_for >= (budget.seconds or math.inf)
        if count >= max(1, cached) and again is None and enough:
            break
        for number in batches_of(count // together, recipe):
            for direction in directions:
                direction.compute_ahead(number)
        count += together
        on_step(StepReport("targets", count, share, {}, 0.0, 0.0))
    for direction in directions:
        if count > cached:
            direction.fill_cache(max(enough_for, budget.seconds or 0.0))
        direction.use_targets(count // (recipe.batch * processes.count))
    return count


def _open_caches(
    directions: Sequence["TrainingDirection"],
    config: RunConfig,
    processes: Processes,
    on_notice: Callable[[str], None],
) -> tuple[int, float]:
    """How many crops all directions of all processes have cached, and for how long a run.

    Nothing is cached of networks of the user's own code: no digest says that it is still the same.
    """
    if config.cache is None or config.arch is not None:
        return 0, 0.0
    mine = [direction.open_cache(Path(config.cache), on_notice) for direction in directions]
    found = [one for process in processes.gather(mine) for one in process]
    fewest = min(batches for batches, _ in found)
    return fewest * config.recipe.batch * processes.count, min(seconds for _, seconds in found)
