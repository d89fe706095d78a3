"""The house keeps its order: imports go down only, and only `cli/` talks to the terminal."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wkdc

HOUSE = Path(wkdc.__file__).parent

ARCHITECTURE = Path(__file__).parents[1] / "docs" / "architecture.md"


def layers_of(page: str) -> list[set[str]]:
    """The layers from the top down, a line each, of the block that the page has of them."""
    block = page.partition("```layers\n")[2].partition("```")[0]
    return [set(line.split()) for line in block.splitlines()]


LAYERS = layers_of(ARCHITECTURE.read_text())
DEPTH = {room: depth for depth, layer in enumerate(LAYERS) for room in layer}
"""How far below the top a module or package lies; those of one layer do not know each other."""

MODULES = sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ImportFrom(module=str(module), level=0) if module.startswith("wkdc."):
                yield module.split(".")[1]
            case ast.ImportFrom(module="wkdc", names=names):
                yield from (alias.name for alias in names)
            case ast.Import(names=names):
                yield from (a.name.split(".")[1] for a in names if a.name.startswith("wkdc."))
            case ast.ImportFrom(level=level) if level:
                pytest.fail(f"{path}: relative import")


def test_every_module_has_a_layer() -> None:
    assert {room_of(path) for path in MODULES} == set(DEPTH)
    assert sum(map(len, LAYERS)) == len(DEPTH)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_imports_go_down(path: Path) -> None:
    room = room_of(path)
    wrong = [
        other
        for other in imported_rooms(path)
        if other != room and DEPTH.get(other, -1) <= DEPTH[room]
    ]
    assert not wrong


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_only_the_command_line_prints_and_exits(path: Path) -> None:
    tree = ast.parse(path.read_text())
    asserts = [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert not asserts
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if room_of(path) != "cli":
        assert not calls & {"print", "sys.exit", "exit", "quit", "input", "typer.echo"}
    if path.relative_to(HOUSE).as_posix() != "checkpoints/weight_files.py":
        assert not calls & {"torch.load", "torch.save"}


def test_help_needs_no_heavy_import() -> None:
    code = (
        "import sys, wkdc, wkdc.cli\n"
        "heavy = {'torch', 'numpy', 'onnx', 'onnxruntime', 'PIL'} & set(sys.modules)\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_offers_functions_not_modules() -> None:
    code = (
        "import wkdc.prune, wkdc.profile, wkdc.cli, wkdc\n"
        "from wkdc import distill\n"
        "names = [n for n in wkdc.__all__ if type(getattr(wkdc, n)).__name__ == 'module']\n"
        "import sys; sys.exit(', '.join(names) or int(type(distill).__name__ != 'function'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = wkdc.nothing
