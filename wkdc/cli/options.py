"""Options that several commands share, and how their values are read."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import render
from wkdc.errors import OptionError
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.data.folders import ImageFolder
    from wkdc.data.named_sets import DownloadProgress
    from wkdc.inference.tiles import Tiling

NormName = Literal["instance", "batch", "batch-per-image", "none"]
PaddingName = Literal["reflect", "replicate", "zero"]
UpsamplingName = Literal["transposed", "subpixel", "nearest"]

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Where it runs: cpu, cuda, or cuda:N of several GPUs.",
        show_default="a GPU where there is one",
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,
        help="Seed of every random choice.",
    ),
]
FILE = "If the weight file cannot tell"
Norm = Annotated[
    NormName | None,
    typer.Option("--norm", help="The generator's normalisation.", rich_help_panel=FILE),
]
BlockPadding = Annotated[
    PaddingName | None,
    typer.Option(
        "--padding", help="The padding in the generator's residual blocks.", rich_help_panel=FILE
    ),
]
Upsampling = Annotated[
    UpsamplingName | None,
    typer.Option(
        "--upsampling", help="How the generator doubles the resolution.", rich_help_panel=FILE
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Which network, of a file that holds several: netG_A2B.",
        rich_help_panel=FILE,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="Network of your own code: package.module:factory, a function that returns it.",
        rich_help_panel=FILE,
    ),
]
Direction = Annotated[
    Literal["AtoB", "BtoA"],
    typer.Option(
        "--direction", help="Which domain, or half of a paired image, is the input: BtoA takes B."
    ),
]
DataUrl = Annotated[
    str | None,
    typer.Option("--data-url", help="Address of a mirror to download named data sets from."),
]
Student = Annotated[
    Path, typer.Option("--student", help="The student, a file that wkdc prune wrote.")
]

Models = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Generators (.pth, .onnx, .tflite, .ncnn.param), and folders of runs.",
        show_default="student.pth",
    ),
]
Images = Annotated[
    str | None, typer.Option("--data", help="Name of a data set, or a folder of images.")
]
Range = Annotated[
    str | None,
    typer.Option(
        "--range",
        help="LOW,HIGH: the numbers that are black and white in files of floating-point numbers.",
        show_default="the narrowest of 0,1, -1,1 and 0,255 that holds a file's",
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        "--bands",
        help="Which of more than three bands are shown, counted from 1: 3,2,1.",
        show_default="the first three",
    ),
]
Teacher = Annotated[
    Path | None,
    typer.Option("--teacher", help="The teacher.", show_default="the one on the models' cards"),
]
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", help="Use only the first so many images: faster, less sure.", show_default="all"
    ),
]
ComparedSize = Annotated[
    int, typer.Option("--size", help="Height and width at which images are compared.")
]


NUMBER = r"\d{1,9}"
"""A whole number in an option. Python refuses to read one of some thousand digits."""


def parse_size(text: str) -> tuple[int, int]:
    """`256` -> (256, 256), `192x320` -> (192, 320): height by width.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(f"({NUMBER})(?:x({NUMBER}))?", text.strip().lower())
    if found is None:
        raise OptionError(f"size {text!r} is not understood; give 256, or height x width: 192x320")
    height = int(found[1])
    return height, int(found[2] or height)


def parse_count(text: str) -> int:
    """`1606000`, `700k`, `1.6M` or `7G` -> the number.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([kKMG]?)", text.strip())
    if found is None:
        raise OptionError(
            f"{text!r} is not understood; give a number, with k, M or G where it is large: 1.6M"
        )
    scale = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}[found[2]]
    return round(float(found[1]) * scale)


def parse_milliseconds(text: str) -> float:
    """`80`, `80ms` or `0.08s` -> milliseconds.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*(ms|s)?", text.strip())
    if found is None:
        raise OptionError(f"latency {text!r} is not understood; give milliseconds, such as 80ms")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def parse_widths(text: str) -> Literal["uniform", "search"] | list[int]:
    """`uniform`, `search`, or `32,96,144,69,96,32` -> the numbers.

    Raises:
        OptionError: anything else.
    """
    match text.strip():
        case "uniform":
            return "uniform"
        case "search":
            return "search"
    parts = text.split(",")
    if not all(re.fullmatch(NUMBER, part.strip()) for part in parts):
        raise OptionError(
            f"widths {text!r} is not understood; give uniform, search, or numbers with commas: "
            "32,96,144,69,96,32"
        )
    return [int(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """`3/16` -> (3, 16).

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(f"({NUMBER})/({NUMBER})", text.strip())
    if found is None:
        raise OptionError(f"shard {text!r} is not understood; give a part of all: 3/16")
    return int(found[1]), int(found[2])


def tiling(
    tile: int | None, overlap: int | None, statistics: Literal["picture", "tile"] | None
) -> "Tiling | None":
    """How large images are cut; None where they are not.

    Raises:
        OptionError: how, but not into which tiles.
    """
    from wkdc.inference.tiles import Tiling

    if tile is not None:
        return Tiling(tile, 64 if overlap is None else overlap, statistics)
    if overlap is not None or statistics is not None:
        raise OptionError("overlap and statistics are those of tiles; give --tile 512 with them")
    return None


def parse_step(text: str) -> int | None:
    """`8`, `16` -> the number; `auto` -> None.

    Raises:
        OptionError: anything else.
    """
    if text.strip() == "auto":
        return None
    if not re.fullmatch(NUMBER, text.strip()):
        raise OptionError(f"round-to {text!r} is not understood; give auto, or a number such as 16")
    return int(text)


def arch_again(arch: str | None) -> str:
    """`--arch` as the next command needs it, too."""
    return "" if arch is None else f" --arch {arch}"


def targets_folder(cache: str | None) -> Path | None:
    """Where the outputs of teachers are kept: `--cache`, which may be `off`, or wkdc's cache."""
    from wkdc.system.files import cache_folder

    if cache == "off":
        return None
    return cache_folder() / "drawings" if cache is None else Path(cache)


def parse_range(text: str) -> tuple[float, float]:
    """`0,4096` -> (0, 4096).

    Raises:
        OptionError: anything else than two finite numbers.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not math.isfinite(low) or not math.isfinite(high):
        raise OptionError(f"range {text!r} is not understood; give LOW,HIGH, such as 0,4096")
    return low, high


def parse_bands(text: str) -> tuple[int, ...]:
    """`3,2,1` -> (3, 2, 1).

    Raises:
        OptionError: anything else than whole numbers.
    """
    if not all(re.fullmatch(NUMBER, part.strip()) for part in text.split(",")):
        raise OptionError(f"bands {text!r} is not understood; give numbers, such as 3,2,1")
    return tuple(map(int, text.split(",")))


def find_images(
    data: str | None,
    mirror: str | None,
    value_range: str | None = None,
    bands: str | None = None,
) -> "ImageFolder":
    """The folder of a command's images, which has to be named; see `find_data`.

    Raises:
        OptionError: it is not.
    """
    if data is None:
        raise OptionError("no images are given; give --data FOLDER, or the name of a data set")
    return find_data(data, mirror, value_range, bands)


def find_images_if_any(
    data: str | None,
    mirror: str | None,
    value_range: str | None,
    bands: str | None = None,
) -> "ImageFolder | None":
    """The folder of a command's images, where it is named; see `find_data`.

    Raises:
        OptionError: it is not, and something is said of it.
    """
    if data is not None:
        return find_data(data, mirror, value_range, bands)
    if value_range is not None or bands is not None:
        raise OptionError("--range and --bands are those of images; give --data FOLDER with them")
    return None


def find_data(
    data: str,
    mirror: str | None,
    value_range: str | None = None,
    bands: str | None = None,
) -> "ImageFolder":
    """The folder that `--data` names, fetched if it is a set that is not here; shows progress.

    Args:
        value_range, bands: what was given with `--range` and `--bands`.

    Raises:
        OptionError: these are not understood.
        DatasetError: see `wkdc.data.named_sets.find_dataset`.
    """
    from wkdc.data.folders import ImageFolder
    from wkdc.data.named_sets import find_dataset

    low_high = None if value_range is None else parse_range(value_range)
    shown = () if bands is None else parse_bands(bands)
    with render.meter() as meter:
        folder = find_dataset(
            data, mirror=mirror, on_progress=lambda done: _show_download(meter, done)
        )
    return ImageFolder(folder, low_high, shown)


def _show_download(meter: render.Meter, done: "DownloadProgress") -> None:
    total = done.total_bytes
    share = done.done_bytes / total if total else 0.0
    of = f" of {units.megabytes(total)}" if total else ""
    meter.show(share, f"{done.name}: {units.megabytes(done.done_bytes)}{of}")
