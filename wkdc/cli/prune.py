"""wkdc prune."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import options, render

if TYPE_CHECKING:
    from wkdc.prune import PruneResult


def prune(
    teacher: Annotated[Path, typer.Argument(help="The generator, such as latest_net_G.pth.")],
    ratio: Annotated[float, typer.Option(help="How many times fewer parameters; met within 2 %.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path(
        "student.pth"
    ),
    importance: Annotated[
        Literal["magnitude", "random"], typer.Option(help="Which channels stay.")
    ] = "magnitude",
    seed: options.Seed = 0,
    norm: options.Norm = None,
    padding: options.BlockPadding = None,
    upsampling: options.Upsampling = None,
    json: options.Json = False,
) -> None:
    """Slice a teacher's channels into a smaller student: teacher.pth -> student.pth."""
    import wkdc

    source = wkdc.load_generator(teacher, norm=norm, block_padding=padding, upsampling=upsampling)
    result = wkdc.prune(source, ratio=ratio, output=output, importance=importance, seed=seed)
    render.say_notes(source.notes)
    if json:
        render.print_json(
            {
                "output": str(result.output),
                "teacher": {"params": result.teacher.params, "macs": result.teacher.macs},
                "student": {"params": result.student.params, "macs": result.student.macs},
                "ratio": {"params": result.params_ratio, "macs": result.macs_ratio},
            }
        )
        return
    _show(teacher, result)


def _show(teacher: Path, result: "PruneResult") -> None:
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
    render.say_next("wkdc distill --data horse2zebra")
