"""Train a pruned student to generate what its teacher generates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from wkdc.checkpoints.card import relative_to
from wkdc.checkpoints.checkpoint import Generator, load_discriminator
from wkdc.checkpoints.run_record import REVERSE
from wkdc.data.folders import Data, as_folder
from wkdc.data.layouts import Direction, Layout
from wkdc.metrics.fidelity import Fidelity
from wkdc.networks.layers import Norm
from wkdc.system.devices import check_device
from wkdc.training.device import choose_dtype
from wkdc.training.distributed import Processes
from wkdc.training.loop import SAVE_EVERY, StepReport, check_length
from wkdc.training.recipe import FAITHFUL, PAPER, Precision, Recipe, recipe_named
from wkdc.training.run_config import Callbacks, Length, RunConfig, Select
from wkdc.training.run_folder import RunFolder
from wkdc.training.session import Outcome, Session
from wkdc.training.setup import (
    RunFiles,
    check_outputs,
    device_of,
    discriminator_settings,
    open_files,
    pruned_discriminator,
    read_config,
)
from wkdc.training.students import Selected
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
        seconds: of wall clock, all of the run.
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
    data: Data,
    *,
    student: str | Path = "student.pth",
    teacher: str | Path | None = None,
    discriminator: str | Path | None = None,
    disc_ratio: float | None = None,
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
    norm: Norm | None = None,
    key: str | None = None,
    reverse_key: str | None = None,
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

    KeyboardInterrupt ends the training early and keeps what was learned; `resume` continues.

    Args:
        data: a folder in one of the layouts of `wkdc.data.layouts.read_layout`.
        student: a file of `prune`; `teacher` its teacher, by default the one on its card.
        discriminator: to start from, first made `disc_ratio` times smaller, in the run's folder;
            None for a fresh one.
        output: the file to write, by default `student` itself.
        reverse_student: trained along in the other direction, after `reverse_teacher`, which
            alone closes the cycle and stays as it is.
        steps, epochs, minutes: at most one, the length of the run; the learning rate follows it.
        direction: `BtoA` for a generator that translates domain B to domain A.
        precision: number format of the steps; weights are float32. `float16` is for GPUs.
        runs: where the run folder is made.
        norm: of student and teacher, `key` and `reverse_key` of the two teachers, `arch` of custom
            networks, where files cannot tell; see `load_generator`.
        compiled: whether steps use torch.compile.
        save_every: minutes between two states that `resume` can continue from.
        select: `best` takes the student nearest to its teacher, of ten on the way, on a tenth of
            the training images that is set aside for that.
        tracker: what shows the curves, too.
        cache: a folder, kept below 4 GB, for the teacher's outputs: later runs read them there.
        on_step: called after each step; `on_profile` once, with a table of where the time of the
            third step went; `on_notice` with each thing that the user should know.

    Raises:
        OptionError, DeviceError, MissingExtraError: a setting that cannot be.
        CheckpointError, DatasetError, ImageError: a file that cannot be used.
        DivergedError: the loss or an image became NaN; the last good student is in the run folder.
        OutputError: something cannot be written; that `output` cannot is found out first.
    """
    files = RunFiles(
        student, teacher, discriminator, disc_ratio, output, reverse_student, reverse_teacher
    )
    folder = as_folder(data)
    config = RunConfig(
        command="distill",
        data=str(folder.path.resolve()),
        value_range=folder.value_range,
        recipe=recipe,
        direction=direction,
        device=device,
        precision=precision,
        seed=seed,
        arch=arch,
        norm=norm,
        key=key,
        reverse_key=reverse_key,
        compiled=compiled,
        save_every=60 * save_every,
        select=select,
        tracker=tracker,
        cache=None if cache is None else str(Path(cache).resolve()),
    )
    callbacks = Callbacks(on_step, on_profile, on_notice or (lambda _: None))
    return _begin(files, config, Length(steps, epochs, minutes), Path(runs), callbacks)


def _begin(
    files: RunFiles, config: RunConfig, length: Length, runs: Path, callbacks: Callbacks
) -> DistillResult:
    check_tracker(config.tracker)
    processes = Processes.join(check_device(config.device))
    choose_dtype(config.precision, processes.device)
    smaller = discriminator_settings(files, config)
    found = open_files(files, config, callbacks.on_notice)
    outputs = [Path(files.output or files.student)]
    outputs += [pair.student.path for pair in found.pairs[1:]]
    check_outputs(outputs, found)
    processes.check_image_count(min(len(pair.layout.train) for pair in found.pairs))
    first, *others = found.pairs
    config = replace(
        config,
        recipe=found.recipe,
        budget=length.budget(found.recipe, len(first.layout.train), processes),
        teacher=_absolute(first.teacher),
        discriminator=_absolute(first.discriminator),
        output=str(outputs[0].resolve()),
        reverse_teacher=_absolute(others[0].teacher if others else found.closing),
        reverse_output=str(outputs[1].resolve()) if others else None,
    )
    small: bytes | None = None
    if smaller is not None and first.discriminator is not None:
        small = pruned_discriminator(first.discriminator, smaller, processes, callbacks.on_notice)
    with RunFolder.new(runs, "distill", processes) as run:
        if small is not None:
            run.keep_discriminator(small, processes)
            first = replace(first, discriminator=load_discriminator(run.discriminator))
            config = replace(config, discriminator=_absolute(first.discriminator))
        pairs = (first, *others)
        outcome = Session(pairs, config, run, processes, found.closing, callbacks).run()
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
    callbacks = Callbacks(on_step, None, on_notice or (lambda _: None))
    _, config = read_config(Path(run), "distill", arch)
    processes = Processes.join(device_of(config, Path(run)))
    with RunFolder(Path(run), processes) as folder:
        begun, config = read_config(folder.path, "distill", arch)  # it may have ended meanwhile
        reverse = None if config.reverse_output is None else folder.start_of(REVERSE)
        files = RunFiles(
            student=folder.start_of(),
            teacher=config.teacher,
            discriminator=own if (own := folder.discriminator).is_file() else config.discriminator,
            reverse_student=reverse,
            reverse_teacher=config.reverse_teacher,
        )
        found = open_files(files, config, callbacks.on_notice)
        outputs = [Path(relative_to(path, Path.cwd())) for path in config.outputs]
        check_outputs(outputs, found)
        outcome = Session(
            found.pairs, config, folder, processes, found.closing, callbacks, begun
        ).run()
    return _result(outcome, outputs, folder, found.pairs[0].layout)


def _result(
    outcome: Outcome, outputs: Sequence[Path], run: RunFolder, layout: Layout
) -> DistillResult:
    sides = []
    for output, name, before, after, selected in zip(
        outputs, ("", REVERSE), outcome.before, outcome.after, outcome.selected, strict=False
    ):
        if before is None or after is None:
            raise RuntimeError("a student of a teacher is always measured")
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
