"""wkdc export."""

from pathlib import Path
from typing import Annotated

import typer

from wkdc import units
from wkdc.cli import options, render


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
    render.say_next(f"wkdc profile{options.arch_again(arch)}")
