"""Output of the commands: tables and next steps on stdout, progress and notes on stderr."""

import json
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from wkdc.system import units
from wkdc.system.units import printable

RANK = int(os.environ.get("RANK") or 0) if int(os.environ.get("WORLD_SIZE") or 1) > 1 else 0
"""Rank of this process under torchrun; only rank 0 prints."""

out = Console(highlight=False, soft_wrap=True, quiet=RANK > 0)
err = Console(stderr=True, highlight=False, soft_wrap=True, quiet=RANK > 0)


def say_error(message: str) -> None:
    """Print an error as one line on stderr."""
    which = f"process {RANK}: " if RANK else ""
    typer.echo(f"wkdc: {which}{printable(' '.join(message.split()))}", err=True)


def say(message: str) -> None:
    """Print a note on stderr, which keeps stdout for the result; where nobody reads it, go on."""
    if not RANK:
        with suppress(OSError):
            typer.secho(printable(message), err=True, dim=True)


def tell(message: str) -> None:
    """Print a sentence of the result on stdout."""
    out.print(Text(printable(message)))


def say_notes(notes: Sequence[str]) -> None:
    """Print in one line what a weight file does not say and was assumed."""
    if notes:
        say(f"assumed, as the file cannot tell: {'; '.join(notes)}")


def say_next(*words: str | Path) -> None:
    """Print the command that usually comes next, as a shell reads it."""
    out.print(Text.assemble("next: ", (printable(shlex.join(map(str, words))), "bold")))


def print_json(result: Any) -> None:
    """Print a dataclass or dict as one JSON object on stdout; see `to_plain`."""
    from wkdc.reporting.results import to_plain

    if not RANK:
        typer.echo(json.dumps(to_plain(result)))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, the first column left-aligned, the others right-aligned."""
    view = Table(title=Text(printable(title)), title_justify="left", title_style="bold")
    for n, column in enumerate(columns):
        view.add_column(Text(printable(column)), justify="right" if n else "left", overflow="fold")
    for row in rows:
        view.add_row(*(Text(printable(cell)) for cell in row))
    out.print(view)


def facts(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values as a table."""
    view = Table(show_header=False, title=Text(printable(title)), title_justify="left")
    view.title_style = "bold"
    view.add_column()
    view.add_column(overflow="fold")
    for name, value in rows:
        view.add_row(Text(printable(name)), Text(printable(value)))
    out.print(view)


class Meter:
    """A progress bar on a terminal; elsewhere a line every `EVERY` seconds."""

    EVERY = 15.0

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task("", total=1.0, text="")
        self._last = 0.0
        self._started = time.monotonic()

    def show(self, share: float, text: str) -> None:
        """Set the bar to `share` of 1, with `text` beside it."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=share, text=text)
        elif time.monotonic() - self._last > self.EVERY or share >= 1:
            self._last = time.monotonic()
            say(f"{share:4.0%} {text}")

    def count(self, done: int, total: int) -> None:
        """Show `done` of `total` items, and the time left at the same pace."""
        left = (time.monotonic() - self._started) / done * (total - done)
        eta = f", {units.duration(left)} left" if done < total else ""
        self.show(done / total, f"{done} of {total}{eta}")


@contextmanager
def meter() -> Iterator[Meter]:
    """A `Meter` for the time of the block."""
    if not err.is_terminal:
        yield Meter(None)
        return
    columns = (BarColumn(24), TextColumn("{task.percentage:3.0f} %  {task.fields[text]}"))
    with Progress(*columns, console=err, transient=True) as progress:
        yield Meter(progress)
