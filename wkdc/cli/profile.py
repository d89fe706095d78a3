"""wkdc profile."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wkdc.cli import options, render, values
from wkdc.system import units

EXACT_DB = 70.0
"""Above this PSNR images differ by less than an eye can see."""

SLOWEST = 12
"""Number of layers that are shown one by one."""

if TYPE_CHECKING:
    from wkdc.benchmark.latency import Latency
    from wkdc.benchmark.model_profile import ModelProfile
    from wkdc.profile import ProfileResult


def profile(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help=".pth, .onnx, .tflite and .ncnn.param files.",
            show_default="student.pth and its teacher",
        ),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Height and width of the images: 256, or 192x320.")
    ] = "256",
    batch: Annotated[int, typer.Option(help="Images in a call.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Threads of each runtime.", show_default="all cores")
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="Timed calls of each model; more narrow the interval.")
    ] = 15,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    compile_: Annotated[
        bool, typer.Option("--compile", help="Time torch.compile too; it compiles first.")
    ] = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show the time of each layer in ONNX Runtime.")
    ] = False,
    norm: options.Norm = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Size and speed of models side by side: by default student.pth and its teacher."""
    import wkdc
    from wkdc.checkpoints.card import read_card
    from wkdc.checkpoints.checkpoint import teacher_path

    if not models:
        student = Path("student.pth")
        hint = f"name both files: wkdc profile TEACHER {student}"
        models = [teacher_path(student, read_card(student), hint=hint), student]
    with render.meter() as meter:
        result = wkdc.profile(
            models,
            size=values.parse_size(size),
            batch=batch,
            threads=threads,
            device=device,
            rounds=rounds,
            compiled=compile_,
            layers=layers,
            norm=norm,
            key=key,
            arch=arch,
            on_round=lambda done, total: meter.show(done / total, f"round {done} of {total}"),
        )
    if json:
        render.print_json(result)
    else:
        show_profile(result)


def show_profile(result: "ProfileResult") -> None:
    """Print the tables of a profile."""
    models, speedup = result.models, result.speedup

    def row(name: str, cells: list[str], ratio: str = "") -> tuple[str, ...]:
        said = f"{speedup[ratio]:.2f}x" if ratio in speedup else ""
        if ratio in result.interval:
            low, high = result.interval[ratio]
            said += f" [{low:.2f}, {high:.2f}]"
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
        rows.append(row(runtime, [_time(latency) for latency in found], runtime))
        near = [model.agreement_db.get(runtime, math.inf) for model in models]
        if min(near) < EXACT_DB:  # float32 sums in another order stay above it
            rows.append(row("  to the first runtime", [f"{db:.1f} dB" for db in near]))
    height, width = result.size
    render.table(
        f"{height}x{width}, batch {result.batch}, {units.counted(result.threads, 'thread')}, "
        f"{result.device}",
        ("", *(str(model.path) for model in models), "ratio"),
        rows,
    )
    for model in models:
        _show_layers(model)
    for warning in result.warnings:
        render.say(f"note: {warning}")


def _time(latency: "Latency | None") -> str:
    if latency is None:
        return "-"
    energy = "" if latency.energy_j is None else f", {latency.energy_j:.2f} J"
    return f"{latency.median:.1f} ms (p90 {latency.p90:.1f}{energy})"


def _show_layers(model: "ModelProfile") -> None:
    """Print the time of all layers by kind, and of the slowest ones one by one."""
    if model.layers is None:
        return
    found, total = model.layers, model.layers.total_ms

    def cells(ms: float) -> tuple[str, str]:
        return f"{ms:.2f} ms", f"{ms / total:.1%}"

    title = f"{model.path} in ONNX Runtime, {total:.1f} ms"
    by_kind = [(kind, *cells(ms)) for kind, ms in found.kinds.items()]
    render.table(f"{title}, by kind", ("", "time", "share"), by_kind)
    slowest, others = found.layers[:SLOWEST], found.layers[SLOWEST:]
    rows = [(one.layer or "between layers", str(one.kind), *cells(one.ms)) for one in slowest]
    if others:
        rows.append((f"{len(others)} more", "", *cells(sum(one.ms for one in others))))
    render.table(f"{title}, by layer", ("layer", "", "time", "share"), rows)
