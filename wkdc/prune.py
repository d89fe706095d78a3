"""Teacher -> student: choose the channels that stay, slice, reconstruct what is left."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from wkdc.checkpoints.card import history_entry, make_card, read_card, relative_to
from wkdc.checkpoints.checkpoint import Generator, load_network, save_generator
from wkdc.checkpoints.recognition import recognise
from wkdc.data.calibration import CALIBRATE, calibration_images
from wkdc.data.layouts import Direction
from wkdc.errors import CheckpointError, OptionError
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.architecture import Architecture, measured_size
from wkdc.networks.complexity import Complexity, measure_complexity
from wkdc.networks.custom import shapes_of
from wkdc.pruning.activations import Observation
from wkdc.pruning.constraints import Constraints, Widths
from wkdc.pruning.importance import NEED_IMAGES, Importance
from wkdc.pruning.latency_target import measure_clock
from wkdc.pruning.plan import Clock, Plan
from wkdc.pruning.planner import make_plan
from wkdc.pruning.reconstruction import LayerFit, reconstruct
from wkdc.pruning.target import Quantity, read_target
from wkdc.pruning.width_search import Prefer
from wkdc.system.devices import check_device
from wkdc.system.files import check_writable, write_atomically

MEASURED = 4
"""Calibration images that the student's first PSNR is measured on."""


@dataclass(frozen=True)
class PruneResult:
    """A student, how it compares with its teacher, and where it was written.

    Attributes:
        output: the file; None for a plan that was only made.
        architecture: the student's; `teacher_architecture` the teacher's.
        widths: the teacher's channels and the student's, by the first layer that makes them; 0
            where a block went.
        expected_psnr_db: a rough guess, from the error increase of each group of channels alone,
            at the untrained student's PSNR to its teacher: good for comparing plans; None without
            images, and for a discriminator.
        psnr_db: the untrained student's PSNR to its teacher, measured on up to `MEASURED` of the
            images that it was calibrated on; None where nothing was written, too.
        clock: where the time was measured.
        importance: what decided which channels stay.
        calibrated_on: how many images were looked at, and `source`, whose they are: a folder, or
            None for the bundled photos.
        layers: how well each reconstructed layer follows the teacher.
        teacher, student: parameters, and MACs for one image of `size` (height, width).
        teacher_bytes, student_bytes: sizes of the two files.
    """

    output: Path | None
    architecture: Architecture
    teacher_architecture: Architecture
    widths: dict[str, tuple[int, int]]
    expected_psnr_db: float | None
    psnr_db: float | None
    clock: Clock | None
    teacher: Complexity
    student: Complexity
    size: tuple[int, int]
    teacher_bytes: int
    student_bytes: int | None
    importance: Importance
    calibrated_on: int
    source: Path | None
    layers: tuple[LayerFit, ...]

    @property
    def params_ratio(self) -> float:
        return self.teacher.params / self.student.params

    @property
    def macs_ratio(self) -> float:
        return self.teacher.macs / self.student.macs


def prune(
    teacher: Generator | str | Path,
    *,
    ratio: float | None = None,
    by: Quantity | None = None,
    params: int | None = None,
    macs: int | None = None,
    latency_ms: float | None = None,
    output: str | Path | None = None,
    data: str | Path | None = None,
    calibrate: int = CALIBRATE,
    direction: Direction = "AtoB",
    importance: Importance | None = None,
    widths: Widths | None = None,
    prefer: Prefer | None = None,
    round_to: int | None = None,
    drop_blocks: int | None = None,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
    dry_run: bool = False,
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> PruneResult:
    """Write a student that is smaller than `teacher` by as much as is asked.

    Which channels stay is decided by `importance`, how many of each layer by `widths`. The
    image's own channels are untouched. What is left is reconstructed, so that the student draws
    like its teacher before it is trained.

    Args:
        teacher: a file, or what was loaded from one: a generator, or a discriminator.
        ratio: how many times fewer parameters, or what `by` says; above 1, met within 2 %.
        params, macs, latency_ms: instead of `ratio`, what the student shall have: parameters, MACs
            or milliseconds in ONNX Runtime for one image of `size`. Times are measured here and
            now; they are met as nearly as they can be told.
        output: the file to write, by default `student.pth`, or `discriminator.pth` for one;
            replaced whole if it exists; a trained student is copied aside.
        data: a folder of the teacher's inputs, in one of the layouts of `wkdc.data.layouts`;
            without one, bundled photos calibrate a teacher of grey or RGB images.
        calibrate: how many images to use; 0 slices only.
        direction: `BtoA` for a generator that draws domain A from domain B.
        importance: see `wkdc.pruning.importance.rank`; by default `readers`, or `magnitude`
            where no image calibrates.
        widths, prefer, round_to, drop_blocks: see `wkdc.pruning.constraints`; a discriminator's
            widths are uniform unless told otherwise.
        size: height and width for MACs and times, 256x256 or the next that the network draws.
        device: where times are measured, `cpu` or `cuda`.
        dry_run: make the plan, measure it in ONNX Runtime, and write nothing.
        seed: for `random`, and of the choice of held-out images in `data`.
        on_progress: called with what is being done, and the share of all that is done.
        on_notice: called with one sentence for each thing that the user should know.

    Raises:
        OptionError: no target or two, one that makes nothing smaller, constraints that do not go
            together, or the student would overwrite its teacher.
        TargetError: the target cannot be reached, and the message names the smallest network.
        DatasetError, ImageError: the images in `data` cannot be used.
        CheckpointError, DeviceError, OutputError: see `load_generator` and `save_generator`.
    """
    if calibrate < 0:
        raise OptionError(f"calibrate is {calibrate}; give a number of images, 0 for none")
    if calibrate == 0 and data is not None:
        raise OptionError(f"data {data} would not be used: calibrate is 0; leave one of them out")
    if check_device(device).index:
        raise OptionError(f"device {device} is not timed; ONNX Runtime uses the first, cuda")
    generator = teacher if isinstance(teacher, Generator) else load_network(teacher)
    draws = not generator.architecture.is_discriminator
    output = Path(output or ("student.pth" if draws else "discriminator.pth"))
    folder = None if data is None else Path(data)
    if not dry_run:
        if output.resolve() == generator.path.resolve():
            raise OptionError(
                f"the student would overwrite its teacher {output}; give another --output"
            )
        check_writable(output)
    size = measured_size(size, generator.architecture)
    before = measure_complexity(generator.network, generator.in_channels, size)
    target = read_target(
        before, ratio=ratio, by=by, params=params, macs=macs, latency_ms=latency_ms
    )
    timed = dry_run or (target is not None and target.quantity == "latency")
    if device != "cpu" and not timed:
        raise OptionError(
            f"device {device} would not be used: it is for times; ask for a latency or a dry run"
        )
    images = calibration_images(
        generator, folder, calibrate, direction=direction, seed=seed, on_notice=on_notice
    )
    importance = importance or ("readers" if images else "magnitude")
    if importance in NEED_IMAGES and not images:
        raise OptionError(
            f"importance {importance} needs images to see what the layers do with them; "
            "give --data and --calibrate 1 or more, or choose magnitude"
        )
    tell = on_progress or (lambda stage, share: None)
    share_of_plan = 0.9 if dry_run else 0.6
    plan = make_plan(
        generator,
        target,
        images,
        Constraints(
            widths or (None if draws else "uniform"),
            prefer,
            round_to,
            drop_blocks,
            importance,
            seed,
        ),
        size=size,
        device=device,
        on_progress=lambda stage, share: tell(stage, share_of_plan * share),
    )
    if plan.left and on_notice is not None:
        more = f" and {len(plan.left) - 3} more" if len(plan.left) > 3 else ""
        on_notice(f"these keep their width: {', '.join(plan.left[:3])}{more}; see docs/custom.md")
    clock, layers = plan.clock, tuple[LayerFit, ...]()
    if clock is not None and not clock.met and on_notice is not None:
        on_notice(
            f"the nearest that was found takes {clock.student_ms:.4g} ms instead of "
            f"{clock.wanted_ms:.4g}; times of this machine vary, or widths come in steps"
        )
    if dry_run:
        tell("measuring in ONNX Runtime", share_of_plan)
        clock = clock or measure_clock(plan, size, device)
        student, architecture = rebuild(plan.sliced(), generator.architecture)
    else:
        student, architecture, layers = build(
            plan, on_layer=lambda share: tell("reconstructing layers", 0.6 + 0.4 * share)
        )
        made_from: dict[str, Any] = {
            "path": relative_to(generator.path, output.parent),
            "sha256": generator.sha256,
            "params": before.params,
            "macs": before.macs,
        }
        entry = history_entry(
            "prune",
            ratio=ratio,
            by=by,
            params=params,
            macs=macs,
            latency_ms=latency_ms,
            size=list(size),
            device=device,
            widths=widths if isinstance(widths, str | None) else list(widths),
            prefer=prefer,
            round_to=round_to,
            drop_blocks=drop_blocks,
            importance=importance,
            seed=seed,
            calibrated_on=len(images),
            data=None if folder is None else str(folder),
        )
        kept = keep_trained(output)
        if kept is not None and on_notice is not None:
            on_notice(f"{output} had been trained; it is kept as {kept}")
        save_generator(output, student, make_card(architecture, made_from, [entry]))
    return PruneResult(
        None if dry_run else output,
        architecture,
        generator.architecture,
        plan.widths,
        plan.expected_psnr_db if draws else None,  # scores are no images
        None if dry_run or not draws else _psnr_db(student, plan.observed),
        clock,
        before,
        measure_complexity(student, generator.in_channels, size),
        size,
        generator.path.stat().st_size,
        None if dry_run else output.stat().st_size,
        importance,
        len(images),
        folder,
        layers,
    )


@torch.inference_mode()
def _psnr_db(student: nn.Module, teacher: Observation | None) -> float | None:
    """How near the student's images are to those that its teacher drew, if it drew any."""
    if teacher is None:
        return None
    pairs = list(zip(teacher.images, teacher.drawn, strict=True))
    chosen = pairs[:: max(1, len(pairs) // MEASURED)][:MEASURED]
    return mean_fidelity((student(image), drawn) for image, drawn in chosen).psnr_db


def keep_trained(path: Path) -> Path | None:
    """Copy a student that was trained aside, `student.pth` to `student.old.pth`; where it is now.

    None where there is no such file, or it holds nothing that took time to make.
    """
    try:
        card = read_card(path) or {}
    except CheckpointError:
        return None
    if not any(entry["command"] in ("distill", "train") for entry in card.get("history", [])):
        return None
    kept = path.with_suffix(f".old{path.suffix}")
    write_atomically(kept, lambda file: shutil.copyfile(path, file))
    return kept


def build(
    plan: Plan, *, on_layer: Callable[[float], None] | None = None
) -> tuple[nn.Module, Architecture, tuple[LayerFit, ...]]:
    """The student of `plan`, reconstructed where images were seen, what it is, and how well."""
    sliced = plan.sliced()
    layers: list[LayerFit] = []
    if plan.observed is not None:
        kept = {
            name: group.made_by(name, chosen)
            for group, chosen in zip(plan.groups, plan.kept, strict=True)
            for name in group.makers
        }
        layers = reconstruct(sliced, kept, plan.observed, on_layer=on_layer)
    student, architecture = rebuild(sliced, plan.teacher.architecture)
    return student, architecture, tuple(layers)


def rebuild(sliced: nn.Module, teacher: Architecture) -> tuple[nn.Module, Architecture]:
    """A fresh network of the widths that are left in `sliced`, with its weights."""
    if teacher.family == "custom":
        shapes = shapes_of(sliced.state_dict())
        architecture = replace(teacher, options={**teacher.options, "shapes": shapes})
        network = architecture.build()
        network.load_state_dict(sliced.state_dict())
        return network.eval(), architecture
    recognition = recognise(
        sliced.state_dict(),
        norm=teacher.options["norm"],
        block_padding=teacher.options.get("block_padding"),
        upsampling=teacher.options.get("upsampling"),
    )
    student = recognition.architecture.build().eval()
    student.load_state_dict(recognition.state_dict)
    return student, recognition.architecture
