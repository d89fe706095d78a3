"""wkdc report."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from wkdc.cli import options, render
from wkdc.system import units


def report(
    model: Annotated[Path, typer.Argument(help="A student's .pth, or the folder of a run.")] = Path(
        "student.pth"
    ),
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="A data set's name, or a folder of images.",
            show_default="what the student was trained on",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path(
        "report.html"
    ),
    result: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with what profile, evaluate or analyze printed with --json, shown instead "
            "of measuring again: one for each command."
        ),
    ] = None,
    teacher: options.Teacher = None,
    count: Annotated[int, typer.Option(help="Number of images shown.")] = 4,
    size: options.ComparedSize = 256,
    limit: options.Limit = None,
    direction: Annotated[
        Literal["AtoB", "BtoA"] | None,
        typer.Option(
            help="Which domain, or half of a paired image, is the input.",
            show_default="as in its training",
        ),
    ] = None,
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    bands: options.Bands = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    norm: options.Norm = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Write one HTML page on a student: images, scores, size, speed, and how it was made."""
    import wkdc
    from wkdc.system.devices import default_device

    folder = options.find_images_if_any(data, data_url, range_, bands)
    with render.meter() as meter:
        found = wkdc.report(
            model,
            folder,
            output=output,
            results=result or [],
            teacher=teacher,
            count=count,
            size=size,
            limit=limit,
            direction=direction,
            norm=norm,
            key=key,
            arch=arch,
            device=device or default_device(),
            seed=seed,
            on_progress=lambda stage, share: meter.show(share, stage),
        )
    if json:
        render.print_json(found)
        return
    for warning in found.warnings:
        render.say(f"note: {warning}")
    for line in found.summary:
        render.tell(line)
    render.tell(
        f"{found.output}: {found.student} beside {found.teacher}, "
        f"{units.megabytes(found.size_bytes)}, for any browser",
    )
