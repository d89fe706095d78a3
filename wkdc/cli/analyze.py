"""wkdc analyze."""

from pathlib import Path
from typing import Annotated

import typer

from wkdc.cli import options, render
from wkdc.system.units import counted


def analyze(
    models: options.Models = None,
    data: options.Images = None,
    teacher: options.Teacher = None,
    figure: Annotated[
        Path | None, typer.Option(help="Plot the result into a .svg, .png or .pdf too.")
    ] = None,
    size: options.ComparedSize = 256,
    limit: options.Limit = None,
    direction: options.Direction = "AtoB",
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    device: options.Device = None,
    seed: options.Seed = 0,
    norm: options.Norm = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Show which detail of its teacher a student lacks, by wavelet band and by frequency."""
    import wkdc
    from wkdc.system.devices import default_device

    folder = options.find_images(data, data_url, range_)
    with render.meter() as meter:
        found = wkdc.analyze(
            models or [Path("student.pth")],
            folder,
            teacher=teacher,
            size=size,
            limit=limit,
            direction=direction,
            figure=figure,
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
    bands = list(found.models[0].error)
    rows = [
        (band, *(f"{m.error[band]:.3f}, {m.energy[band]:.0%}" for m in found.models))
        for band in reversed(bands)
    ]
    render.table(
        f"error against {found.teacher}, and energy over the teacher's, by Haar band; "
        f"{counted(found.images, 'image')} of {found.size}x{found.size}",
        ("coarse to fine", *(model.name for model in found.models)),
        rows,
    )
    for sentence in found.sentences:
        render.tell(sentence)
    if found.figure is not None:
        render.tell(f"figure: {found.figure}")
