"""Teacher -> student: plan, slice, reconstruct, write, measure."""

import contextlib
import filecmp
import itertools
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoints.card import history_entry, make_card, read_card, relative_to
from wkdc.checkpoints.checkpoint import Generator, save_generator
from wkdc.data.calibration import read_calibration
from wkdc.data.folders import describe_data
from wkdc.errors import CheckpointError, OptionError
from wkdc.inference.batch_statistics import doubt_statistics
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.architecture import Architecture, measured_size
from wkdc.networks.complexity import Complexity, measure_complexity
from wkdc.pruning.activations import Observation
from wkdc.pruning.build import build, rebuild
from wkdc.pruning.constraints import Constraints
from wkdc.pruning.importance import NEED_IMAGES, Importance
from wkdc.pruning.latency_target import measure_clock
from wkdc.pruning.plain_sampling import without_blurs
from wkdc.pruning.plan import Plan
from wkdc.pruning.planner import make_plan
from wkdc.pruning.reconstruction import LayerFit
from wkdc.pruning.result import PruneResult
from wkdc.pruning.settings import PruneSettings
from wkdc.pruning.target import Target, read_target
from wkdc.system.devices import check_device
from wkdc.system.files import check_writable, write_atomically

MEASURED = 4
"""Calibration images that the student's first PSNR is measured on."""

Progress = Callable[[str, float], None]
Notice = Callable[[str], None]


def prune_network(
    teacher: Generator,
    settings: PruneSettings,
    output: Path | None,
    *,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> PruneResult:
    """Make the student that `settings` ask for, and write it to `output`.

    Args:
        output: None makes the plan, measures its latency, and writes nothing.

    Raises:
        OptionError, TargetError, ...: see `wkdc.prune.prune`.
    """
    progress, notice = on_progress or (lambda _, __: None), on_notice or (lambda _: None)
    if output is not None:
        _check_output(output, teacher)
    size = measured_size(settings.size, teacher.architecture)
    before = measure_complexity(teacher.network, teacher.in_channels, size)
    target = _target(before, settings, dry_run=output is None)
    calibration = read_calibration(
        teacher,
        settings.data,
        settings.calibrate,
        jitter=settings.jitter,
        direction=settings.direction,
        seed=settings.seed,
        on_notice=on_notice,
    )
    own, images = calibration.images, calibration.images + calibration.copies
    if doubt := doubt_statistics(teacher, own):
        notice(doubt)
    plan = _planned(
        teacher,
        target,
        images,
        settings,
        size=size,
        dry_run=output is None,
        progress=progress,
        notice=notice,
    )
    layers: tuple[LayerFit, ...] = ()
    if output is None:
        student, architecture = rebuild(plan.sliced(), plan.teacher.architecture)
    else:
        student, architecture, layers = build(
            plan, on_layer=lambda share: progress("reconstructing layers", 0.6 + 0.4 * share)
        )
        entry = _entry(settings, size, own)
        _write(output, student, architecture, teacher, before, entry, notice)
    generates = not teacher.architecture.is_discriminator  # scores are no images
    return PruneResult(
        output,
        architecture,
        teacher.architecture,
        plan.widths,
        plan.expected_psnr_db if generates else None,
        _psnr_db(student, plan.observed, len(own)) if generates and output is not None else None,
        plan.clock,
        before,
        measure_complexity(student, teacher.in_channels, size),
        size,
        teacher.path.stat().st_size,
        None if output is None else output.stat().st_size,
        _importance(settings, images),
        len(own),
        len(calibration.copies),
        None if settings.data is None else settings.data.path,
        layers,
    )


def _check_output(output: Path, teacher: Generator) -> None:
    if output.resolve() == teacher.path.resolve():
        raise OptionError(
            f"the student would overwrite its teacher {output}; give another --output"
        )
    check_writable(output)


def _importance(settings: PruneSettings, images: list[Tensor]) -> Importance:
    importance = settings.importance or ("readers" if images else "magnitude")
    if importance in NEED_IMAGES and not images:
        raise OptionError(
            f"importance {importance} needs images to see what the layers do with them; "
            "give --data and --calibrate 1 or more, or choose magnitude"
        )
    return importance


def _target(teacher: Complexity, settings: PruneSettings, *, dry_run: bool) -> Target | None:
    """The one target that was given, once the device for its latency has been checked."""
    if check_device(settings.device).index:
        raise OptionError(
            f"device {settings.device} is not timed; ONNX Runtime uses the first, cuda"
        )
    target = read_target(
        teacher,
        ratio=settings.ratio,
        by=settings.by,
        params=settings.params,
        macs=settings.macs,
        latency_ms=settings.latency_ms,
    )
    timed = dry_run or (target is not None and target.quantity == "latency")
    if settings.device != "cpu" and not timed:
        raise OptionError(
            f"device {settings.device} would not be used: it is for times; ask for a latency or a "
            "dry run"
        )
    return target


def _planned(
    teacher: Generator,
    target: Target | None,
    images: list[Tensor],
    settings: PruneSettings,
    *,
    size: tuple[int, int],
    dry_run: bool,
    progress: Progress,
    notice: Notice,
) -> Plan:
    """The plan, with what should be known of it said; a dry run's has its latency measured."""
    share_of_plan = 0.9 if dry_run else 0.6
    widths = settings.widths or ("uniform" if teacher.architecture.is_discriminator else None)
    plain = None
    if settings.antialias != "keep":
        progress("solving layers without blurs", 0.0)
        plain = without_blurs(teacher, images, settings.antialias)
    plan = make_plan(
        plain.teacher if plain else teacher,
        target,
        images,
        Constraints(
            widths,
            settings.prefer,
            settings.round_to,
            settings.drop_blocks,
            _importance(settings, images),
            settings.seed,
        ),
        size=size,
        device=settings.device,
        on_progress=lambda stage, share: progress(stage, share_of_plan * share),
    )
    plan = plain.follow(plan) if plain else plan
    if plan.left:
        more = f" and {len(plan.left) - 3} more" if len(plan.left) > 3 else ""
        notice(f"these keep their width: {', '.join(plan.left[:3])}{more}; see docs/custom.md")
    clock = plan.clock
    if clock is not None and not clock.met:
        notice(
            f"the nearest that was found takes {clock.student_ms:.4g} ms instead of "
            f"{clock.wanted_ms:.4g}; times of this machine vary, or widths come in steps"
        )
    if dry_run and clock is None:
        progress("measuring in ONNX Runtime", share_of_plan)
        plan = replace(plan, clock=measure_clock(plan, teacher, size, settings.device))
    return plan


def _write(
    output: Path,
    student: nn.Module,
    architecture: Architecture,
    teacher: Generator,
    cost: Complexity,
    entry: Mapping[str, Any],
    notice: Notice,
) -> None:
    """Write the student with its card; a trained one of its name is copied aside first.

    Args:
        cost: the teacher's.
        entry: the card's entry of this command.
    """
    kept = keep_trained(output)
    if kept is not None:
        notice(f"what {output} held is kept as {kept}")
    made_from = {
        "path": relative_to(teacher.path, output.parent),
        "sha256": teacher.sha256,
        "params": cost.params,
        "macs": cost.macs,
    }
    if said := teacher.reading.for_card():
        made_from["reading"] = said
    save_generator(output, student, make_card(architecture, made_from, [dict(entry)]))


def _entry(settings: PruneSettings, size: tuple[int, int], images: list[Tensor]) -> dict[str, Any]:
    """The card's entry of this command: what was asked for, and what was assumed."""
    asked = {field.name: getattr(settings, field.name) for field in fields(settings)}
    widths = settings.widths
    asked |= {
        "size": list(size),
        "widths": widths if isinstance(widths, str | None) else list(widths),
        "importance": _importance(settings, images),
        **describe_data(settings.data),
        "calibrated_on": len(images),
    }
    del asked["calibrate"], asked["direction"]
    return history_entry("prune", **asked)


@torch.inference_mode()
def _psnr_db(student: nn.Module, teacher: Observation | None, count: int) -> float | None:
    """How near the student is to its teacher on a few of the first `count` images, if any."""
    if teacher is None:
        return None
    pairs = list(zip(teacher.images, teacher.generated, strict=True))[:count]
    chosen = pairs[:: max(1, len(pairs) // MEASURED)][:MEASURED]
    return mean_fidelity((student(image), wanted) for image, wanted in chosen).psnr_db


def keep_trained(path: Path) -> Path | None:
    """Copy a student that was trained aside, `student.pth` to `student.old.pth`; where it is now.

    `student.old2.pth` and so on where there are such files. What cannot be read, such as a file of
    a newer wkdc, may have been trained. None where there is no file, or it was not.
    """
    if not path.is_file():
        return None
    with contextlib.suppress(CheckpointError):
        history = (read_card(path) or {}).get("history", [])
        if not any(entry["command"] in ("distill", "train") for entry in history):
            return None
    numbers = itertools.chain([""], itertools.count(2))
    names = (path.with_suffix(f".old{number}{path.suffix}") for number in numbers)
    for kept in names:
        if not kept.exists():
            write_atomically(kept, lambda file: shutil.copyfile(path, file))
            break
        if filecmp.cmp(kept, path, shallow=False):  # by a command that failed afterwards
            break
    return kept
