"""One update: losses, gradients, learning rate, averaging, and a loss that is no number."""

import copy
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.errors import OptionError
from wkdc.training.distributed import Processes
from wkdc.training.features import FeatureLoss
from wkdc.training.objective import Batch, Objective
from wkdc.training.recipe import RATES, Optimizer, Recipe, Schedule

MAX_DECAY = 0.999
"""Of the moving average of the weights, once it has run in."""

SOAP_BETAS = (0.95, 0.95)
"""Of the means of gradients and of their squares; runs are short."""

SOAP_BASIS_STEPS = 5
"""The eigenbasis is computed anew every so many steps."""


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


@dataclass(frozen=True)
class Learner:
    """A student with what it minimises; `average` follows its weights.

    Attributes:
        prefix: of its losses' names, so that those of two directions have different names.
        features: compares blocks with the teacher's, where the recipe says so.
    """

    student: nn.Module
    objective: Objective
    average: Averager
    prefix: str = ""
    features: FeatureLoss | None = None

    @property
    def result(self) -> nn.Module:
        """The averaged student, or the student itself while nothing has been averaged."""
        return self.average.network if self.average.updates else self.student

    def state_dict(self) -> dict[str, Any]:
        """Plain types and tensors."""
        discriminator = self.objective.discriminator
        return {
            "student": self.student.state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "discriminator": None if discriminator is None else discriminator.state_dict(),
            "maps": None if self.features is None else self.features.maps.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called."""
        self.student.load_state_dict(state["student"])
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        if self.objective.discriminator is not None:
            self.objective.discriminator.load_state_dict(state["discriminator"])
        if self.features is not None:
            self.features.maps.load_state_dict(state["maps"])


class Trainer:
    """One learner, or one for each direction, and their optimisers; `step` is one update.

    As in CycleGAN the students share an optimiser, since the cycle's gradient reaches both, and so
    do the discriminators.

    Args:
        scaler: of the losses, for float16; see `Compute.scaler`.

    Attributes:
        rate: the learning rate that the schedule begins with.
    """

    def __init__(
        self,
        learners: Sequence[Learner],
        recipe: Recipe,
        processes: Processes,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.learners = tuple(learners)
        self.recipe = recipe
        given = recipe.learning_rate
        self.rate = RATES[recipe.optimizer] if given is None else given
        self._processes = processes
        self._scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        discriminators = [one.objective.discriminator for one in self.learners]
        learning: list[nn.Module] = [one.student for one in self.learners]
        learning += [one.features.maps for one in self.learners if one.features is not None]
        self._optimizers = [make_optimizer(learning, recipe)]
        if recipe.adversarial:
            found = [discriminator for discriminator in discriminators if discriminator is not None]
            self._optimizers.append(make_optimizer(found, recipe))

    def step(self, rounds: Sequence[Sequence[Batch]], progress: float) -> dict[str, float]:
        """Update students and discriminators once; the losses by name, as plain numbers.

        Every process of the run calls it with its own images; all get the same weights, and the
        mean of the losses.

        Args:
            rounds: one or more, whose gradients are averaged; each a batch for every learner.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        rate = self.rate * rate_factor(self.recipe.schedule, progress)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        losses: list[dict[str, Tensor]] = []
        generated: list[list[Tensor]] = []
        for batches in rounds:
            found, images = self._student_losses(batches)
            self._backward([found[f"{one.prefix}total"] for one in self.learners], len(rounds))
            losses.append({name: loss.detach() for name, loss in found.items()})
            generated.append([image.detach() for image in images])
        self._update(self._optimizers[0])
        for found, batches, images in zip(losses, rounds, generated, strict=True):
            scored = self._discriminator_losses(batches, images)
            if scored:
                self._backward(list(scored.values()), len(rounds))
            found |= {name: loss.detach() for name, loss in scored.items()}
        if self.recipe.adversarial:
            self._update(self._optimizers[1])
        self._scaler.update()
        if progress >= self.recipe.average_from:
            for one in self.learners:
                one.average.update(one.student)
        names = losses[0]
        means = self._processes.mean(
            statistics.fmean(found[name].item() for found in losses) for name in names
        )
        return dict(zip(names, means, strict=True))

    def _student_losses(
        self, batches: Sequence[Batch]
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        """All students' losses by name, and their images."""
        pairs = list(zip(self.learners, batches, strict=True))
        generated: list[Tensor] = []
        apart: list[Tensor | None] = []
        for one, batch in pairs:
            generated.append(one.objective.forward(one.student, batch.inputs))
            # before another loss calls the student again
            apart.append(None if one.features is None else one.features.loss(batch.features))
        losses: dict[str, Tensor] = {}
        for (one, batch), image, missed in zip(pairs, generated, apart, strict=True):
            found = one.objective.student_losses(one.student, image, batch)
            if missed is not None:
                total = found.pop("total") + (self.recipe.features or 0.0) * missed
                found |= {"features": missed, "total": total}
            losses |= {one.prefix + name: loss for name, loss in found.items()}
        return losses, generated

    def _discriminator_losses(
        self, batches: Sequence[Batch], generated: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """The loss of each discriminator that there is, by name."""
        return {
            f"{one.prefix}discriminator": loss
            for one, batch, image in zip(self.learners, batches, generated, strict=True)
            if (loss := one.objective.discriminator_loss(image, batch)) is not None
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, the images apart: plain types and tensors.

        Every process of the run calls it, and gets the same.
        """
        mine = {
            "pools": [one.objective.pool.state_dict() for one in self.learners],
            "random": [torch.get_rng_state(), *torch.cuda.get_rng_state_all()],
        }
        return {
            "rate": self.rate,
            "learners": [one.state_dict() for one in self.learners],
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scaler": self._scaler.state_dict(),
            "ranks": self._processes.gather(mine),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called, by as many processes."""
        mine = state["ranks"][self._processes.index]
        self.rate = state["rate"]
        for one, saved, pool in zip(self.learners, state["learners"], mine["pools"], strict=True):
            one.load_state_dict(saved)
            one.objective.pool.load_state_dict(pool)
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(mine["random"][0])
        if len(mine["random"]) == 1 + torch.cuda.device_count():
            torch.cuda.set_rng_state_all(mine["random"][1:])

    def _backward(self, losses: Sequence[Tensor], rounds: int) -> None:
        """Add the gradients of the sum of `losses`, as one of so many rounds."""
        loss = torch.stack(list(losses)).sum()
        (everywhere,) = self._processes.sum([loss.item()])
        if not math.isfinite(everywhere):
            raise FloatingPointError("the loss stopped being a number")
        self._scaler.scale(loss / rounds).backward()  # type: ignore[no-untyped-call]

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        """One step along the mean of all processes' gradients."""
        self._processes.mean_gradients(
            weight for group in optimizer.param_groups for weight in group["params"]
        )
        self._scaler.step(optimizer)


def make_optimizer(networks: Sequence[nn.Module], recipe: Recipe) -> torch.optim.Optimizer:
    """The optimiser that `recipe` names, of all weights; each step sets its rate.

    Source: SOAP is Vyas et al. 2024: Adam in the eigenbasis of Shampoo's preconditioner.
    """
    weights = [weight for network in networks for weight in network.parameters()]
    kind: Optimizer = recipe.optimizer
    betas = (recipe.beta1, 0.999)
    match kind:
        case "adam":
            return torch.optim.Adam(weights, betas=betas)
        case "adamw":
            return torch.optim.AdamW(weights, betas=betas)
        case "soap":
            from pytorch_optimizer import SOAP

            return SOAP(weights, betas=SOAP_BETAS, precondition_frequency=SOAP_BASIS_STEPS)
        case _:
            raise OptionError(f"optimizer {kind!r} is not known; choose soap, adamw or adam")


def rate_factor(schedule: Schedule, progress: float) -> float:
    """What the learning rate is multiplied by at `progress` in [0, 1]."""
    match schedule:
        case "linear":
            return min(1.0, 2 * (1 - progress))
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case _:
            raise OptionError(f"schedule {schedule!r} is not known; choose linear or cosine")
