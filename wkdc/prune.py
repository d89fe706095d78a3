"""Teacher -> student: choose the channels that stay, slice, reconstruct what is left."""

import copy
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from wkdc.calibration import CALIBRATE, calibration_images
from wkdc.channels import channel_groups, choose_widths, slice_channels
from wkdc.checkpoint import (
    Generator,
    history_entry,
    load_generator,
    make_card,
    relative_to,
    save_generator,
)
from wkdc.complexity import Complexity, kernel_positions, measure_complexity
from wkdc.errors import CheckpointError, OptionError
from wkdc.files import check_writable, write_atomically
from wkdc.importance import Importance, input_moments, rank
from wkdc.layouts import Direction
from wkdc.recognition import Architecture, drawable_side, recognise
from wkdc.reconstruct import LayerFit, reconstruct

Quantity = Literal["params", "macs"]

SIZE = 256
"""Height and width that MACs are counted at, or the next that the network draws at."""


@dataclass(frozen=True)
class PruneResult:
    """A student, how it compares with its teacher, and where it was written.

    Attributes:
        architecture: the student's; `teacher_architecture` the teacher's.
        importance: what decided which channels stay.
        calibrated_on: how many pictures the student was reconstructed on, and `source`, whose they
            are: a folder, or None for the bundled photos.
        layers: how well each reconstructed layer follows the teacher.
        teacher, student: parameters, and MACs for one picture of `size` (height, width).
        teacher_bytes, student_bytes: sizes of the two files.
    """

    output: Path
    architecture: Architecture
    teacher_architecture: Architecture
    teacher: Complexity
    student: Complexity
    size: tuple[int, int]
    teacher_bytes: int
    student_bytes: int
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
    output: str | Path = "student.pth",
    data: str | Path | None = None,
    calibrate: int = CALIBRATE,
    direction: Direction = "AtoB",
    importance: Importance | None = None,
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> PruneResult:
    """Write a student that is smaller than `teacher` by as much as is asked.

    Every group of channels keeps the same share; which channels stay is decided by `importance`.
    The picture's own channels are untouched. What is left is reconstructed, so that the student
    draws like its teacher before it is trained.

    Args:
        teacher: a file, or a generator that was loaded from one.
        ratio: how many times fewer parameters, or MACs with `by`; above 1, met within 2 %.
        params, macs: instead of `ratio`, how many the student shall have; MACs at 256x256.
        output: the file to write, replaced whole if it exists; a trained student is copied aside.
        data: a folder of the teacher's inputs, in one of the layouts of `wkdc.layouts`; without
            one, bundled photos calibrate a teacher of grey or RGB pictures.
        calibrate: how many pictures to use; 0 slices only.
        direction: `BtoA` for a generator that draws domain A from domain B.
        importance: see `wkdc.importance.rank`; by default `readers`, or `magnitude` where no
            picture calibrates.
        seed: for `random`, and of the choice of held-out pictures in `data`.
        on_progress: called with what is being done, and the share of all that is done.
        on_notice: called with one sentence for each thing that the user should know.

    Raises:
        OptionError: no target or two, one that makes nothing smaller, an unknown importance,
            `readers` without pictures, or the student would overwrite its teacher.
        TargetError: the ratio cannot be reached, and the message names the largest that can; or
            the network holds layers that cannot be pruned.
        DatasetError, ImageError: the pictures in `data` cannot be used.
        CheckpointError, OutputError: see `load_generator` and `save_generator`.
    """
    if calibrate < 0:
        raise OptionError(f"calibrate is {calibrate}; give a number of pictures, 0 for none")
    if calibrate == 0 and data is not None:
        raise OptionError(f"data {data} would not be used: calibrate is 0; leave one of them out")
    generator = teacher if isinstance(teacher, Generator) else load_generator(teacher)
    output, folder = Path(output), None if data is None else Path(data)
    if output.resolve() == generator.path.resolve():
        raise OptionError(
            f"the student would overwrite its teacher {output}; give another --output"
        )
    check_writable(output)
    side = drawable_side(SIZE, generator.architecture)
    before = measure_complexity(generator.network, generator.in_channels, (side, side))
    ratio, quantity = target_ratio(before, ratio=ratio, by=by, params=params, macs=macs)
    images = calibration_images(
        generator, folder, calibrate, direction=direction, seed=seed, on_notice=on_notice
    )
    importance = importance or ("readers" if images else "magnitude")
    if importance == "readers" and not images:
        raise OptionError(
            "importance readers needs pictures to see what the readers read; "
            "give --data and --calibrate 1 or more, or choose magnitude"
        )
    student, architecture, layers = shrink(
        generator, ratio, images, importance, by=quantity, seed=seed, on_progress=on_progress
    )
    after = measure_complexity(student, generator.in_channels, (side, side))
    made_from: dict[str, Any] = {
        "path": relative_to(generator.path, output.parent),
        "sha256": generator.sha256,
        "params": before.params,
        "macs": before.macs,
    }
    entry = history_entry(
        "prune",
        ratio=ratio,
        by=quantity,
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
        output,
        architecture,
        generator.architecture,
        before,
        after,
        (side, side),
        generator.path.stat().st_size,
        output.stat().st_size,
        importance,
        len(images),
        folder,
        layers,
    )


def keep_trained(path: Path) -> Path | None:
    """Copy a student that was trained aside, `student.pth` to `student.old.pth`; where it is now.

    None where there is no such file, or it holds nothing that took time to make.
    """
    try:
        card = load_generator(path).card or {}
    except CheckpointError:
        return None
    if not any(entry["command"] == "distill" for entry in card.get("history", [])):
        return None
    kept = path.with_suffix(f".old{path.suffix}")
    write_atomically(kept, lambda file: shutil.copyfile(path, file))
    return kept


def target_ratio(
    teacher: Complexity,
    *,
    ratio: float | None,
    by: Quantity | None = None,
    params: int | None = None,
    macs: int | None = None,
) -> tuple[float, Quantity]:
    """How many times smaller, and counted by what, of the one target that is given.

    Raises:
        OptionError: no target or two, an unknown quantity, or a target that makes nothing smaller.
    """
    given = {"ratio": ratio, "params": params, "macs": macs}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        said = f"{' and '.join(named)} were given" if named else "nothing says how small"
        raise OptionError(f"{said}; give one of ratio, params and macs")
    if by not in (None, "params", "macs"):
        raise OptionError(f"by {by!r} is not known; choose params or macs")
    if by is not None and ratio is None:
        raise OptionError(f"by {by} says what a ratio counts, but {named[0]} was given, no ratio")
    wanted: tuple[tuple[int | None, int, Quantity], ...] = (
        (params, teacher.params, "params"),
        (macs, teacher.macs, "macs"),
    )
    for count, total, quantity in wanted:
        if count is not None and not 0 < count < total:
            raise OptionError(
                f"{quantity} is {count:,}; give 1 or more, fewer than the teacher's {total:,}"
            )
        if count is not None:
            return total / count, quantity
    if ratio is None or not math.isfinite(ratio) or ratio <= 1:
        raise OptionError(f"ratio {ratio:g} is not allowed; give a number above 1, such as 7")
    return ratio, by or "params"


def shrink(
    teacher: Generator,
    ratio: float,
    images: Sequence[Tensor],
    importance: Importance,
    *,
    by: Quantity = "params",
    seed: int = 0,
    on_progress: Callable[[str, float], None] | None = None,
) -> tuple[nn.Module, Architecture, tuple[LayerFit, ...]]:
    """The student of `prune`, before it is written: the network, what it is, and how it was solved.

    Args:
        images: calibration pictures, 1×C×H×W in [-1, 1], all of one size; none slices only.
    """
    tell = on_progress or (lambda stage, share: None)
    network = copy.deepcopy(teacher.network).requires_grad_(True)
    graph, groups = channel_groups(
        network, in_channels=teacher.in_channels, smallest=teacher.architecture.smallest
    )
    positions = None
    if by == "macs":
        side = drawable_side(SIZE, teacher.architecture)
        positions = kernel_positions(network, teacher.in_channels, (side, side))
    widths = choose_widths(network, groups, ratio, positions=positions)
    moments: dict[str, Tensor] = {}
    if importance == "readers":
        moments = input_moments(
            teacher.network,
            sorted({name for group in groups for name in group.readers}),
            images,
            on_image=lambda share: tell("the teacher draws", 0.3 * share),
        )
    keep = []
    for number, (group, width) in enumerate(zip(groups, widths, strict=True), 1):
        order = rank(group, importance, network=teacher.network, moments=moments, seed=seed)
        keep.append(sorted(order[:width]))
        tell("choosing channels", 0.3 + 0.1 * number / len(groups))
    slice_channels(graph, groups, keep)
    student, architecture = rebuild(network, teacher.architecture)
    if not images:
        return student, architecture, ()
    kept = {
        name: [channels[i] for i in chosen]
        for group, chosen in zip(groups, keep, strict=True)
        for name, channels in group.makers.items()
    }
    layers = reconstruct(
        teacher.network,
        student,
        kept,
        images,
        on_layer=lambda share: tell("reconstructing layers", 0.4 + 0.6 * share),
    )
    return student, architecture, tuple(layers)


def rebuild(sliced: nn.Module, teacher: Architecture) -> tuple[nn.Module, Architecture]:
    """A fresh network of the widths that are left in `sliced`, with its weights."""
    recognition = recognise(
        sliced.state_dict(),
        norm=teacher.options["norm"],
        block_padding=teacher.options.get("block_padding"),
        upsampling=teacher.options.get("upsampling"),
    )
    student = recognition.architecture.build().eval()
    student.load_state_dict(recognition.state_dict)
    return student, recognition.architecture
