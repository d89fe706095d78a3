"""Teach a pruned student to draw what its teacher draws."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wkdc.checkpoint import (
    Generator,
    load_discriminator,
    load_generator,
    relative_to,
    teacher_path,
)
from wkdc.devices import check_device
from wkdc.distill.loop import Budget, StepReport
from wkdc.distill.recipe import FAITHFUL, PAPER, Precision, Recipe, recipe_named
from wkdc.distill.request import Request
from wkdc.distill.run import RunFolder
from wkdc.distill.session import Outcome, Session
from wkdc.errors import CheckpointError, OptionError
from wkdc.files import check_writable
from wkdc.layouts import Direction, Layout, read_layout
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
    "resume",
]

SAVE_EVERY = 5.0
"""Minutes between two states that a run can be continued from."""

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
    save_every: float = SAVE_EVERY,
    on_step: Callable[[StepReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> DistillResult:
    """Train `student` on the pictures in `data` and write it back when done.

    KeyboardInterrupt ends the training early and keeps what was learned; `resume` goes on from
    there, or from the last state before the process was killed.

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
        save_every: minutes between two states that `resume` can go on from.
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
    if not save_every > 0:
        raise OptionError(f"save_every is {save_every}; give minutes, more than 0")
    request = Request(
        data=str(Path(data).resolve()),
        teacher=str(guide.path.resolve()),
        discriminator=None if judge is None else str(judge.path.resolve()),
        output=str(target.resolve()),
        recipe=recipe,
        budget=Budget(steps, None if minutes is None else 60 * minutes),
        direction=direction,
        device=str(place),
        precision=precision,
        seed=seed,
        arch=arch,
        save_every=60 * save_every,
    )
    with RunFolder.new(Path(runs)) as run:
        session = Session(learner, guide, layout, request, run, discriminator=judge)
        session.begin()
        outcome = session.train(on_step=on_step)
    return _result(outcome, target, run, layout)


def resume(
    run: str | Path,
    *,
    arch: str | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> DistillResult:
    """Go on with a run that was stopped or killed, with the settings that it began with.

    On the CPU, with as many threads and a length in steps, the student is bit for bit the one that
    the run would have made.

    Args:
        run: its folder.
        arch: as it was given to `distill`: no file names the code that runs.
        on_step, on_notice: see `distill`.

    Raises:
        OptionError: no run folder, one in use, or a run that came to its end.
        CheckpointError: a file that it began with is gone, or another than it was.
        DatasetError, ImageError, DivergedError, OutputError: see `distill`.
    """
    notice = on_notice or (lambda _: None)
    with RunFolder.reopen(Path(run)) as folder:
        begun = folder.read_options()
        try:
            request = Request.from_plain(begun["request"])
        except (KeyError, TypeError):
            raise CheckpointError(
                f"{folder.path / 'options.json'} is broken, or of another version of wkdc; start "
                "the run again"
            ) from None
        if begun.get("finished"):
            raise OptionError(f"{folder.path} came to its end; start another run")
        if arch != request.arch:
            said = "without --arch" if request.arch is None else f"with --arch {request.arch}"
            raise OptionError(f"{folder.path} was begun {said}; give the same")
        check_device(request.device)
        learner, guide = load_pair(folder.start, request.teacher, arch=arch)
        output = _checked_output(Path(relative_to(Path(request.output), Path.cwd())), guide)
        recipe = request.recipe
        layout = read_layout(
            Path(request.data),
            direction=request.direction,
            seed=request.seed,
            smallest=recipe.crop // MOST_ENLARGED,
            on_notice=notice,
        )
        judge = None
        if request.discriminator is not None:
            path = Path(request.discriminator)
            judge = _load_judge(path, recipe, learner, paired=layout.kind == "paired")
        session = Session(learner, guide, layout, request, folder, discriminator=judge)
        _check_same(folder.path, begun, session.made_with, notice)
        state = folder.load_state(notice)
        if state is None:
            notice(f"{folder.path} holds no state yet; the run starts from its beginning")
        outcome = session.train(state, on_step=on_step)
    return _result(outcome, output, folder, layout)


def _check_same(
    run: Path, begun: Mapping[str, Any], now: Mapping[str, Any], notice: Callable[[str], None]
) -> None:
    """Make sure that a run goes on with the files that it began with.

    Raises:
        CheckpointError: it would not.
    """
    for name, what in {
        "student_sha256": "student, checkpoints/start.pth,",
        "teacher_sha256": "teacher",
        "discriminator_sha256": "discriminator",
        "data_sha256": "training pictures",
    }.items():
        if begun[name] != now[name]:
            raise CheckpointError(
                f"the {what} of {run} changed since the run began; put the original back, or start "
                "another run"
            )
    for name in ("threads", "precision", "torch"):
        if begun[name] != now[name]:
            notice(
                f"{name} {now[name]} instead of the {begun[name]} that the run began with: its "
                "numbers will differ in the last digits"
            )


def _result(outcome: Outcome, output: Path, run: RunFolder, layout: Layout) -> DistillResult:
    return DistillResult(
        output=output,
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
