"""wkdc distill."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render, training
from wkdc.cli import training_options as run
from wkdc.errors import OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.data.folders import ImageFolder
    from wkdc.distill import DistillResult, Fidelity, Recipe

Data = Annotated[str | None, typer.Option(help="Name of a data set, or a folder of images.")]
Teacher = Annotated[
    Path | None,
    typer.Option(help="The teacher.", show_default="the one on the student's card"),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write the student to.", show_default="the student's own"
    ),
]
Reverse = Annotated[
    Path | None,
    typer.Option(
        help="Teacher of the other direction; alone it closes the cycle and is not changed.",
        rich_help_panel=run.REVERSE,
    ),
]
ReverseStudent = Annotated[
    Path | None,
    typer.Option(
        help="Student of the other direction, trained along and written back.",
        rich_help_panel=run.REVERSE,
    ),
]
ReverseKey = Annotated[
    str | None,
    typer.Option(
        help="Which of several networks in the file of --reverse: netG_B2A.",
        rich_help_panel=run.REVERSE,
    ),
]
RecipeName = Annotated[
    Literal["faithful", "paper"],
    typer.Option(
        help="Preset of all settings. faithful: nearest to the teacher in minutes. paper: the "
        "paper's, against a discriminator."
    ),
]
Select = Annotated[
    Literal["last", "best"],
    typer.Option(
        help="Which student is the result: the last, or the best of ten on the way, measured on "
        "training images that are set aside."
    ),
]
ProfileStep = Annotated[
    bool, typer.Option("--profile-step", help="Show where the time of the third step goes.")
]


def distill(
    context: typer.Context,
    data: Data = None,
    student: options.Student = Path("student.pth"),
    teacher: Teacher = None,
    output: Output = None,
    reverse: Reverse = None,
    reverse_student: ReverseStudent = None,
    reverse_key: ReverseKey = None,
    recipe: RecipeName = "faithful",
    steps: run.Steps = None,
    epochs: run.Epochs = None,
    minutes: run.Minutes = None,
    wavelet_weight: run.WaveletWeight = None,
    wavelet: run.Wavelet = None,
    levels: run.Levels = None,
    bands: run.Bands = None,
    measure: run.Measure = None,
    pixel: run.Pixel = None,
    features: run.Features = None,
    truth: run.Truth = None,
    cycle: run.Cycle = None,
    identity: run.Identity = None,
    adversarial: run.Adversarial = None,
    gan: run.Gan = None,
    ndf: run.Ndf = None,
    scales: run.Scales = None,
    feature_matching: run.FeatureMatching = None,
    discriminator: run.Discriminator = None,
    disc_ratio: run.DiscRatio = None,
    optimizer: run.Optimizer = None,
    learning_rate: run.LearningRate = None,
    batch: run.Batch = None,
    accumulate: run.Accumulate = None,
    load_size: run.LoadSize = None,
    crop: run.Crop = None,
    jitter: run.Jitter = None,
    reuse: run.Reuse = None,
    cache: run.Cache = None,
    direction: options.Direction = "AtoB",
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    device: options.Device = None,
    precision: run.Precision = "auto",
    compile_: run.Compile = False,
    seed: options.Seed = 0,
    norm: options.Norm = None,
    key: options.Key = None,
    arch: options.Arch = None,
    runs: run.Runs = Path("runs"),
    save_every: run.SaveEvery = 5.0,
    select: Select = "last",
    tracker: run.Tracker = "none",
    profile_step: ProfileStep = False,
    resume: run.Resume = None,
    json: options.Json = False,
) -> None:
    """Train student.pth to generate what its teacher generates; written back when done.

    Ctrl-C ends the training early and keeps what was learned; --resume goes on from there.
    """
    if resume is None:
        result = _run(context)
    else:
        training.check_alone(context)
        result = _resume(resume, arch)
    if json:
        render.print_json(_as_json(result))
    else:
        _show(result, options.again(arch))
    if result.interrupted:
        raise typer.Exit(130)


def _run(context: typer.Context) -> "DistillResult":
    import wkdc
    from wkdc.distill import check_length, recipe_named
    from wkdc.system.devices import default_device

    given = context.params
    data, discriminator = training.need_data(given["data"]), given["discriminator"]
    for name in ("ndf", "scales"):
        if given[name] is not None and discriminator is not None:
            raise OptionError(
                f"{name} {given[name]} would not be used: {discriminator} has its own"
            )
    recipe = training.changed(recipe_named(given["recipe"]), context)
    if given["cache"] not in (None, "off") and (recipe.reuse == 1 or given["arch"]):
        why = (
            "the teacher translates each crop anew (--reuse 1)"
            if recipe.reuse == 1
            else "nothing says whether code of --arch is still the same"
        )
        raise OptionError(f"cache {given['cache']} would not be used: {why}")
    folder = options.find_data(data, given["data_url"], given["range_"])
    device = default_device() if given["device"] is None else given["device"]
    length = {name: given[name] for name in ("steps", "epochs", "minutes")}
    check_length(**length)
    _say_plan(recipe, folder, device, any(length.values()))
    with render.meter() as meter:
        return wkdc.distill(
            folder,
            student=given["student"],
            teacher=given["teacher"],
            discriminator=discriminator,
            disc_ratio=given["disc_ratio"],
            output=given["output"],
            reverse_student=given["reverse_student"],
            reverse_teacher=given["reverse"],
            recipe=recipe,
            **length,
            direction=given["direction"],
            device=device,
            precision=given["precision"],
            compiled=given["compile_"],
            seed=given["seed"],
            runs=given["runs"],
            norm=given["norm"],
            key=given["key"],
            reverse_key=given["reverse_key"],
            arch=given["arch"],
            save_every=given["save_every"],
            select=given["select"],
            tracker=given["tracker"],
            cache=options.targets_folder(given["cache"]),
            on_step=lambda report: training.show_step(meter, report),
            on_profile=_show_profile if given["profile_step"] else None,
            on_notice=render.say,
        )


def _resume(folder: Path, arch: str | None) -> "DistillResult":
    import wkdc

    render.say(f"going on with {folder}; Ctrl-C keeps what was learned")
    with render.meter() as meter:
        return wkdc.resume(
            folder,
            arch=arch,
            on_step=lambda report: training.show_step(meter, report),
            on_notice=render.say,
        )


def _say_plan(recipe: "Recipe", folder: "ImageFolder", device: str, given: bool) -> None:
    minutes, epochs = recipe.minutes, recipe.epochs or 0
    length = units.counted(minutes, "minute") if minutes else units.counted(epochs, "epoch")
    hint = "" if given else f", for {length} (--minutes, --steps or --epochs set another length)"
    render.say(f"recipe {recipe.name} on {folder}, {device}{hint}; Ctrl-C keeps what was learned")


def _as_json(result: "DistillResult") -> dict[str, object]:
    reverse = result.reverse
    return {
        "output": str(result.output),
        "run": str(result.run),
        "start": str(result.start),
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "images_per_second": round(result.images_per_second, 3),
        "losses": result.losses,
        "student_vs_teacher": _nearness(result.before, result.after, held_out=result.held_out),
        "selected": result.selected and dataclasses.asdict(result.selected),
        "reverse": reverse
        and {
            "output": str(reverse.output),
            "start": str(reverse.start),
            "student_vs_teacher": _nearness(
                reverse.before, reverse.after, held_out=reverse.held_out
            ),
            "selected": reverse.selected and dataclasses.asdict(reverse.selected),
        },
        "interrupted": result.interrupted,
    }


def _nearness(before: "Fidelity", after: "Fidelity", *, held_out: bool) -> dict[str, object]:
    return {
        "psnr_db": after.psnr_db,
        "high_band_error": after.high_band_error,
        "images": after.images,
        "held_out": held_out,
        "before": {"psnr_db": before.psnr_db, "high_band_error": before.high_band_error},
    }


def _show(result: "DistillResult", again: list[str]) -> None:
    if not result.steps:
        render.tell(f"stopped before the first step; {result.output} is untouched")
        return
    for side in (result, result.reverse):
        if side is None:
            continue
        where = "held-out" if side.held_out else "test"
        before, after = side.before, side.after
        render.table(
            f"{side.output} against its teacher on {units.counted(after.images, f'{where} image')}",
            ("", "before", "after"),
            [
                ("PSNR", f"{before.psnr_db:.2f} dB", f"{after.psnr_db:.2f} dB"),
                (
                    "high-band error",
                    f"{before.high_band_error:.3f}",
                    f"{after.high_band_error:.3f}",
                ),
            ],
        )
        if side.selected is not None:
            render.tell(
                f"picked: the student of step {side.selected.step}, "
                f"{side.selected.psnr_db:.2f} dB on images set aside for picking"
            )
        if after.psnr_db < before.psnr_db:
            render.tell(
                "PSNR is lower than before: a lower --learning-rate keeps more of a near start. "
                f"This run started from {side.start}"
            )
    stopped = "stopped after" if result.interrupted else "trained"
    render.tell(
        f"{stopped} {units.counted(result.steps, 'step')} in {units.duration(result.seconds)}, "
        f"{result.images_per_second:.1f} images/s; run folder {result.run}"
    )
    if result.interrupted:
        words = ["wkdc", "distill", "--resume", str(result.run), *again]
        render.tell(f"to go on: {shlex.join(words)}")
    render.say_next("wkdc", "export", result.output, "--onnx", *again)


def _show_profile(table: str) -> None:
    for line in table.splitlines():
        render.say(line)
