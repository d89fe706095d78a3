"""wkdc translate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render, values
from wkdc.system.units import counted

if TYPE_CHECKING:
    from wkdc.translate import TranslateResult


Model = Annotated[Path, typer.Argument(help="A .pth, .onnx, .tflite or .ncnn.param generator.")]
Inputs = Annotated[list[Path], typer.Argument(help="Images, videos, and folders of them.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", help="A folder, or a file for a single input.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Keep files that exist, translate the others: after a stop."),
]
Shard = Annotated[
    str,
    typer.Option(help="3/16 translates the third of sixteen parts, to share work among machines."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        help="Translate larger images in tiles of this size, to save memory.", show_default="whole"
    ),
]
Overlap = Annotated[
    int | None, typer.Option(help="Pixels by which tiles overlap.", show_default="64")
]
Statistics = Annotated[
    Literal["picture", "tile"] | None,
    typer.Option(
        help="Where InstanceNorm of tiles takes its statistics: the whole image, or each tile.",
        show_default="picture for a .pth",
    ),
]
Depth = Annotated[
    int, typer.Option(help="Bits of a value in the images that are written: 8 or 16.")
]
Alpha = Annotated[
    Literal["white", "keep"],
    typer.Option(help="Lay transparent parts on white, or give them back to the output."),
]
Runtime = Annotated[
    Literal["onnx", "openvino", "openvino-bf16"] | None,
    typer.Option(help="The runtime of a .onnx.", show_default="onnx"),
]


def translate(
    model: Model,
    inputs: Inputs,
    output: Output,
    overwrite: Overwrite = False,
    resume: Resume = False,
    shard: Shard = "1/1",
    tile: Tile = None,
    overlap: Overlap = None,
    statistics: Statistics = None,
    depth: Depth = 8,
    alpha: Alpha = "white",
    range_: options.Range = None,
    runtime: Runtime = None,
    device: options.Device = None,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Translate images and videos with a generator, at their own size.

    Ctrl-C keeps complete files; --resume translates the others.
    """
    import wkdc
    from wkdc.checkpoints.reading import Reading, check_unread
    from wkdc.checkpoints.weight_files import is_exported
    from wkdc.inference.model import open_model
    from wkdc.system.devices import default_device

    if device is None:
        device = "cpu" if is_exported(model) else default_device()
    reading = Reading(norm, padding, upsampling, key, arch)
    check_unread(model, reading)
    opened = open_model(model, device=device, runtime=runtime, reading=reading)
    with render.meter() as meter:
        result = wkdc.translate(
            opened,
            inputs,
            output,
            overwrite=overwrite,
            resume=resume,
            shard=values.parse_shard(shard),
            tiling=options.tiling(tile, overlap, statistics),
            depth=depth,
            alpha=alpha,
            value_range=None if range_ is None else values.parse_range(range_),
            on_notice=render.say,
            on_image=meter.count,
        )
    render.say_notes(result.notes)
    for problem in result.skipped:
        render.say(f"skipped: {problem}")
    if json:
        render.print_json(_as_json(result))
    else:
        render.tell(_summary(result, output))
    if result.interrupted:
        others = "the others are unchanged" if overwrite else "--resume translates the others"
        render.say(f"stopped before the last one; {others}")
        raise typer.Exit(130)


def _as_json(result: "TranslateResult") -> dict[str, object]:
    return {
        "outputs": result.outputs,
        "videos": result.videos,
        "kept": result.kept,
        "skipped": list(result.skipped),
        "translated": result.translated,
        "seconds": round(result.seconds, 3),
        "per_second": round(result.per_second, 3),
        "tiling": result.tiling,
        "interrupted": result.interrupted,
    }


def _summary(result: "TranslateResult", output: Path) -> str:
    """What was translated, and how fast."""
    videos = len(result.videos)
    images = len(result.outputs) - videos
    frames = result.translated - images
    parts = []
    if images or not videos:
        parts.append(counted(images, "image"))
    if videos:
        parts.append(f"{counted(videos, 'video')} of {counted(frames, 'frame')}")
    encoders = ", ".join(sorted({video.encoder for video in result.videos}))
    return (
        f"{' and '.join(parts)} -> {output}{f' by {encoders}' if encoders else ''} in "
        f"{result.seconds:.1f} s ({result.per_second:.1f}{' frames' if videos else ''} a second)"
        f"{f'; {len(result.kept)} were there' if result.kept else ''}"
    )
