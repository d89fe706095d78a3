"""What `wkdc export` says of, and writes for, phones."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdc.cli import render
from wkdc.errors import OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.checkpoints.checkpoint import Generator
    from wkdc.deploy.phone import Format, PhoneResult
    from wkdc.onnx.parity import Parity
    from wkdc.onnx.precision import Precision

PHONES = "For a phone; several at once, also beside --onnx"

Litert = Annotated[
    bool, typer.Option("--litert", help="Write a .tflite for LiteRT.", rich_help_panel=PHONES)
]
Coreml = Annotated[
    bool,
    typer.Option("--coreml", help="Write an .mlpackage for Core ML.", rich_help_panel=PHONES),
]
Ncnn = Annotated[
    bool,
    typer.Option(
        "--ncnn", help="Write a .ncnn.param for ncnn, with its .bin.", rich_help_panel=PHONES
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        help="Height and width: 256, or 192x320. Core ML takes several.",
        show_default="256",
        rich_help_panel=PHONES,
    ),
]


def asked(*, litert: bool, coreml: bool, ncnn: bool) -> "list[Format]":
    """The formats that were asked for."""
    chosen: dict[Format, bool] = {"litert": litert, "coreml": coreml, "ncnn": ncnn}
    return [name for name, wanted in chosen.items() if wanted]


def check(
    formats: "Sequence[Format]",
    precision: "Precision",
    others: Mapping[str, Path | None],
    onnx: bool,
) -> None:
    """Check that the options go together with a phone's formats.

    Raises:
        OptionError: they do not.
    """
    if not formats:
        raise OptionError("--size is a phone's; give --litert or --coreml, too")
    wrong = [name for name in ("web", "triton") if others[name] is not None]
    if wrong:
        raise OptionError(f"give --{wrong[0]} alone, and --{formats[0]} in another call")
    if others["output"] is not None and len(formats) + onnx > 1:
        raise OptionError("--output names one file; leave it out, or give one format")
    if precision == "bfloat16" or (precision == "int8" and set(formats) != {"litert"}):
        other = next((one for one in formats if one != "litert"), formats[0])
        raise OptionError(f"{precision} is not written for --{other}; leave it out, or give --fp16")


def write(
    generator: "Generator",
    name: "Format",
    output: Path | None,
    sizes: Sequence[tuple[int, int]],
    form: Mapping[str, Any],
    shared: Mapping[str, Any],
) -> "PhoneResult":
    """Write one format. Where no precision was asked for, the format has a default of its own."""
    import wkdc

    precision = None if form["precision"] == "float32" else form["precision"]
    with render.meter() as meter:
        meter.show(0.0, f"converting for {name}")
        result = wkdc.export_phone(
            generator,
            name,
            output=output,
            sizes=sizes,
            **{**form, "precision": precision},
            **shared,
        )
    render.say_notes(result.notes)
    return result


def as_json(result: "PhoneResult") -> dict[str, object]:
    """What --json says of it."""
    return {
        "output": str(result.output),
        "files": [str(file) for file in result.files],
        "size_bytes": result.size_bytes,
        "sizes": [list(size) for size in result.sizes],
        "precision": result.precision,
        "max_abs_error": result.max_abs_error,
        "mean_abs_error": result.mean_abs_error,
        "psnr_db": result.psnr_db,
        "tolerance": result.tolerance,
        "operations": result.operations,
    }


def show(model: Path, result: "PhoneResult") -> None:
    """Print what was written, and how near it is, or what it is made of."""
    sizes = " and ".join(f"{height}x{width}" for height, width in result.sizes) or "any size"
    made = f"{units.megabytes(result.size_bytes)}, {result.precision}, {sizes}"
    title = f"{model} -> {', '.join(map(str, result.files))} ({made})"
    if result.checks:
        show_checks(title, "the format's runtime against PyTorch", result.checks)
        return
    render.say("note: Core ML runs on macOS; the program was made here, but not run")
    counted = sorted(result.operations.items(), key=lambda one: -one[1])
    render.table(title, ("operation", "times"), [(name, str(times)) for name, times in counted])


def show_checks(title: str, compared: str, checks: "Sequence[Parity]") -> None:
    """A row for each image that an exported file was compared on."""
    render.table(
        title,
        (compared, "largest error", "mean error", "PSNR", "high-band error"),
        [
            (
                f"{check.height}x{check.width}",
                f"{check.max_abs_error:.1e}",
                f"{check.mean_abs_error:.1e}",
                f"{check.psnr_db:.1f} dB",
                f"{check.high_band_error:.1e}",
            )
            for check in checks
        ],
    )
