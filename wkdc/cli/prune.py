"""wkdc prune."""

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from wkdc.cli import options, render, values
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.data.folders import ImageFolder
    from wkdc.prune import PruneResult


TARGET = "How small (one of these)"
WIDTHS = "How wide each layer becomes"


Teacher = Annotated[Path, typer.Argument(help="The generator, such as latest_net_G.pth.")]
Ratio = Annotated[
    float | None,
    typer.Option(
        help="How many times smaller the student shall be; met within 2 %.", rich_help_panel=TARGET
    ),
]
By = Annotated[
    Literal["params", "macs", "latency"] | None,
    typer.Option(
        help="What the ratio counts; latency for a given speedup on this machine.",
        rich_help_panel=TARGET,
        show_default="params",
    ),
]
Params = Annotated[
    str | None,
    typer.Option(help="How many parameters the student has, such as 1.6M.", rich_help_panel=TARGET),
]
Macs = Annotated[
    str | None,
    typer.Option(
        help="How many multiply-accumulates an image costs, such as 7G.", rich_help_panel=TARGET
    ),
]
Latency = Annotated[
    str | None,
    typer.Option(
        help="How long an image takes in ONNX Runtime on this machine, such as 80ms.",
        rich_help_panel=TARGET,
    ),
]
Widths = Annotated[
    str | None,
    typer.Option(
        help="uniform narrows all layers alike, search where the image changes least; or numbers: "
        "32,96,144,69,96,32.",
        rich_help_panel=WIDTHS,
        show_default="search",
    ),
]
Preference = Annotated[
    Literal["fidelity", "balance", "speed"] | None,
    typer.Option(
        help="What a search prefers at equal size: the nearest images, or the shortest time.",
        rich_help_panel=WIDTHS,
        show_default="balance",
    ),
]
RoundTo = Annotated[
    str,
    typer.Option(
        help="Make widths multiples of this number, as some hardware likes them.",
        rich_help_panel=WIDTHS,
    ),
]
DropBlocks = Annotated[
    int | None,
    typer.Option(
        help="How many residual blocks are dropped.",
        rich_help_panel=WIDTHS,
        show_default="as many as the search finds good",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the plan and its speed; write nothing.")
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="File to write the student to.",
        show_default="student.pth, of a discriminator discriminator.pth",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="The teacher's inputs, to calibrate on: a folder, or the name of a data set. Give "
        "them where photos are not what it is used on.",
        show_default="bundled photos",
    ),
]
Calibrate = Annotated[
    int,
    typer.Option(
        help="Number of calibration images; more make the start a little better, 0 only slices."
    ),
]
Jitter = Annotated[
    float,
    typer.Option(
        help="Share of the calibration images that are also looked at in other colours (colour "
        "jitter), so that the student knows colours that the images lack."
    ),
]
AntialiasName = Annotated[
    Literal["keep", "down", "up", "none"],
    typer.Option(
        help="Which fixed blurs the student keeps of a teacher such as CUT's: those before it "
        "halves, when it doubles, all or none. Fewer are faster, and less near."
    ),
]
ImportanceName = Annotated[
    Literal["readers", "magnitude", "l1", "fpgm", "norm-scale", "taylor", "activation", "random"]
    | None,
    typer.Option(
        help="How channels are ranked; the others are for comparisons.", show_default="readers"
    ),
]
Size = Annotated[
    str | None,
    typer.Option(help="Height and width for MACs and times: 256, or 192x320.", show_default="256"),
]
Device = Annotated[str, typer.Option(help="Where times are measured: cpu or cuda.")]


def prune(
    teacher: Teacher,
    ratio: Ratio = None,
    by: By = None,
    params: Params = None,
    macs: Macs = None,
    latency: Latency = None,
    widths: Widths = None,
    prefer: Preference = None,
    round_to: RoundTo = "auto",
    drop_blocks: DropBlocks = None,
    dry_run: DryRun = False,
    output: Output = None,
    data: Data = None,
    calibrate: Calibrate = 24,
    jitter: Jitter = 0.33,
    antialias: AntialiasName = "keep",
    direction: options.Direction = "AtoB",
    importance: ImportanceName = None,
    data_url: options.DataUrl = None,
    range_: options.Range = None,
    size: Size = None,
    device: Device = "cpu",
    seed: options.Seed = 0,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Slice and reconstruct a smaller student: teacher.pth -> student.pth.

    Discriminators (latest_net_D.pth) are pruned too, for distill --discriminator.
    """
    import wkdc
    from wkdc.checkpoints.checkpoint import load_network
    from wkdc.checkpoints.reading import Reading

    source = load_network(teacher, Reading(norm, padding, upsampling, key, arch))
    # Images that nobody would look at are not fetched.
    folder: ImageFolder | str | None = data
    if calibrate or data is None:
        folder = options.find_images_if_any(data, data_url, range_, direction=direction)
    with render.meter() as meter:
        result = wkdc.prune(
            source,
            ratio=ratio,
            by=by,
            params=None if params is None else values.parse_count(params),
            macs=None if macs is None else values.parse_count(macs),
            latency_ms=None if latency is None else values.parse_milliseconds(latency),
            output=output,
            data=folder,
            calibrate=calibrate,
            jitter=jitter,
            antialias=antialias,
            direction=direction,
            importance=importance,
            widths=None if widths is None else values.parse_widths(widths),
            prefer=prefer,
            round_to=values.parse_step(round_to),
            drop_blocks=drop_blocks,
            size=None if size is None else values.parse_size(size),
            device=device,
            dry_run=dry_run,
            seed=seed,
            on_progress=lambda stage, share: meter.show(share, stage),
            on_notice=render.say,
        )
    render.say_notes(source.notes)
    if json:
        render.print_json(_as_json(result))
    else:
        _show(teacher, result, data, options.again(arch, direction, range_))


def _as_json(result: "PruneResult") -> dict[str, Any]:
    clock = result.clock
    return {
        "output": None if result.output is None else str(result.output),
        "teacher": {"params": result.teacher.params, "macs": result.teacher.macs},
        "student": {"params": result.student.params, "macs": result.student.macs},
        "ratio": {"params": result.params_ratio, "macs": result.macs_ratio},
        "size": list(result.size),
        "widths": {name: list(pair) for name, pair in result.widths.items()},
        "expected_psnr_db": result.expected_psnr_db,
        "psnr_db": result.psnr_db,
        "latency_ms": None
        if clock is None
        else {
            "device": clock.device,
            "teacher": clock.teacher_ms,
            "student": clock.student_ms,
            "expected": clock.expected_ms,
        },
        "importance": result.importance,
        "calibrated_on": result.calibrated_on,
        "jittered": result.jittered,
        "layers": [
            {"name": layer.name, "missed_before": layer.before, "missed_after": layer.after}
            for layer in result.layers
        ],
    }


def _show(teacher: Path, result: "PruneResult", data: str | None, again: list[str]) -> None:
    before, after = result.teacher, result.student
    height, width = result.size
    rows = [
        (
            "parameters",
            units.millions(before.params),
            units.millions(after.params),
            f"{result.params_ratio:.2f}x",
        ),
        (
            f"MACs at {height}x{width}",
            units.billions(before.macs),
            units.billions(after.macs),
            f"{result.macs_ratio:.2f}x",
        ),
    ]
    if result.student_bytes is not None:
        sizes = result.teacher_bytes, result.student_bytes
        old, new = (units.megabytes(size) for size in sizes)
        rows.append(("file", old, new, f"{sizes[0] / sizes[1]:.2f}x"))
    if result.clock is not None:
        clock = result.clock
        rows.append(
            (
                f"ONNX Runtime, {clock.device}",
                f"{clock.teacher_ms:.1f} ms",
                f"{clock.student_ms:.1f} ms",
                f"{clock.teacher_ms / clock.student_ms:.2f}x",
            )
        )
    stages = zip(result.teacher_architecture.stages(), result.architecture.stages(), strict=True)
    rows += [(f"{stage} channels", old, new, "") for (stage, old), (_, new) in stages]
    title = f"{teacher} -> {result.output or 'nothing: a dry run'}"
    render.table(title, ("", "teacher", "student", "ratio"), rows)
    render.tell(_calibration(result))
    if result.output is None:
        render.tell("next: the same without --dry-run")
        return
    named: list[str | Path] = []
    if result.architecture.is_discriminator:
        named = ["--recipe", "paper", "--discriminator", result.output]
    elif result.output != Path("student.pth"):
        named = ["--student", result.output]
    render.say_next("wkdc", "distill", "--data", data or "FOLDER", *named, *again)


def _calibration(result: "PruneResult") -> str:
    """What the student was made on, and what would be better."""
    if not result.calibrated_on:
        return "sliced only: its output is noise until it is trained"
    own = f"{units.counted(result.calibrated_on, 'image')} of {result.source}"
    photos = units.counted(result.calibrated_on, "bundled photo")
    bundled = f"{photos} (--data FOLDER: the teacher's own inputs)"
    copies = units.counted(result.jittered, "copy", "copies")
    also = f" and {copies} in other colours" if result.jittered else ""
    seen = (own if result.source else bundled) + also
    said = [f"planned on {seen}"]
    if result.layers:
        missed = statistics.median(layer.after for layer in result.layers)
        said = [
            f"reconstructed on {seen}",
            f"on them its layers follow the teacher's to {1 - missed:.1%} of the variance (median)",
        ]
    if result.psnr_db is not None:
        said.append(f"there it has {result.psnr_db:.1f} dB to the teacher's images, untrained")
    elif result.expected_psnr_db is not None:
        guess = f"a rough guess, to compare plans by: {result.expected_psnr_db:.0f} dB"
        said.append(f"{guess} to the teacher's images, untrained")
    return "; ".join(said)
