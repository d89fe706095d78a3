"""What a run was asked to do, as it is kept in its folder."""

import dataclasses
import shlex
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import torch

from wkdc.checkpoints.card import relative_to
from wkdc.checkpoints.reading import Reading
from wkdc.data.folders import ImageFolder, as_described, describe_data
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.networks.layers import Norm
from wkdc.training.device import Compute
from wkdc.training.distributed import Processes
from wkdc.training.loop import Budget, StepReport, check_length, steps_in
from wkdc.training.recipe import Precision, Recipe
from wkdc.training.tracking import Tracker

T = TypeVar("T")

Command = Literal["distill", "train"]
Select = Literal["last", "best"]


@dataclass(frozen=True)
class Length:
    """How long a run shall last, as it was given: at most one of these.

    Raises:
        OptionError: more than one, or one that is not a positive number.
    """

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        check_length(steps=self.steps, epochs=self.epochs, minutes=self.minutes)

    def budget(self, recipe: Recipe, images: int, processes: Processes) -> Budget:
        """The run's length in steps or seconds; without one, the recipe's."""
        steps, epochs, minutes = self.steps, self.epochs, self.minutes
        if (steps, epochs, minutes) == (None, None, None):
            epochs, minutes = recipe.epochs, recipe.minutes
        if epochs is not None:
            steps = steps_in(epochs, images, recipe, processes)
        return Budget(steps, None if minutes is None else 60 * minutes)


@dataclass(frozen=True)
class Callbacks:
    """What is called while a run lasts; see `wkdc.distill.distill`."""

    on_step: Callable[[StepReport], None] | None = None
    on_profile: Callable[[str], None] | None = None
    on_notice: Callable[[str], None] = lambda _: None


@dataclass(frozen=True)
class RunConfig:
    """What a run was asked to do: enough to start it again elsewhere on the same machine.

    Attributes:
        data, teacher, discriminator, output: absolute paths, None where there is none. The student
            is the `start.pth` in the run folder.
        value_range: see `wkdc.data.folders.ImageFolder`.
        reverse_teacher, reverse_output: the same for the other direction; a teacher without an
            output only closes the cycle.
        budget: the run's length, however it was given.
        device, precision, seed, arch, norm, key, reverse_key: see `wkdc.distill.distill`.
        select: whether the student at the end is the result, or the best on the way.
        compiled: whether steps use torch.compile.
        save_every: seconds between two states that the run can be continued from.
        tracker: what shows the run's curves; see `wkdc.training.tracking`.
        cache: where the outputs of teachers are kept, as an absolute path; None for nowhere.
    """

    command: Command
    data: str
    recipe: Recipe
    direction: Direction
    device: str
    precision: Precision
    seed: int
    arch: str | None
    compiled: bool
    save_every: float
    tracker: Tracker
    select: Select = "last"
    cache: str | None = None
    budget: Budget = field(default_factory=Budget)
    output: str = ""
    teacher: str | None = None
    discriminator: str | None = None
    reverse_teacher: str | None = None
    reverse_output: str | None = None
    norm: Norm | None = None
    key: str | None = None
    reverse_key: str | None = None
    value_range: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the time between states, and the range.

        Raises:
            OptionError: no positive number, or not two numbers.
        """
        if self.value_range is not None and len(self.value_range) != 2:
            raise OptionError(f"range {self.value_range} is none; give two numbers")
        if not self.save_every > 0:
            raise OptionError(f"save_every is {self.save_every / 60}; give minutes, more than 0")

    @property
    def reading(self) -> Reading:
        """How files that cannot tell are read."""
        return Reading(norm=self.norm, key=self.key, arch=self.arch)

    @property
    def folder(self) -> ImageFolder:
        """The data as seen from the current folder, for messages too."""
        path = Path(relative_to(Path(self.data), Path.cwd()))
        return as_described(path, {"value_range": self.value_range})

    @property
    def outputs(self) -> list[Path]:
        """What the run writes, a file for each direction."""
        return [Path(path) for path in (self.output, self.reverse_output) if path is not None]

    def resumed(self, run: Path) -> str:
        """The command that goes on with the run in the folder `run`, as a shell reads it."""
        arch = [] if self.arch is None else ["--arch", self.arch]
        return shlex.join(["wkdc", self.command, "--resume", str(run), *arch])

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_plain`.

        Raises:
            TypeError, KeyError: something is missing, unknown or of another type.
            OptionError: a value that is not allowed.
        """
        nested = {
            "recipe": _made(Recipe, values["recipe"]),
            "budget": _made(Budget, values["budget"]),
        }
        return _made(cls, {**values, **nested})


def _made(kind: Callable[..., T], values: Mapping[str, Any]) -> T:
    """A dataclass of plain `values`, whose types are checked: they come from a file."""
    hints = typing.get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {value!r}")
    return kind(**values)


def _fits(value: object, hint: Any) -> bool:
    """Whether `value` is of a type, of one of several, of a Literal's, or a sequence of such."""
    if typing.get_origin(hint) is Literal:
        return isinstance(value, str) and value in typing.get_args(hint)
    if typing.get_origin(hint) is Sequence:
        (item,) = typing.get_args(hint)
        return isinstance(value, list | tuple) and all(_fits(one, item) for one in value)
    if options := typing.get_args(hint):
        return any(_fits(value, option) for option in options)
    return type(value) is hint or (hint is float and type(value) is int)


def describe_run(config: RunConfig, compute: Compute, processes: Processes) -> dict[str, Any]:
    """What a run is made with, in plain types."""
    return {
        "recipe": dataclasses.asdict(config.recipe),
        "budget": dataclasses.asdict(config.budget),
        **describe_data(config.folder),
        "device": str(compute.device),
        "precision": compute.precision,
        "compiled": compute.compiled,
        "processes": processes.count,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "seed": config.seed,
    }
