"""Options of the commands that train: distill and train."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

LENGTH, LOSSES, IMAGES = "Length (one of these)", "Losses (weights and forms)", "Images"
REVERSE = "The other direction"


def _option(help_: str, panel: str | None = None, *names: str, default: str | bool = True) -> Any:
    """An option with its help; `default` is what the help shows where None means something."""
    return typer.Option(*names, help=help_, rich_help_panel=panel, show_default=default)


Resume = Annotated[
    Path | None,
    _option("Continue the run in this folder, with the settings that it began with."),
]
Runs = Annotated[Path, _option("Folder in which the run's own folder is made.")]
SaveEvery = Annotated[
    float, _option("Minutes between two saved states, from which --resume can continue.")
]
Tracker = Annotated[
    Literal["none", "tensorboard", "mlflow", "wandb"],
    _option("Show losses and validation there too; metrics.jsonl has them in any case."),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    _option("Number format of the steps; auto takes bfloat16 where the device gains by it."),
]
Compile = Annotated[
    bool,
    _option(
        "Use torch.compile: faster steps after minutes of compiling, for long runs.",
        None,
        "--compile",
    ),
]

Steps = Annotated[
    int | None, _option("Number of steps: a run that can be repeated exactly.", LENGTH)
]
Epochs = Annotated[int | None, _option("Passes over the training images.", LENGTH)]
Minutes = Annotated[
    float | None, _option("Minutes of wall clock: when you know how long you can wait.", LENGTH)
]

WaveletWeight = Annotated[
    float | None,
    _option("Weight of the wavelet loss; more brings back more fine detail.", LOSSES),
]
Wavelet = Annotated[
    str | None, _option("Wavelet of that loss: haar, or another of PyWavelets such as db2.", LOSSES)
]
Levels = Annotated[
    int | None, _option("Levels of the wavelet transform; more reach coarser detail.", LOSSES)
]
Bands = Annotated[
    Literal["high", "low", "all"] | None,
    _option("Which wavelet bands are compared with the teacher's; high is the paper's.", LOSSES),
]
Measure = Annotated[
    Literal["l1", "l2"] | None,
    _option("Distance of the bands; l2 is what the paper's code uses.", LOSSES),
]
Pixel = Annotated[float | None, _option("Weight of the L1 loss to the teacher's pixels.", LOSSES)]
Features = Annotated[
    float | None,
    _option("Weight of the loss between the blocks' features and the teacher's; ResNets.", LOSSES),
]
Truth = Annotated[
    float | None, _option("Weight of the L1 loss to the true images of paired data.", LOSSES)
]
Cycle = Annotated[
    float | None,
    _option("Weight of the cycle loss; distill needs --reverse for it.", LOSSES),
]
Identity = Annotated[
    float | None,
    _option("Weight of the loss that leaves images of the target domain unchanged.", LOSSES),
]
Adversarial = Annotated[
    float | None,
    _option("Weight of the adversarial loss; 0 trains without a discriminator.", LOSSES),
]
Gan = Annotated[
    Literal["lsgan", "hinge", "vanilla"] | None, _option("Form of the adversarial loss.", LOSSES)
]
Ndf = Annotated[
    int | None,
    _option("Channels of the discriminator's first layer; fewer suit a small student.", LOSSES),
]
Scales = Annotated[
    int | None,
    _option("Scales at which the discriminator looks at an image; pix2pixHD has 2.", LOSSES),
]
FeatureMatching = Annotated[
    float | None,
    _option("Weight of the feature matching loss of a multi-scale discriminator.", LOSSES),
]
Discriminator = Annotated[
    Path | None,
    _option("Trained discriminator to start from.", LOSSES, default="random weights"),
]
DiscRatio = Annotated[
    float | None,
    _option(
        "Prune that discriminator first, to so many times fewer parameters.",
        LOSSES,
        default="not pruned",
    ),
]
LearningRate = Annotated[
    float | None,
    _option(
        "Learning rate; lower it if the student gets worse. faithful chooses it by how near the "
        "student starts.",
        LOSSES,
    ),
]

Batch = Annotated[int | None, _option("Crops that go through the networks at once.", IMAGES)]
Accumulate = Annotated[
    int | None,
    _option("Batches of a step, one after the other: larger steps in the same memory.", IMAGES),
]
LoadSize = Annotated[
    int | None,
    _option("Shorter side to which images are resized before they are cropped.", IMAGES),
]
Crop = Annotated[
    int | None, _option("Side of the random crops; smaller ones make faster steps.", IMAGES)
]
Reuse = Annotated[
    int | None,
    _option("Steps that share one output of the teacher; 1 runs it at every step.", IMAGES),
]
Cache = Annotated[
    str | None,
    _option(
        "Folder that keeps the teacher's outputs for later runs; off keeps none.",
        IMAGES,
        default="wkdc's cache",
    ),
]
