"""wkdc translate."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wkdc.cli import options, render


def translate(
    model: Annotated[Path, typer.Argument(help="A .pth or .onnx generator.")],
    inputs: Annotated[list[Path], typer.Argument(help="Pictures and folders of pictures.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder, or a file for one picture.")
    ],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on: keep files that exist, draw the others.")
    ] = False,
    shard: Annotated[
        str, typer.Option(help="3/16: the third of sixteen parts, for as many machines.")
    ] = "1/1",
    runtime: Annotated[
        Literal["onnx", "openvino", "openvino-bf16"] | None,
        typer.Option(help="What runs a .onnx.", show_default="onnx"),
    ] = None,
    device: options.Device = None,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Draw pictures with a generator, at their own size."""
    import wkdc
    from wkdc.devices import default_device
    from wkdc.models import open_model

    if device is None:
        device = "cpu" if model.suffix.lower() == ".onnx" else default_device()
    opened = open_model(
        model,
        device=device,
        runtime=runtime,
        norm=norm,
        block_padding=padding,
        upsampling=upsampling,
        arch=arch,
    )
    with render.meter() as meter:
        result = wkdc.translate(
            opened,
            inputs,
            output,
            overwrite=overwrite,
            resume=resume,
            shard=options.parse_shard(shard),
            on_image=lambda done, total: meter.show(done / total, f"{done} of {total}"),
        )
    render.say_notes(result.notes)
    for problem in result.skipped:
        render.say(f"skipped: {problem}")
    if json:
        render.print_json(
            {
                "outputs": result.outputs,
                "kept": result.kept,
                "skipped": list(result.skipped),
                "seconds": round(result.seconds, 3),
            }
        )
        return
    count = len(result.outputs)
    kept = f"; {len(result.kept)} were there" if result.kept else ""
    render.out.print(
        f"{count} picture{'s' if count != 1 else ''} -> {output} "
        f"in {result.seconds:.1f} s ({count / result.seconds:.1f} a second){kept}"
    )
