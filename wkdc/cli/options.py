"""Options that several commands share, and the images that they name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wkdc.cli import render, values
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


def again(arch: str | None, direction: str = "AtoB", value_range: str | None = None) -> list[str]:
    """`--arch`, `--direction` and `--range` as the next command needs them, too."""
    given = {"--arch": arch, "--range": value_range}
    given["--direction"] = None if direction == "AtoB" else direction
    return [word for name, value in given.items() if value is not None for word in (name, value)]


def targets_folder(cache: str | None) -> Path | None:
    """Where the outputs of teachers are kept: `--cache`, which may be `off`, or wkdc's cache."""
    from wkdc.system.files import cache_folder

    if cache == "off":
        return None
    return cache_folder() / "targets" if cache is None else Path(cache)


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
    direction: str | None = None,
) -> "ImageFolder | None":
    """The folder of a command's images, where it is named; see `find_data`.

    Raises:
        OptionError: it is not, and something is said of it.
    """
    if data is not None:
        return find_data(data, mirror, value_range, bands)
    if value_range is not None or bands is not None:
        raise OptionError("--range and --bands are those of images; give --data FOLDER with them")
    if direction not in (None, "AtoB"):
        raise OptionError(f"--direction {direction} is that of images; give --data FOLDER with it")
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

    low_high = None if value_range is None else values.parse_range(value_range)
    shown = () if bands is None else values.parse_bands(bands)
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
