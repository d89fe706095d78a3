"""The students of a run as files: on the way, the best one, and the result."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from wkdc.checkpoints.card import Card, read_card
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.metrics.fidelity import Fidelity
from wkdc.training.device import Compute
from wkdc.training.direction import Side
from wkdc.training.distributed import Processes
from wkdc.training.run_config import RunConfig
from wkdc.training.run_folder import RunFolder
from wkdc.training.trainer import Learner, Trainer

REVERSE = "reverse"
"""Marks the second direction's files and figures."""


@dataclasses.dataclass(frozen=True)
class Selected:
    """The student that was the best: of which step, and its PSNR on the images set aside."""

    step: int
    psnr_db: float


class Students:
    """What a run makes, one student for each direction. The first process writes.

    Args:
        sides: the directions that `trainer` trains.
        made_with: what the run is made with, for the students' cards.
    """

    def __init__(
        self,
        sides: Sequence[Side],
        trainer: Trainer,
        config: RunConfig,
        run: RunFolder,
        processes: Processes,
        compute: Compute,
        made_with: Mapping[str, Any],
    ) -> None:
        self._sides, self._trainer, self._config = sides, trainer, config
        self._run, self._processes, self._compute, self._made_with = (
            run,
            processes,
            compute,
            made_with,
        )
        self._names = ["", REVERSE][: len(sides)]

    def each(self) -> Iterable[tuple[Side, Learner, str]]:
        """Each direction, who learns in it, and the mark of its files."""
        return zip(self._sides, self._trainer.learners, self._names, strict=True)

    def keep_starts(self) -> None:
        """Copy the students as they were before the run."""
        for side, name in zip(self._sides, self._names, strict=True):
            self._run.keep_start(side.pair.student.path, name)

    def save(self, step: int) -> None:
        """Write students that can be used into the run folder."""
        if not self._processes.first:
            return
        for side, learner, name in self.each():
            card = self._card(side, {"steps": step})
            self._run.save_checkpoint(step, learner.result, card, name)

    def select(self, step: int) -> None:
        """Keep each student that is better than all before, if one is to be picked."""
        if self._config.select == "last" or not self._processes.first:
            return
        for side, learner, name in self.each():
            found, best = side.selection.fidelity(learner.result), self._best_of(name)
            if found is not None and (best is None or found.psnr_db > best.psnr_db):
                card = self._card(side, {"steps": step, "selected_psnr_db": found.psnr_db})
                self._run.save_best(step, learner.result, card, name)

    def selected(self) -> tuple[Selected | None, ...]:
        """The best students so far, where one is picked."""
        return tuple(map(self._best_of, self._names))

    def results(self) -> list[nn.Module]:
        """The students that are the result: the last ones, or the best ones."""
        self._processes.wait()  # for the files
        results = []
        for _, learner, name in self.each():
            best = self._run.best_of(name)
            if best is None:
                results.append(learner.result)
            else:
                picked = load_generator(best, arch=self._config.arch)
                results.append(self._compute.place(picked.network))
        return results

    def write(
        self,
        results: Sequence[nn.Module],
        made_with: Mapping[str, Any],
        figures: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the run's outputs.

        Args:
            results: of `results`.
            made_with: for the cards of all; `figures` for each one's.
        """
        if not self._processes.first:
            return
        for side, picked, network, output, found in zip(
            self._sides, self.selected(), results, self._config.outputs, figures, strict=True
        ):
            selected = {"selected": dataclasses.asdict(picked)} if picked else {}
            save_generator(output, network, self._card(side, {**made_with, **selected, **found}))

    def check(self) -> None:
        """Make sure that the students are worth writing to a file.

        Raises:
            FloatingPointError: the weights, or images, are not all numbers.
        """
        for side, learner in zip(self._sides, self._trainer.learners, strict=True):
            generated = self._compute.generate(learner.result, side.validation.inputs[0])
            weights = learner.result.state_dict().values()
            if not all(bool(t.isfinite().all()) for t in (generated, *weights)):
                raise FloatingPointError("the student's images stopped being numbers")

    def fidelity(self, networks: Sequence[nn.Module]) -> tuple[Fidelity | None, ...]:
        """How near each network comes to what it should generate, on validation images."""
        return tuple(
            side.validation.fidelity(network)
            for side, network in zip(self._sides, networks, strict=True)
        )

    def watch(self, step: int) -> None:
        """A grid of images, and figures of a few more, so that the run can be watched."""
        values: dict[str, float] = {}
        if not self._processes.first:
            return
        for side, learner, name in self.each():
            network = learner.result if step else side.student
            found, bands, rows = side.validation.watch(network)
            self._run.save_sample(step, rows, name)
            if found is not None:
                mine = dataclasses.asdict(found) | bands
                values |= {learner.prefix + key: value for key, value in mine.items()}
        if values:
            self._run.log_validation(step, values)

    def _best_of(self, name: str) -> Selected | None:
        """What the file of the best student says; None where there is none."""
        path = self._run.best_of(name)
        if path is None:
            return None
        options = (read_card(path) or {})["history"][-1]["options"]
        return Selected(options["steps"], options["selected_psnr_db"])

    def _card(self, side: Side, more: Mapping[str, Any]) -> Card:
        made_with = {**self._made_with, **side.pair.described, **side.pair.digests, **more}
        made_with["learning_rate"] = self._trainer.rate
        return side.pair.card(self._config.command, made_with)
