"""Load and check all files that a run was given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wkdc.checkpoints.checkpoint import Generator, load_discriminator, load_generator, teacher_path
from wkdc.data.inputs import check_inputs, check_reads
from wkdc.data.layouts import Direction, Layout, read_layout
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.model import check_channels
from wkdc.networks.architecture import valid_side
from wkdc.system.files import check_writable
from wkdc.training.direction import Pair
from wkdc.training.features import why_incomparable
from wkdc.training.recipe import FEATURES, Recipe
from wkdc.training.run_config import Select

MOST_ENLARGED = 2
"""Images that would have to be enlarged by more to hold one crop are left out: they are blurs."""


@dataclass(frozen=True)
class Opened:
    """The files of a run: who learns, a frozen generator that closes the cycle, and the recipe
    with crops that all of them can draw."""

    pairs: tuple[Pair, ...]
    closing: Generator | None
    recipe: Recipe


def open_files(
    student: str | Path,
    teacher: str | Path | None,
    reverse_student: str | Path | None,
    reverse_teacher: str | Path | None,
    discriminator: str | Path | None,
    *,
    recipe: Recipe,
    data: Path,
    direction: Direction,
    seed: int,
    arch: str | None,
    select: Select,
    on_notice: Callable[[str], None],
) -> Opened:
    """Load and check all that `distill` was given; see there."""
    learner, guide = load_pair(student, teacher, arch=arch)
    reverse, closing = None, None
    if reverse_student is not None:
        reverse = load_pair(
            reverse_student, reverse_teacher, arch=arch, hint="name it with --reverse"
        )
        if discriminator is not None:
            raise OptionError(
                f"discriminator {discriminator} judges one direction; train the directions one by "
                "one, or leave it out"
            )
    elif reverse_teacher is not None:
        closing = load_generator(reverse_teacher, arch=arch)
        if not recipe.cycle:
            raise OptionError(
                f"the reverse teacher {closing.path} would not be used: the cycle's weight is 0; "
                "give --cycle 10, or --recipe paper, or --reverse-student for both directions"
            )
    back = reverse[0] if reverse else closing
    if back is not None:
        _check_reverse(learner, back)
    recipe = _with_features(recipe, [(learner, guide), *([reverse] if reverse else [])])
    networks = [learner, guide, *(reverse or ()), *([closing] if closing else [])]
    crop = valid_side(recipe.crop, *(one.architecture for one in networks))
    recipe = replace(recipe, crop=crop, load_size=max(recipe.load_size, crop))
    layout = read_layout(
        data,
        direction=direction,
        seed=seed,
        smallest=crop // MOST_ENLARGED,
        both=reverse is not None,
        select=select == "best",
        on_notice=on_notice,
    )
    check_reads(layout, learner.path, learner.in_channels)
    check_inputs(layout, learner.in_channels, learner.out_channels)
    whole = 2**recipe.levels
    if recipe.wavelet_weight and crop % whole:
        on_notice(
            f"crops of {crop} are no multiple of {whole}, which {recipe.levels} wavelet levels "
            "halve: the transform pads them with zeros"
        )
    alike = learner.in_channels == learner.out_channels
    check_losses(recipe, layout, alike=alike, teacher=True, cycle=back is not None)
    judge = None
    if discriminator is not None:
        judge = _load_judge(Path(discriminator), recipe, learner, paired=layout.kind == "paired")
    check_features(recipe, layout, judge)
    pairs = [Pair(learner, guide, layout, judge)]
    if reverse:
        pairs.append(Pair(*reverse, layout.reversed()))
    return Opened(tuple(pairs), closing, recipe)


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


def check_features(recipe: Recipe, layout: Layout, judge: Generator | None) -> None:
    """Make sure that features can be matched, if they are to be.

    Args:
        judge: the discriminator to start from; None for a fresh one.

    Raises:
        OptionError: it is none of several scales, or no image is what the student should draw.
    """
    if recipe.feature_matching and layout.kind == "unpaired":
        raise OptionError(
            f"feature-matching weight {recipe.feature_matching:g} needs an image that the student "
            "should draw, and unpaired data has none; give --feature-matching 0"
        )
    several = recipe.scales > 1 if judge is None else judge.architecture.family == "multiscale"
    if recipe.feature_matching and not several:
        fresh = "give --scales 2" if judge is None else f"{judge.path} is a PatchGAN; give another"
        raise OptionError(
            f"feature-matching weight {recipe.feature_matching:g} needs a multi-scale "
            f"discriminator: {fresh}, or --feature-matching 0"
        )


def _check_reverse(forward: Generator, back: Generator) -> None:
    """Make sure that `back` reads what `forward` draws, and the other way round.

    Raises:
        CheckpointError: it does not.
    """
    if (back.in_channels, back.out_channels) != (forward.out_channels, forward.in_channels):
        raise CheckpointError(
            f"{back.path} draws {back.out_channels} channels from {back.in_channels}; to reverse "
            f"{forward.path} it has to draw {forward.in_channels} from {forward.out_channels}"
        )


def check_losses(
    recipe: Recipe, layout: Layout, *, alike: bool, teacher: bool, cycle: bool
) -> None:
    """Make sure that something is learned from this data.

    Args:
        alike: whether what is drawn has as many channels as what is read.
        teacher: whether there is one to show what to draw; `cycle` whether one leads back.

    Raises:
        OptionError: a loss needs a teacher that is not there, or all with a weight need other data.
    """
    if not teacher and (recipe.wavelet_weight or recipe.pixel or recipe.features):
        raise OptionError(
            "the wavelet, pixel and features losses need a teacher; set their weights to 0"
        )
    counts = [recipe.adversarial, recipe.wavelet_weight, recipe.pixel, recipe.features]
    counts += [recipe.truth] if layout.kind == "paired" else []
    counts += [recipe.identity] if layout.kind == "unpaired" and alike else []
    counts += [recipe.cycle] if cycle else []
    if not any(counts):
        raise OptionError(
            "nothing would be learned: the losses with a weight need other data (truth: paired "
            "images; identity: trainB; cycle: a reverse generator); give another one a weight"
        )


def load_pair(
    student: str | Path,
    teacher: str | Path | None,
    *,
    arch: str | None = None,
    hint: str = "name the teacher with --teacher",
) -> tuple[Generator, Generator]:
    """A student and its teacher, the one on its card unless another is named.

    Raises:
        CheckpointError: one of them cannot be loaded, or their channels differ or are no image's.
    """
    learner = load_generator(student, arch=arch)
    if teacher is None:
        teacher = teacher_path(learner, hint=hint)
    guide = load_generator(teacher, arch=arch)
    ours, theirs = ((g.in_channels, g.out_channels) for g in (learner, guide))
    if ours != theirs:
        raise CheckpointError(
            f"{learner.path} draws {ours[1]} channels from {ours[0]}, its teacher {guide.path} "
            f"{theirs[1]} from {theirs[0]}; they must agree"
        )
    check_channels(learner.path, *ours)
    return learner, guide


def check_outputs(outputs: Sequence[Path], found: Opened) -> None:
    """Make sure that the students can be written, and overwrite no teacher and not each other."""
    teachers = [pair.teacher for pair in found.pairs] + [found.closing]
    for place, path in enumerate(outputs):
        if any(one is not None and path.resolve() == one.path.resolve() for one in teachers):
            raise OptionError(
                f"the student would overwrite its teacher {path}; give another --output"
            )
        if any(path.resolve() == other.resolve() for other in outputs[:place]):
            raise OptionError(f"both students would be written to {path}; give another --output")
        check_writable(path)


def _load_judge(path: Path, recipe: Recipe, student: Generator, *, paired: bool) -> Generator:
    """The discriminator in `path`, if it judges what this run shows it.

    Raises:
        OptionError: the recipe has no adversarial loss.
        CheckpointError: it cannot be loaded, or judges other channels.
    """
    if not recipe.adversarial:
        raise OptionError(
            f"discriminator {path} would not be used: the adversarial weight is 0; give "
            "--adversarial 1, or --recipe paper"
        )
    judge = load_discriminator(path)
    shown = student.out_channels + (student.in_channels if paired else 0)
    if judge.in_channels != shown:
        raise CheckpointError(
            f"{path} judges {judge.in_channels} channels, but would be shown {shown}"
            f"{' (input and picture of a pair)' if paired else ''}; give another discriminator"
        )
    return judge
