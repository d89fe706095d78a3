"""The script for a GPU, rehearsed on the processor with a small teacher."""

import json
import subprocess
import sys
from pathlib import Path

from conftest import HANG_S
from PIL import Image

SCRIPT = Path(__file__).parent / "benchmarks" / "gpu.py"
PARTS = ["prune", "runtimes", "step", "bands", "discriminators", "images"]


def test_the_script_measures_every_part(
    teacher: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    arguments = ["--device", "cpu", "--minutes", "0.2", "--teacher", teacher, "--output", tmp_path]
    small = ["--sizes", 64, "--batches", 1, "--rounds", 2]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, [*arguments, *small])],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert list(dict.fromkeys(row["part"] for row in found["rows"])) == PARTS
    rows = {(row["part"], row["name"]): row for row in found["rows"]}
    assert rows["prune", "ratio 7"]["params_ratio"] > 6
    # How many rows fit the time is the machine's matter; those that do not are said, none fails.
    problems = {row.get("problem", "measured") for row in found["rows"]}
    assert problems <= {"measured", "no time was left"}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 0
