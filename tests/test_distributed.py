"""Two real processes that train one student together."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from conftest import Called, wait_until
from originals import patchgan_state_dict
from torch import Tensor

from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.images import load_square
from wkdc.training.distributed import Processes

pytestmark = pytest.mark.usefixtures("student", "photos")

Call = Callable[..., Called]

COMMON = ("--data", "photos", "--precision", "float32", "--crop", 32, "--load-size", 48)
TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", 2)


@pytest.fixture
def launch(tmp_path: Path, environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `wkdc ARGUMENTS` in two processes."""

    def start(*arguments: object, launcher: tuple[object, ...] = TORCHRUN) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", *map(str, (*launcher, "-m", "wkdc", *arguments))],
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def images_of(path: Path) -> Tensor:
    network = load_generator(path).network
    photos = sorted((path.parent / "photos").iterdir())[:2]
    with torch.no_grad():
        return torch.cat([network(load_square(photo, 32)) for photo in photos])


def losses_of(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: line[key] for key in line if key != "seconds"} for line in lines]


@pytest.mark.parametrize(
    "more",
    # With --reuse 6, maps of features would fit the two crops exactly: noise is their gradient.
    [("--reuse", 2), ("--recipe", "paper", "--adversarial", 0, "--pixel", 1)],
    ids=["drawn ahead", "drawn anew"],
)
def test_two_processes_take_the_steps_of_one_with_twice_the_batch(
    more: tuple[object, ...],
    launch: Callable[..., subprocess.Popen[str]],
    call_wkdc: Call,
    tmp_path: Path,
) -> None:
    settings = (*COMMON, *more, "--steps", 6)
    alone = call_wkdc(
        "distill", *settings, "--batch", 2, "--output", "alone.pth", "--runs", "alone"
    )
    assert alone.code == 0, alone.stderr
    process = launch(
        *("distill", *settings, "--batch", 1, "--output", "both.pth", "--runs", "both", "--json")
    )
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(told)["steps"] == 6  # one object, said by one of them
    # A mean of means instead of one mean: float32 sums of other orders, about 1e-6 of a loss;
    # Adam passes that on, and each step adds to it.
    first, second = (losses_of(tmp_path / name / "distill-001") for name in ("alone", "both"))
    for ours, theirs in zip(first, second, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)
    # Weights that the norms behind them ignore get gradients of rounding errors alone, which Adam
    # makes as large as any, so images are compared: to a hundredth of a step of 8 bits each.
    gap = (images_of(tmp_path / "alone.pth") - images_of(tmp_path / "both.pth")).abs().max()
    learned = (images_of(tmp_path / "alone.pth") - images_of(tmp_path / "student.pth")).abs()
    assert gap < 2e-3
    assert learned.max() > 20 * gap


def test_two_processes_are_killed_and_go_on_bit_for_bit(
    launch: Callable[..., subprocess.Popen[str]], call_wkdc: Call, tmp_path: Path
) -> None:
    """With a pool of old fakes in each process, and a discriminator that the first one made."""
    torch.save(patchgan_state_dict(0, ndf=8), tmp_path / "disc.pth")
    settings = (
        *(*COMMON, "--recipe", "paper", "--steps", 12, "--save-every", 1e-9),
        *("--discriminator", "disc.pth", "--disc-ratio", 4),
    )
    process = launch("distill", *settings, "--output", "whole.pth", "--runs", "whole")
    assert process.wait() == 0, process.communicate()
    metrics = tmp_path / "killed" / "distill-001" / "metrics.jsonl"
    process = launch("distill", *settings, "--output", "killed.pth", "--runs", "killed")
    wait_until(
        lambda: metrics.exists() and len(metrics.read_text().splitlines()) >= 4,
        process,
        process.communicate,
    )
    launcher = psutil.Process(process.pid)
    for one in (*launcher.children(recursive=True), launcher):
        one.kill()
    process.communicate()
    done = call_wkdc("distill", "--resume", "killed/distill-001")
    assert done.code == 2
    assert "was begun by 2 processes; start as many" in done.errors[0]
    process = launch("distill", "--resume", "killed/distill-001", "--json")
    told, errors = process.communicate()
    assert process.returncode == 0, errors
    assert json.loads(told)["steps"] == 12
    whole, killed = (
        load_generator(tmp_path / name).network.state_dict().values()
        for name in ("whole.pth", "killed.pth")
    )
    assert all(torch.equal(a, b) for a, b in zip(whole, killed, strict=True))


def test_bad_input_is_said_by_the_first(launch: Callable[..., subprocess.Popen[str]]) -> None:
    process = launch("distill", "--data", "nowhere", "--steps", 1)
    _, errors = process.communicate()
    assert process.returncode != 0
    lines = [line for line in errors.splitlines() if line.startswith("wkdc:")]
    assert any("nowhere" in line and "process" not in line for line in lines)


def test_what_the_first_cannot_make_ends_all(launch: Callable[..., subprocess.Popen[str]]) -> None:
    process = launch(
        *("distill", *COMMON, "--recipe", "paper", "--steps", 1),
        *("--discriminator", "nowhere.pth", "--disc-ratio", 4),
    )
    _, errors = process.communicate()
    assert process.returncode != 0
    lines = [line for line in errors.splitlines() if line.startswith("wkdc:")]
    assert any("nowhere.pth" in line and "process" not in line for line in lines)
    assert not any("unexpected" in line for line in lines)


def test_one_process_asks_nobody() -> None:
    alone = Processes(0, 1, torch.device("cpu"))
    assert alone.sum([1.5, 2.0]) == [1.5, 2.0]
    assert alone.share("x") == "x"
    weight = torch.ones(2, requires_grad=True)
    weight.sum().backward()
    alone.mean_gradients([weight])
    assert torch.equal(weight.grad, torch.ones(2))


def test_more_processes_than_pictures_are_refused(
    launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for path in sorted((tmp_path / "photos").iterdir())[1:]:
        path.unlink()
    process = launch("distill", *COMMON, "--batch", 1, "--steps", 2)
    _, errors = process.communicate()
    assert process.returncode
    assert "2 processes would share 1 images" in errors
    assert not (tmp_path / "runs").exists()
