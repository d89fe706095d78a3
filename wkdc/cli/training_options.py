"""Options of the commands that train: distill and train."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

LENGTH, LOSSES, IMAGES = "Length (one of these)", "Losses (weights and forms)", "Images"
REVERSE = "The other direction"


def option(help_: str, panel: str | None = None, *names: str, default: str | bool = True) -> Any:
    """An option with its help; `default` is what the help shows where None means something."""
    return typer.Option(*names, help=help_, rich_help_panel=panel, show_default=default)


Resume = Annotated[
    Path | None,
    option("Continue the run in this folder, with the settings that it began with."),
]
Runs = Annotated[Path, option("Folder in which the run's own folder is made.")]
SaveEvery = Annotated[
    float, option("Minutes between two saved states, from which --resume can continue.")
]
Tracker = Annotated[
    Literal["none", "tensorboard", "mlflow", "wandb"],
    option("Show losses and validation there too; metrics.jsonl has them in any case."),
]
Precision = Annotated[
    Literal["auto", "float32", "bfloat16", "float16"],
    option("Number format of the steps; auto takes bfloat16 where the device gains by it."),
]
Compile = Annotated[
    bool,
    option(
        "Use torch.compile: faster steps after minutes of compiling, for long runs.",
        None,
        "--compile",
    ),
]

Steps = Annotated[
    int | None, option("Number of steps; on the CPU such a run can be repeated exactly.", LENGTH)
]
Epochs = Annotated[int | None, option("Passes over the training images.", LENGTH)]
Minutes = Annotated[
    float | None,
    option(
        "Minutes of wall clock: when you know how long you can wait.",
        LENGTH,
        default="the recipe's length",
    ),
]

WaveletWeight = Annotated[
    float | None,
    option("Weight of the wavelet loss; more brings back more fine detail.", LOSSES),
]
Wavelet = Annotated[
    str | None, option("Wavelet of that loss: haar, or another of PyWavelets such as db2.", LOSSES)
]
Levels = Annotated[
    int | None, option("Levels of the wavelet transform; more reach coarser detail.", LOSSES)
]
Bands = Annotated[
    Literal["high", "low", "all"] | None,
    option("Which wavelet bands are compared with the teacher's; high is the paper's.", LOSSES),
]
Measure = Annotated[
    Literal["l1", "l2"] | None,
    option("Distance of the bands; l2 is what the paper's code uses.", LOSSES),
]
Pixel = Annotated[float | None, option("Weight of the L1 loss to the teacher's pixels.", LOSSES)]
Features = Annotated[
    float | None,
    option(
        "Weight of the loss between the blocks' features and the teacher's, of ResNets only.",
        LOSSES,
    ),
]
Truth = Annotated[
    float | None, option("Weight of the L1 loss to the true images of paired data.", LOSSES)
]
Cycle = Annotated[
    float | None,
    option("Weight of the cycle loss; with distill it needs --reverse.", LOSSES),
]
Identity = Annotated[
    float | None,
    option("Weight of the loss that leaves images of the target domain unchanged.", LOSSES),
]
Adversarial = Annotated[
    float | None,
    option("Weight of the adversarial loss; 0 trains without a discriminator.", LOSSES),
]
Gan = Annotated[
    Literal["lsgan", "hinge", "vanilla"] | None,
    option("Form of the adversarial loss: try another where training is unstable.", LOSSES),
]
Ndf = Annotated[
    int | None,
    option("Channels of the discriminator's first layer; fewer suit a small generator.", LOSSES),
]
Scales = Annotated[
    int | None,
    option("Scales at which the discriminator looks at an image; pix2pixHD has 2.", LOSSES),
]
FeatureMatching = Annotated[
    float | None,
    option("Weight of the feature matching loss of a multi-scale discriminator.", LOSSES),
]
Discriminator = Annotated[
    Path | None,
    option("Trained discriminator to start from.", LOSSES, default="random weights"),
]
DiscRatio = Annotated[
    float | None,
    option(
        "Prune the --discriminator first, to so many times fewer parameters.",
        LOSSES,
        default="not pruned",
    ),
]
Optimizer = Annotated[
    Literal["soap", "adamw", "adam"] | None, option("Which optimiser makes the steps.", LOSSES)
]
LearningRate = Annotated[
    float | None,
    option(
        "Learning rate; lower it if the result gets worse. --recipe faithful chooses it by how "
        "near the student starts.",
        LOSSES,
    ),
]

Batch = Annotated[
    int | None,
    option("Crops that go through the networks at once; fewer need less memory.", IMAGES),
]
Accumulate = Annotated[
    int | None,
    option(
        "Batches of a step, one after the other: larger steps in the same memory.",
        IMAGES,
        default="1",
    ),
]
LoadSize = Annotated[
    int | None,
    option("Shorter side to which images are resized before they are cropped.", IMAGES),
]
Crop = Annotated[
    int | None, option("Side of the random crops; smaller ones make faster steps.", IMAGES)
]
Jitter = Annotated[
    float | None,
    option(
        "Share of the crops in other colours (colour jitter), where the teacher alone says what "
        "is right.",
        IMAGES,
    ),
]
Reuse = Annotated[
    int | None,
    option("Steps that share one output of the teacher; 1 runs it at every step.", IMAGES),
]
Cache = Annotated[
    str | None,
    option(
        "Folder that keeps the teacher's outputs for later runs; off keeps none.",
        IMAGES,
        default="wkdc's cache",
    ),
]
