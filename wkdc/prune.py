"""Teacher -> student: choose the channels that stay, slice, reconstruct what is left."""

from collections.abc import Callable
from pathlib import Path

from wkdc.checkpoints.checkpoint import Generator, load_network
from wkdc.data.calibration import CALIBRATE, JITTER
from wkdc.data.folders import Data, as_folder
from wkdc.data.layouts import Direction
from wkdc.pruning.constraints import Widths
from wkdc.pruning.importance import Importance
from wkdc.pruning.plain_sampling import Antialias
from wkdc.pruning.result import PruneResult
from wkdc.pruning.settings import PruneSettings
from wkdc.pruning.student import prune_network
from wkdc.pruning.target import Quantity
from wkdc.pruning.width_search import Prefer

__all__ = ["PruneResult", "prune"]


def prune(
    teacher: Generator | str | Path,
    *,
    ratio: float | None = None,
    by: Quantity | None = None,
    params: int | None = None,
    macs: int | None = None,
    latency_ms: float | None = None,
    output: str | Path | None = None,
    data: Data | None = None,
    calibrate: int = CALIBRATE,
    jitter: float = JITTER,
    antialias: Antialias = "keep",
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

    Which channels stay is decided by `importance`, how many of each layer by `widths`. What is left
    is reconstructed, so that the student is near its teacher before it is trained.

    Args:
        teacher: a file, or what was loaded from one, as `load_generator(path, norm=..., key=...)`
            does: a generator, or a discriminator.
        ratio: how many times fewer parameters, or what `by` says; above 1, met within 2 %.
        params, macs, latency_ms: instead of `ratio`, what the student shall have: parameters, MACs,
            or milliseconds in ONNX Runtime, measured, for one image of `size` on `device`.
        output: the file to write, by default `student.pth`, or `discriminator.pth` for one;
            replaced whole if it exists; a trained student is copied aside.
        data: a folder of the teacher's inputs, see `wkdc.data.layouts`; None takes bundled photos.
        calibrate: how many of them; 0 slices only. `jitter` is the share of them that is also
            looked at in other colours, which the student then knows, too. `direction` `BtoA` takes
            those of domain B.
        antialias: which fixed blurs the student keeps of a teacher that has them, such as CUT's:
            `keep`, `down`, `up` or `none`; strided and transposed convolutions take their place.
        importance: see `wkdc.pruning.importance.rank`; `magnitude` where no image calibrates.
        widths, prefer, round_to, drop_blocks: see `wkdc.pruning.constraints`.
        size: height and width for MACs and times, about 256x256.
        device: where times are measured, `cpu` or `cuda`.
        dry_run: make the plan, measure it in ONNX Runtime, and write nothing.
        seed: of `random`, and of the choice of held-out images in `data`.
        on_progress: called with what is done and its share of all; `on_notice` with notices.

    Raises:
        OptionError: no target or two, one that makes nothing smaller, constraints that do not go
            together, or the student would overwrite its teacher.
        TargetError: the target cannot be reached, and the message names the smallest network.
        DatasetError, ImageError, CheckpointError, DeviceError, OutputError: a file or device
            cannot be used.
    """
    settings = PruneSettings(
        ratio=ratio,
        by=by,
        params=params,
        macs=macs,
        latency_ms=latency_ms,
        size=size,
        device=device,
        widths=widths,
        prefer=prefer,
        round_to=round_to,
        drop_blocks=drop_blocks,
        importance=importance,
        seed=seed,
        calibrate=calibrate,
        jitter=jitter,
        antialias=antialias,
        data=None if data is None else as_folder(data),
        direction=direction,
    )
    network = teacher if isinstance(teacher, Generator) else load_network(teacher)
    file = "discriminator.pth" if network.architecture.is_discriminator else "student.pth"
    return prune_network(
        network,
        settings,
        None if dry_run else Path(output or file),
        on_progress=on_progress,
        on_notice=on_notice,
    )
