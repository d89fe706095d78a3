"""Two real processes that train one student together."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import several_commands
import torch
from conftest import HANG_S, Called, wait_until
from originals import patchgan_state_dict
from torch import Tensor

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_square
from wkdc.training.distributed import Processes

pytestmark = pytest.mark.usefixtures("student", "photos", "small_validation")

Call = Callable[..., Called]

COMMON = ("--data", "photos", "--precision", "float32", "--crop", 32, "--load-size", 48)
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.fixture
def launch(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start two processes, which run some commands of wkdc together, one after the other."""

    def start(*commands: tuple[object, ...]) -> subprocess.Popen[str]:
        plain = json.dumps([list(map(str, command)) for command in commands])
        return subprocess.Popen(
            [sys.executable, "-m", *TORCHRUN, several_commands.__file__, plain],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def endings(errors: str) -> list[tuple[int, int]]:
    """Process and exit code of each command."""
    found = re.findall(r"^(\d) ended with (\d+)$", errors, re.MULTILINE)
    return [(int(process), int(code)) for process, code in found]


def images_of(path: Path) -> Tensor:
    network = load_generator(path).network
    photos = sorted((path.parent / "photos").iterdir())[:2]
    with torch.no_grad():
        return torch.cat([network(load_square(photo, 32)) for photo in photos])


def losses_of(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


FAILING: tuple[tuple[object, ...], ...] = (
    # The first process alone finds that one out, and the other waits for it.
    (
        *("distill", *COMMON, "--recipe", "paper", "--steps", 1),
        *("--discriminator", "disc.pth", "--disc-ratio", 1e6),
    ),
    ("distill", "--data", "absent", "--steps", 1),
    ("distill", "--data", "single", *COMMON[2:], "--batch", 1, "--steps", 2),
)
"""What goes wrong in a run of two processes."""

RUNS: dict[str, tuple[tuple[object, ...], int, tuple[object, ...]]] = {
    # With --reuse 6, maps of features would fit the two crops exactly: noise is their gradient.
    "ahead": (("--reuse", 2, "--steps", 6, "--optimizer", "adamw"), 2, ()),
    "anew": (("--recipe", "paper", "--adversarial", 0, "--pixel", 1, "--steps", 6), 2, ()),
    "accumulated": (("--steps", 4), 4, ("--accumulate", 2)),
}
"""Of each run: its settings, the batch of a single process, and what two add to `--batch 1`."""


def check_said(errors: str) -> None:
    """Every error of `FAILING` is said by the first process."""
    lines = [line for line in errors.splitlines() if line.startswith("wkdc:")]
    for what in ("infeasible", "absent", "2 processes would share 1 image"):
        assert any(what in line and "process 1" not in line for line in lines)
    assert not any("unexpected" in line for line in lines)


def test_two_processes_take_the_steps_of_one_with_a_larger_batch_and_fail_together(
    launch: Callable[..., subprocess.Popen[str]], call_wkdc: Call, tmp_path: Path
) -> None:
    """With targets computed ahead and anew, and with several batches a step."""
    torch.save(patchgan_state_dict(0, ndf=8), tmp_path / "disc.pth")
    (tmp_path / "single").mkdir()
    shutil.copy(next((tmp_path / "photos").iterdir()), tmp_path / "single")
    commands = []
    for name, (settings, batch, more) in RUNS.items():
        common = ("distill", *COMMON, *settings)
        files = ("--output", f"{name}-alone.pth", "--runs", f"{name}-alone")
        alone = call_wkdc(*common, "--batch", batch, *files)
        assert alone.code == 0, alone.stderr
        files = ("--output", f"{name}.pth", "--runs", name, "--json")
        commands.append((*common, "--batch", 1, *more, *files))
    process = launch(*commands, *FAILING)
    told, errors = process.communicate()
    for process_number in (0, 1):
        codes = [code for number, code in endings(errors) if number == process_number]
        assert codes == [0, 0, 0, 1, 1, 2], errors
    check_said(errors)
    assert not (tmp_path / "runs").exists()
    # Each command says one object: only the first process speaks.
    assert [json.loads(line)["steps"] for line in told.splitlines()] == [6, 6, 4]
    for name in RUNS:
        # A mean of means instead of one mean: float32 sums of other orders, about 1e-6 of a loss;
        # Adam passes that on, and each step adds to it.
        first, second = (losses_of(tmp_path / n / "distill-001") for n in (f"{name}-alone", name))
        for ours, theirs in zip(first, second, strict=True):
            assert theirs == pytest.approx(ours, rel=1e-3)
    for name in ("ahead", "anew"):
        # Weights that the norms behind them ignore get gradients of rounding errors alone, which
        # Adam makes as large as any, so images are compared: to a hundredth of a step of 8 bits
        # each.
        alone = images_of(tmp_path / f"{name}-alone.pth")
        gap = (alone - images_of(tmp_path / f"{name}.pth")).abs().max()
        learned = (alone - images_of(tmp_path / "student.pth")).abs()
        assert gap < 2e-3
        assert learned.max() > 20 * gap


def test_two_processes_are_killed_and_go_on_bit_for_bit(
    launch: Callable[..., subprocess.Popen[str]], call_wkdc: Call, tmp_path: Path
) -> None:
    """With a pool of old fakes in each process, and a discriminator that the first one made."""
    torch.save(patchgan_state_dict(0, ndf=8), tmp_path / "disc.pth")
    settings = (
        *("distill", *COMMON, "--recipe", "paper", "--steps", 12, "--save-every", 1e-9),
        *("--discriminator", "disc.pth", "--disc-ratio", 4),
    )
    metrics = tmp_path / "killed" / "distill-001" / "metrics.jsonl"
    process = launch((*settings, "--output", "killed.pth", "--runs", "killed"))
    wait_until(
        lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 4,
        process,
        process.communicate,
    )
    launcher = psutil.Process(process.pid)
    for one in (*launcher.children(recursive=True), launcher):
        one.kill()
    process.communicate()
    resume = ("distill", "--resume", "killed/distill-001")
    done = call_wkdc(*resume)
    assert done.code == 2
    assert "was begun by 2 processes; start as many" in done.errors[0]
    process = launch(
        (*resume, "--json"), (*settings, "--output", "whole.pth", "--runs", "whole", "--json")
    )
    told, errors = process.communicate()
    assert sorted(endings(errors)) == [(0, 0)] * 2 + [(1, 0)] * 2, errors
    assert [json.loads(line)["steps"] for line in told.splitlines()] == [12, 12]
    whole, killed = (
        load_generator(tmp_path / name).network.state_dict().values()
        for name in ("whole.pth", "killed.pth")
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, killed, strict=True))


def test_a_log_that_cannot_be_written_ends_two_processes(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The first one alone writes, while the other is in the midst of the next step."""
    run = tmp_path / "runs" / "distill-001"
    metrics = run / "metrics.jsonl"
    process = launch(("distill", *COMMON, "--reuse", 1, "--steps", 9**9, "--save-every", 1e-9))
    wait_until(
        lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 3,
        process,
        process.communicate,
    )
    while not metrics.is_dir():
        metrics.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):  # a step came in between
            metrics.mkdir()
    _, errors = process.communicate(timeout=HANG_S)
    lines = [line for line in errors.splitlines() if line.startswith("wkdc:")]
    (said,) = [line for line in lines if "process 1" not in line]
    assert "cannot write runs/distill-001/metrics.jsonl" in said
    assert said.endswith("to go on: wkdc distill --resume runs/distill-001")
    assert list((run / "checkpoints").glob("*.state"))


def test_one_process_asks_nobody() -> None:
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.sum([1.5, 2.0]) == [1.5, 2.0]
    assert alone.share("x") == "x"
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    alone.mean_gradients([weight])
    assert torch.equal(weight.grad, torch.ones(2))
