"""wkdc train."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render, training
from wkdc.cli import training_options as run
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.train import TrainResult

NETWORK = "Network"

Data = Annotated[str | None, typer.Option(help="Name of a data set, or a folder of images.")]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="File to write; -reverse is added for the other direction's."
    ),
]
Network = Annotated[
    Literal["resnet", "unet", "pix2pixhd"] | None,
    typer.Option(
        help="Which generator to train.",
        rich_help_panel=NETWORK,
        show_default="resnet; of pairs unet, of pix2pixHD's folders pix2pixhd",
    ),
]
Ngf = Annotated[
    int, typer.Option(help="Channels of the generator's first layer.", rich_help_panel=NETWORK)
]
Blocks = Annotated[
    int | None,
    typer.Option(
        help="Residual blocks; a U-Net has none.", rich_help_panel=NETWORK, show_default="9"
    ),
]
Norm = Annotated[
    Literal["instance", "batch", "none"] | None,
    typer.Option(
        help="Normalisation of the generator.",
        rich_help_panel=NETWORK,
        show_default="batch for pairs, but instance in pix2pixHD's folders and without pairs",
    ),
]

Epochs = Annotated[
    int | None, run.option("Passes over the training images.", run.LENGTH, default="200")
]
Minutes = Annotated[float | None, run.option("Minutes of wall clock.", run.LENGTH)]
Truth = Annotated[
    float | None,
    run.option(
        "Weight of the L1 loss to the true images of paired data.",
        run.LOSSES,
        default="100, for pix2pixHD 0",
    ),
]
Cycle = Annotated[float | None, run.option("Weight of the cycle loss.", run.LOSSES, default="10")]
Identity = Annotated[
    float | None,
    run.option(
        "Weight of the loss that leaves images of the target domain unchanged.",
        run.LOSSES,
        default="5",
    ),
]
Adversarial = Annotated[
    float | None, run.option("Weight of the adversarial loss.", run.LOSSES, default="1")
]
Gan = Annotated[
    Literal["lsgan", "hinge", "vanilla"] | None,
    run.option(
        "Form of the adversarial loss: try another where training is unstable.",
        run.LOSSES,
        default="lsgan; of pairs vanilla, but not in pix2pixHD's folders",
    ),
]
Ndf = Annotated[
    int | None,
    run.option("Channels of the discriminator's first layer.", run.LOSSES, default="64"),
]
Scales = Annotated[
    int | None,
    run.option(
        "Scales at which the discriminator looks at an image.",
        run.LOSSES,
        default="1, for pix2pixHD 2",
    ),
]
FeatureMatching = Annotated[
    float | None,
    run.option(
        "Weight of the feature matching loss of a multi-scale discriminator.",
        run.LOSSES,
        default="0, for pix2pixHD 10",
    ),
]
LearningRate = Annotated[
    float | None,
    run.option("Learning rate; lower it where losses explode.", run.LOSSES, default="0.0002"),
]
Batch = Annotated[
    int | None,
    run.option(
        "Crops that go through the networks at once; more need more memory.",
        run.IMAGES,
        default="1",
    ),
]
LoadSize = Annotated[
    int | None,
    run.option(
        "Shorter side to which images are resized before they are cropped.",
        run.IMAGES,
        default="286",
    ),
]
Crop = Annotated[
    int | None,
    run.option(
        "Side of the random crops; smaller ones make faster steps.", run.IMAGES, default="256"
    ),
]


def train(
    context: typer.Context,
    data: Data = None,
    output: Output = Path("teacher.pth"),
    network: Network = None,
    ngf: Ngf = 64,
    blocks: Blocks = None,
    norm: Norm = None,
    steps: run.Steps = None,
    epochs: Epochs = None,
    minutes: Minutes = None,
    truth: Truth = None,
    cycle: Cycle = None,
    identity: Identity = None,
    adversarial: Adversarial = None,
    gan: Gan = None,
    ndf: Ndf = None,
    scales: Scales = None,
    feature_matching: FeatureMatching = None,
    learning_rate: LearningRate = None,
    batch: Batch = None,
    accumulate: run.Accumulate = None,
    load_size: LoadSize = None,
    crop: Crop = None,
    direction: options.Direction = "AtoB",
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    device: options.Device = None,
    precision: run.Precision = "auto",
    compile_: run.Compile = False,
    seed: options.Seed = 0,
    runs: run.Runs = Path("runs"),
    save_every: run.SaveEvery = 5.0,
    tracker: run.Tracker = "none",
    resume: run.Resume = None,
    json: options.Json = False,
) -> None:
    """Train a teacher from scratch: CycleGAN on unpaired images, pix2pix or pix2pixHD on pairs.

    Ctrl-C ends the training early and keeps what was learned; --resume goes on from there.
    """
    if resume is None:
        result = _run(context)
    else:
        training.check_alone(context)
        result = _resume(resume)
    if json:
        render.print_json(_as_json(result))
    else:
        _show(result)
    if result.interrupted:
        raise typer.Exit(130)


def _run(context: typer.Context) -> "TrainResult":
    import wkdc
    from wkdc.system.devices import default_device
    from wkdc.train import recipe_for

    given = context.params
    folder = options.find_data(
        training.need_data(given["data"]), given["data_url"], given["range_"]
    )
    recipe = training.changed(recipe_for(folder.path), context)
    device = default_device() if given["device"] is None else given["device"]
    render.say(f"{recipe.name} on {folder}, {device}; Ctrl-C keeps what was learned")
    with render.meter() as meter:
        return wkdc.train(
            folder,
            output=given["output"],
            network=given["network"],
            ngf=given["ngf"],
            blocks=given["blocks"],
            norm=given["norm"],
            recipe=recipe,
            steps=given["steps"],
            epochs=given["epochs"],
            minutes=given["minutes"],
            direction=given["direction"],
            device=device,
            precision=given["precision"],
            compiled=given["compile_"],
            seed=given["seed"],
            runs=given["runs"],
            save_every=given["save_every"],
            tracker=given["tracker"],
            on_step=lambda report: training.show_step(meter, report),
            on_notice=render.say,
        )


def _resume(folder: Path) -> "TrainResult":
    import wkdc

    render.say(f"going on with {folder}; Ctrl-C keeps what was learned")
    with render.meter() as meter:
        return wkdc.resume_training(
            folder,
            on_step=lambda report: training.show_step(meter, report),
            on_notice=render.say,
        )


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
        render.tell(f"stopped before the first step; {result.output} is untouched")
        return
    render.table(
        "losses, mean over the last tenth",
        ("", ""),
        [(name, f"{value:.3f}") for name, value in result.losses.items()],
    )
    if result.to_truth is not None:
        render.tell(
            f"{result.to_truth.psnr_db:.2f} dB to the true images, on "
            f"{result.to_truth.images} that it was not trained on"
        )
    both = "" if result.reverse is None else f" and {result.reverse}"
    stopped = "stopped after" if result.interrupted else "trained"
    render.tell(
        f"{result.output}{both}: {stopped} {units.counted(result.steps, 'step')} in "
        f"{units.duration(result.seconds)}, {result.images_per_second:.1f} images/s; look at "
        f"{result.run / 'samples'}"
    )
    if result.interrupted:
        render.tell(f"to go on: {shlex.join(['wkdc', 'train', '--resume', str(result.run)])}")
    render.say_next("wkdc", "prune", result.output, "--ratio", "7")
