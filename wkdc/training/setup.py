"""Open and check all that a run was given, or that one which is resumed began with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wkdc.checkpoints.card import BROKEN
from wkdc.checkpoints.checkpoint import (
    Generator,
    load_beside,
    load_discriminator,
    teacher_path,
)
from wkdc.checkpoints.reading import Reading
from wkdc.checkpoints.run_record import read_options
from wkdc.data.inputs import check_inputs, check_reads
from wkdc.data.layouts import Layout, read_layout
from wkdc.errors import CheckpointError, DeviceError, OptionError
from wkdc.inference.model import check_channels
from wkdc.networks.architecture import valid_side
from wkdc.pruning.settings import PruneSettings
from wkdc.pruning.student import prune_network
from wkdc.system.devices import check_device
from wkdc.system.files import check_writable
from wkdc.system.temporary import scratch_folder
from wkdc.system.units import counted
from wkdc.training.checks import (
    check_features,
    check_reverse,
    usable_losses,
)
from wkdc.training.direction import Pair
from wkdc.training.distributed import Processes
from wkdc.training.features import why_incomparable
from wkdc.training.recipe import FEATURES, Recipe
from wkdc.training.run_config import Command, RunConfig

MOST_ENLARGED = 2
"""Images that would have to be enlarged by more to hold one crop are left out: they are blurs."""


@dataclass(frozen=True)
class RunFiles:
    """The files that `wkdc.distill.distill` was given; see there."""

    student: str | Path
    teacher: str | Path | None = None
    discriminator: str | Path | None = None
    disc_ratio: float | None = None
    output: str | Path | None = None
    reverse_student: str | Path | None = None
    reverse_teacher: str | Path | None = None


@dataclass(frozen=True)
class Opened:
    """The files of a run, loaded.

    Attributes:
        pairs: who learns; one direction, or two.
        closing: a frozen generator that closes the cycle of a single direction.
        recipe: with crops that all networks can translate.
    """

    pairs: tuple[Pair, ...]
    closing: Generator | None
    recipe: Recipe


def open_files(files: RunFiles, config: RunConfig, on_notice: Callable[[str], None]) -> Opened:
    """Load and check all that `wkdc.distill.distill` was given; see there."""
    recipe = config.recipe
    first = load_pair(files.student, files.teacher, config.reading)
    reverse, closing = _open_reverse(files, recipe, replace(config.reading, key=config.reverse_key))
    back = reverse[0] if reverse else closing
    if back is not None:
        check_reverse(first[0], back)
    recipe = _with_features(recipe, [first, *([reverse] if reverse else [])])
    networks = [*first, *(reverse or ()), *([closing] if closing else [])]
    crop = valid_side(recipe.crop, *(one.architecture for one in networks))
    recipe = replace(recipe, crop=crop, load_size=max(recipe.load_size, crop))
    layout = read_layout(
        config.folder,
        direction=config.direction,
        seed=config.seed,
        smallest=crop // MOST_ENLARGED,
        both=reverse is not None,
        select=config.select == "best",
        on_notice=on_notice,
    )
    recipe, discriminator = _check_data(first[0], layout, recipe, files, back, on_notice)
    pairs = [Pair(*first, layout, discriminator)]
    if reverse:
        pairs.append(Pair(*reverse, layout.reversed()))
    return Opened(tuple(pairs), closing, recipe)


def _open_reverse(
    files: RunFiles, recipe: Recipe, reading: Reading
) -> tuple[tuple[Generator, Generator] | None, Generator | None]:
    """Student and teacher of the other direction, or its teacher alone, which closes the cycle."""
    if files.reverse_student is not None:
        if files.discriminator is not None:
            raise OptionError(
                f"discriminator {files.discriminator} is for one direction; train the directions "
                "one by one, or leave it out"
            )
        pair = load_pair(
            files.reverse_student, files.reverse_teacher, reading, hint="name it with --reverse"
        )
        return pair, None
    if files.reverse_teacher is None:
        if reading.key is not None:
            raise OptionError(
                f"reverse key {reading.key} would not be used; name its file with --reverse"
            )
        return None, None
    closing = load_beside(files.reverse_teacher, reading)
    if not recipe.cycle:
        raise OptionError(
            f"the reverse teacher {closing.path} would not be used: the cycle's weight is 0; "
            "give --cycle 10, or --recipe paper, or --reverse-student for both directions"
        )
    return None, closing


def _check_data(
    student: Generator,
    layout: Layout,
    recipe: Recipe,
    files: RunFiles,
    back: Generator | None,
    on_notice: Callable[[str], None],
) -> tuple[Recipe, Generator | None]:
    """Make sure that the student learns something from this data.

    The recipe without what it does not allow, and the discriminator, if one is given.
    """
    check_reads(layout, student.path, student.in_channels)
    check_inputs(layout, student.in_channels, student.out_channels)
    whole = 2**recipe.levels
    if recipe.wavelet_weight and recipe.crop % whole:
        on_notice(
            f"crops of {recipe.crop} are no multiple of {whole}, which {recipe.levels} wavelet "
            "levels halve: the transform pads them with zeros"
        )
    alike = student.in_channels == student.out_channels
    recipe = usable_losses(
        recipe, layout, alike=alike, teacher=True, cycle=back is not None, on_notice=on_notice
    )
    discriminator = None
    if files.discriminator is not None:
        paired = layout.kind == "paired"
        discriminator = _load_discriminator(
            Path(files.discriminator), recipe, student, paired=paired
        )
    check_features(recipe, layout, discriminator)
    return recipe, discriminator


def discriminator_settings(files: RunFiles, config: RunConfig) -> PruneSettings | None:
    """How the given discriminator is made smaller; None where that is not asked for.

    Raises:
        OptionError: no discriminator is given, or the recipe has no adversarial loss.
    """
    if files.disc_ratio is None:
        return None
    lacks = None if files.discriminator is not None else "no --discriminator is given"
    if lacks is None and not config.recipe.adversarial:
        lacks = "the adversarial weight is 0"
    if lacks is not None:
        raise OptionError(f"disc-ratio {files.disc_ratio:g} would not be used: {lacks}")
    return PruneSettings(
        ratio=files.disc_ratio, data=config.folder, direction=config.direction, seed=config.seed
    )


def pruned_discriminator(
    given: Generator,
    settings: PruneSettings,
    processes: Processes,
    on_notice: Callable[[str], None],
) -> bytes:
    """The file of a smaller discriminator. The first process makes it, and the others wait.

    Raises:
        WkdcError: see `wkdc.prune.prune`; in every process.
    """

    def make() -> bytes:
        with scratch_folder() as folder:
            output = folder / "discriminator.pth"
            made = prune_network(given, settings, output, on_notice=on_notice)
            on_notice(f"{given.path}: made {made.params_ratio:.2f}x smaller for this run")
            return output.read_bytes()

    return processes.by_first(make)


def _with_features(recipe: Recipe, pairs: Sequence[tuple[Generator, Generator]]) -> Recipe:
    """The recipe with a weight for features: its own, or one that these networks allow.

    Raises:
        OptionError: it has a weight, and they cannot be compared.
    """
    reasons = [why_incomparable(*(one.architecture for one in pair)) for pair in pairs]
    why = next(filter(None, reasons), None)
    if recipe.features and why:
        raise OptionError(f"{why}; leave --features out")
    if recipe.features is None:
        return replace(recipe, features=0.0 if why else FEATURES)
    return recipe


def load_pair(
    student: str | Path,
    teacher: str | Path | None,
    reading: Reading,
    *,
    hint: str = "name the teacher with --teacher",
) -> tuple[Generator, Generator]:
    """A student and its teacher, the one on its card unless another is named.

    Raises:
        CheckpointError: one of them cannot be loaded, or their channels differ or are no image's.
    """
    learner = load_beside(student, reading)
    if teacher is None:
        teacher = teacher_path(learner.path, learner.card, hint=hint)
    guide = load_beside(teacher, reading, [learner.card])
    ours, theirs = ((g.in_channels, g.out_channels) for g in (learner, guide))
    if ours != theirs:
        raise CheckpointError(
            f"{learner.path} turns {counted(ours[0], 'channel')} into {ours[1]}, its teacher "
            f"{guide.path} {theirs[0]} into {theirs[1]}; they must agree"
        )
    check_channels(learner.path, *ours)
    return learner, guide


def check_outputs(outputs: Sequence[Path], found: Opened) -> None:
    """Make sure that the students can be written, and overwrite no teacher and not each other."""
    teachers = [pair.teacher for pair in found.pairs] + [found.closing]
    for number, path in enumerate(outputs):
        if any(one is not None and path.resolve() == one.path.resolve() for one in teachers):
            raise OptionError(
                f"the student would overwrite its teacher {path}; give another --output"
            )
        if any(path.resolve() == other.resolve() for other in outputs[:number]):
            raise OptionError(f"both students would be written to {path}; give another --output")
        check_writable(path)


def _load_discriminator(
    path: Path, recipe: Recipe, student: Generator, *, paired: bool
) -> Generator:
    """The discriminator in `path`, if it reads what this run shows it.

    Raises:
        OptionError: the recipe has no adversarial loss.
        CheckpointError: it cannot be loaded, or reads other channels.
    """
    if not recipe.adversarial:
        raise OptionError(
            f"discriminator {path} would not be used: the adversarial weight is 0; give "
            "--adversarial 1, or --recipe paper"
        )
    discriminator = load_discriminator(path)
    shown = student.out_channels + (student.in_channels if paired else 0)
    if discriminator.in_channels != shown:
        raise CheckpointError(
            f"{path} reads {counted(discriminator.in_channels, 'channel')}, but would be shown "
            f"{shown}{' (input and image of a pair)' if paired else ''}; give another discriminator"
        )
    return discriminator


def read_config(run: Path, command: Command, arch: str | None) -> tuple[dict[str, Any], RunConfig]:
    """What a run began with, and what it was asked to do.

    Args:
        arch: what the user says makes a custom network: no file names the code that runs.

    Raises:
        OptionError: no run, one that came to its end, of another command, or with another `arch`.
        CheckpointError: its options cannot be read.
    """
    begun = read_options(run)
    try:
        config = RunConfig.from_plain(begun["request"])
        if not {"processes", "threads", "precision", "torch"} <= set(begun) or not isinstance(
            begun["run"], str
        ):
            raise KeyError("what the run began with")
    except BROKEN:
        raise CheckpointError(
            f"{run / 'options.json'} is broken, or of another version of wkdc; start the run again"
        ) from None
    if config.command != command:
        raise OptionError(f"{run} is a run of wkdc {config.command}; give it to that command")
    if begun.get("finished"):
        raise OptionError(f"{run} came to its end; start another run")
    if arch != config.arch:
        said = "without --arch" if config.arch is None else f"with --arch {config.arch}"
        raise OptionError(f"{run} was begun {said}; give the same")
    return begun, config


def device_of(config: RunConfig, run: Path) -> torch.device:
    """The device that a run was begun on, to go on with it.

    Raises:
        DeviceError: this machine has none such.
    """
    try:
        return check_device(config.device)
    except DeviceError:
        raise DeviceError(
            f"{run} was begun on {config.device}, which PyTorch does not see here; go on where it "
            "was begun, or start another run"
        ) from None
