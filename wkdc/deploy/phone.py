"""A generator -> a file for a phone or small device, checked to give the same images."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.folders import Data, as_folder
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError, OutputError
from wkdc.export import checked_images
from wkdc.networks.architecture import measured_size
from wkdc.onnx.parity import Exported, Parity, check_parity, measure_parity, parity_sizes
from wkdc.onnx.precision import limits_of
from wkdc.phones import coreml, litert, ncnn
from wkdc.system.files import writing_output
from wkdc.system.temporary import folder_beside

Format = Literal["litert", "coreml", "ncnn"]
PhonePrecision = Literal["float32", "float16", "int8"]

Size = tuple[int, int]

NAMES: dict[Format, str] = {"litert": "LiteRT", "coreml": "Core ML", "ncnn": "ncnn"}

ENDINGS: dict[Format, str] = {
    "litert": litert.ENDING,
    "coreml": coreml.ENDING,
    "ncnn": ncnn.ENDING,
}

NCNN_TOLERANCE = 1e-3
"""Largest allowed difference of one pixel for ncnn in float32, of [-1, 1]: an eighth of an 8-bit
step. Its InstanceNorm loses digits where a channel's mean is large beside its spread, and layer
upon layer that adds up."""


@dataclass(frozen=True)
class PhoneResult:
    """A network in a phone's format, and how well it agrees with its source.

    Attributes:
        output: the file, or folder, that an app loads; `files` are all that belong to it.
        sizes: heights and widths that it takes; empty where any will do.
        checks: one for each image, in the format's own runtime; none where that is not here.
        operations: of a format that was not run, counted by name; else empty.
        tolerance: largest allowed difference of one pixel, in units of [-1, 1].
        notes: what the source file could not tell and was assumed.
    """

    format: Format
    output: Path
    files: tuple[Path, ...]
    size_bytes: int
    sizes: tuple[Size, ...]
    precision: PhonePrecision
    checks: tuple[Parity, ...]
    operations: dict[str, int]
    tolerance: float
    notes: tuple[str, ...]

    @property
    def max_abs_error(self) -> float | None:
        """Over all checks; None where there was none."""
        return max((check.max_abs_error for check in self.checks), default=None)

    @property
    def mean_abs_error(self) -> float | None:
        errors = [check.mean_abs_error for check in self.checks]
        return statistics.fmean(errors) if errors else None

    @property
    def psnr_db(self) -> float | None:
        """Of the worst image."""
        return min((check.psnr_db for check in self.checks), default=None)


def export_phone(
    model: Generator | str | Path,
    form: Format,
    *,
    output: str | Path | None = None,
    sizes: Sequence[Size] = (),
    precision: PhonePrecision | None = None,
    pixels: bool = False,
    tolerance: float | None = None,
    data: Data | None = None,
    direction: Direction = "AtoB",
) -> PhoneResult:
    """Write `model` for a phone, and compare its images with PyTorch's in the format's runtime.

    LiteRT takes and gives N×H×W×C of one size; Core ML images, of one size or several; ncnn C×H×W
    of any size. Core ML runs on macOS alone; elsewhere the operations of its program are counted.

    Args:
        form: the format.
        output: by default the model's path with the ending of the format.
        sizes: heights and widths, by default about 256x256. LiteRT takes one, Core ML one or more.
        precision: by default float16 for Core ML, as its converter has it, else float32.
        pixels: whether LiteRT takes and gives uint8 instead of float32 in [-1, 1].
        tolerance: largest allowed difference of one pixel, in units of [-1, 1]; by default that of
            the precision, see `wkdc.onnx.precision.limits_of`, and `NCNN_TOLERANCE` for ncnn.
        data: a folder whose test images are compared, instead of bundled photos.
        direction: which domain, or half of a paired image, is the input.

    Raises:
        OptionError: the format has no such size, precision or door; or another ending.
        MissingExtraError: the format's converter is not installed.
        CheckpointError: it does not convert the network; or see `load_generator`.
        ParityError: an image differs by more; nothing is left.
        DatasetError, ImageError, OutputError: data cannot be used, or the file not written.
    """
    generator = model if isinstance(model, Generator) else load_generator(model)
    ending = ENDINGS[form]
    path = generator.path.with_suffix(ending) if output is None else Path(output)
    if not path.name.endswith(ending) or path.name == ending:
        raise OptionError(f"output {path} does not end in {ending}, as {NAMES[form]}'s files do")
    chosen: PhonePrecision = precision or ("float16" if form == "coreml" else "float32")
    _check_place(path)
    taken = _sizes(generator, form, sizes)
    _check_form(form, chosen, pixels)
    if tolerance is None and (form, chosen) == ("ncnn", "float32"):
        tolerance = NCNN_TOLERANCE
    limits = limits_of(chosen, pixels=pixels or form == "coreml", tolerance=tolerance)
    folder = None if data is None else as_folder(data)
    images = checked_images(generator, folder, direction, taken or parity_sizes(generator))
    job = _Job(generator, form, taken, chosen, pixels)
    with writing_output(path), folder_beside(path.absolute()) as made:
        network, operations = _write(job, made / path.name)
        checks: list[Parity] = []
        if network is not None:
            checks = measure_parity(generator, network, images)
            instead = "; --tolerance allows more" if chosen == "float32" else "; try float32"
            check_parity(checks, limits, generator.path, f"{NAMES[form]}'s network", instead)
        files = _move(made, path)
    return PhoneResult(
        form,
        path,
        files,
        sum(_bytes(file) for file in files),
        taken,
        chosen,
        tuple(checks),
        operations,
        limits.max_abs_error,
        generator.notes,
    )


@dataclass(frozen=True)
class _Job:
    """What is written, and how."""

    generator: Generator
    form: Format
    sizes: tuple[Size, ...]
    precision: PhonePrecision
    pixels: bool


def _sizes(generator: Generator, form: Format, given: Sequence[Size]) -> tuple[Size, ...]:
    """The sizes that the file takes; none for ncnn, which takes any."""
    architecture = generator.architecture
    if form == "ncnn":
        if given:
            raise OptionError("ncnn's network takes any size; leave --size out")
        return ()
    if form == "litert" and len(given) > 1:
        raise OptionError("LiteRT's network takes one size; give one --size, and export twice")
    return tuple(measured_size(size, architecture) for size in given or (None,))


def _check_form(form: Format, precision: PhonePrecision, pixels: bool) -> None:
    """Raises: OptionError: the format has no such precision or door."""
    if precision == "int8" and form != "litert":
        raise OptionError(f"int8 is not written for {NAMES[form]}; give float16, or litert")
    if pixels and form != "litert":
        doors = {"coreml": "takes and gives images as it is", "ncnn": "scales pixels itself"}
        raise OptionError(f"--uint8-io is for LiteRT; {NAMES[form]} {doors[form]}")


def _write(job: _Job, path: Path) -> tuple[Exported | None, dict[str, int]]:
    """Write the files; the network that they are, if it runs here, and else its operations."""
    half = job.precision == "float16"
    match job.form:
        case "litert":
            litert.write_litert(
                job.generator, path, job.sizes[0], pixels=job.pixels, precision=job.precision
            )
            return litert.LiteRtNetwork(path), {}
        case "ncnn":
            stem = path.name.removesuffix(ncnn.ENDING)
            ncnn.write_ncnn(job.generator, path.parent, stem, half=half)
            return ncnn.NcnnNetwork(path), {}
        case "coreml":
            operations = coreml.write_coreml(job.generator, path, job.sizes, half=half)
            return (coreml.CoreMlNetwork(path) if coreml.runs_here() else None), operations
        case _:
            raise OptionError(f"format {job.form!r} is not known; choose litert, coreml or ncnn")


def _check_place(path: Path) -> None:
    """Make sure that no folder of something else is replaced.

    Raises:
        OutputError: one would be.
    """
    ours = path.name.endswith(coreml.ENDING) and (path / "Manifest.json").is_file()
    if path.is_dir() and not ours:
        raise OutputError(f"{path} is a folder, and no export; name another with --output")


def _move(made: Path, path: Path) -> tuple[Path, ...]:
    """Move all that was made beside `path`, `path` itself last: it is what apps open."""
    found = sorted(made.iterdir(), key=lambda file: file.name == path.name)
    for file in found:
        _check_place(path.with_name(file.name))
    for file in found:
        target, old = path.with_name(file.name), made / f"{file.name}.old"
        if target.is_dir():  # a folder cannot be replaced at once
            target.rename(old)
        try:
            file.replace(target)
        except OSError:
            if old.is_dir():
                old.rename(target)
            raise
    return tuple(path.with_name(file.name) for file in found)


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
