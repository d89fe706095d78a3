"""wkdc export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wkdc import units
from wkdc.cli import options, render
from wkdc.errors import OptionError

if TYPE_CHECKING:
    from wkdc.export import ExportResult
    from wkdc.precision import Precision


def export(
    model: Annotated[Path, typer.Argument(help="A generator, such as student.pth.")],
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write ONNX, the one format there is.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file.", show_default="the model's, as .onnx"),
    ] = None,
    uint8_io: Annotated[
        bool,
        typer.Option("--uint8-io", help="Pictures go in and come out as uint8 N×H×W×C."),
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights and layers in float16.")] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="In bfloat16, where ONNX Runtime has it.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in int8, with ranges from --data.")
    ] = False,
    data: options.Pictures = None,
    data_url: options.DataUrl = None,
    direction: options.Direction = "AtoB",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of a pixel, of [-1, 1].",
            show_default="the precision's, 0.0001 in float32",
        ),
    ] = None,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Write a generator as ONNX, and check it against PyTorch on photos of several sizes."""
    import wkdc

    generator = wkdc.load_generator(
        model, norm=norm, block_padding=padding, upsampling=upsampling, arch=arch
    )
    precision = _precision(fp16=fp16, bf16=bf16, int8=int8)
    folder = None if data is None else options.find_data(data, data_url)
    with render.meter() as meter:
        result = wkdc.export(
            generator,
            output=output,
            tolerance=tolerance,
            pixels=uint8_io,
            precision=precision,
            data=folder,
            direction=direction,
            on_progress=lambda text, share: meter.show(share, text),
        )
    render.say_notes(result.notes)
    for warning in result.warnings:
        render.say(f"note: {warning}")
    if json:
        render.print_json(_as_json(result))
        return
    _show(model, result)
    render.say_next(f"wkdc profile{options.arch_again(arch)}")


def _precision(*, fp16: bool, bf16: bool, int8: bool) -> "Precision":
    """The one that was asked for.

    Raises:
        OptionError: there are several.
    """
    match fp16, bf16, int8:
        case False, False, False:
            return "float32"
        case True, False, False:
            return "float16"
        case False, True, False:
            return "bfloat16"
        case False, False, True:
            return "int8"
        case _:
            raise OptionError("a file has one precision; give one of --fp16, --bf16 and --int8")


def _as_json(result: "ExportResult") -> dict[str, object]:
    return {
        "output": str(result.output),
        "opset": result.opset,
        "max_abs_error": result.max_abs_error,
        "mean_abs_error": result.mean_abs_error,
        "tolerance": result.tolerance,
        "size_bytes": result.size_bytes,
        "precision": result.precision,
        "psnr_db": result.psnr_db,
        "high_band_error": result.high_band_error,
        "kept_in_float": result.kept_in_float,
        "latency_ms": result.latency_ms,
        "float32_latency_ms": result.float32_latency_ms,
        "float32_size_bytes": result.float32_size_bytes,
        "warnings": result.warnings,
    }


def _show(model: Path, result: "ExportResult") -> None:
    made = f"{units.megabytes(result.size_bytes)}, opset {result.opset}, {result.precision}"
    render.table(
        f"{model} -> {result.output} ({made})",
        ("ONNX Runtime against PyTorch", "largest error", "mean error", "PSNR", "high-band error"),
        [
            (
                f"{check.height}x{check.width}",
                f"{check.max_abs_error:.1e}",
                f"{check.mean_abs_error:.1e}",
                f"{check.psnr_db:.1f} dB",
                f"{check.high_band_error:.1e}",
            )
            for check in result.checks
        ],
    )
    if result.kept_in_float:
        render.out.print(f"in float32: {', '.join(result.kept_in_float)} and all norms")
    for runtime, before in result.float32_latency_ms.items():
        now = result.latency_ms[runtime]
        render.out.print(
            f"{runtime}: {now:.1f} ms, in float32 {before:.1f} ms ({before / now:.2f}x)"
        )
