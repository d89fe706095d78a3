"""wkdc distill."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wkdc.cli import options, render
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.distill import DistillResult, Fidelity, Recipe, StepReport


LENGTH, LOSSES, IMAGES = "Length (one of these)", "Losses (weights and forms)", "Pictures"
REVERSE = "The other direction"


def distill(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Option(help="A data set's name, or a folder of images.")
    ] = None,
    student: options.Student = Path("student.pth"),
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher.", show_default="the one on the student's card")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write.", show_default="the student's own"),
    ] = None,
    reverse: Annotated[
        Path | None,
        typer.Option(
            help="The other direction's teacher: alone it closes the cycle and stays as it is.",
            rich_help_panel=REVERSE,
        ),
    ] = None,
    reverse_student: Annotated[
        Path | None,
        typer.Option(
            help="The other direction's student, which learns along and is written back.",
            rich_help_panel=REVERSE,
        ),
    ] = None,
    recipe: Annotated[
        Literal["faithful", "paper"],
        typer.Option(help="faithful: nearest to the teacher in minutes. paper: its settings."),
    ] = "faithful",
    steps: Annotated[int | None, typer.Option(rich_help_panel=LENGTH)] = None,
    epochs: Annotated[int | None, typer.Option(rich_help_panel=LENGTH)] = None,
    minutes: Annotated[
        float | None, typer.Option(rich_help_panel=LENGTH, show_default="the recipe's length")
    ] = None,
    wavelet_weight: Annotated[
        float | None,
        typer.Option(help="Wavelet bands, to the teacher's.", rich_help_panel=LOSSES),
    ] = None,
    wavelet: Annotated[
        str | None, typer.Option(help="haar, db2, bior2.2, ...", rich_help_panel=LOSSES)
    ] = None,
    levels: Annotated[
        int | None, typer.Option(help="Of the wavelet transform.", rich_help_panel=LOSSES)
    ] = None,
    bands: Annotated[
        Literal["high", "low", "all"] | None,
        typer.Option(help="Which are compared.", rich_help_panel=LOSSES),
    ] = None,
    measure: Annotated[
        Literal["l1", "l2"] | None,
        typer.Option(help="Of the difference of bands.", rich_help_panel=LOSSES),
    ] = None,
    pixel: Annotated[
        float | None, typer.Option(help="Pixels, to the teacher's.", rich_help_panel=LOSSES)
    ] = None,
    features: Annotated[
        float | None,
        typer.Option(
            help="Blocks' features, to the teacher's, of ResNets.", rich_help_panel=LOSSES
        ),
    ] = None,
    truth: Annotated[
        float | None, typer.Option(help="Pixels, to paired truth.", rich_help_panel=LOSSES)
    ] = None,
    cycle: Annotated[
        float | None, typer.Option(help="There and back again.", rich_help_panel=LOSSES)
    ] = None,
    identity: Annotated[
        float | None,
        typer.Option(help="Images of the target domain stay.", rich_help_panel=LOSSES),
    ] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="Against a discriminator.", rich_help_panel=LOSSES)
    ] = None,
    gan: Annotated[
        Literal["lsgan", "hinge", "vanilla"] | None,
        typer.Option(help="Form of the adversarial loss.", rich_help_panel=LOSSES),
    ] = None,
    ndf: Annotated[
        int | None, typer.Option(help="Discriminator's channels.", rich_help_panel=LOSSES)
    ] = None,
    scales: Annotated[
        int | None,
        typer.Option(help="Discriminator's scales; pix2pixHD has 2.", rich_help_panel=LOSSES),
    ] = None,
    feature_matching: Annotated[
        float | None,
        typer.Option(
            help="A multi-scale discriminator's features, to those of the real image.",
            rich_help_panel=LOSSES,
        ),
    ] = None,
    discriminator: Annotated[
        Path | None,
        typer.Option(help="Start from this one.", rich_help_panel=LOSSES, show_default="fresh"),
    ] = None,
    disc_ratio: Annotated[
        float | None,
        typer.Option(
            help="How many times smaller it is made first.",
            rich_help_panel=LOSSES,
            show_default="as it is",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="faithful: 5e-4, less for a near start.", rich_help_panel=LOSSES),
    ] = None,
    batch: Annotated[int | None, typer.Option(rich_help_panel=IMAGES)] = None,
    accumulate: options.Accumulate = None,
    load_size: Annotated[
        int | None, typer.Option(help="Shorter side before the crop.", rich_help_panel=IMAGES)
    ] = None,
    crop: Annotated[
        int | None, typer.Option(help="Side of the crops.", rich_help_panel=IMAGES)
    ] = None,
    reuse: Annotated[
        int | None,
        typer.Option(
            help="Steps that use one drawing of the teacher; 1 draws anew.",
            rich_help_panel=IMAGES,
        ),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(
            help="Folder for the teacher's drawings, for later runs; off for none.",
            rich_help_panel=IMAGES,
            show_default="wkdc's cache",
        ),
    ] = None,
    direction: options.Direction = "AtoB",
    data_url: options.DataUrl = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    compile_: options.Compile = False,
    seed: options.Seed = 0,
    arch: options.Arch = None,
    runs: options.Runs = Path("runs"),
    save_every: options.SaveEvery = 5.0,
    select: Annotated[
        Literal["last", "best"],
        typer.Option(help="best: of ten on the way, on images set aside from training."),
    ] = "last",
    tracker: options.Tracker = "none",
    profile_step: Annotated[
        bool, typer.Option("--profile-step", help="Show where the time of the third step goes.")
    ] = False,
    resume: options.Resume = None,
    json: options.Json = False,
) -> None:
    """Teach student.pth to draw what its teacher draws; written back when done.

    Ctrl-C ends the training early and keeps what was learned; --resume goes on from there.
    """
    import wkdc
    from wkdc.discriminator import smaller_discriminator
    from wkdc.distill import check_length, recipe_named
    from wkdc.errors import OptionError
    from wkdc.system.devices import default_device

    if resume is not None:
        check_alone(context)
        render.say(f"going on with {resume}; Ctrl-C keeps what was learned")
        with render.meter() as meter:
            result = wkdc.resume(
                resume,
                arch=arch,
                on_step=lambda report: show_step(meter, report),
                on_notice=render.say,
            )
        _end(result, json, arch)
        return
    if data is None:
        raise OptionError("nothing says what to learn from; give --data FOLDER, or --resume RUN")
    if ndf is not None and discriminator is not None:
        raise OptionError(f"ndf {ndf} would not be used: {discriminator} has its own widths")
    if scales is not None and discriminator is not None:
        raise OptionError(f"scales {scales} would not be used: {discriminator} has its own")
    changes: dict[str, Any] = {
        "wavelet_weight": wavelet_weight,
        "wavelet": wavelet,
        "levels": levels,
        "bands": bands,
        "measure": measure,
        "pixel": pixel,
        "features": features,
        "truth": truth,
        "cycle": cycle,
        "identity": identity,
        "adversarial": adversarial,
        "gan": gan,
        "ndf": ndf,
        "scales": scales,
        "feature_matching": feature_matching,
        "learning_rate": learning_rate,
        "batch": batch,
        "accumulate": accumulate,
        "load_size": load_size,
        "crop": crop,
        "reuse": reuse,
    }
    settings = dataclasses.replace(
        recipe_named(recipe), **{k: v for k, v in changes.items() if v is not None}
    )
    folder = options.find_data(data, data_url)
    place = default_device() if device is None else device
    check_length(steps=steps, epochs=epochs, minutes=minutes)
    if disc_ratio is not None:
        discriminator = smaller_discriminator(
            discriminator,
            disc_ratio,
            student=output or student,
            recipe=settings,
            data=folder,
            direction=direction,
            device=place,
            seed=seed,
            on_notice=render.say,
        )
    _say_plan(settings, folder, place, any((steps, epochs, minutes)))
    with render.meter() as meter:
        result = wkdc.distill(
            folder,
            student=student,
            teacher=teacher,
            discriminator=discriminator,
            output=output,
            reverse_student=reverse_student,
            reverse_teacher=reverse,
            recipe=settings,
            steps=steps,
            epochs=epochs,
            minutes=minutes,
            direction=direction,
            device=place,
            precision=precision,
            compiled=compile_,
            seed=seed,
            runs=runs,
            arch=arch,
            save_every=save_every,
            select=select,
            tracker=tracker,
            cache=options.drawings_folder(cache),
            on_step=lambda report: show_step(meter, report),
            on_profile=render.say if profile_step else None,
            on_notice=render.say,
        )
    _end(result, json, arch)


def check_alone(context: typer.Context) -> None:
    """Raise OptionError if --resume came with settings, which the run has already."""
    from wkdc.errors import OptionError

    sources = {
        parameter.opts[0]: context.get_parameter_source(parameter.name or "")
        for parameter in context.command.params
        if parameter.name not in ("resume", "arch", "json")
    }
    given = [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]
    if given:
        raise OptionError(
            f"{', '.join(given)} cannot be given with --resume: a run goes on with the settings "
            "in its options.json; start another run for others"
        )


def _end(result: "DistillResult", json: bool, arch: str | None) -> None:
    """Show what a run did; exit with 130 if it was interrupted."""
    if json:
        render.print_json(_as_json(result))
    else:
        _show(result, options.arch_again(arch))
    if result.interrupted:
        raise typer.Exit(130)


def show_step(meter: render.Meter, report: "StepReport") -> None:
    """A training step on the progress bar."""
    if report.phase == "draw":
        meter.show(report.progress, f"the teacher draws: {report.step} crops")
        return
    losses = "  ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
    meter.show(
        report.progress,
        f"step {report.step}  {losses}  {report.images_per_second:.1f} images/s  "
        f"{units.duration(report.eta_seconds)} left",
    )


def _say_plan(recipe: "Recipe", folder: Path, device: str, given: bool) -> None:
    length = f"{recipe.minutes:g} minutes" if recipe.minutes else f"{recipe.epochs} epochs"
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


def _show(result: "DistillResult", arch: str) -> None:
    if not result.steps:
        render.out.print(f"stopped before the first step; {result.output} is untouched")
        return
    for side in (result, result.reverse):
        if side is None:
            continue
        where = "held-out" if side.held_out else "test"
        before, after = side.before, side.after
        render.table(
            f"{side.output} against its teacher on {after.images} {where} images",
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
            render.out.print(
                f"picked: the student of step {side.selected.step}, "
                f"{side.selected.psnr_db:.2f} dB on images set aside for picking"
            )
        if after.psnr_db < before.psnr_db:
            render.out.print(
                "PSNR is lower than before: a lower --learning-rate keeps more of a near start. "
                f"This run started from {side.start}"
            )
    stopped = "stopped after" if result.interrupted else "trained"
    render.out.print(
        f"{stopped} {result.steps} steps in {units.duration(result.seconds)}, "
        f"{result.images_per_second:.1f} images/s; run folder {result.run}"
    )
    if result.interrupted:
        render.out.print(f"to go on: wkdc distill --resume {result.run}")
    render.say_next(f"wkdc export {result.output} --onnx{arch}")
