"""The scripts that measure by hand: each can still be imported, so no name that it uses is gone."""

import importlib
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent / "benchmarks"


@pytest.mark.parametrize("name", sorted(path.stem for path in SCRIPTS.glob("*.py")))
def test_a_script_finds_what_it_imports(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    assert importlib.import_module(name).__doc__
