"""What a run was asked to do, as it is kept in its folder."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from wkdc.distill.loop import Budget
from wkdc.distill.recipe import Precision, Recipe
from wkdc.layouts import Direction


@dataclass(frozen=True)
class Request:
    """What a run was asked to do: enough to start it again elsewhere on the same machine.

    Attributes:
        data, teacher, discriminator, output: absolute paths; no discriminator is None. The student
            is the `start.pth` in the run folder.
        budget: the run's length, however it was given.
        device, precision, seed, arch: see `wkdc.distill.distill`.
        save_every: seconds between two states that the run can be continued from.
    """

    data: str
    teacher: str
    discriminator: str | None
    output: str
    recipe: Recipe
    budget: Budget
    direction: Direction
    device: str
    precision: Precision
    seed: int
    arch: str | None
    save_every: float

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
