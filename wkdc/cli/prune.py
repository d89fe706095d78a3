"""wkdc prune."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render

if TYPE_CHECKING:
    from wkdc.prune import PruneResult


TARGET = "How small (one of these)"


def prune(
    teacher: Annotated[Path, typer.Argument(help="The generator, such as latest_net_G.pth.")],
    ratio: Annotated[
        float | None,
        typer.Option(help="How many times smaller; met within 2 %.", rich_help_panel=TARGET),
    ] = None,
    by: Annotated[
        Literal["params", "macs"] | None,
        typer.Option(help="What the ratio counts.", rich_help_panel=TARGET, show_default="params"),
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(help="How many parameters, such as 1.6M.", rich_help_panel=TARGET),
    ] = None,
    macs: Annotated[
        str | None,
        typer.Option(
            help="How many multiply-accumulates at 256x256, such as 7G.", rich_help_panel=TARGET
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "student.pth"
    ),
    data: Annotated[
        str | None,
        typer.Option(
            help="The teacher's inputs, to calibrate on: a folder or a data set by name.",
            show_default="bundled photos",
        ),
    ] = None,
    calibrate: Annotated[
        int, typer.Option(help="Pictures to calibrate on; 0 slices and leaves it at that.")
    ] = 24,
    direction: options.Direction = "AtoB",
    importance: Annotated[
        Literal["readers", "magnitude", "random"] | None,
        typer.Option(help="Which channels stay.", show_default="readers"),
    ] = None,
    data_url: options.DataUrl = None,
    seed: options.Seed = 0,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    json: options.Json = False,
) -> None:
    """Slice and reconstruct a smaller student: teacher.pth -> student.pth."""
    import wkdc

    source = wkdc.load_generator(teacher, norm=norm, block_padding=padding, upsampling=upsampling)
    # Pictures that nobody would look at are not fetched.
    folder = options.find_data(data, data_url) if data is not None and calibrate else data
    with render.meter() as meter:
        result = wkdc.prune(
            source,
            ratio=ratio,
            by=by,
            params=None if params is None else options.parse_count(params),
            macs=None if macs is None else options.parse_count(macs),
            output=output,
            data=folder,
            calibrate=calibrate,
            direction=direction,
            importance=importance,
            seed=seed,
            on_progress=lambda stage, share: meter.show(share, stage),
            on_notice=render.say,
        )
    render.say_notes(source.notes)
    if json:
        render.print_json(
            {
                "output": str(result.output),
                "teacher": {"params": result.teacher.params, "macs": result.teacher.macs},
                "student": {"params": result.student.params, "macs": result.student.macs},
                "ratio": {"params": result.params_ratio, "macs": result.macs_ratio},
                "importance": result.importance,
                "calibrated_on": result.calibrated_on,
            }
        )
        return
    _show(teacher, result, data)


def _show(teacher: Path, result: "PruneResult", data: str | None) -> None:
    before, after = result.teacher, result.student
    height, width = result.size
    sizes = result.teacher_bytes, result.student_bytes
    rows = [
        (
            "parameters",
            render.millions(before.params),
            render.millions(after.params),
            f"{result.params_ratio:.2f}x",
        ),
        (
            f"MACs at {height}x{width}",
            render.billions(before.macs),
            render.billions(after.macs),
            f"{result.macs_ratio:.2f}x",
        ),
        ("file", *map(render.megabytes, sizes), f"{sizes[0] / sizes[1]:.2f}x"),
    ]
    stages = zip(result.teacher_architecture.stages(), result.architecture.stages(), strict=True)
    rows += [(f"{stage} channels", old, new, "") for (stage, old), (_, new) in stages]
    render.table(f"{teacher} -> {result.output}", ("", "teacher", "student", "ratio"), rows)
    render.out.print(_calibration(result))
    student = "" if result.output == Path("student.pth") else f" --student {result.output}"
    render.say_next(f"wkdc distill --data {data or 'FOLDER'}{student}")


def _calibration(result: "PruneResult") -> str:
    """What the student was reconstructed on, and what would be better."""
    if not result.layers:
        return "sliced only: it draws noise until it is trained"
    missed = statistics.median(layer.after for layer in result.layers)
    own = f"{result.calibrated_on} pictures of {result.source}"
    bundled = f"{result.calibrated_on} bundled photos (--data FOLDER: the teacher's own inputs)"
    return (
        f"reconstructed on {own if result.source else bundled}; "
        f"on them its layers follow the teacher's to {1 - missed:.1%} of the variance (median)"
    )
