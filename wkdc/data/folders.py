"""The files of a folder and of the folders in it, without what systems and programs leave there."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

LEFT_BEHIND = ("__macosx", "thumbs.db", "desktop.ini")
"""Names, in lower case, that are passed over in silence, as those that start with a dot are."""


def files_in(
    folder: Path,
    suffixes: Sequence[str],
    *,
    without: Path | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> list[Path]:
    """The files in `folder` and below that end like one of `suffixes`, sorted by path.

    Links to folders are followed, as by the stock code, but no folder is listed twice.

    Args:
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
        on_notice(f"passed over in {folder}: {counted}; images end in {' '.join(suffixes)}")
    return sorted(found)


def _left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND
