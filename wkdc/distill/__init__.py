"""Teach a pruned student to draw what its teacher draws."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from wkdc.checkpoint import Generator, load_discriminator, load_generator, teacher_path
from wkdc.devices import check_device
from wkdc.distill.loop import Budget, StepReport
from wkdc.distill.recipe import FAITHFUL, PAPER, Precision, Recipe, recipe_named
from wkdc.distill.run import RunFolder
from wkdc.distill.session import Session
from wkdc.errors import CheckpointError, OptionError
from wkdc.files import check_writable
from wkdc.layouts import Direction, read_layout
from wkdc.metrics import Fidelity
from wkdc.models import check_channels
from wkdc.recognition import drawable_side

__all__ = [
    "FAITHFUL",
    "PAPER",
    "DistillResult",
    "Fidelity",
    "Recipe",
    "StepReport",
    "check_length",
    "distill",
    "recipe_named",
]

MOST_ENLARGED = 2
"""Pictures that would have to be enlarged by more to hold one crop are left out: they are blurs."""


@dataclass(frozen=True)
class DistillResult:
    """What a run did.

    Attributes:
        output: the student, untouched where `steps` is 0.
        run: the folder with options, metrics, samples and checkpoints; `start` in it is the student
            as it was before the run.
        seconds: of wall clock, drawing and measuring included.
        images_per_second: trained pictures by the seconds spent on training steps.
        losses: mean of each over the last tenth of the steps.
        before, after: student against teacher, on pictures that were not trained on.
        held_out: whether those were set aside from the training pictures, for want of a test set.
        interrupted: whether the run was stopped before its end.
    """

    output: Path
    run: Path
    start: Path
    steps: int
    seconds: float
    images_per_second: float
    losses: dict[str, float]
    before: Fidelity
    after: Fidelity
    held_out: bool
    interrupted: bool


def distill(
    data: str | Path,
    *,
    student: str | Path = "student.pth",
    teacher: str | Path | None = None,
    discriminator: str | Path | None = None,
    output: str | Path | None = None,
    recipe: Recipe = FAITHFUL,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    direction: Direction = "AtoB",
    device: str = "cpu",
    precision: Precision = "auto",
    seed: int = 0,
    runs: str | Path = "runs",
    arch: str | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> DistillResult:
    """Train `student` on the pictures in `data` and write it back when done.

    KeyboardInterrupt ends the training early and keeps what was learned.

    Args:
        data: a folder in one of three layouts, see `wkdc.layouts.read_layout`.
        student: a file of `prune`; `teacher` its teacher, by default the one on its card.
        discriminator: a PatchGAN to start from, instead of a fresh one of the recipe's `ndf`.
        output: the file to write, by default `student` itself.
        steps, epochs, minutes: at most one, the length of the run; the learning rate follows it.
        direction: `BtoA` for a generator that draws domain A from domain B.
        device: `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto` uses bfloat16 where the device computes in it; weights are float32.
        runs: where the run folder is made.
        arch: what makes student and teacher where they are custom networks; see `load_generator`.
        on_step: called after each step; `on_notice` with each thing that the user should know.

    Raises:
        OptionError: two lengths at once, a value out of range, or the teacher as output.
        CheckpointError: student or teacher cannot be used, or do not belong together.
        DatasetError, ImageError: the pictures cannot be used.
        DivergedError: the loss or a picture became NaN; the last good student is in the run folder.
        OutputError: something cannot be written; that `output` cannot is found out first.
    """
    notice = on_notice or (lambda _: None)
    length_given = check_length(steps=steps, epochs=epochs, minutes=minutes)
    place = check_device(device)
    learner, guide = load_pair(student, teacher, arch=arch)
    target = _checked_output(Path(student if output is None else output), guide)
    crop = drawable_side(recipe.crop, learner.architecture, guide.architecture)
    recipe = replace(recipe, crop=crop, load_size=max(recipe.load_size, crop))
    layout = read_layout(
        Path(data),
        direction=direction,
        seed=seed,
        smallest=crop // MOST_ENLARGED,
        on_notice=notice,
    )
    judge = None
    if discriminator is not None:
        judge = _load_judge(Path(discriminator), recipe, learner, paired=layout.kind == "paired")
    if not length_given:
        epochs, minutes = recipe.epochs, recipe.minutes
    if epochs is not None:
        steps = max(1, round(epochs * len(layout.train) / recipe.batch))
    budget = Budget(steps, None if minutes is None else 60 * minutes)
    with RunFolder(Path(runs)) as run:
        session = Session(
            learner,
            guide,
            layout,
            recipe,
            budget,
            run,
            place,
            discriminator=judge,
            precision=precision,
            seed=seed,
        )
        outcome = session.train(target, Path(data), on_step=on_step)
    return DistillResult(
        output=target,
        run=run.path,
        start=run.start,
        steps=outcome.steps,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        losses=outcome.losses,
        before=outcome.before,
        after=outcome.after,
        held_out=layout.held_out,
        interrupted=outcome.interrupted,
    )


def load_pair(
    student: str | Path, teacher: str | Path | None, *, arch: str | None = None
) -> tuple[Generator, Generator]:
    """A student and its teacher, the one on its card unless another is named.

    Raises:
        CheckpointError: one of them cannot be loaded, or their channels differ or are no picture's.
    """
    learner = load_generator(student, arch=arch)
    if teacher is None:
        teacher = teacher_path(learner, hint="name the teacher with --teacher")
    guide = load_generator(teacher, arch=arch)
    ours, theirs = ((g.in_channels, g.out_channels) for g in (learner, guide))
    if ours != theirs:
        raise CheckpointError(
            f"{learner.path} draws {ours[1]} channels from {ours[0]}, its teacher {guide.path} "
            f"{theirs[1]} from {theirs[0]}; they must agree"
        )
    check_channels(learner.path, *ours)
    return learner, guide


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


def _checked_output(path: Path, teacher: Generator) -> Path:
    """`path`, where a student of `teacher` can be written."""
    if path.resolve() == teacher.path.resolve():
        raise OptionError(f"the student would overwrite its teacher {path}; give another --output")
    check_writable(path)
    return path


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
