"""Trackers: what they are told, read back from their own files."""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Called, Died
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import wkdc
from wkdc.distill import FAITHFUL, StepReport
from wkdc.errors import OptionError
from wkdc.training.tracking import Tracking

pytestmark = pytest.mark.usefixtures("small_validation")

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


def test_tensorboard_shows_what_the_run_logs(student: Path, photos: Path) -> None:
    """One that is killed, with what it logged before and after that."""

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == 6:
            raise Died

    with pytest.raises(Died):
        wkdc.distill(
            photos,
            student=student,
            recipe=SMALL,
            steps=12,
            save_every=1e-9,
            tracker="tensorboard",
            runs=student.parent / "runs",
            on_step=die,
        )
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


TWICE = """
import json, sys
from pathlib import Path
import torch
from wkdc.training.distributed import Processes
from wkdc.training.run_folder import RunFolder

for step in (0, 1):
    with RunFolder(Path("distill-001"), Processes(0, 1, torch.device("cpu"))) as run:
        settings = {"learning_rate": 5e-4, "schedule": "cosine", "threads": 1 + step}
        run.track(sys.argv[1], step, settings)
        run.log(step + 1, 0.0, {"total": 0.5 - 0.25 * step})
"""
"""A run that is stopped after its first step, and goes on; its own process, for what trackers
leave behind in one."""

READ_MLFLOW = """
import json
import mlflow

(run,) = mlflow.search_runs(experiment_names=["wkdc"], output_format="list")
shown = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/total")
print(json.dumps({
    "id": run.info.run_id,
    "name": run.info.run_name,
    "params": run.data.params,
    "total": [[one.step, one.value] for one in shown],
}))
"""


def run_python(script: str, *arguments: str, folder: Path) -> str:
    """What a script prints; its trackers keep to `folder`."""
    told = {
        "WANDB_MODE": "offline",
        "MLFLOW_TRACKING_URI": f"file:{folder}/mlflow",
        "MLFLOW_ALLOW_FILE_STORE": "true",  # a database needs more packages
    }
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=folder,
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_goes_on_in_mlflow_and_begins_in_one_that_does_not_know_it(tmp_path: Path) -> None:
    run = tmp_path / "distill-001"
    run.mkdir()
    assert json.loads(run_python(TWICE + READ_MLFLOW, "mlflow", folder=tmp_path)) == {
        "id": (run / "mlflow-run.txt").read_text().strip(),
        "name": "distill-001",
        "params": {"learning_rate": "0.0005", "schedule": "cosine", "threads": "1"},
        "total": [[1, 0.5], [2, 0.25]],
    }
    shutil.rmtree(tmp_path / "mlflow")
    again = TWICE.replace("(0, 1)", "(1,)") + READ_MLFLOW
    found = json.loads(run_python(again, "mlflow", folder=tmp_path))
    assert found["id"] == (run / "mlflow-run.txt").read_text().strip()
    assert found["total"] == [[2, 0.25]]


def test_a_run_goes_on_in_weights_and_biases(tmp_path: Path) -> None:
    run = tmp_path / "distill-001"
    run.mkdir()
    run_python(TWICE, "wandb", folder=tmp_path)
    number = (run / "wandb-run.txt").read_text().strip()
    written = list(run.glob("wandb/offline-run-*/run-*.wandb"))
    assert [path.name for path in written] == [f"run-{number}.wandb"] * 2  # which sync into one
    assert all(b"train/total" in path.read_bytes() for path in written)


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
