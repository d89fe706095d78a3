"""wkdc profile."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wkdc import units
from wkdc.cli import options, render

EXACT_DB = 70.0
"""Pictures that are nearer to each other differ in no pixel of 8 bits that an eye could find."""

if TYPE_CHECKING:
    from wkdc.profile import ProfileResult


def profile(
    models: Annotated[
        list[Path] | None,
        typer.Argument(help=".pth and .onnx files.", show_default="student.pth and its teacher"),
    ] = None,
    size: Annotated[str, typer.Option(help="Height and width: 256, or 192x320.")] = "256",
    batch: Annotated[int, typer.Option(help="Pictures a call.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each runtime.", show_default="all cores")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Timed calls of each model.")] = 15,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Size and speed of models side by side: by default student.pth and its teacher."""
    import wkdc
    from wkdc.checkpoint import teacher_path

    if not models:
        student = wkdc.load_generator("student.pth", arch=arch)
        hint = f"name both files: wkdc profile TEACHER {student.path}"
        models = [teacher_path(student, hint=hint), student.path]
    with render.meter() as meter:
        result = wkdc.profile(
            models,
            size=options.parse_size(size),
            batch=batch,
            threads=threads,
            device=device,
            rounds=rounds,
            arch=arch,
            on_round=lambda done, total: meter.show(done / total, f"round {done} of {total}"),
        )
    if json:
        render.print_json(result)
    else:
        show_profile(result)


def show_profile(result: "ProfileResult") -> None:
    """The table of a profile."""
    models, speedup = result.models, result.speedup

    def row(name: str, cells: list[str], ratio: str = "") -> tuple[str, ...]:
        said = f"{speedup[ratio]:.2f}x" if ratio in speedup else ""
        if ratio in result.interval:
            low, high = result.interval[ratio]
            said += f" \\[{low:.2f}, {high:.2f}]"
        return (name, *cells, said)

    rows = []
    if any(m.precision != "float32" for m in models):
        rows.append(row("precision", [m.precision for m in models]))
    rows += [
        row("parameters", [units.millions(m.params) for m in models], "params"),
        row("MACs", [units.billions(m.macs) for m in models], "macs"),
        row("MACs, as papers count", [units.billions(m.macs_output_resolution) for m in models]),
        row("file", [units.megabytes(m.size_bytes) for m in models]),
        row("peak memory", [units.megabytes(m.peak_memory_bytes) for m in models]),
    ]
    for runtime in sorted({name for model in models for name in model.latency_ms}):
        found = [model.latency_ms.get(runtime) for model in models]
        cells = [f"{f.median:.1f} ms (p90 {f.p90:.1f})" if f else "-" for f in found]
        rows.append(row(runtime, cells, runtime))
        near = [model.agreement_db.get(runtime, math.inf) for model in models]
        if min(near) < EXACT_DB:  # float32 in another order is nearer
            rows.append(row("  to float32", [f"{db:.1f} dB" for db in near]))
    height, width = result.size
    render.table(
        f"{height}x{width}, batch {result.batch}, {result.threads} threads, {result.device}",
        ("", *(str(model.path) for model in models), "ratio"),
        rows,
    )
    for warning in result.warnings:
        render.say(f"note: {warning}")
