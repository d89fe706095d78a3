"""wkdc compare."""

from pathlib import Path
from typing import Annotated

import typer

from wkdc.cli import options, render


def compare(
    models: options.Models = None,
    data: options.Images = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The sheet to write.")] = Path(
        "comparison.png"
    ),
    teacher: options.Teacher = None,
    count: Annotated[int, typer.Option(help="Number of inputs on the sheet.")] = 4,
    size: options.ComparedSize = 256,
    direction: options.Direction = "AtoB",
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
    """Write a sheet of images: outputs of models for the same inputs, and where they differ."""
    import wkdc
    from wkdc.system.devices import default_device

    folder = options.find_images(data, data_url, range_, bands)
    with render.meter() as meter:
        found = wkdc.compare(
            models or [Path("student.pth")],
            folder,
            output=output,
            teacher=teacher,
            count=count,
            size=size,
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
    names = list(found.rows[0].psnr_db)
    rows = [
        (row.picture.name, *(f"{row.psnr_db[name]:.1f} dB" for name in names)) for row in found.rows
    ]
    render.table(f"PSNR against {found.reference}", ("", *names), rows)
    render.tell(
        f"{found.output}: for each input the images, the framed square enlarged {found.zoom} "
        f"times, and the differences from {found.reference} times {found.gain}",
    )
