"""Trackers: what they are told, read back from their own files."""

import dataclasses
import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Called
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wkdc
from wkdc.distill import FAITHFUL, StepReport
from wkdc.errors import OptionError
from wkdc.training.tracking import Tracking

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = dataclasses.replace(FAITHFUL, crop=32, load_size=48)


def curves(run: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of a run: values by step, by name."""
    found = EventAccumulator(str(run / "tensorboard"))
    found.Reload()
    return {
        name: {event.step: event.value for event in found.Scalars(name)}
        for name in found.Tags()["scalars"]
    }


def logged(path: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return {line["step"]: line[name] for line in lines}


class Died(Exception):
    """Stands for a process that ends at once."""


@pytest.mark.parametrize("killed", [False, True])
def test_tensorboard_shows_what_the_run_logs(killed: bool, student: Path, photos: Path) -> None:
    def step(report: StepReport) -> None:
        if killed and report.phase == "train" and report.step == 6:
            raise Died

    try:
        run = wkdc.distill(
            photos,
            student=student,
            recipe=SMALL,
            steps=12,
            save_every=1e-9,
            tracker="tensorboard",
            runs=student.parent / "runs",
            on_step=step,
        ).run
    except Died:
        run = wkdc.resume(student.parent / "runs" / "distill-001").run
    shown = curves(run)
    losses = {"wavelet", "pixel", "total"}
    assert {f"train/{name}" for name in losses} <= set(shown)
    # TensorBoard keeps float32.
    for name in losses:
        expected = logged(run / "metrics.jsonl", name)
        assert list(expected) == list(range(1, 13))
        assert shown[f"train/{name}"] == pytest.approx(expected, rel=1e-6)
    for name in ("psnr_db", "high_band_error", "lh1", "ll4"):
        expected = logged(run / "validation.jsonl", name)
        assert shown[f"validation/{name}"] == pytest.approx(expected, rel=1e-6)


def test_what_is_no_number_is_not_shown(tmp_path: Path) -> None:
    tracking = Tracking("tensorboard", tmp_path, 0)
    tracking.log("validation", 3, {"psnr_db": float("inf"), "ll4": 0.5})
    tracking.close()
    assert curves(tmp_path) == {"validation/ll4": {3: 0.5}}


def test_without_a_tracker_nothing_is_written(student: Path, photos: Path) -> None:
    result = wkdc.distill(
        photos, student=student, recipe=SMALL, steps=1, runs=student.parent / "runs"
    )
    assert not (result.run / "tensorboard").exists()
    with pytest.raises(OptionError, match="choose none, tensorboard, mlflow or wandb"):
        Tracking("sacred", result.run, 0)


@pytest.mark.usefixtures("student", "photos")
@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow", "wandb"])
@pytest.mark.parametrize("command", ["distill", "train"])
def test_a_package_that_is_not_there_is_named(
    tracker: str,
    command: str,
    call_wkdc: Callable[..., Called],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: (
            None
            if name in ("tensorboard", "tensorboardX", "mlflow", "wandb")
            else find(name, *more)
        ),
    )
    assert "mlflow" not in sys.modules
    done = call_wkdc(command, "--data", "photos", "--tracker", tracker)
    assert (done.code, len(done.errors)) == (1, 1)
    assert (
        f"tracker {tracker} needs a package that is not here: pip install {tracker}"
        in (done.errors[0])
    )
    assert not (tmp_path / "runs").exists()
