"""What people type in their scripts stays: `options.json` has every command, option and choice."""

import json
import re
import shlex
import typing
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from conftest import Called

from wkdc.cli import app, values
from wkdc.errors import OptionError

KNOWN: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("options.json").read_text()
)


def choices_in(hint: object) -> set[str]:
    """The values of every `Literal` in a type."""
    if typing.get_origin(hint) is typing.Literal:
        return set(typing.get_args(hint))
    return {one for part in typing.get_args(hint) for one in choices_in(part)}


def accepted() -> dict[str, dict[str, set[str]]]:
    """Of each command, the parameters by name: how each is typed, and what it may be."""
    found: dict[str, dict[str, set[str]]] = {}
    parsers = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for registered in app.registered_commands:
        function = registered.callback
        hints = typing.get_type_hints(function)
        found[function.__name__] = {
            one.name: {*one.opts, *one.secondary_opts, *choices_in(hints.get(one.name))}
            for one in parsers[function.__name__].params
        }
    return found


def test_every_command_stays() -> None:
    assert set(KNOWN) <= set(accepted())


@pytest.mark.parametrize("command", KNOWN)
def test_options_stay(command: str) -> None:
    now = accepted()[command]
    for name, known in KNOWN[command].items():
        assert set(known) <= now[name], name


@pytest.mark.parametrize("digits", [10, 400, 5000])  # beyond int32, a float, what int() reads
@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (values.parse_size, "{}"),
        (values.parse_size, "256x{}"),
        (values.parse_count, "{0}{0}"),
        (values.parse_count, "1.{0}{0}"),
        (values.parse_milliseconds, "{0}{0}ms"),
        (values.parse_widths, "32,{}"),
        (values.parse_shard, "1/{}"),
        (values.parse_step, "{}"),
        (values.parse_bands, "1,{}"),
    ],
)
def test_numbers_without_end_are_not_understood(
    parse: Callable[[str], object], text: str, digits: int
) -> None:
    with pytest.raises(OptionError, match="is not understood"):
        parse(text.format("9" * digits))


def test_every_option_stands_on_its_command_s_page() -> None:
    for command, parameters in accepted().items():
        page = Path(__file__).parents[1] / "docs" / "commands" / f"{command}.md"
        named = set(re.findall(r"--[a-z][a-z0-9-]*", page.read_text()))
        options = {one for typed in parameters.values() for one in typed if one.startswith("--")}
        assert options <= named, command


def test_the_next_command_can_be_pasted(
    call_wkdc: Callable[..., Called], teacher: Path, photos: Path
) -> None:
    photos.rename(photos.with_name("my photos"))
    settings = ("--ratio", 2, "-o", "a student.pth", "--data", "my photos", "--direction", "BtoA")
    done = call_wkdc("prune", teacher.name, *settings)
    assert done.code == 0, done.stderr
    said = " ".join(done.stdout.split("next: ")[1].split())
    assert shlex.split(said) == [
        *("wkdc", "distill", "--data", "my photos", "--student", "a student.pth"),
        *("--direction", "BtoA"),
    ]
