"""Train a generator from scratch: CycleGAN on unpaired images, pix2pix or pix2pixHD on pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from wkdc.checkpoints.card import make_card, read_card, relative_to
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.checkpoints.run_record import REVERSE
from wkdc.data.folders import Data, as_folder
from wkdc.data.inputs import channels_for, check_inputs
from wkdc.data.layouts import Direction, Layout, is_paired, read_layout
from wkdc.data.pairs import has_pix2pixhd_pairs, has_separate_pairs
from wkdc.errors import DatasetError, OptionError, OutputError
from wkdc.metrics.fidelity import Fidelity
from wkdc.networks.architecture import Architecture, valid_side
from wkdc.networks.layers import Norm, initialise
from wkdc.networks.stock import Network, stock_architecture
from wkdc.system.devices import check_device
from wkdc.system.files import check_writable
from wkdc.training.checks import check_features, usable_losses
from wkdc.training.device import choose_dtype
from wkdc.training.direction import Pair
from wkdc.training.distributed import Processes
from wkdc.training.loop import SAVE_EVERY, StepReport
from wkdc.training.recipe import CYCLEGAN, PIX2PIX, PIX2PIXHD, Precision, Recipe
from wkdc.training.run_config import Callbacks, Length, RunConfig
from wkdc.training.run_folder import RunFolder
from wkdc.training.session import Outcome, Session
from wkdc.training.setup import MOST_ENLARGED, device_of, read_config
from wkdc.training.tracking import Tracker, check_tracker

BLOCKS = 9
"""Residual blocks of the papers' generators for images of 256x256."""


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
    data: Data,
    *,
    output: str | Path = "teacher.pth",
    network: Network | None = None,
    ngf: int = 64,
    blocks: int | None = None,
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
        data: a folder with `trainA` and `trainB`; with pairs in `train` (side by side) or in
            `A/train` and `B/train`; or with pix2pixHD's, `train_label` and `train_img`; see
            `wkdc.data.layouts.read_layout`.
        network: `resnet`, the default for unpaired data; `unet`, for pairs; or `pix2pixhd`, its
            global generator, for pairs in pix2pixHD's folders.
        ngf: channels of the first layer; `blocks` residual blocks, by default 9. A U-Net has none.
        norm: by default `instance`, but `batch` for pairs outside of pix2pixHD's folders, as in the
            papers.
        recipe: by default `CYCLEGAN`, `PIX2PIX` or `PIX2PIXHD`.
        steps, epochs, minutes, direction, device, precision, seed, runs, compiled, save_every,
            tracker, on_step, on_notice: see `wkdc.distill.distill`.

    Raises:
        OptionError: two lengths at once, or a value out of range.
        DatasetError, ImageError: the images cannot be used.
        DivergedError: the loss or an image became NaN.
        OutputError: `output` exists, or something cannot be written.
    """
    if ngf < 1 or (blocks is not None and blocks < 1):
        shown = "" if blocks is None else f" and {blocks} blocks"
        raise OptionError(f"ngf {ngf}{shown} asked for; 1 or more is needed")
    folder = as_folder(data)
    config = RunConfig(
        command="train",
        data=str(folder.path.resolve()),
        value_range=folder.value_range,
        recipe=recipe or recipe_for(folder.path),
        direction=direction,
        device=device,
        precision=precision,
        seed=seed,
        arch=None,
        compiled=compiled,
        save_every=60 * save_every,
        tracker=tracker,
    )
    wanted = _Wanted(network, ngf, blocks, norm, Path(output))
    callbacks = Callbacks(on_step, None, on_notice or (lambda _: None))
    return _begin(wanted, config, Length(steps, epochs, minutes), Path(runs), callbacks)


@dataclass(frozen=True)
class _Wanted:
    """The network that shall be trained, and its file; see `train`."""

    network: Network | None
    ngf: int
    blocks: int | None
    norm: Norm | None
    output: Path

    def outputs(self, *, paired: bool) -> list[Path]:
        """The files to write, a second one for the other direction of unpaired data.

        Raises:
            OutputError: one is there already, or cannot be written.
        """
        check_writable(self.output)
        paths = [self.output]
        if not paired:
            paths.append(self.output.with_stem(f"{self.output.stem}-{REVERSE}"))
        for path in paths:
            if path.exists():
                raise OutputError(f"{path} exists and is not replaced; name another with --output")
            check_writable(path)
        return paths

    def architecture(self, *, paired: bool, apart: bool, side: int) -> Architecture:
        """The network for pairs, for pairs `apart` as in pix2pixHD, or for unpaired images.

        Raises:
            OptionError: blocks of a U-Net, which has none.
        """
        network = self.network or ("pix2pixhd" if apart else "unet" if paired else "resnet")
        if network == "unet" and self.blocks is not None:
            raise OptionError(
                f"{self.blocks} residual blocks were asked for, and a U-Net has none: leave blocks "
                "out, or choose another network, such as resnet"
            )
        return stock_architecture(
            network,
            ngf=self.ngf,
            blocks=BLOCKS if self.blocks is None else self.blocks,
            norm=self.norm or ("batch" if paired and not apart else "instance"),
            side=side,
        )


def _begin(
    wanted: _Wanted, config: RunConfig, length: Length, runs: Path, callbacks: Callbacks
) -> TrainResult:
    check_tracker(config.tracker)
    processes = Processes.join(check_device(config.device))
    choose_dtype(config.precision, processes.device)
    folder = Path(config.data)
    apart = has_pix2pixhd_pairs(folder)
    paired = has_separate_pairs(folder) or is_paired(folder)
    outputs = wanted.outputs(paired=paired)
    recipe = config.recipe
    architecture = wanted.architecture(paired=paired, apart=apart, side=recipe.crop)
    crop = valid_side(recipe.crop, architecture)
    recipe = replace(recipe, crop=crop, load_size=max(recipe.load_size, crop))
    config = replace(config, recipe=recipe)
    layout = _read(config, callbacks.on_notice)
    recipe, channels = _check(layout, recipe, architecture, callbacks.on_notice)
    architecture = replace(architecture, options=architecture.options | {"in_channels": channels})
    processes.check_image_count(len(layout.train))
    config = replace(
        config,
        recipe=recipe,
        budget=length.budget(recipe, len(layout.train), processes),
        output=str(outputs[0].resolve()),
        reverse_output=str(outputs[1].resolve()) if outputs[1:] else None,
    )
    with RunFolder.new(runs, "train", processes) as run:
        _save_fresh(run, architecture, len(outputs), config.seed, processes)
        outcome = Session(_pairs(run, layout), config, run, processes, None, callbacks).run()
    return _result(outcome, outputs, run)


def _check(
    layout: Layout, recipe: Recipe, architecture: Architecture, on_notice: Callable[[str], None]
) -> tuple[Recipe, int]:
    """Make sure that something is learned; the recipe for this data, and its inputs' channels."""
    unpaired = layout.kind == "unpaired"
    recipe = usable_losses(
        recipe, layout, alike=True, teacher=False, cycle=unpaired, on_notice=on_notice
    )
    check_features(recipe, layout, None)
    channels = channels_for(layout)
    check_inputs(layout, channels, int(architecture.options["out_channels"]))
    return recipe, channels


def _save_fresh(
    run: RunFolder, architecture: Architecture, count: int, seed: int, processes: Processes
) -> None:
    """Write the networks that the run begins with, of random weights."""

    def save() -> None:
        torch.manual_seed(seed)
        for name in ("", REVERSE)[:count]:
            fresh = architecture.build()
            initialise(fresh)
            save_generator(run.start_of(name), fresh, make_card(architecture, None, []))

    processes.by_first(save)


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
    callbacks = Callbacks(on_step, None, on_notice or (lambda _: None))
    _, config = read_config(Path(run), "train", None)
    processes = Processes.join(device_of(config, Path(run)))
    outputs = [Path(relative_to(path, Path.cwd())) for path in config.outputs]
    with RunFolder(Path(run), processes) as folder:
        begun, config = read_config(folder.path, "train", None)  # it may have ended meanwhile
        layout = _read(config, callbacks.on_notice)
        for path in outputs:
            _check_own(path, begun["run"])
        pairs = _pairs(folder, layout)
        outcome = Session(pairs, config, folder, processes, None, callbacks, begun).run()
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
    """`PIX2PIX` for a folder of pairs, `PIX2PIXHD` where they lie as there, else `CYCLEGAN`."""
    if has_pix2pixhd_pairs(folder):
        return PIX2PIXHD
    return PIX2PIX if has_separate_pairs(folder) or is_paired(folder) else CYCLEGAN


def _read(config: RunConfig, on_notice: Callable[[str], None]) -> Layout:
    """The images of a training from scratch, which has no teacher to learn from."""
    folder = config.folder
    both = all((folder.path / f"train{letter}").is_dir() for letter in "AB")
    layout = read_layout(
        folder,
        direction=config.direction,
        seed=config.seed,
        smallest=config.recipe.crop // MOST_ENLARGED,
        both=both,
        on_notice=on_notice,
    )
    if layout.kind == "inputs":
        raise DatasetError(
            f"{folder} holds inputs alone, and there is no teacher to learn from; give a folder "
            "with trainA and trainB, with train (input and target side by side), or with "
            "train_label and train_img"
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
