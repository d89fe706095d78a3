"""What one step minimises: the student's losses, and the discriminator's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.losses import discriminator_loss, generator_loss, pixel_loss, wavelet_loss
from wkdc.training.data import ImagePool
from wkdc.training.recipe import Recipe

Forward = Callable[[nn.Module, Tensor], Tensor]
"""Calls a network at the run's device and precision; the result is float32."""


@dataclass(frozen=True)
class Batch:
    """The pictures of one step, each N×C×H×W in [-1, 1].

    Attributes:
        inputs: what both networks draw from.
        targets: what the teacher drew, or None where no loss looks at it.
        real: what the discriminator takes for real, or None where there is none.
        truth: the true pictures of paired data, else None.
        same: true pictures of the domain that the student draws, which it should leave alone; None
            where no loss looks at it.
        features: of the teacher's layers that are compared, where some are.
    """

    inputs: Tensor
    targets: Tensor | None = None
    real: Tensor | None = None
    truth: Tensor | None = None
    same: Tensor | None = None
    features: tuple[Tensor, ...] = ()


class Objective:
    """The losses of `recipe` in one direction, with the discriminator they need.

    Args:
        discriminator: None where the recipe has no adversarial loss.
        conditional: whether the discriminator sees the input beside the picture (pix2pix).
        back: the generator of the other direction, which closes the cycle; None for no cycle.
        forward: calls a network.
        seed: of the pool of earlier fakes.
    """

    def __init__(
        self,
        recipe: Recipe,
        discriminator: nn.Module | None,
        *,
        conditional: bool,
        back: nn.Module | None = None,
        forward: Forward,
        seed: int,
    ) -> None:
        self.recipe = recipe
        self.discriminator = discriminator
        self.conditional = conditional
        self.back = back
        self.forward = forward
        # pix2pix shows its discriminator no earlier fakes
        self.pool = ImagePool(0 if conditional else recipe.image_pool, seed)

    def student_losses(self, student: nn.Module, drawn: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Every weighted-in loss of what the student drew, unweighted, and their `total`."""
        recipe = self.recipe
        losses: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        if batch.targets is not None and recipe.wavelet_weight:
            weights["wavelet"] = recipe.wavelet_weight
            losses["wavelet"] = wavelet_loss(
                drawn,
                batch.targets,
                wavelet=recipe.wavelet,
                levels=recipe.levels,
                bands=recipe.bands,
                measure=recipe.measure,
                reduction=recipe.reduction,
            )
        if batch.targets is not None and recipe.pixel:
            weights["pixel"] = recipe.pixel
            losses["pixel"] = pixel_loss(drawn, batch.targets)
        if batch.truth is not None and recipe.truth:
            weights["truth"] = recipe.truth
            losses["truth"] = pixel_loss(drawn, batch.truth)
        if self.back is not None and recipe.cycle:
            weights["cycle"] = recipe.cycle
            losses["cycle"] = pixel_loss(self.forward(self.back, drawn), batch.inputs)
        if batch.same is not None and recipe.identity:
            weights["identity"] = recipe.identity
            losses["identity"] = pixel_loss(self.forward(student, batch.same), batch.same)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            weights["adversarial"] = recipe.adversarial
            scores = self._judge(batch.inputs, drawn)
            losses["adversarial"] = generator_loss(scores, gan=recipe.gan)
        parts = [weights[name] * loss for name, loss in losses.items()]
        losses["total"] = (
            torch.stack(parts).sum() if parts else torch.zeros((), device=drawn.device)
        )
        return losses

    def discriminator_loss(self, drawn: Tensor, batch: Batch) -> Tensor | None:
        """The discriminator's loss on real pictures against the student's, new and pooled."""
        if self.discriminator is None or batch.real is None:
            return None
        self.discriminator.requires_grad_(True)
        seen = torch.cat([batch.inputs, drawn.detach()], 1) if self.conditional else drawn.detach()
        fake = self.pool.exchange(seen)
        real = torch.cat([batch.inputs, batch.real], 1) if self.conditional else batch.real
        return discriminator_loss(
            self.forward(self.discriminator, real),
            self.forward(self.discriminator, fake),
            gan=self.recipe.gan,
        )

    def _judge(self, inputs: Tensor, images: Tensor) -> Tensor:
        if self.discriminator is None:
            raise RuntimeError("there is no discriminator to judge")
        seen = torch.cat([inputs, images], 1) if self.conditional else images
        return self.forward(self.discriminator, seen)
