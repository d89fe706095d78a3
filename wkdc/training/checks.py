"""What has to hold before a run begins or goes on."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.layouts import Layout
from wkdc.errors import CheckpointError, OptionError
from wkdc.system.units import counted
from wkdc.training.recipe import Recipe


def check_features(recipe: Recipe, layout: Layout, discriminator: Generator | None) -> None:
    """Make sure that features can be matched, if they are to be.

    Args:
        discriminator: the one to start from; None for a fresh one.

    Raises:
        OptionError: it has a single scale, or no image says what the student should generate.
    """
    if not recipe.feature_matching:
        return
    said = f"feature-matching weight {recipe.feature_matching:g} needs"
    if layout.kind == "unpaired":
        raise OptionError(
            f"{said} an image that the student should generate, and unpaired data has none; give "
            "--feature-matching 0"
        )
    if discriminator is None and recipe.scales == 1:
        raise OptionError(
            f"{said} a multi-scale discriminator: give --scales 2, or --feature-matching 0"
        )
    if discriminator is not None and discriminator.architecture.family != "multiscale":
        raise OptionError(
            f"{said} a multi-scale discriminator: {discriminator.path} is a PatchGAN; give "
            "another, or --feature-matching 0"
        )


def check_reverse(forward: Generator, back: Generator) -> None:
    """Make sure that `back` reads what `forward` generates, and the other way round.

    Raises:
        CheckpointError: it does not.
    """
    if (back.in_channels, back.out_channels) != (forward.out_channels, forward.in_channels):
        raise CheckpointError(
            f"{back.path} turns {counted(back.in_channels, 'channel')} into {back.out_channels}; "
            f"to reverse {forward.path} it has to turn {forward.out_channels} into "
            f"{forward.in_channels}"
        )


def usable_losses(
    recipe: Recipe,
    layout: Layout,
    *,
    alike: bool,
    teacher: bool,
    cycle: bool,
    on_notice: Callable[[str], None],
) -> Recipe:
    """Make sure that something is learned; the recipe without what this data does not allow.

    Args:
        alike: whether outputs have as many channels as inputs.
        teacher: whether there is one to learn from; `cycle` whether one leads back.
        on_notice: called with the losses with a weight that are left out.

    Raises:
        OptionError: a loss needs a teacher that is not there, or all with a weight need other data.
    """
    if not teacher and (recipe.wavelet_weight or recipe.pixel or recipe.features):
        raise OptionError(
            "the wavelet, pixel and features losses need a teacher; set their weights to 0"
        )
    truth, identity, cycled = recipe.truth, recipe.identity, recipe.cycle
    dropped = []
    if truth and layout.kind != "paired":
        dropped.append(f"truth {truth:g}, which needs true images of pairs")
        truth = 0.0
    if identity and not (layout.kind == "unpaired" and alike):
        lack = "like channels" if layout.kind == "unpaired" else "trainB"
        dropped.append(f"identity {identity:g}, which needs {lack}")
        identity = 0.0
    if cycled and not cycle:
        dropped.append(f"cycle {cycled:g}, which needs a generator of the other direction")
        cycled = 0.0
    counts = [recipe.adversarial, recipe.wavelet_weight, recipe.pixel, recipe.features]
    if not any((*counts, truth, identity, cycled)):
        raise OptionError(
            "nothing would be learned: the losses with a weight need other data (truth: paired "
            "images; identity: trainB; cycle: a reverse generator); give another one a weight"
        )
    if dropped:
        on_notice(f"left out of recipe {recipe.name}: {'; '.join(dropped)}")
    return replace(recipe, truth=truth, identity=identity, cycle=cycled)


def check_same(
    run: Path,
    begun: Mapping[str, Any],
    digests: Mapping[str, str | None],
    made_with: Mapping[str, Any],
    notice: Callable[[str], None],
) -> None:
    """Make sure that a run goes on with the files that it began with.

    Args:
        begun: its options; `digests` and `made_with` are those of now.

    Raises:
        CheckpointError: it would not.
        OptionError: with other processes than it began with.
    """
    for name, digest in digests.items():
        what = name.removesuffix("_sha256").replace("_", " ")
        what = {"data": "training images", "student": "student, checkpoints/start.pth,"}.get(
            what, what
        )
        if begun.get("digests", {}).get(name) != digest:
            raise CheckpointError(
                f"the {what} of {run} changed since the run began; put the original back, or start "
                "another run"
            )
    if begun["processes"] != made_with["processes"]:
        raise OptionError(f"{run} was begun by {begun['processes']} processes; start as many")
    for name in ("threads", "precision", "torch"):
        now = made_with[name]
        if begun[name] != now:
            notice(
                f"{name} {now} instead of the {begun[name]} that the run began with: its numbers "
                "will differ in the last digits"
            )
