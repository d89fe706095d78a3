"""The card of a file of wkdc: what network it holds, whose student it is, and what made it."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from wkdc.checkpoints.reading import reading_on_card
from wkdc.checkpoints.weight_files import load_plain
from wkdc.errors import CheckpointError, OptionError
from wkdc.networks.architecture import Architecture
from wkdc.system.files import sha256_of
from wkdc.system.version import __version__

FORMAT = 1
"""Version of the layout of a card; docs/checkpoint-format.md describes it."""

LONGEST = 5_000
"""Characters that the options of a network take as text; a block more is 5 to 30."""

LARGEST = 4096
"""Of an image's channels, and of the sizes that it has to be a multiple of, or at least."""

LONGEST_NAME = 60
"""Characters of a family's name; of a newer version's too."""

BROKEN = (
    *(TypeError, KeyError, ValueError, IndexError, AttributeError, ArithmeticError),
    *(RuntimeError, OptionError),
)
"""What making sense of a broken card raises."""

Card = dict[str, Any]


def make_card(
    architecture: Architecture,
    teacher: Card | None,
    history: list[Card],
) -> Card:
    """The card of a student: format, architecture, its teacher, and the commands that made it.

    Args:
        teacher: `path` and `sha256` of the teacher, and `params` and `macs` of its network where
            the student was pruned from it; None for a network that has none.
        history: one entry per command, from `history_entry`, oldest first.
    """
    return {
        "format": FORMAT,
        "version": __version__,
        "family": architecture.family,
        "options": architecture.options,
        "teacher": teacher,
        "history": history,
    }


def history_entry(command: str, **options: Any) -> Card:
    """One line of a card's history: which command, when, with which version and options."""
    return {
        "command": command,
        "version": __version__,
        "torch": str(torch.__version__),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "options": {k: str(v) if isinstance(v, Path) else v for k, v in options.items()},
    }


def read_card(path: Path) -> Card | None:
    """The card of a .pth file, where it has one; its network is not made.

    Raises:
        CheckpointError: the file is missing or broken, or its card is.
    """
    return card_in(load_plain(path), path)


def card_in(content: Mapping[str, Any], path: Path) -> Card | None:
    """The card in the content of the file `path`; None where it has none.

    Raises:
        CheckpointError: it is broken, or of a newer wkdc.
    """
    card = content.get("wkdc")
    if card is None:
        return None
    try:
        check_plain(card)
        if card["format"] > FORMAT:
            raise CheckpointError(
                f"{path} was written by a newer wkdc (card format {card['format']}, this one "
                f"reads up to {FORMAT}); upgrade wkdc"
            )
        _check_network(card["family"], card["options"])
        _check_origin(card["teacher"], card.get("history", []))
    except BROKEN:
        raise CheckpointError(f"{path}: its card is broken; prune the teacher again") from None
    return dict(card)


def check_facts(said: Mapping[str, Any], path: Path) -> None:
    """Check what the exported file `path` says of its network, as `facts_of` wrote it.

    Raises:
        CheckpointError: it is broken, or of a newer wkdc.
    """
    try:
        for name in ("in_channels", "out_channels", "multiple", "smallest"):
            _check_whole(said.get(name, 1), LARGEST)
        _check_whole(said.get("params", 1), 2**63)
        check_texts(*(said.get(name, "") for name in ("layout", "precision", "source_sha256")))
        if "family" in said:
            _check_network(said["family"], said["options"])
        card_in({"wkdc": said.get("card")}, path)
    except BROKEN:
        raise CheckpointError(
            f"{path}: what wkdc wrote into it is broken; export it again"
        ) from None


def _check_network(family: str, options: Card) -> None:
    """Raise one of `BROKEN` unless there is such a network; it is made without memory."""
    check_texts(family)
    if len(family) > LONGEST_NAME:
        raise ValueError("a longer name than any family has")
    if family == "custom":  # whose code is the user's to name
        check_texts(options["factory"])
        for name in ("in_channels", "multiple", "smallest"):
            _check_whole(options[name], LARGEST)
        check_texts(*options["shapes"])
        return
    if len(repr(options)) > LONGEST:
        raise ValueError("more layers than any network has")
    Architecture(family, options).build_empty()


def _check_origin(teacher: Card | None, history: list[Card]) -> None:
    """Raise one of `BROKEN` unless a card says so whose student it is, and what made it."""
    if teacher is not None:
        check_texts(teacher["path"], teacher["sha256"])
        said = reading_on_card(teacher.get("reading", {}), None)
        check_texts(*said.for_card().values())
    if not isinstance(history, list):
        raise TypeError("a history is a list")
    for entry in history:
        check_texts(entry["command"])
        entry["options"].items()


def _check_whole(value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError("no whole number, or none that it can be")


def check_texts(*values: object) -> None:
    """Raise TypeError unless all `values` are text."""
    if not all(isinstance(value, str) for value in values):
        raise TypeError("a path, a digest and a name are text")


def find_teacher(student: Path, named: Card) -> tuple[Path, bool]:
    """Where the teacher lies that a card names, and whether that is still the same file.

    It is looked for beside the student and in the folders above: a run's checkpoints lie deeper
    than the student that the run writes.

    Args:
        named: `path` and `sha256`, from the card.
    """
    folder, wanted = student.parent, Path(named["path"])
    above = [*list(folder.parents)[:3], *folder.resolve().parents[:3]]
    looked_at = [folder / wanted, folder / wanted.name, *(one / wanted for one in above)]
    there = [path for path in looked_at if path.is_file()]
    for path in there:
        if sha256_of(path) == named["sha256"]:
            return path, True
    near = [path for path in there if path in looked_at[:2]]
    return (near or looked_at)[0], False


def relative_to(path: Path, folder: Path) -> str:
    """`path` as a card keeps it: relative where it lies below `folder`, else absolute."""
    path, folder = path.resolve(), folder.resolve()
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def check_plain(value: Any) -> None:
    """Raise TypeError unless `weights_only=True` loads `value` again anywhere: built-in types."""
    if type(value) is dict:
        for key, entry in value.items():
            check_plain(key)
            check_plain(entry)
    elif type(value) in (list, tuple):
        for entry in value:
            check_plain(entry)
    elif value is not None and type(value) not in (str, int, float, bool):
        raise TypeError(f"a card cannot hold a {type(value).__name__}")
