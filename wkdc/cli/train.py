"""wkdc train."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wkdc.cli import options, render
from wkdc.cli.distill import IMAGES, LENGTH, LOSSES, check_alone, show_step
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.train import TrainResult

NETWORK = "Network"


def train(
    context: typer.Context,
    data: Annotated[
        str | None, typer.Option(help="A data set's name, or a folder of images.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write; -reverse for the other direction."),
    ] = Path("teacher.pth"),
    network: Annotated[
        Literal["resnet", "unet", "pix2pixhd"] | None,
        typer.Option(
            rich_help_panel=NETWORK,
            show_default="resnet; unet for pairs side by side, pix2pixhd for others",
        ),
    ] = None,
    ngf: Annotated[
        int, typer.Option(help="Channels of the first layer.", rich_help_panel=NETWORK)
    ] = 64,
    blocks: Annotated[
        int, typer.Option(help="Residual blocks, of all but a U-Net.", rich_help_panel=NETWORK)
    ] = 9,
    norm: Annotated[
        options.NormName | None,
        typer.Option(
            rich_help_panel=NETWORK, show_default="batch for pairs side by side, else instance"
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(rich_help_panel=LENGTH)] = None,
    epochs: Annotated[int | None, typer.Option(rich_help_panel=LENGTH, show_default="200")] = None,
    minutes: Annotated[float | None, typer.Option(rich_help_panel=LENGTH)] = None,
    truth: Annotated[
        float | None,
        typer.Option(
            help="Pixels, to paired truth.",
            rich_help_panel=LOSSES,
            show_default="100, for pix2pixHD 0",
        ),
    ] = None,
    cycle: Annotated[
        float | None,
        typer.Option(help="There and back again.", rich_help_panel=LOSSES, show_default="10"),
    ] = None,
    identity: Annotated[
        float | None,
        typer.Option(
            help="Images of the target domain stay.", rich_help_panel=LOSSES, show_default="5"
        ),
    ] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(help="Against a discriminator.", rich_help_panel=LOSSES, show_default="1"),
    ] = None,
    gan: Annotated[
        Literal["lsgan", "hinge", "vanilla"] | None,
        typer.Option(
            help="Form of the adversarial loss.",
            rich_help_panel=LOSSES,
            show_default="lsgan, for pairs side by side vanilla",
        ),
    ] = None,
    ndf: Annotated[
        int | None,
        typer.Option(help="Discriminator's channels.", rich_help_panel=LOSSES, show_default="64"),
    ] = None,
    scales: Annotated[
        int | None,
        typer.Option(
            help="Discriminator's scales.",
            rich_help_panel=LOSSES,
            show_default="1, for pix2pixHD 2",
        ),
    ] = None,
    feature_matching: Annotated[
        float | None,
        typer.Option(
            help="A multi-scale discriminator's features, to those of the real image.",
            rich_help_panel=LOSSES,
            show_default="0, for pix2pixHD 10",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(rich_help_panel=LOSSES, show_default="0.0002")
    ] = None,
    batch: Annotated[int | None, typer.Option(rich_help_panel=IMAGES, show_default="1")] = None,
    accumulate: options.Accumulate = None,
    load_size: Annotated[
        int | None,
        typer.Option(
            help="Shorter side before the crop.", rich_help_panel=IMAGES, show_default="286"
        ),
    ] = None,
    crop: Annotated[
        int | None,
        typer.Option(help="Side of the crops.", rich_help_panel=IMAGES, show_default="256"),
    ] = None,
    direction: options.Direction = "AtoB",
    data_url: options.DataUrl = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    compile_: options.Compile = False,
    seed: options.Seed = 0,
    runs: options.Runs = Path("runs"),
    save_every: options.SaveEvery = 5.0,
    tracker: options.Tracker = "none",
    resume: options.Resume = None,
    json: options.Json = False,
) -> None:
    """Train a teacher from scratch: CycleGAN on unpaired images, pix2pix or pix2pixHD on pairs.

    Ctrl-C ends the training early and keeps what was learned; --resume goes on from there.
    """
    from wkdc.errors import OptionError
    from wkdc.system.devices import default_device
    from wkdc.train import recipe_for, resume_training
    from wkdc.train import train as run_train

    if resume is not None:
        check_alone(context)
        render.say(f"going on with {resume}; Ctrl-C keeps what was learned")
        with render.meter() as meter:
            result = resume_training(
                resume, on_step=lambda report: show_step(meter, report), on_notice=render.say
            )
        _end(result, json)
        return
    if data is None:
        raise OptionError("nothing says what to learn from; give --data FOLDER, or --resume RUN")
    changes: dict[str, Any] = {
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
    }
    folder = options.find_data(data, data_url)
    recipe = dataclasses.replace(
        recipe_for(folder), **{k: v for k, v in changes.items() if v is not None}
    )
    place = default_device() if device is None else device
    render.say(f"{recipe.name} on {folder}, {place}; Ctrl-C keeps what was learned")
    with render.meter() as meter:
        result = run_train(
            folder,
            output=output,
            network=network,
            ngf=ngf,
            blocks=blocks,
            norm=norm,
            recipe=recipe,
            steps=steps,
            epochs=epochs,
            minutes=minutes,
            direction=direction,
            device=place,
            precision=precision,
            compiled=compile_,
            seed=seed,
            runs=runs,
            save_every=save_every,
            tracker=tracker,
            on_step=lambda report: show_step(meter, report),
            on_notice=render.say,
        )
    _end(result, json)


def _end(result: "TrainResult", json: bool) -> None:
    """Show what a run did; exit with 130 if it was interrupted."""
    if json:
        render.print_json(_as_json(result))
    else:
        _show(result)
    if result.interrupted:
        raise typer.Exit(130)


def _as_json(result: "TrainResult") -> dict[str, object]:
    truth = result.to_truth
    return {
        "output": str(result.output),
        "reverse": result.reverse and str(result.reverse),
        "run": str(result.run),
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "images_per_second": round(result.images_per_second, 3),
        "losses": result.losses,
        "to_truth": truth and dataclasses.asdict(truth),
        "interrupted": result.interrupted,
    }


def _show(result: "TrainResult") -> None:
    if not result.steps:
        render.out.print(f"stopped before the first step; {result.output} is untouched")
        return
    render.table(
        "losses, mean over the last tenth",
        ("", ""),
        [(name, f"{value:.3f}") for name, value in result.losses.items()],
    )
    if result.to_truth is not None:
        render.out.print(
            f"{result.to_truth.psnr_db:.2f} dB to the true images, on "
            f"{result.to_truth.images} that it was not trained on"
        )
    both = "" if result.reverse is None else f" and {result.reverse}"
    stopped = "stopped after" if result.interrupted else "trained"
    render.out.print(
        f"{result.output}{both}: {stopped} {result.steps} steps in "
        f"{units.duration(result.seconds)}, {result.images_per_second:.1f} images/s; look at "
        f"{result.run / 'samples'}"
    )
    if result.interrupted:
        render.out.print(f"to go on: wkdc train --resume {result.run}")
    render.say_next(f"wkdc prune {result.output} --ratio 7")
