"""The training loop: time, learning rate, averaging, and a loss that stops being a number."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.distill.interrupt import Deferred
from wkdc.distill.objective import Batch, Objective
from wkdc.distill.recipe import Optimizer, Recipe, Schedule
from wkdc.errors import OptionError

MAX_DECAY = 0.999
"""Of the moving average of the weights, once it has run in."""


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


@dataclass(frozen=True)
class StepReport:
    """What a run tells while it lasts.

    Attributes:
        phase: `draw` while the teacher draws, `train` while the student learns.
        step: training steps done, or crops drawn.
        progress: share of the run that is done.
        losses: of this step, by name.
        images_per_second: trained pictures, over the last steps.
        eta_seconds: an estimate of what is left.
    """

    phase: str
    step: int
    progress: float
    losses: dict[str, float]
    images_per_second: float
    eta_seconds: float


class Averager:
    """An exponential moving average of a network's weights, which starts when first updated."""

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards `network`; the first time, copy it. Statistics of norms are copied."""
        decay = min(MAX_DECAY, self.updates / (10 + self.updates))
        self.updates += 1
        ours: list[Tensor] = list(self.network.parameters())
        theirs: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(ours, theirs, 1 - decay)
        for mine, new in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(new)


class Trainer:
    """A student, its objective and optimisers; one call of `step` is one update."""

    def __init__(self, student: nn.Module, objective: Objective, recipe: Recipe) -> None:
        self.student = student
        self.objective = objective
        self.recipe = recipe
        self.average = Averager(student)
        self._optimizers = [make_optimizer(student, recipe)]
        if objective.discriminator is not None:
            self._optimizers.append(make_optimizer(objective.discriminator, recipe))

    def step(self, batch: Batch, progress: float) -> dict[str, float]:
        """Update student and discriminator once; the losses by name, as plain numbers.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        rate = self.recipe.learning_rate * rate_factor(self.recipe.schedule, progress)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        drawn = self.objective.forward(self.student, batch.inputs)
        losses = self.objective.student_losses(drawn, batch)
        self._update(self._optimizers[0], losses["total"])
        judged = self.objective.discriminator_loss(drawn, batch)
        if judged is not None:
            losses["discriminator"] = judged
            self._update(self._optimizers[1], judged)
        if progress >= self.recipe.average_from:
            self.average.update(self.student)
        return {name: loss.item() for name, loss in losses.items()}

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, the pictures apart: plain types and tensors."""
        judge = self.objective.discriminator
        return {
            "student": self.student.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "discriminator": None if judge is None else judge.state_dict(),
            "pool": self.objective.pool.state_dict(),
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.student.load_state_dict(state["student"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.objective.discriminator is not None:
            self.objective.discriminator.load_state_dict(state["discriminator"])
        self.objective.pool.load_state_dict(state["pool"])
        torch.set_rng_state(state["random"][0])
        if len(state["random"]) == 1 + torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random"][1:])

    @property
    def result(self) -> nn.Module:
        """The averaged student, or the student itself while nothing has been averaged."""
        return self.average.network if self.average.updates else self.student

    @staticmethod
    def _update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if not bool(loss.isfinite()):
            raise FloatingPointError("the loss stopped being a number")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser that `recipe` names, over all weights of `network`."""
    kind: Optimizer = recipe.optimizer
    betas = (recipe.beta1, 0.999)
    match kind:
        case "adam":
            return torch.optim.Adam(network.parameters(), recipe.learning_rate, betas)
        case "adamw":
            return torch.optim.AdamW(network.parameters(), recipe.learning_rate, betas)
        case _:
            raise OptionError(f"optimizer {kind!r} is not known; choose adam or adamw")


def rate_factor(schedule: Schedule, progress: float) -> float:
    """What the learning rate is multiplied by at `progress` in [0, 1]."""
    match schedule:
        case "linear":
            return min(1.0, 2 * (1 - progress))
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            raise OptionError(f"schedule {schedule!r} is not known; choose linear or cosine")


class Pace:
    """Pictures per second over the last steps, and the seconds that are left."""

    def __init__(self, budget: Budget, batch: int) -> None:
        self._budget = budget
        self._batch = batch
        self._times: list[float] = []

    def tick(self, step: int, started: float) -> tuple[float, float]:
        """Call after each step: pictures per second, seconds left."""
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
    next_batch: Callable[[int], Batch],
    budget: Budget,
    *,
    started: float,
    first: int = 0,
    save_every: float,
    on_step: Callable[[StepReport], None],
    on_mark: Callable[[int], None],
    on_save: Callable[[int], None],
    marks: int = 10,
) -> None:
    """Train until `budget` is spent.

    Args:
        next_batch: the pictures of step 0, 1, 2, ...
        started: `time.monotonic()` of the run's start, which time budgets count from.
        first: how many steps were done before.
        save_every: seconds between two calls of `on_save`, which also follows each `on_mark`.
        on_step: called after each step.
        on_mark: called with the steps done, `marks` times, evenly over what is left.

    Raises:
        FloatingPointError: see `Trainer.step`.
        Stopped: a signal came; the last step is whole.
    """
    pace = Pace(budget, trainer.recipe.batch)
    begun = budget.progress(first, time.monotonic() - started)
    next_mark = begun + (1 - begun) / marks
    step, saved = first, time.monotonic()
    with Deferred() as signals:
        while (progress := budget.progress(step, time.monotonic() - started)) < 1 or step == 0:
            losses = trainer.step(next_batch(step), progress)
            step += 1
            images_per_second, eta = pace.tick(step, started)
            after = budget.progress(step, time.monotonic() - started)
            on_step(StepReport("train", step, after, losses, images_per_second, eta))
            signals.check()
            marked = after >= next_mark and after < 1
            if marked:
                on_mark(step)
                next_mark += (1 - begun) / marks
            if marked or time.monotonic() - saved >= save_every:
                on_save(step)
                saved = time.monotonic()
