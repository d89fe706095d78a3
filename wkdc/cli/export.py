"""wkdc export."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdc.cli import options, render
from wkdc.errors import OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.export import ExportResult
    from wkdc.onnx.precision import Precision

PLACES = "For a browser or a server"


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
        typer.Option("--uint8-io", help="Images go in and come out as uint8 N×H×W×C."),
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights and layers in float16.")] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Says how to draw in bfloat16, with OpenVINO.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Convolutions in int8, with ranges from --data.")
    ] = False,
    data: options.Images = None,
    data_url: options.DataUrl = None,
    direction: options.Direction = "AtoB",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of a pixel, of [-1, 1].",
            show_default="the precision's, 0.0001 in float32",
        ),
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(
            "--web",
            metavar="DIR",
            help="Write a page that draws photos in the browser, for any static server.",
            rich_help_panel=PLACES,
        ),
    ] = None,
    runtime_files: Annotated[
        Path | None,
        typer.Option(
            help="onnxruntime-web for the page, as a folder or .tgz.",
            show_default="what npm fetches",
            rich_help_panel=PLACES,
        ),
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(
            "--triton",
            metavar="DIR",
            help="Write into a model repository, for Triton or KServe.",
            rich_help_panel=PLACES,
        ),
    ] = None,
    max_batch: Annotated[
        int | None,
        typer.Option(
            help="Images in one of Triton's batches.",
            show_default="8",
            rich_help_panel=PLACES,
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

    precision = _precision(fp16=fp16, bf16=bf16, int8=int8)
    _check_places(output, web, triton, runtime_files, max_batch, uint8_io, precision)
    generator = wkdc.load_generator(
        model, norm=norm, block_padding=padding, upsampling=upsampling, arch=arch
    )
    folder = None if data is None else options.find_data(data, data_url)
    more: dict[str, Any] = {}
    then = f"wkdc profile{options.arch_again(arch)}"
    with render.meter() as meter:
        asked: dict[str, Any] = {
            "tolerance": tolerance,
            "data": folder,
            "direction": direction,
            "on_progress": lambda text, share: meter.show(share, text),
        }
        form: dict[str, Any] = {"pixels": uint8_io, "precision": precision}
        if web is not None:
            site = wkdc.export_web(generator, web, runtime_files=runtime_files, **asked)
            result = site.exported
            more = {"web": {"size_bytes": site.size_bytes, "runtime": site.runtime}}
            then = f"python3 -m http.server --directory {web}"
        elif triton is not None:
            if max_batch is not None:
                form["max_batch"] = max_batch
            placed = wkdc.export_triton(generator, triton, **form, **asked)
            result = placed.exported
            more = {"triton": {"repository": placed.repository, "config": placed.config}}
            then = f"tritonserver --model-repository {triton}"
        else:
            result = wkdc.export(generator, output=output, **form, **asked)
    render.say_notes(result.notes)
    for warning in result.warnings:
        render.say(f"note: {warning}")
    if json:
        render.print_json(_as_json(result) | more)
        return
    _show(model, result)
    render.say_next(then)


def _check_places(
    output: Path | None,
    web: Path | None,
    triton: Path | None,
    runtime_files: Path | None,
    max_batch: int | None,
    uint8_io: bool,
    precision: "Precision",
) -> None:
    """Options that contradict each other, or would be passed over."""
    places = {"output": output, "web": web, "triton": triton}
    named = [name for name, place in places.items() if place is not None]
    if len(named) > 1:
        raise OptionError(f"give one of --{' and --'.join(named)}: each says where the file goes")
    if web is None and runtime_files is not None:
        raise OptionError("--runtime-files are those of a page; give --web DIR, too")
    if triton is None and max_batch is not None:
        raise OptionError("--max-batch is for a repository; give --triton DIR, too")
    if web is not None and (uint8_io or precision != "float32"):
        raise OptionError(
            "a page takes float32; give --web without --uint8-io, --fp16, --bf16 and --int8"
        )


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
