"""wkdc translate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render

if TYPE_CHECKING:
    from wkdc.translate import TranslateResult


def translate(
    model: Annotated[Path, typer.Argument(help="A .pth or .onnx generator.")],
    inputs: Annotated[list[Path], typer.Argument(help="Images, videos, and folders of them.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="A folder, or a file for one input.")
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
    tile: Annotated[
        int | None,
        typer.Option(help="Draw what is larger in tiles of this size.", show_default="whole"),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Pixels that tiles share.", show_default="64")
    ] = None,
    statistics: Annotated[
        Literal["picture", "tile"] | None,
        typer.Option(
            help="What InstanceNorm normalises a tile by.", show_default="image for a .pth"
        ),
    ] = None,
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
    """Draw images and videos with a generator, at their own size.

    Ctrl-C keeps what is written; --resume draws the others.
    """
    import wkdc
    from wkdc.inference.model import open_model
    from wkdc.system.devices import default_device

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
            tiling=options.tiling(tile, overlap, statistics),
            on_image=meter.count,
        )
    render.say_notes(result.notes)
    for problem in result.skipped:
        render.say(f"skipped: {problem}")
    if json:
        render.print_json(
            {
                "outputs": result.outputs,
                "videos": result.videos,
                "kept": result.kept,
                "skipped": list(result.skipped),
                "drawn": result.drawn,
                "seconds": round(result.seconds, 3),
                "per_second": round(result.per_second, 3),
                "tiling": result.tiling,
                "interrupted": result.interrupted,
            }
        )
    else:
        render.out.print(_summary(result, output), markup=False)
    if result.interrupted:
        how = "what is not drawn yet is as it was" if overwrite else "--resume draws the others"
        render.say(f"stopped before the last one; {how}")
        raise typer.Exit(130)


def _summary(result: "TranslateResult", output: Path) -> str:
    """What was drawn, and how fast."""
    videos = len(result.videos)
    pictures = len(result.outputs) - videos
    frames = result.drawn - pictures
    moving = f"{videos} video{'s' if videos != 1 else ''} of {frames} frames"
    still = f"{pictures} image{'s' if pictures != 1 else ''}"
    what = " and ".join(([still] if pictures or not videos else []) + ([moving] if videos else []))
    encoders = ", ".join(sorted({video.encoder for video in result.videos}))
    return (
        f"{what} -> {output}{f' by {encoders}' if encoders else ''} in {result.seconds:.1f} s "
        f"({result.per_second:.1f}{' frames' if videos else ''} a second)"
        f"{f'; {len(result.kept)} were there' if result.kept else ''}"
    )
