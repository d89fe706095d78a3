"""The training loop: how long, how fast, when to save, and when to stop."""

import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Self

import torch
from torch.profiler import ProfilerActivity, profile

from wkdc.errors import OptionError
from wkdc.training.distributed import Processes
from wkdc.training.objective import Batch
from wkdc.training.recipe import Recipe
from wkdc.training.trainer import Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)

MARKS = 10
"""Equal parts of a run, after each of which its students are looked at and saved."""

SAVE_EVERY = 5.0
"""Minutes between two states that a run can be continued from."""


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: so many steps, or so many seconds."""

    steps: int | None = None
    seconds: float | None = None

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is done, 1 when it ends."""
        if self.steps is not None:
            return step / self.steps
        return 1.0 if self.seconds is None else min(1.0, seconds / self.seconds)


def check_length(
    *, steps: int | None = None, epochs: int | None = None, minutes: float | None = None
) -> bool:
    """Whether a length of a run was given.

    Raises:
        OptionError: more than one was given, or one that is not a positive number.
    """
    given = {"steps": steps, "epochs": epochs, "minutes": minutes}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise OptionError(f"{' and '.join(named)} were given; a run has one length")
    for name, value in named.items():
        if not 0 < value < float("inf"):
            raise OptionError(f"{name} is {value}; give a positive number")
    return bool(named)


PROFILED = 2
"""Steps before the one that is profiled: the first ones set things up."""

PROFILE_ROWS = 15


def steps_in(epochs: int, images: int, recipe: Recipe, processes: Processes) -> int:
    """How many steps show every image so often."""
    return max(1, round(epochs * images / (recipe.images_per_step * processes.count)))


@dataclass(frozen=True)
class StepReport:
    """What a run tells while it lasts.

    Attributes:
        phase: `targets` while the teacher's are computed, `train` while the student learns.
        step: training steps done, or targets computed.
        progress: share of the run that is done.
        losses: of this step, by name.
        images_per_second: trained images, over the last steps.
        eta_seconds: an estimate of what is left.
    """

    phase: str
    step: int
    progress: float
    losses: dict[str, float]
    images_per_second: float
    eta_seconds: float


class Stopped(KeyboardInterrupt):
    """A KeyboardInterrupt that came between two steps, so that what was learned is whole."""


class Deferred:
    """For the time of the block, what would raise KeyboardInterrupt sets `caught`.

    A second signal raises it. Outside the main thread, which alone gets signals, nothing
    changes.
    """

    def __init__(self) -> None:
        self.caught = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is signal.default_int_handler:
                    self._before[number] = signal.signal(number, self._catch)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self.caught:
            signal.default_int_handler(number, frame)
        self.caught = True


def mean_losses(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each loss over `steps`; empty where there are none."""
    if not steps:
        return {}
    return {name: statistics.fmean(losses[name] for losses in steps) for name in steps[0]}


class Pace:
    """Images per second over the last steps, and the seconds that are left."""

    def __init__(self, budget: Budget, batch: int) -> None:
        self._budget = budget
        self._batch = batch
        self._times: list[float] = []

    def tick(self, step: int, started: float) -> tuple[float, float]:
        """Call after each step: images per second, seconds left."""
        now = time.monotonic()
        self._times = [*self._times[-20:], now]
        if len(self._times) < 2:
            return 0.0, 0.0
        each = (now - self._times[0]) / (len(self._times) - 1)
        if self._budget.steps is not None:
            left = (self._budget.steps - step) * each
        else:
            left = max(0.0, (self._budget.seconds or 0.0) - (now - started))
        return self._batch / each, left


def run_steps(
    trainer: Trainer,
    next_batches: Callable[[int], Sequence[Sequence[Batch]]],
    budget: Budget,
    processes: Processes,
    *,
    started: float,
    first: int = 0,
    save_every: float,
    on_step: Callable[[StepReport], None],
    on_mark: Callable[[int], None],
    on_save: Callable[[int], None],
    on_profile: Callable[[str], None] | None = None,
) -> None:
    """Train until `budget` is spent.

    Args:
        processes: those of the run, which all call this; the first one's clock counts.
        next_batches: the images of step 0, 1, 2, ...; see `Trainer.step`.
        started: `time.monotonic()` of the run's start, which time budgets count from.
        first: how many steps were done before.
        save_every: seconds between two calls of `on_save`, which also follows each `on_mark`.
        on_step: called after each step.
        on_profile: called once, after a step that was profiled, with where its time went.
        on_mark: called with the steps done, at the `MARKS` of a run but its end; at the same steps,
            however often the run is stopped.

    Raises:
        FloatingPointError: see `Trainer.step`.
        Stopped: a signal came; the last step is whole.
    """
    pace = Pace(budget, trainer.recipe.images_per_step * processes.count)
    (begun,) = processes.of_first([budget.progress(first, time.monotonic() - started)])
    step, saved, progress = first, time.monotonic(), begun
    with Deferred() as signals:
        while progress < 1 or step == 0:
            watched = on_profile if step == first + PROFILED else None
            with _profiled(watched, processes.device):
                losses = trainer.step(next_batches(step), progress)
            step, passed = step + 1, _marks(progress)
            images_per_second, eta = pace.tick(step, started)
            progress, waited, stopped = processes.sum(
                [
                    budget.progress(step, time.monotonic() - started) if processes.first else 0.0,
                    time.monotonic() - saved if processes.first else 0.0,
                    float(signals.caught),
                ]
            )
            on_step(StepReport("train", step, progress, losses, images_per_second, eta))
            if stopped:
                raise Stopped
            marked = passed < _marks(progress) < MARKS
            if marked:
                on_mark(step)
            if marked or waited >= save_every:
                on_save(step)
                saved = time.monotonic()


def _marks(progress: float) -> int:
    """How many of the marks a run has reached."""
    return int(progress * MARKS + 1e-9)


@contextmanager
def _profiled(tell: Callable[[str], None] | None, device: torch.device) -> Iterator[None]:
    """Watch what happens in the block, if there is somebody to tell."""
    if tell is None:
        yield
        return
    kinds = [ProfilerActivity.CPU]
    kinds += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    with profile(activities=kinds) as watched:
        yield
    by = f"self_{device.type}_time_total"
    tell(watched.key_averages().table(sort_by=by, row_limit=PROFILE_ROWS))
