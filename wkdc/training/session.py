"""One training run from the first measurement to the last."""

import dataclasses
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.checkpoints.run_record import REVERSE, saved_steps
from wkdc.errors import DatasetError, DivergedError, ImageError, OutputError, WkdcError
from wkdc.inference.batch_statistics import doubt_statistics
from wkdc.metrics.fidelity import Fidelity
from wkdc.training.checks import check_same
from wkdc.training.device import Compute
from wkdc.training.direction import Pair, TrainingDirection
from wkdc.training.distributed import Processes
from wkdc.training.loop import StepReport, Stopped, mean_losses, run_steps
from wkdc.training.objective import Batch
from wkdc.training.recipe import RATES, rate_for
from wkdc.training.run_config import Callbacks, RunConfig, describe_run
from wkdc.training.run_folder import RunFolder
from wkdc.training.students import Selected, Students
from wkdc.training.teacher_targets import batches_of, compute_ahead
from wkdc.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `Session.train` did; `wkdc.distill.DistillResult` says what the fields are.

    `before`, `after` and `selected` have an entry for each direction: None where nothing says what
    the student should generate, and where the last student is taken.
    """

    steps: int
    seconds: float
    images_per_second: float
    losses: dict[str, float]
    before: tuple[Fidelity | None, ...]
    after: tuple[Fidelity | None, ...]
    selected: tuple[Selected | None, ...]
    interrupted: bool


class Session:
    """The networks on their device, the images, and the order of things.

    Args:
        pairs: what learns, one direction or two; the second's inputs are the first's real images.
        run: an open run folder, to be written into.
        processes: those that train together; the first one writes.
        closing: a frozen generator of the other direction, which closes the cycle of a single one.
        begun: the options that the run began with, where it is gone on with.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        config: RunConfig,
        run: RunFolder,
        processes: Processes,
        closing: Generator | None = None,
        callbacks: Callbacks | None = None,
        begun: Mapping[str, Any] | None = None,
    ) -> None:
        self._started = time.monotonic()  # teachers translate what is measured on already here
        recipe = config.recipe
        torch.manual_seed(config.seed)
        self._config, self._recipe, self._run, self._closing = config, recipe, run, closing
        self._processes, self._callbacks, self._begun = processes, callbacks or Callbacks(), begun
        self._compute = Compute.of(
            processes.device, config.precision, recipe.batch, compiled=config.compiled
        )
        self._directions = [
            TrainingDirection(pair, recipe, self._compute, processes, seed=config.seed + 2 * number)
            for number, pair in enumerate(pairs)
        ]
        backs: list[nn.Module | None] = [None]
        if len(pairs) > 1:
            backs = [one.student for one in reversed(self._directions)]
        if closing is not None:
            backs = [self._compute.move(closing.network)]
        learners = [
            one.learner(back, prefix=prefix)
            for one, back, prefix in zip(self._directions, backs, ("", f"{REVERSE}_"), strict=False)
        ]
        self._trainer = Trainer(learners, recipe, processes, self._compute.scaler())
        self.made_with = {
            **describe_run(config, self._compute, processes),
            **pairs[0].described,
            "directions": len(pairs),
            "run": str(run.path) if begun is None else begun["run"],
        }
        """For the run's folder and the students' cards."""
        made_with = self.made_with | self._closing_digest()
        self._students = Students(
            self._directions, self._trainer, config, run, processes, self._compute, made_with
        )
        self._losses: list[dict[str, float]] = []
        self._first, self._done, self._targets = 0, 0, 0
        torch.manual_seed(config.seed + processes.index)  # so that no two have the same noise

    def run(self) -> Outcome:
        """Train from the beginning, or from the latest state of a run that was begun.

        Raises:
            CheckpointError, OptionError: see `check_same`.
            DivergedError, ImageError, DatasetError, OutputError: see `_train`.
        """
        if self._begun is not None:
            return self._train(self._find_state(self._begun))
        self._begin()
        return self._train(None)

    def _begin(self) -> None:
        """Write down what the run is made with, and keep the students as they were."""
        if not self._processes.first:
            return
        self._students.keep_starts()
        for one in self._directions:
            teacher = one.pair.teacher
            if teacher and (doubt := doubt_statistics(teacher, one.validation.inputs)):
                self._callbacks.on_notice(doubt)
        self._write_options(finished=False)  # last: a folder that has them can be resumed

    def _find_state(self, begun: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """The latest state in the run folder; None where none was saved yet.

        Raises:
            CheckpointError, OptionError: see `check_same`.
        """
        notice = self._callbacks.on_notice
        check_same(self._run.path, begun, self.digests, self.made_with, notice)
        mine = self._run.load_state(notice) if self._processes.first else None
        state: Mapping[str, Any] | None = self._processes.share(mine)
        if state is None:
            notice(f"{self._run.path} holds no state yet; the run starts from its beginning")
        return state

    def _train(self, state: Mapping[str, Any] | None) -> Outcome:
        """Measure, let the teachers translate ahead, train, write the output, measure again.

        Args:
            state: that an earlier process left in the run folder, to go on from.

        Raises:
            DivergedError: the loss, or an image of a student, stopped being numbers.
            ImageError, DatasetError: images can no longer be read; the run can be gone on with.
            OutputError: the run's folder, or an output, can no longer be written.
        """
        before = self._students.fidelity([one.student for one in self._directions])
        self._first = self._done = 0 if state is None else int(state["step"])
        self._open_logs()
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
            self._started = time.monotonic() - float(state["seconds"])
        interrupted, began = False, self._started
        try:
            try:
                self._prepare(state)
                began = time.monotonic()
                if state is not None:  # what is computed again does not count
                    self._started = began - float(state["seconds"])
                self._learn()
            except Stopped:
                interrupted = True
                self._save(self._done)
            except KeyboardInterrupt:
                interrupted = True
            self._students.check()
            return self._outcome(before, began, interrupted)
        except FloatingPointError as error:
            raise DivergedError(
                f"{error} after step {self._done}; the last good student is {self._run.latest}, "
                f"{self._config.output} is untouched; try a lower --learning-rate"
            ) from None
        except (ImageError, DatasetError, OutputError) as error:
            raise self._kept(error) from error

    def _open_logs(self) -> None:
        """Take away what was logged after the step to go on from; watch the beginning of a run."""
        if self._processes.first:
            self._losses = self._run.rewind(self._first)
            self._run.track(self._config.tracker, self._first, self._settings())
        if not self._first:
            self._students.watch(0)

    def _prepare(self, state: Mapping[str, Any] | None) -> None:
        """What comes before the first step: the teachers' targets, the rate, maps of features."""
        self._targets = compute_ahead(
            self._directions,
            self._config,
            self._processes,
            started=self._started,
            again=None if state is None else int(state["targets"]),
            on_step=self._stepped,
            on_notice=self._callbacks.on_notice,
        )
        if state is None:
            self._choose_rate()
            for direction, learner, _ in self._students.each():
                if learner.features is not None:
                    direction.fit_maps(learner.features)

    def _learn(self) -> None:
        run_steps(
            self._trainer,
            self._batches,
            self._config.budget,
            self._processes,
            started=self._started,
            first=self._first,
            save_every=self._config.save_every,
            on_step=self._stepped,
            on_mark=self._marked,
            on_save=self._save,
            on_profile=self._callbacks.on_profile,
        )

    def _stepped(self, report: StepReport) -> None:
        if report.phase == "train":
            self._done = report.step
            self._losses.append(report.losses)
            if self._processes.first:
                self._run.log(report.step, time.monotonic() - self._started, report.losses)
        if self._callbacks.on_step is not None:
            self._callbacks.on_step(report)

    def _marked(self, step: int) -> None:
        self._students.check()
        self._students.save(step)
        self._students.select(step)
        self._students.watch(step)

    def _save(self, step: int) -> None:
        """Write the state that `resume` continues from."""
        state = {
            "seconds": time.monotonic() - self._started,
            "targets": self._targets,
            "trainer": self._trainer.state_dict(),
        }
        if self._processes.first:
            self._run.save_state(step, state)

    def _outcome(
        self, before: tuple[Fidelity | None, ...], began: float, interrupted: bool
    ) -> Outcome:
        """Write and measure the students; steps began at the moment `began`."""
        now, done = time.monotonic(), self._done
        seconds, trained = now - self._started, now - began
        if not done:  # stopped before anything was learned
            nothing = tuple(None for _ in self._directions)
            return Outcome(0, seconds, 0.0, {}, before, before, nothing, interrupted)
        if not interrupted:
            self._students.select(done)
        return Outcome(
            done,
            seconds,
            (done - self._first) * self._recipe.images_per_step * self._processes.count / trained,
            mean_losses(self._losses[-max(1, done // 10) :]),
            before,
            self._finish(done, seconds, before, interrupted),
            self._students.selected(),
            interrupted,
        )

    def _kept(self, error: WkdcError) -> WkdcError:
        """`error`, of images or of the run's folder, which also says where what was learned is."""
        if not self._done or not self._processes.first:
            return error
        try:
            # Other processes are in the midst of a step; before a step there is nothing new.
            if self._processes.count == 1 and self._done > self._first:
                self._save(self._done)
            elif not saved_steps(self._run.path, ".state"):
                raise OutputError("there is no state to go on from")
            kept = f"to go on: {self._config.resumed(self._run.path)}"
        except (OutputError, OSError):  # the folder is gone, or its disk full
            try:
                self._students.keep({"steps": self._done})
                kept = f"what was learned is in {' and '.join(map(str, self._config.outputs))}"
            except (OutputError, OSError):
                kept = "what was learned since it was last saved is lost"
        return type(error)(f"{error}; stopped after step {self._done}; {kept}")

    def _choose_rate(self) -> None:
        """Where the recipe leaves the rate open, it goes by how near the students start."""
        if self._recipe.learning_rate is not None:
            return
        mine = max(one.nearness_db() for one in self._directions)
        (nearest,) = self._processes.of_first([mine])
        usual = RATES[self._recipe.optimizer]
        self._trainer.rate = rate_for(nearest, self._recipe.optimizer)
        if self._trainer.rate < usual:
            self._callbacks.on_notice(
                f"a student starts near its teacher, at {nearest:.1f} dB: the learning rate is "
                f"{self._trainer.rate:.1e}, as {usual:.1e} would take it further away"
            )

    def _finish(
        self, steps: int, seconds: float, before: Sequence[Fidelity | None], interrupted: bool
    ) -> tuple[Fidelity | None, ...]:
        """Write and measure the students; what the run could go on from is needed no more."""
        after = self._students.finish(before, {"steps": steps, "seconds": round(seconds, 1)})
        self._students.watch(steps)
        if not interrupted and self._processes.first:
            self._write_options(finished=True)
            self._run.forget_states()
        return after

    def _batches(self, step: int) -> list[list[Batch]]:
        """The images of a step."""
        numbers = batches_of(step, self._recipe)
        return [[one.batch(number) for one in self._directions] for number in numbers]

    def _settings(self) -> dict[str, str | float | int | bool | None]:
        """What the run was asked to do, flat, as trackers show it."""
        recipe = dataclasses.asdict(self._recipe)
        plain = (str, float, int, bool)
        return recipe | {k: v for k, v in self.made_with.items() if isinstance(v, plain)}

    def _write_options(self, *, finished: bool) -> None:
        kept = {"request": self._config.as_plain(), "finished": finished}
        self._run.write_options(self.made_with | {"digests": self.digests} | kept)

    @functools.cached_property
    def digests(self) -> dict[str, str | None]:
        """Of all files that the run began with, by what they are."""
        return self._students.digests() | self._closing_digest()

    def _closing_digest(self) -> dict[str, str]:
        return {"reverse_teacher_sha256": self._closing.sha256} if self._closing else {}
