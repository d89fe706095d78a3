"""Teach a pruned student to draw what its teacher draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.checkpoints.card import relative_to
from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.layouts import Direction, Layout
from wkdc.metrics.fidelity import Fidelity
from wkdc.system.devices import check_device
from wkdc.training.device import choose_dtype
from wkdc.training.distributed import Ranks
from wkdc.training.loop import SAVE_EVERY, Budget, StepReport, check_length, steps_in
from wkdc.training.opening import check_outputs, open_files
from wkdc.training.recipe import FAITHFUL, PAPER, Precision, Recipe, recipe_named
from wkdc.training.reopening import check_same, read_request
from wkdc.training.run_config import Request, Select
from wkdc.training.run_folder import RunFolder
from wkdc.training.session import Outcome, Session
from wkdc.training.students import REVERSE, Selected
from wkdc.training.tracking import Tracker, check_tracker

__all__ = [
    "FAITHFUL",
    "PAPER",
    "DistillResult",
    "Fidelity",
    "Recipe",
    "SideResult",
    "StepReport",
    "check_length",
    "distill",
    "recipe_named",
    "resume",
]


@dataclass(frozen=True)
class SideResult:
    """What a run did in one direction.

    Attributes:
        output: the student, untouched where the run made no step.
        start: the student as it was before the run.
        before, after: student against teacher, on images that were not trained on.
        held_out: whether those were set aside from the training images, for want of a test set.
        selected: which student on the way was picked, where one was to be.
    """

    output: Path
    start: Path
    before: Fidelity
    after: Fidelity
    held_out: bool
    selected: Selected | None


@dataclass(frozen=True)
class DistillResult:
    """What a run did.

    Attributes:
        output, start, before, after, held_out, selected: see `SideResult`; `reverse` has them for
            a second direction.
        run: the folder with options, metrics, samples and checkpoints.
        seconds: of wall clock, drawing and measuring included.
        images_per_second: trained images by the seconds spent on training steps.
        losses: mean of each over the last tenth of the steps.
        interrupted: whether the run was stopped before its end.
    """

    output: Path
    start: Path
    before: Fidelity
    after: Fidelity
    selected: Selected | None
    reverse: SideResult | None
    run: Path
    steps: int
    seconds: float
    images_per_second: float
    losses: dict[str, float]
    held_out: bool
    interrupted: bool


def distill(
    data: str | Path,
    *,
    student: str | Path = "student.pth",
    teacher: str | Path | None = None,
    discriminator: str | Path | None = None,
    output: str | Path | None = None,
    reverse_student: str | Path | None = None,
    reverse_teacher: str | Path | None = None,
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
    compiled: bool = False,
    save_every: float = SAVE_EVERY,
    select: Select = "last",
    tracker: Tracker = "none",
    cache: str | Path | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_profile: Callable[[str], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> DistillResult:
    """Train `student` on the images in `data` and write it back when done.

    KeyboardInterrupt ends the training early and keeps what was learned; `resume` goes on from
    there, or from the last state before the process was killed.

    Args:
        data: a folder in one of the layouts of `wkdc.data.layouts.read_layout`.
        student: a file of `prune`; `teacher` its teacher, by default the one on its card.
        discriminator: one to start from, instead of a fresh one of the recipe's `ndf`.
        output: the file to write, by default `student` itself.
        reverse_student: the student of the other direction, trained along and written back;
            `reverse_teacher` its teacher. A reverse teacher alone stays as it is and closes the
            cycle.
        steps, epochs, minutes: at most one, the length of the run; the learning rate follows it.
        direction: `BtoA` for a generator that draws domain A from domain B.
        device: `cpu`, `cuda`, `cuda:1`, ...
        precision: `auto` uses bfloat16 where the device gains by it; weights are float32.
            `float16` is for GPUs; the loss is then scaled, so that small gradients count.
        runs: where the run folder is made.
        arch: what makes student and teacher where they are custom networks; see `load_generator`.
        compiled: whether generators are called by torch.compile in training steps: faster, after
            a minute or two of compiling.
        save_every: minutes between two states that `resume` can go on from.
        select: `last` writes the student at the end; `best` the one that was nearest to its
            teacher, of ten on the way, on a tenth of the training images set aside for that.
        tracker: what shows the curves, too: `tensorboard`, `mlflow`, `wandb`, or `none`.
        cache: a folder for what the teacher draws before training; a later run of the same teacher
            on the same crops takes it from there. It is kept below 4 GB.
        on_profile: called once, with a table of where the time of the third step went.
        on_step: called after each step; `on_notice` with each thing that the user should know.

    Raises:
        OptionError: two lengths at once, a value out of range, or the teacher as output.
        DeviceError: a device that is not there, float16 on the CPU, or no compiler.
        MissingExtraError: the tracker's package is not there.
        CheckpointError: student or teacher cannot be used, or do not belong together.
        DatasetError, ImageError: the images cannot be used.
        DivergedError: the loss or an image became NaN; the last good student is in the run folder.
        OutputError: something cannot be written; that `output` cannot is found out first.
    """
    length_given = check_length(steps=steps, epochs=epochs, minutes=minutes)
    check_tracker(tracker)
    ranks = Ranks.join(check_device(device))
    choose_dtype(precision, ranks.device)
    found = open_files(
        student,
        teacher,
        reverse_student,
        reverse_teacher,
        discriminator,
        recipe=recipe,
        data=Path(data),
        direction=direction,
        seed=seed,
        arch=arch,
        select=select,
        on_notice=on_notice or (lambda _: None),
    )
    recipe, first = found.recipe, found.pairs[0]
    outputs = [Path(student if output is None else output)]
    outputs += [pair.student.path for pair in found.pairs[1:]]
    check_outputs(outputs, found)
    ranks.check_image_count(min(len(pair.layout.train) for pair in found.pairs))
    if not length_given:
        epochs, minutes = recipe.epochs, recipe.minutes
    if epochs is not None:
        steps = steps_in(epochs, len(first.layout.train), recipe, ranks)
    back = found.closing
    if found.pairs[1:]:
        back = found.pairs[1].teacher
    request = Request(
        data=str(Path(data).resolve()),
        command="distill",
        teacher=_absolute(first.teacher),
        discriminator=_absolute(first.discriminator),
        output=str(outputs[0].resolve()),
        reverse_teacher=_absolute(back),
        reverse_output=str(outputs[1].resolve()) if outputs[1:] else None,
        recipe=recipe,
        budget=Budget(steps, None if minutes is None else 60 * minutes),
        direction=direction,
        device=device,
        precision=precision,
        seed=seed,
        arch=arch,
        compiled=compiled,
        save_every=60 * save_every,
        select=select,
        tracker=tracker,
        cache=None if cache is None else str(Path(cache).resolve()),
    )
    with RunFolder.new(Path(runs), "distill", ranks) as run:
        session = Session(
            found.pairs, request, run, ranks, closing=found.closing, on_notice=on_notice
        )
        session.begin()
        outcome = session.train(on_step=on_step, on_profile=on_profile)
    return _result(outcome, outputs, run, first.layout)


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
    begun, request = read_request(Path(run), "distill", arch)
    ranks = Ranks.join(check_device(request.device))
    with RunFolder(Path(run), ranks) as folder:
        begun, request = read_request(folder.path, "distill", arch)  # it may have ended meanwhile
        found = open_files(
            folder.start_of(),
            request.teacher,
            None if request.reverse_output is None else folder.start_of(REVERSE),
            request.reverse_teacher,
            request.discriminator,
            recipe=request.recipe,
            data=Path(request.data),
            direction=request.direction,
            seed=request.seed,
            arch=arch,
            select=request.select,
            on_notice=notice,
        )
        outputs = [Path(relative_to(path, Path.cwd())) for path in request.outputs]
        check_outputs(outputs, found)
        session = Session(
            found.pairs, request, folder, ranks, closing=found.closing, on_notice=notice
        )
        check_same(folder.path, begun, session, notice)
        state = ranks.share(folder.load_state(notice) if ranks.first else None)
        if state is None:
            notice(f"{folder.path} holds no state yet; the run starts from its beginning")
        outcome = session.train(state, on_step=on_step)
    return _result(outcome, outputs, folder, found.pairs[0].layout)


def _result(
    outcome: Outcome, outputs: Sequence[Path], run: RunFolder, layout: Layout
) -> DistillResult:
    sides = []
    for output, name, before, after, selected in zip(
        outputs, ("", REVERSE), outcome.before, outcome.after, outcome.selected, strict=False
    ):
        if before is None or after is None:
            raise RuntimeError("a teacher always shows what should be drawn")
        held_out = layout.real_held_out if name else layout.held_out
        sides.append(SideResult(output, run.start_of(name), before, after, held_out, selected))
    first = sides[0]
    return DistillResult(
        output=first.output,
        start=first.start,
        before=first.before,
        after=first.after,
        selected=first.selected,
        reverse=sides[1] if sides[1:] else None,
        run=run.path,
        steps=outcome.steps,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        losses=outcome.losses,
        held_out=first.held_out,
        interrupted=outcome.interrupted,
    )


def _absolute(file: Generator | None) -> str | None:
    return None if file is None else str(file.path.resolve())
