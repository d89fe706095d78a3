"""wkdc export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wkdc import units
from wkdc.cli import options, render
from wkdc.errors import OptionError

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
        typer.Option("--uint8-io", help="Pictures go in and come out as uint8 N×H×W×C."),
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference of a pixel, of [-1, 1].",
            show_default="0.0001, or one step of 8 bits",
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
            help="Pictures in one of Triton's batches.",
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

    _check_places(output, web, triton, runtime_files, max_batch, uint8_io)
    generator = wkdc.load_generator(
        model, norm=norm, block_padding=padding, upsampling=upsampling, arch=arch
    )
    more: dict[str, Any] = {}
    then = f"wkdc profile{options.arch_again(arch)}"
    if web is not None:
        site = wkdc.export_web(generator, web, runtime_files=runtime_files, tolerance=tolerance)
        result = site.exported
        more = {"web": {"size_bytes": site.size_bytes, "runtime": site.runtime}}
        then = f"python3 -m http.server --directory {web}"
    elif triton is not None:
        batch = {} if max_batch is None else {"max_batch": max_batch}
        placed = wkdc.export_triton(
            generator, triton, tolerance=tolerance, pixels=uint8_io, **batch
        )
        result = placed.exported
        more = {"triton": {"repository": placed.repository, "config": placed.config}}
        then = f"tritonserver --model-repository {triton}"
    else:
        result = wkdc.export(generator, output=output, tolerance=tolerance, pixels=uint8_io)
    render.say_notes(result.notes)
    if json:
        render.print_json(
            {
                "output": str(result.output),
                "opset": result.opset,
                "max_abs_error": result.max_abs_error,
                "mean_abs_error": result.mean_abs_error,
                "tolerance": result.tolerance,
                "size_bytes": result.size_bytes,
                **more,
            }
        )
        return
    render.table(
        f"{model} -> {result.output} ({units.megabytes(result.size_bytes)}, opset {result.opset})",
        ("ONNX Runtime against PyTorch", "largest error", "mean error"),
        [
            (f"{c.height}x{c.width}", f"{c.max_abs_error:.1e}", f"{c.mean_abs_error:.1e}")
            for c in result.checks
        ],
    )
    render.say_next(then)


def _check_places(
    output: Path | None,
    web: Path | None,
    triton: Path | None,
    runtime_files: Path | None,
    max_batch: int | None,
    uint8_io: bool,
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
    if web is not None and uint8_io:
        raise OptionError("a page takes float32; give --web without --uint8-io")
