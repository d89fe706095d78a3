"""Command lines, put together by a seed from each command's own options, right and wrong."""

import contextlib
import io
import os
import random
import shutil
import typing
from pathlib import Path
from typing import Any

import typer
from damage import Whole

from wkdc.cli import app, main

VALUES = (
    *("0", "1", "2", "-1", "7", "64", "1e9", "99999999999999999999", "nan", "inf", "-0.0", "0.5"),
    *("", " ", "x", "é", "\x1b[31m", "--", "-", "$(touch ran)", "`touch ran`", "a\nb", "x" * 5000),
    *("32", "64x64", "1x1", "0x0", "64x", "1/1", "2/3", "9/3", "auto", "all", "haar", "none"),
    *(
        "student.pth",
        "teacher.pth",
        "photos",
        "empty",
        "text.txt",
        "gone",
        "out",
        "/dev/null",
        "..",
    ),
    *(
        "os:getcwd",
        "os.path:join",
        "a.b:c",
        "json:loads",
        "cpu",
        "cuda:9",
        "mps",
        "http://[",
        "1,2",
    ),
)
"""What is given where any value may stand."""

SHORT: dict[str, tuple[str, ...]] = {
    "distill": ("--steps", "1", "--crop", "32", "--load-size", "36"),
    "train": ("--steps", "1", "--crop", "32", "--load-size", "36", "--ngf", "2", "--ndf", "4"),
    "profile": ("--size", "32", "--rounds", "1"),
    "evaluate": ("--size", "32"),
    "analyze": ("--size", "32"),
    "compare": ("--size", "32"),
}
"""What comes last, so that what can be run is done at once."""


def _parameters() -> dict[str, list[Any]]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {name: list(command.params) for name, command in commands.items()}


def _choices(command: str, name: str) -> tuple[str, ...]:
    function = next(
        one.callback for one in app.registered_commands if one.callback.__name__ == command
    )

    def found(hint: object) -> tuple[str, ...]:
        if typing.get_origin(hint) is typing.Literal:
            return tuple(map(str, typing.get_args(hint)))
        return tuple(one for part in typing.get_args(hint) for one in found(part))

    return found(typing.get_type_hints(function).get(name))


def command_line(pick: random.Random) -> list[str]:
    """One command with some of its arguments and options."""
    parameters = _parameters()
    command = pick.choice([name for name in parameters if name != "demo"])
    line = [command]
    for parameter in parameters[command]:
        if parameter.name == "help":
            continue
        if parameter.param_type_name == "argument":
            for _ in range(pick.choice((0, 1, 1, 1, 1, 2))):
                right = pick.choice(("student.pth", "student.pth", "teacher.pth", "photos"))
                line.append(right if pick.random() < 0.8 else pick.choice(VALUES))
        elif pick.random() < (0.7 if parameter.name in ("data", "output") else 0.12):
            line.append(pick.choice([*parameter.opts, *parameter.secondary_opts]))
            if parameter.is_flag:
                continue
            choices = _choices(command, parameter.name)
            if choices and pick.random() < 0.8:
                line.append(pick.choice(choices))
            elif parameter.name in ("data", "output") and pick.random() < 0.7:
                line.append("photos" if parameter.name == "data" else "out")
            else:
                line.append(pick.choice(VALUES))
    if pick.random() < 0.1:
        line.insert(pick.randrange(len(line) + 1), pick.choice(VALUES))
    return [*line, *SHORT.get(command, ())]


def try_command(seed: int, folder: Path, whole: Whole) -> bool:
    """Whether a command line was right; if not, it ended with 1 or 2 and lines that say why."""
    for name in ("student.pth", "teacher.pth"):
        shutil.copy(whole.folder / name, folder)
    shutil.copytree(whole.folder / "photos", folder / "photos")
    (folder / "empty").mkdir()
    (folder / "text.txt").write_text("no network\n")
    line = command_line(random.Random(seed))
    out, err, code = io.StringIO(), io.StringIO(), None
    before = Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main(line)
    except SystemExit as ended:
        code = ended.code
    finally:
        os.chdir(before)
    said = err.getvalue()
    if code not in (0, 1, 2, None) or "wkdc: unexpected" in said or "Traceback" in said:
        raise AssertionError(f"{line} ends with {code}: {said[-600:]}")
    if code in (1, 2) and not any(one.startswith("wkdc:") for one in said.splitlines()):
        raise AssertionError(f"{line} ends with {code} and says nothing: {said[-600:]}")
    if list(folder.rglob("ran")):
        raise AssertionError(f"{line} was run by a shell")
    return not code
