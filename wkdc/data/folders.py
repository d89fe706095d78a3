"""Folders of images: what their files cannot tell, and which files are theirs."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from wkdc.errors import OptionError

Item = TypeVar("Item")

LEFT_BEHIND = ("__macosx", "thumbs.db", "desktop.ini")
"""Names, in lower case, that are passed over in silence, as those that start with a dot are."""


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images, and what its files cannot tell.

    Attributes:
        value_range: the numbers that are black and white in files of floating-point numbers; None
            takes the narrowest usual range that holds those of a file, see `wkdc.data.bands`.
        bands: which of more than three are shown to people, counted from 1: one, as grey, or
            three; none for the first three.

    Raises:
        OptionError: a range that is none, or bands that cannot be shown.
    """

    path: Path
    value_range: tuple[float, float] | None = None
    bands: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_range(self.value_range)
        if len(self.bands) not in (0, 1, 3) or any(band < 1 for band in self.bands):
            raise OptionError(
                f"bands {','.join(map(str, self.bands))} cannot be shown; give one or three, "
                "counted from 1: 3,2,1"
            )

    def __str__(self) -> str:
        return str(self.path)


def check_range(value_range: tuple[float, float] | None) -> None:
    """Raises: OptionError: black is not below white."""
    if value_range is not None and not value_range[0] < value_range[1]:
        low, high = value_range
        raise OptionError(f"range {low:g},{high:g} is none; give a lower and a higher number")


Data = str | Path | ImageFolder
"""A folder of images, as the public functions take it."""


def as_folder(data: Data) -> ImageFolder:
    return data if isinstance(data, ImageFolder) else ImageFolder(Path(data))


def describe_data(data: ImageFolder | None) -> dict[str, Any]:
    """What a card and a run's options say of `data`, in plain types."""
    if data is None:
        return {"data": None}
    known = {} if data.value_range is None else {"value_range": list(data.value_range)}
    return {"data": str(data), **known}


def as_described(path: Path, said: Mapping[str, Any]) -> ImageFolder:
    """The folder `path` with what `describe_data` said of it."""
    low_high = said.get("value_range")
    return ImageFolder(path, (low_high[0], low_high[1]) if low_high else None)


def files_in(
    folder: Path,
    suffixes: Sequence[str],
    *,
    kinds: str = "images",
    without: Path | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> list[Path]:
    """The files in `folder` and below that end like one of `suffixes`, sorted by path.

    Links to folders are followed, as by the stock code, but no folder is listed twice.

    Args:
        kinds: what such files are, for the sentence.
        without: a folder that is not looked into, such as the one that outputs go to.
        on_notice: called with one sentence that counts what else is there, by its ending.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    seen = {folder.resolve()} | ({without.resolve()} if without is not None else set())
    for place, folders, names in os.walk(folder, followlinks=True):
        here, inner = Path(place), []
        for name in sorted(folders):
            real = (here / name).resolve()
            if not _left_behind(name) and real not in seen:
                seen.add(real)
                inner.append(name)
        folders[:] = inner
        for name in names:
            path = here / name
            if _left_behind(name):
                continue
            if path.suffix.lower() in suffixes and path.is_file():
                found.append(path)
            else:
                others[path.suffix.lower() or "without an ending"] += 1
    if others and on_notice is not None:
        counted = ", ".join(f"{count} {ending}" for ending, count in sorted(others.items()))
        on_notice(f"passed over in {folder}: {counted}; {kinds} end in {' '.join(suffixes)}")
    return sorted(found)


def evenly_spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` of `items`, evenly spaced from the first to the last."""
    count = min(count, len(items))
    last = max(1, count - 1)
    return [items[number * (len(items) - 1) // last] for number in range(count)]


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
