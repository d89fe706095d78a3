"""Options that several commands share, and how their values are read."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from wkdc.errors import OptionError

NormName = Literal["instance", "batch", "none"]
PaddingName = Literal["reflect", "replicate", "zero"]
UpsamplingName = Literal["transposed", "subpixel"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:N.", show_default="a GPU where there is one"),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]
FILE = "If the weight file cannot tell"
Norm = Annotated[
    NormName | None,
    typer.Option("--norm", help="The teacher's normalisation.", rich_help_panel=FILE),
]
BlockPadding = Annotated[
    PaddingName | None,
    typer.Option("--padding", help="The padding in its residual blocks.", rich_help_panel=FILE),
]
Upsampling = Annotated[
    UpsamplingName | None,
    typer.Option("--upsampling", help="How it doubles the resolution.", rich_help_panel=FILE),
]
Student = Annotated[Path, typer.Option("--student", help="The student, a file of wkdc prune.")]


def parse_size(text: str) -> tuple[int, int]:
    """`256` -> (256, 256), `192x320` -> (192, 320): height by width.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None:
        raise OptionError(f"size {text!r} is not understood; give 256, or height x width: 192x320")
    height = int(found[1])
    return height, int(found[2] or height)
