"""The scripts that measure by hand: no name that they use is gone, and no result lost."""

import argparse
import importlib
import shutil
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_a_script_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    assert importlib.import_module(name).__doc__


def test_the_papers_cells_that_are_there_are_not_run_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new setting has to be written into them, as what it was when they were made."""
    monkeypatch.syspath_prepend(SCRIPTS)
    claims = importlib.import_module("claims")
    given = argparse.Namespace(steps=None, seeds=3, results=claims.RESULTS)
    made = {path.stem for path in claims.RESULTS.glob("*.json")}
    cells = [cell for name in claims.CLAIMS for cell in claims.cells_of(name, given)]
    assert made <= {cell.name for cell in cells}
    assert made == {cell.name for cell in cells if claims.known(claims.RESULTS, cell)}


def test_the_papers_page_is_made_of_its_cells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables are those of the JSON files, byte for byte."""
    monkeypatch.syspath_prepend(SCRIPTS)
    page, docs = tmp_path / "paper.md", SCRIPTS.parents[1] / "docs"
    shutil.copy(docs / "paper.md", page)
    (tmp_path / "images").mkdir()
    importlib.import_module("claims_page").write_tables(docs / "paper", page)
    assert page.read_bytes() == (docs / "paper.md").read_bytes()
