"""Train a generator from scratch: CycleGAN on unpaired images, pix2pix or pix2pixHD on pairs."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from wkdc.checkpoints.card import make_card, read_card, relative_to
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.data.inputs import channels_for, check_inputs
from wkdc.data.layouts import Direction, Layout, is_paired, read_layout
from wkdc.data.pairs import has_separate_pairs
from wkdc.errors import DatasetError, OptionError, OutputError
from wkdc.metrics.fidelity import Fidelity
from wkdc.networks.architecture import Architecture, valid_side
from wkdc.networks.layers import Norm, initialise
from wkdc.system.devices import check_device
from wkdc.system.files import check_writable
from wkdc.training.device import choose_dtype
from wkdc.training.direction import Pair
from wkdc.training.distributed import Ranks
from wkdc.training.loop import SAVE_EVERY, Budget, StepReport, check_length, steps_in
from wkdc.training.opening import MOST_ENLARGED, check_features, check_losses
from wkdc.training.recipe import CYCLEGAN, PIX2PIX, PIX2PIXHD, Precision, Recipe
from wkdc.training.reopening import check_same, read_request
from wkdc.training.run_config import Request
from wkdc.training.run_folder import RunFolder
from wkdc.training.session import Outcome, Session
from wkdc.training.students import REVERSE
from wkdc.training.tracking import Tracker, check_tracker

Network = Literal["resnet", "unet", "pix2pixhd"]

UNET_SIDE = 256
"""What the largest U-Net is made for: eight levels, the innermost a single pixel."""


@dataclass(frozen=True)
class TrainResult:
    """What a training from scratch did.

    Attributes:
        output: the generator; `reverse` the one of the other direction, of unpaired images.
        run: the folder with options, metrics, samples and checkpoints.
        seconds: of wall clock, measuring included.
        images_per_second: trained images by the seconds spent on training steps.
        losses: mean of each over the last tenth of the steps.
        to_truth: how near it is to the true images of paired data, on those that it was not
            trained on; None for unpaired data, which has none.
        interrupted: whether the run was stopped before its end.
    """

    output: Path
    reverse: Path | None
    run: Path
    steps: int
    seconds: float
    images_per_second: float
    losses: dict[str, float]
    to_truth: Fidelity | None
    interrupted: bool


def train(
    data: str | Path,
    *,
    output: str | Path = "teacher.pth",
    network: Network | None = None,
    ngf: int = 64,
    blocks: int = 9,
    norm: Norm | None = None,
    recipe: Recipe | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    direction: Direction = "AtoB",
    device: str = "cpu",
    precision: Precision = "auto",
    seed: int = 0,
    runs: str | Path = "runs",
    compiled: bool = False,
    save_every: float = SAVE_EVERY,
    tracker: Tracker = "none",
    on_step: Callable[[StepReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a generator on the images in `data` and write it to `output`.

    Unpaired images train two, one for each direction; the second is written beside the first,
    as `teacher-reverse.pth`. KeyboardInterrupt ends the training early and keeps what was learned;
    `resume_training` goes on.

    Args:
        data: a folder with `trainA` and `trainB`, with `train` (side by side), or with
            `train_label` and `train_img`; see `wkdc.data.layouts.read_layout`.
        network: `resnet`, the default for unpaired data; `unet`, for pairs side by side; or
            `pix2pixhd`, its global generator, for pairs in folders of their own.
        ngf: channels of the first layer; `blocks` residual blocks, of all but a U-Net.
        norm: by default `batch` for pairs side by side, else `instance`, as in the papers.
        recipe: by default `CYCLEGAN`, `PIX2PIX` or `PIX2PIXHD`.
        steps, epochs, minutes, direction, device, precision, seed, runs, compiled, save_every,
            tracker, on_step, on_notice: see `wkdc.distill.distill`.

    Raises:
        OptionError: two lengths at once, or a value out of range.
        DatasetError, ImageError: the images cannot be used.
        DivergedError: the loss or an image became NaN.
        OutputError: `output` exists, or something cannot be written.
    """
    if ngf < 1 or blocks < 1:
        raise OptionError(f"ngf {ngf} and {blocks} blocks were asked for; both need 1 or more")
    length_given = check_length(steps=steps, epochs=epochs, minutes=minutes)
    check_tracker(tracker)
    ranks = Ranks.join(check_device(device))
    choose_dtype(precision, ranks.device)
    folder = Path(data)
    apart = has_separate_pairs(folder)
    paired = apart or is_paired(folder)
    outputs = [Path(output)]
    check_writable(outputs[0])
    if not paired:
        outputs.append(outputs[0].with_stem(f"{outputs[0].stem}-{REVERSE}"))
    for path in outputs:
        if path.exists():
            raise OutputError(f"{path} exists and is not replaced; name another with --output")
        check_writable(path)
    recipe = recipe or recipe_for(folder)
    network = network or ("pix2pixhd" if apart else "unet" if paired else "resnet")
    architecture = stock_architecture(
        network,
        ngf=ngf,
        blocks=blocks,
        norm=norm or ("batch" if paired and not apart else "instance"),
        side=recipe.crop,
    )
    crop = valid_side(recipe.crop, architecture)
    recipe = replace(recipe, crop=crop, load_size=max(recipe.load_size, crop))
    layout = _read(folder, direction, seed, recipe, on_notice)
    unpaired = layout.kind == "unpaired"
    check_losses(recipe, layout, alike=True, teacher=False, cycle=unpaired)
    check_features(recipe, layout, None)
    channels = channels_for(layout)
    check_inputs(layout, channels, int(architecture.options["out_channels"]))
    architecture = replace(architecture, options=architecture.options | {"in_channels": channels})
    if not length_given:
        epochs = recipe.epochs
    ranks.check_image_count(len(layout.train))
    if epochs is not None:
        steps = steps_in(epochs, len(layout.train), recipe, ranks)
    request = Request(
        command="train",
        data=str(folder.resolve()),
        teacher=None,
        discriminator=None,
        output=str(outputs[0].resolve()),
        reverse_teacher=None,
        reverse_output=str(outputs[1].resolve()) if outputs[1:] else None,
        recipe=recipe,
        budget=Budget(steps, None if minutes is None else 60 * minutes),
        direction=direction,
        device=device,
        precision=precision,
        seed=seed,
        arch=None,
        compiled=compiled,
        save_every=60 * save_every,
        select="last",
        tracker=tracker,
        cache=None,
    )
    with RunFolder.new(Path(runs), "train", ranks) as run:
        torch.manual_seed(seed)
        for name, _ in zip(("", REVERSE), outputs, strict=False):
            fresh = architecture.build()
            initialise(fresh)
            if ranks.first:
                save_generator(run.start_of(name), fresh, make_card(architecture, None, []))
        ranks.wait()  # for the files
        session = Session(_pairs(run, layout), request, run, ranks)
        session.begin()
        outcome = session.train(on_step=on_step)
    return _result(outcome, outputs, run)


def resume_training(
    run: str | Path,
    *,
    on_step: Callable[[StepReport], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> TrainResult:
    """Go on with a run of `train` that was stopped or killed, with its own settings.

    Raises:
        OptionError, CheckpointError, DatasetError, ...: see `wkdc.distill.resume`.
    """
    notice = on_notice or (lambda _: None)
    begun, request = read_request(Path(run), "train", None)
    ranks = Ranks.join(check_device(request.device))
    outputs = [Path(relative_to(path, Path.cwd())) for path in request.outputs]
    with RunFolder(Path(run), ranks) as folder:
        begun, request = read_request(folder.path, "train", None)  # it may have ended meanwhile
        layout = _read(
            Path(request.data), request.direction, request.seed, request.recipe, on_notice
        )
        session = Session(_pairs(folder, layout), request, folder, ranks)
        check_same(folder.path, begun, session, notice)
        for path in outputs:
            _check_own(path, begun["run"])
        state = ranks.share(folder.load_state(notice) if ranks.first else None)
        outcome = session.train(state, on_step=on_step)
    return _result(outcome, outputs, folder)


def _check_own(path: Path, run: str) -> None:
    """Make sure that `path` can be written, and holds nothing but what this run left there.

    Raises:
        OutputError: it cannot, or another run's generator is there.
    """
    check_writable(path)
    if path.exists():
        history = (read_card(path) or {}).get("history", [])
        if not history or history[-1]["options"].get("run") != run:
            raise OutputError(f"{path} is not what this run left there; move it away")


def recipe_for(folder: Path) -> Recipe:
    """`PIX2PIX` for a folder of pairs, `PIX2PIXHD` where they lie apart, else `CYCLEGAN`."""
    if has_separate_pairs(folder):
        return PIX2PIXHD
    return PIX2PIX if is_paired(folder) else CYCLEGAN


def stock_architecture(
    network: Network, *, ngf: int, blocks: int, norm: Norm, side: int
) -> Architecture:
    """The generator of the papers with `ngf` channels in its first layer.

    Args:
        side: of the squares that a U-Net is trained on; it halves them down to a single pixel, at
            most eight times.

    Raises:
        OptionError: an unknown network.
    """
    common = {
        "in_channels": 3,
        "out_channels": 3,
        "norm": norm,
        "affine": norm == "batch",
        "bias": norm != "batch",
    }
    match network:
        case "resnet" | "pix2pixhd":
            halvings = 2 if network == "resnet" else 4
            narrow, stream = [ngf * 2**i for i in range(halvings)], ngf * 2**halvings
            widths = {
                "encoder": narrow,
                "stream": stream,
                "inner": [stream] * blocks,
                "decoder": narrow[::-1],
            }
            common["bias"] = network == "pix2pixhd" or norm != "batch"
            return Architecture("resnet", common | widths)
        case "unet":
            levels = max(2, min(8, math.ceil(math.log2(min(side, UNET_SIDE)))))
            down = [ngf * min(2**i, 8) for i in range(levels)]
            widths = {"down": down, "up": down[:-1]}
        case _:
            raise OptionError(f"network {network!r} is not known; choose resnet, unet or pix2pixhd")
    return Architecture(network, common | widths)


def _read(
    folder: Path,
    direction: Direction,
    seed: int,
    recipe: Recipe,
    on_notice: Callable[[str], None] | None,
) -> Layout:
    """The images of a training from scratch, which has no teacher to show what to draw."""
    both = (folder / "trainA").is_dir() and (folder / "trainB").is_dir()
    layout = read_layout(
        folder,
        direction=direction,
        seed=seed,
        smallest=recipe.crop // MOST_ENLARGED,
        both=both,
        on_notice=on_notice,
    )
    if layout.kind == "inputs":
        raise DatasetError(
            f"{folder} holds inputs alone, and no teacher shows what to draw; give a folder with "
            "trainA and trainB, with train (input and target side by side), or with train_label "
            "and train_img"
        )
    return layout


def _pairs(run: RunFolder, layout: Layout) -> list[Pair]:
    pairs = [Pair(load_generator(run.start_of()), None, layout)]
    if layout.kind == "unpaired":
        pairs.append(Pair(load_generator(run.start_of(REVERSE)), None, layout.reversed()))
    return pairs


def _result(outcome: Outcome, outputs: Sequence[Path], run: RunFolder) -> TrainResult:
    return TrainResult(
        output=outputs[0],
        reverse=outputs[1] if outputs[1:] else None,
        run=run.path,
        steps=outcome.steps,
        seconds=outcome.seconds,
        images_per_second=outcome.images_per_second,
        losses=outcome.losses,
        to_truth=outcome.after[0],
        interrupted=outcome.interrupted,
    )
