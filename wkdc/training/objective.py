"""What one step minimises: the student's losses, and the discriminator's."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.networks.layers import Norm, initialise
from wkdc.networks.multiscale import LayerOutputs, MultiscaleDiscriminator, layer_outputs
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.training.crops import ImagePool
from wkdc.training.losses import (
    discriminator_loss,
    feature_loss,
    generator_loss,
    pixel_loss,
    wavelet_loss,
)
from wkdc.training.recipe import Recipe

Forward = Callable[[nn.Module, Tensor], Tensor]
"""Calls a network at the run's device and precision; the result is float32."""

CallDiscriminator = Callable[[nn.Module, Tensor], LayerOutputs]
"""Calls a discriminator likewise; see `wkdc.networks.multiscale.layer_outputs`."""


@dataclass(frozen=True)
class Batch:
    """The images of one step, each N×C×H×W in [-1, 1].

    Attributes:
        inputs: of both networks.
        targets: the teacher's outputs, or None where no loss looks at them.
        real: what the discriminator takes for real, or None where there is none.
        truth: the true images of paired data, else None.
        same: true images of the student's target domain, which it should leave alone; None
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
        conditional: whether the discriminator sees the input beside the image (pix2pix).
        back: the generator of the other direction, which closes the cycle; None for no cycle.
        forward: calls a network; `layer_outputs` a discriminator.
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
        layer_outputs: CallDiscriminator = layer_outputs,
        seed: int,
    ) -> None:
        self.recipe = recipe
        self.discriminator = discriminator
        self.conditional = conditional
        self.back = back
        self.forward = forward
        self.layer_outputs = layer_outputs
        # pix2pix shows its discriminator no earlier fakes
        self.pool = ImagePool(0 if conditional else recipe.image_pool, seed)

    def student_losses(
        self, student: nn.Module, generated: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """Every loss that has a weight, unweighted, and their weighted sum, `total`."""
        recipe = self.recipe
        losses: dict[str, Tensor] = {}
        weights: dict[str, float] = {}
        if batch.targets is not None and recipe.wavelet_weight:
            weights["wavelet"] = recipe.wavelet_weight
            losses["wavelet"] = wavelet_loss(
                generated,
                batch.targets,
                wavelet=recipe.wavelet,
                levels=recipe.levels,
                bands=recipe.bands,
                measure=recipe.measure,
                reduction=recipe.reduction,
            )
        if batch.targets is not None and recipe.pixel:
            weights["pixel"] = recipe.pixel
            losses["pixel"] = pixel_loss(generated, batch.targets)
        if batch.truth is not None and recipe.truth:
            weights["truth"] = recipe.truth
            losses["truth"] = pixel_loss(generated, batch.truth)
        if self.back is not None and recipe.cycle:
            weights["cycle"] = recipe.cycle
            losses["cycle"] = pixel_loss(self.forward(self.back, generated), batch.inputs)
        if batch.same is not None and recipe.identity:
            weights["identity"] = recipe.identity
            losses["identity"] = pixel_loss(self.forward(student, batch.same), batch.same)
        if self.discriminator is not None:
            self.discriminator.requires_grad_(False)
            weights["adversarial"] = recipe.adversarial
            found = self._scores(batch.inputs, generated)
            each = [generator_loss(layers[-1], gan=recipe.gan) for layers in found]
            losses["adversarial"] = torch.stack(each).sum()
            if recipe.feature_matching and batch.real is not None:
                weights["feature_matching"] = recipe.feature_matching
                with torch.no_grad():
                    real = self._scores(batch.inputs, batch.real)
                losses["feature_matching"] = feature_loss(*_features(found, real))
        parts = [weights[name] * loss for name, loss in losses.items()]
        losses["total"] = (
            torch.stack(parts).sum() if parts else torch.zeros((), device=generated.device)
        )
        return losses

    def discriminator_loss(self, generated: Tensor, batch: Batch) -> Tensor | None:
        """The discriminator's loss on real images against the student's, new and pooled."""
        if self.discriminator is None or batch.real is None:
            return None
        self.discriminator.requires_grad_(True)
        fake = self.pool.exchange(self._seen(batch.inputs, generated.detach()))
        real = self._seen(batch.inputs, batch.real)
        scales = zip(
            self.layer_outputs(self.discriminator, real),
            self.layer_outputs(self.discriminator, fake),
            strict=True,
        )
        each = [discriminator_loss(a[-1], b[-1], gan=self.recipe.gan) for a, b in scales]
        return torch.stack(each).sum()

    def _scores(self, inputs: Tensor, images: Tensor) -> LayerOutputs:
        if self.discriminator is None:
            raise RuntimeError("there is no discriminator")
        return self.layer_outputs(self.discriminator, self._seen(inputs, images))

    def _seen(self, inputs: Tensor, images: Tensor) -> Tensor:
        """What the discriminator is shown of an image."""
        return torch.cat([inputs, images], 1) if self.conditional else images


def _features(*outputs: LayerOutputs) -> list[LayerOutputs]:
    """All layers but those of the scores."""
    return [[layers[:-1] for layers in one] for one in outputs]


def fresh_discriminator(student: Generator, recipe: Recipe, *, conditional: bool) -> nn.Module:
    """A discriminator of random weights for the images of `student`.

    Args:
        conditional: see `Objective`.
    """
    channels = student.out_channels + (student.in_channels if conditional else 0)
    batch_norm = any(isinstance(layer, nn.BatchNorm2d) for layer in student.network.modules())
    norm: Norm = "batch" if batch_norm else "instance"
    widths, scales = patchgan_widths(recipe.ndf), recipe.scales
    network: nn.Module = PatchGAN(channels, widths=widths, norm=norm)
    if scales > 1:
        network = MultiscaleDiscriminator(channels, widths=[widths] * scales, norm=norm)
    initialise(network)
    return network
