"""Trackers that show a run's curves elsewhere; `metrics.jsonl` holds them in any case."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wkdc.errors import MissingExtraError, OptionError, OutputError

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

Tracker = Literal["none", "tensorboard", "mlflow", "wandb"]

PROJECT = "wkdc"
"""What MLflow and Weights & Biases file the runs under."""


def check_tracker(tracker: Tracker) -> None:
    """Make sure that the package of `tracker` is there.

    Raises:
        OptionError: an unknown tracker.
        MissingExtraError: it is not there.
    """
    from accelerate.utils import is_mlflow_available, is_tensorboard_available, is_wandb_available

    available: Callable[[], bool]
    match tracker:
        case "none":
            return
        case "tensorboard":
            available = is_tensorboard_available
        case "mlflow":
            available = is_mlflow_available
        case "wandb":
            available = is_wandb_available
        case _:
            raise OptionError(
                f"tracker {tracker!r} is not known; choose none, tensorboard, mlflow or wandb"
            )
    if not available():
        raise MissingExtraError(
            f"tracker {tracker} needs a package that is not here: pip install {tracker}"
        )


class Tracking:
    """A tracker at work on one run, or none.

    Args:
        run: the run's folder, whose name the run bears; TensorBoard's files go into it, and the
            name under which MLflow or Weights & Biases know the run, so that it goes on there.
        step: after which the run begins, or goes on: what TensorBoard has of later steps is hidden.

    Raises:
        OptionError, MissingExtraError: see `check_tracker`.
    """

    def __init__(self, tracker: Tracker, run: Path, step: int) -> None:
        check_tracker(tracker)
        self._tracker = None if tracker == "none" else _started(tracker, run, step)

    def describe(self, settings: Mapping[str, str | float | int | bool | None]) -> None:
        """Show what the run was asked to do."""
        if self._tracker is not None:
            self._tracker.store_init_configuration(dict(settings))

    def log(self, part: str, step: int, values: Mapping[str, float]) -> None:
        """Show figures of `train` or `validation`; what is no number is left out.

        Raises:
            OutputError: the disk is full.
        """
        if self._tracker is None:
            return
        shown = {f"{part}/{name}": value for name, value in values.items() if math.isfinite(value)}
        try:
            self._tracker.log(shown, step=step)
        except OSError as error:
            raise OutputError(
                f"the tracker cannot write: {error.strerror or error}; free some room"
            ) from error

    def close(self) -> None:
        """Write what is left."""
        if self._tracker is not None:
            self._tracker.finish()
            self._tracker = None


def _started(tracker: Tracker, run: Path, step: int) -> "GeneralTracker":
    from accelerate import PartialState
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, WandBTracker

    PartialState()  # without it Weights & Biases's does not start
    known = run / f"{tracker}-run.txt"
    begun = known.read_text().strip() if step and known.is_file() else None
    made: GeneralTracker
    match tracker:
        case "tensorboard":
            made = TensorBoardTracker("tensorboard", run, purge_step=step + 1)
            made.start()
            return made
        case "mlflow":
            again = begun if begun and _in_mlflow(begun) else None
            made = MLflowTracker(PROJECT, run_name=run.name, run_id=again)
            made.start()
            number = made.tracker.info.run_id
        case _:
            same = {"id": begun, "resume": "allow"} if begun else {}
            made = WandBTracker(PROJECT, name=run.name, dir=str(run), **same)
            made.start()
            number = made.tracker.id
    known.write_text(f"{number}\n")
    return made


def _in_mlflow(number: str) -> bool:
    """Whether MLflow, as it is set up now, knows a run; else the run goes on as a new one."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        MlflowClient().get_run(number)
    except MlflowException:
        return False
    return True
