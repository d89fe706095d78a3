"""What a run was asked to do, as it is kept in its folder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.training.loop import Budget
from wkdc.training.recipe import Precision, Recipe
from wkdc.training.tracking import Tracker

Command = Literal["distill", "train"]
Select = Literal["last", "best"]


@dataclass(frozen=True)
class Request:
    """What a run was asked to do: enough to start it again elsewhere on the same machine.

    Attributes:
        data, teacher, discriminator, output: absolute paths, None where there is none. The student
            is the `start.pth` in the run folder.
        reverse_teacher, reverse_output: the same for the other direction; a teacher without an
            output only closes the cycle.
        budget: the run's length, however it was given.
        device, precision, seed, arch: see `wkdc.distill.distill`.
        select: whether the student at the end is the result, or the best on the way.
        compiled: whether steps use torch.compile.
        save_every: seconds between two states that the run can be continued from.
        tracker: what shows the run's curves; see `wkdc.training.tracking`.
        cache: where drawings of teachers are kept, as an absolute path; None for nowhere.
    """

    command: Command
    data: str
    teacher: str | None
    discriminator: str | None
    output: str
    reverse_teacher: str | None
    reverse_output: str | None
    recipe: Recipe
    budget: Budget
    direction: Direction
    device: str
    precision: Precision
    seed: int
    arch: str | None
    compiled: bool
    save_every: float
    select: Select
    tracker: Tracker
    cache: str | None

    def __post_init__(self) -> None:
        """Check the time between states.

        Raises:
            OptionError: it is no positive number.
        """
        if not self.save_every > 0:
            raise OptionError(f"save_every is {self.save_every / 60}; give minutes, more than 0")

    @property
    def outputs(self) -> list[Path]:
        """What the run writes, a file for each direction."""
        return [Path(path) for path in (self.output, self.reverse_output) if path is not None]

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_plain`.

        Raises:
            TypeError, KeyError: something is missing or unknown.
        """
        nested = {
            "recipe": Recipe(**values["recipe"]),
            "budget": Budget(**values["budget"]),
        }
        return cls(**{**values, **nested})
