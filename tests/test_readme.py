"""The README's commands, as they stand there."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Called

from wkdc.checkpoints.checkpoint import load_generator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks() -> list[list[str]]:
    """The commands of each fenced block of a shell, without comments."""
    found = re.findall(r"^```(?:sh|bash)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    lines = [[line.partition("  #")[0].strip() for line in block.splitlines()] for block in found]
    return [[line for line in block if line] for block in lines]


def test_two_commands_are_for_a_fresh_machine() -> None:
    demo, test = (block for block in blocks() if block[0].startswith("python3 -m venv"))
    assert len(demo) == len(test) == 1
    assert "[demo]" in demo[0]
    assert demo[0].endswith("wkdc demo")
    assert "[test]" in test[0]
    assert "install_browser.py" in test[0]
    assert test[0].endswith("-m pytest")


def test_the_four_commands_chain_in_one_folder(
    call_wkdc: Callable[..., Called], teacher: Path, photos: Path
) -> None:
    """Verbatim, but for a short run and the few rounds that a profile needs to answer."""
    chain = next(block for block in blocks() if block[0].startswith("wkdc prune"))
    assert [line.split()[:2] for line in chain] == [
        ["wkdc", "prune"],
        ["wkdc", "distill"],
        ["wkdc", "export"],
        ["wkdc", "profile"],
    ]
    shutil.move(photos, teacher.parent / "datasets" / "horse2zebra")
    said = {}
    for line in chain:
        _, command, *arguments = shlex.split(line)
        few = {"distill": ["--steps", "2"], "profile": ["--rounds", "3", "--size", "64"]}
        done = call_wkdc(command, *arguments, *few.get(command, []), "--json")
        assert done.code == 0, done.stderr
        said[command] = json.loads(done.stdout)
    assert said["prune"]["ratio"]["params"] == pytest.approx(7, rel=0.02)
    assert said["distill"]["steps"] == 2
    assert said["export"]["max_abs_error"] <= said["export"]["tolerance"]
    paths = [Path(model["path"]).name for model in said["profile"]["models"]]
    assert paths == ["teacher.pth", "student.pth"]
    history = load_generator(teacher.parent / "student.pth").card["history"]
    assert [entry["command"] for entry in history] == ["prune", "distill"]


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#]*)(#([^)]*))?\)", path.read_text()):
        if "://" not in target:
            page = path.parent / target if target else path
            assert page.exists(), target
            if anchor:
                assert anchor in anchors_of(page), f"{target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them: lower case, without punctuation, hyphens."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}
