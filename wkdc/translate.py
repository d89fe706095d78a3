"""Pictures in, a model's pictures out."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from wkdc.errors import ImageError, OptionError, OutputError
from wkdc.images import (
    SUFFIXES,
    images_to_pixels,
    list_images,
    save_pixels,
)
from wkdc.models import ImageModel, open_model
from wkdc.reader import load_input


@dataclass(frozen=True)
class TranslateResult:
    """What was drawn.

    Attributes:
        outputs: the files written, in the order of the inputs.
        kept: files that were there already, where that was asked for.
        skipped: one sentence for each picture that could not be read.
        seconds: of reading, drawing and writing.
        notes: what the model's file could not tell and was assumed.
    """

    outputs: tuple[Path, ...]
    kept: tuple[Path, ...]
    skipped: tuple[str, ...]
    seconds: float
    notes: tuple[str, ...]


def translate(
    model: ImageModel | str | Path,
    inputs: Sequence[str | Path],
    output: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    shard: tuple[int, int] = (1, 1),
    device: str = "cpu",
    on_image: Callable[[int, int], None] | None = None,
) -> TranslateResult:
    """Draw every picture in `inputs` with `model`, at its own size.

    For a model that reads other channels than a picture's they are label maps; see
    `wkdc.reader.load_input`.

    Args:
        model: a .pth or .onnx file.
        inputs: pictures and folders of pictures.
        output: a folder; or, for a single picture, a file that ends like one. Files in a folder
            are PNG under the input's name.
        overwrite: whether files that exist may be replaced.
        resume: whether pictures whose file exists are done: files are written whole or not at all.
        shard: (3, 16) draws the third of sixteen parts, none of which has a picture of another.
        on_image: called with the pictures done, skipped ones too, and their number.

    Raises:
        OutputError: an output exists, before anything is drawn; or cannot be written.
        ImageError: no picture can be read.
        OptionError: no such part, or both `overwrite` and `resume`.
        CheckpointError, DeviceError: see `open_model`.
    """
    started = time.monotonic()
    part, parts = shard
    if not 1 <= part <= parts:
        raise OptionError(f"shard {part}/{parts} is none; give 1/{parts} to {parts}/{parts}")
    if overwrite and resume:
        raise OptionError("resume keeps what exists, and overwrite replaces it; give one of them")
    opened = model if isinstance(model, ImageModel) else open_model(model, device=device)
    found = _input_paths(inputs)
    named = list(zip(found, _output_paths(found, Path(output)), strict=True))[part - 1 :: parts]
    taken = [target for _, target in named if target.exists()]
    if taken and not (overwrite or resume):
        raise OutputError(
            f"{taken[0]} exists{f' (and {len(taken) - 1} more)' if len(taken) > 1 else ''}; "
            "give another --output, --resume to keep what exists, or --overwrite"
        )
    if resume:
        there = set(taken)
        named = [(path, target) for path, target in named if target not in there]
    done: list[Path] = []
    skipped: list[str] = []
    for number, (path, target) in enumerate(named, 1):
        try:
            given = load_input(path, opened.in_channels)
        except ImageError as error:
            skipped.append(str(error))
        else:
            drawn = opened.draw(given)
            _make_folder(target.parent)
            save_pixels(target, images_to_pixels(drawn[0]))
            done.append(target)
        if on_image is not None:
            on_image(number, len(named))
    if skipped and not done:
        raise ImageError(f"none of {len(named)} pictures could be read: {skipped[0]}")
    return TranslateResult(
        tuple(done),
        tuple(taken) if resume else (),
        tuple(skipped),
        time.monotonic() - started,
        opened.notes,
    )


def _input_paths(inputs: Sequence[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for entry in map(Path, inputs):
        if entry.is_dir():
            paths += list_images(entry)
        elif entry.is_file():
            paths.append(entry)
        else:
            raise ImageError(f"{entry} does not exist; give a picture or a folder of pictures")
    if not paths:
        raise OptionError("no pictures were given; give pictures or folders of pictures")
    return paths


def _output_paths(paths: Sequence[Path], output: Path) -> list[Path]:
    """Where each picture goes; inputs that share a name keep their endings to stay apart."""
    if output.suffix.lower() in SUFFIXES and not output.is_dir():
        if len(paths) > 1:
            raise OptionError(f"{output} is one file, but {len(paths)} pictures were given")
        return [output]
    stems = [path.stem for path in paths]
    names = [
        path.stem if stems.count(path.stem) == 1 else path.name.replace(".", "-") for path in paths
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OptionError(
            f"two pictures would both be written as {twice}.png; translate their folders one by one"
        )
    return [output / f"{name}.png" for name in names]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"cannot make {folder}: {error.strerror}; give another --output"
        ) from None
