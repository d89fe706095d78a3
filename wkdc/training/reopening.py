"""Go on with a run: what it was asked to do, and whether its files are still the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from wkdc.checkpoints.run_record import read_options
from wkdc.errors import CheckpointError, OptionError
from wkdc.training.run_config import Command, Request
from wkdc.training.session import Session


def read_request(run: Path, command: Command, arch: str | None) -> tuple[dict[str, Any], Request]:
    """What a run began with, and what it was asked to do.

    Args:
        arch: what the user says makes a custom network: no file names the code that runs.

    Raises:
        OptionError: no run, one that came to its end, of another command, or with another `arch`.
        CheckpointError: its options cannot be read.
    """
    begun = read_options(run)
    try:
        request = Request.from_plain(begun["request"])
    except (KeyError, TypeError):
        raise CheckpointError(
            f"{run / 'options.json'} is broken, or of another version of wkdc; start the run again"
        ) from None
    if request.command != command:
        raise OptionError(f"{run} is a run of wkdc {request.command}; give it to that command")
    if begun.get("finished"):
        raise OptionError(f"{run} came to its end; start another run")
    if arch != request.arch:
        said = "without --arch" if request.arch is None else f"with --arch {request.arch}"
        raise OptionError(f"{run} was begun {said}; give the same")
    return begun, request


def check_same(
    run: Path, begun: Mapping[str, Any], session: Session, notice: Callable[[str], None]
) -> None:
    """Make sure that a run goes on with the files that it began with.

    Raises:
        CheckpointError: it would not.
        OptionError: with other processes than it began with.
    """
    for name, digest in session.digests.items():
        what = name.removesuffix("_sha256").replace("_", " ")
        what = {"data": "training images", "student": "student, checkpoints/start.pth,"}.get(
            what, what
        )
        if begun.get("digests", {}).get(name) != digest:
            raise CheckpointError(
                f"the {what} of {run} changed since the run began; put the original back, or start "
                "another run"
            )
    if begun["processes"] != session.made_with["processes"]:
        raise OptionError(f"{run} was begun by {begun['processes']} processes; start as many")
    for name in ("threads", "precision", "torch"):
        now = session.made_with[name]
        if begun[name] != now:
            notice(
                f"{name} {now} instead of the {begun[name]} that the run began with: its numbers "
                "will differ in the last digits"
            )
