"""Commands killed at random moments: what is there is whole, and the next command makes it right.

tests/campaigns/kills.py kills all commands by the hundred.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG_S

CAMPAIGN = Path(__file__).parent / "campaigns" / "kills.py"

KINDS = ("translate, folder", "translate, video")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forks no processes")
def test_a_handful_of_kills(tmp_path: Path, environment: dict[str, str]) -> None:
    arguments = (CAMPAIGN, tmp_path, "--kills", "4", "--only", *KINDS)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("kills 4 "), done.stdout
    assert "lost 0" in done.stdout
