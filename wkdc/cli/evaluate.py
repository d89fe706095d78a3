"""wkdc evaluate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render
from wkdc.system.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from wkdc.evaluate import EvaluateResult
    from wkdc.metrics.bootstrap import Interval
    from wkdc.metrics.distribution import Distance
    from wkdc.metrics.image_scores import ImageScores


def evaluate(
    models: options.Models = None,
    data: options.Images = None,
    teacher: options.Teacher = None,
    features: Annotated[
        Literal["inception", "efficientnet"] | None,
        typer.Option(
            help="Add KID, FID, precision and recall of these features: inception for figures "
            "that can be published, efficientnet where nothing can be downloaded.",
            show_default="none",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="File of Inception's weights, for a machine without a network."),
    ] = None,
    lpips: Annotated[
        bool, typer.Option("--lpips", help="Add LPIPS of VGG16; downloads 0.5 GB.")
    ] = False,
    size: options.ComparedSize = 256,
    limit: options.Limit = None,
    direction: options.Direction = "AtoB",
    keep: Annotated[Path | None, typer.Option(help="A new folder to keep the images in.")] = None,
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
    """Score models against their teacher and true images: PSNR, SSIM, and more on request."""
    import wkdc
    from wkdc.system.devices import default_device

    folder = options.find_images(data, data_url, range_, bands)
    with render.meter() as meter:
        result = wkdc.evaluate(
            models or [Path("student.pth")],
            folder,
            teacher=teacher,
            features=features,
            weights=weights,
            lpips=lpips,
            size=size,
            limit=limit,
            direction=direction,
            keep=keep,
            norm=norm,
            key=key,
            arch=arch,
            device=device or default_device(),
            seed=seed,
            on_progress=lambda stage, share: meter.show(share, stage),
        )
    if json:
        render.print_json(result)
    else:
        _show(result)


def _show(result: "EvaluateResult") -> None:
    rows: list[tuple[str, ...]] = []
    sides = (
        ("teacher", [score.to_teacher for score in result.scores]),
        ("truth", [score.to_truth for score in result.scores]),
    )
    for side, found in sides:
        if any(found):
            rows += _score_rows(side, found)
    distances = (
        ("teacher", [score.from_teacher for score in result.scores]),
        ("domain", [score.from_domain for score in result.scores]),
    )
    for side, measured in distances:
        if any(measured):
            rows += _distance_rows(side, measured)
    protocol = result.protocol
    named = "" if protocol.extractor is None else f", features of {protocol.extractor}"
    title = f"{counted(protocol.inputs, 'image')} of {protocol.data}{named}"
    render.table(title, ("", *(score.name for score in result.scores)), rows)
    render.tell(f"{protocol.size}x{protocol.size}: {protocol.resize}; [95 % interval]")
    if protocol.extractor is not None:
        of = f", {protocol.extractor_sha256[:12]}" if protocol.extractor_sha256 else ""
        render.tell(
            f"KID ± standard deviation over {protocol.kid_subsets} subsets of "
            f"{protocol.kid_subset_size}; {protocol.domain} true images of the domain; "
            f"seed {protocol.seed}; {protocol.extractor}{of}"
        )
    for warning in result.warnings:
        render.say(f"note: {warning}")


def _score_rows(side: str, found: list["ImageScores | None"]) -> list[tuple[str, ...]]:
    def row(
        name: str, digits: int, of: "Callable[[ImageScores], Interval | None]"
    ) -> tuple[str, ...]:
        values = [None if one is None else of(one) for one in found]
        return (f"{side}: {name}", *(_interval(one, digits) if one else "-" for one in values))

    rows = [
        row("PSNR, dB", 1, lambda one: one.psnr_db),
        row("SSIM", 3, lambda one: one.ssim),
        row("high-band error", 3, lambda one: one.high_band_error),
    ]
    if any(one and one.lpips for one in found):
        rows.append(row("LPIPS", 3, lambda one: one.lpips))
    return rows


def _interval(value: "Interval", digits: int) -> str:
    """`29.1 [28.4, 29.9]`."""
    return f"{value.mean:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def _distance_rows(side: str, found: list["Distance | None"]) -> list[tuple[str, ...]]:
    def row(name: str, cells: list[str]) -> tuple[str, ...]:
        return (f"{side}: {name}", *cells)

    return [
        row(
            "KID x 1000",
            [f"{1e3 * d.kid:.2f} ± {1e3 * d.kid_std:.2f}" if d else "-" for d in found],
        ),
        row("FID", [f"{d.fid:.1f}" if d else "-" for d in found]),
        row(
            "precision, recall",
            [f"{d.precision:.2f}, {d.recall:.2f}" if d else "-" for d in found],
        ),
    ]
