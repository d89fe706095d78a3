"""The teacher's drawings on disk, for later runs of the same teacher on the same crops."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wkdc.checkpoints.weight_files import load_sealed, save_sealed
from wkdc.errors import CheckpointError, OutputError
from wkdc.training.crops import Drawings

CACHE_BYTES = 4_000_000_000
"""Of all cached drawings together; the ones that were used longest ago go first."""


class DrawingCache:
    """Drawings of one teacher, on one sequence of crops, in one file.

    Args:
        folder: where the files lie.
        key: all that the drawings depend on, as JSON has it.
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
        self.path = folder / f"drawings-{digest[:16]}.pth"
        self._most_bytes = most_bytes
        self._notice = on_notice

    def load(self) -> tuple[Drawings, float] | None:
        """The drawings, and for how long a run in seconds they are enough; None where none are.

        Those that are damaged, or not of this key, are named and left out.
        """
        if not self.path.exists():
            return None
        try:
            content = load_sealed(self.path)
        except CheckpointError as error:
            self._notice(f"{error}; the teacher draws again")
            return None
        if content.get("key") != self._key:
            self._notice(
                f"{self.path} holds drawings of another teacher, or of other crops; the teacher "
                "draws again"
            )
            return None
        parts: list[Tensor] = content["parts"]
        self.path.touch()
        features: list[Tensor] = content["features"]
        found = Drawings(tuple(parts), content["targets"], tuple(features))
        return found, float(content["seconds"])

    def save(self, drawings: Drawings, seconds: float) -> None:
        """Keep `drawings`, and remove what is too much; a full disk is said, nothing else.

        Args:
            seconds: for how long a run they are enough; 0 where the run was counted in steps.
        """
        held = (*drawings.parts, drawings.targets, *drawings.features)
        size = sum(one.nbytes for one in held)
        if size > self._most_bytes:
            self._notice(
                f"the teacher's drawings are not cached: {size / 1e9:.1f} GB are more than the "
                f"{self._most_bytes / 1e9:.1f} that are kept"
            )
            return
        content = {
            "key": self._key,
            "seconds": seconds,
            "parts": list(drawings.parts),
            "targets": drawings.targets,
            "features": list(drawings.features),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            save_sealed(self.path, content)
            self._tidy()
        except (OSError, OutputError) as error:
            self._notice(f"the teacher's drawings are not cached: {error}")

    def _tidy(self) -> None:
        """Remove the files that were used longest ago, until the others are not too much."""
        files = [(path, path.stat()) for path in self.path.parent.glob("drawings-*.pth")]
        files.sort(key=lambda one: (one[0] != self.path, -one[1].st_mtime))
        total = 0
        for path, found in files:
            total += found.st_size
            if total > self._most_bytes and path != self.path:
                path.unlink(missing_ok=True)
