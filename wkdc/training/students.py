"""The students of a run as files: on the way, the best one, and the result."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from wkdc.checkpoints.card import Card, read_card
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.checkpoints.run_record import REVERSE
from wkdc.metrics.fidelity import Fidelity
from wkdc.training.device import Compute
from wkdc.training.direction import TrainingDirection
from wkdc.training.distributed import Processes
from wkdc.training.run_config import RunConfig
from wkdc.training.run_folder import RunFolder
from wkdc.training.trainer import Learner, Trainer


@dataclasses.dataclass(frozen=True)
class Selected:
    """The student that was the best: of which step, and its PSNR on the images set aside."""

    step: int
    psnr_db: float


class Students:
    """What a run makes, one student for each direction. The first process writes.

    Args:
        directions: the directions that `trainer` trains.
        made_with: what the run is made with, for the students' cards.
    """

    def __init__(
        self,
        directions: Sequence[TrainingDirection],
        trainer: Trainer,
        config: RunConfig,
        run: RunFolder,
        processes: Processes,
        compute: Compute,
        made_with: Mapping[str, Any],
    ) -> None:
        self._directions, self._trainer, self._config = directions, trainer, config
        self._run, self._processes, self._compute = run, processes, compute
        self._made_with = made_with
        self._names = ["", REVERSE][: len(directions)]

    def each(self) -> Iterable[tuple[TrainingDirection, Learner, str]]:
        """Each direction, who learns in it, and the mark of its files."""
        return zip(self._directions, self._trainer.learners, self._names, strict=True)

    def digests(self) -> dict[str, str | None]:
        """Of the files of all directions, by what they are."""
        return {
            learner.prefix + key: value
            for direction, learner, _ in self.each()
            for key, value in direction.pair.digests.items()
        }

    def keep_starts(self) -> None:
        """Copy the students as they were before the run."""
        for direction, name in zip(self._directions, self._names, strict=True):
            self._run.keep_start(direction.pair.student.path, name)

    def save(self, step: int) -> None:
        """Write students that can be used into the run folder."""
        if not self._processes.first:
            return
        for direction, learner, name in self.each():
            card = self._card(direction, {"steps": step}, self._run.start_of(name))
            self._run.save_checkpoint(step, learner.result, card, name)

    def select(self, step: int) -> None:
        """Keep each student that is better than all before, if one is to be picked."""
        if self._config.select == "last" or not self._processes.first:
            return
        for direction, learner, name in self.each():
            found, best = direction.selection.fidelity(learner.result), self._best_of(name)
            if found is not None and (best is None or found.psnr_db > best.psnr_db):
                made_with = {"steps": step, "selected_psnr_db": found.psnr_db}
                card = self._card(direction, made_with, self._run.start_of(name))
                self._run.save_best(step, learner.result, card, name)

    def selected(self) -> tuple[Selected | None, ...]:
        """The best students so far, where one is picked."""
        return tuple(map(self._best_of, self._names))

    def finish(
        self, before: Sequence[Fidelity | None], made_with: Mapping[str, Any]
    ) -> tuple[Fidelity | None, ...]:
        """Write the run's outputs, measure them, and write them again with their figures.

        Args:
            before: what was measured before the run.
            made_with: for the cards of all.
        """
        self._processes.wait()  # for the files
        results = self._results()
        self._write(results, made_with, [{}] * len(results))
        after = self.fidelity(results)
        figures = [
            {"before": dataclasses.asdict(a), "after": dataclasses.asdict(b)} if a and b else {}
            for a, b in zip(before, after, strict=True)
        ]
        self._write(results, made_with, figures)
        return after

    def keep(self, made_with: Mapping[str, Any]) -> None:
        """Write the run's outputs as they are, without measuring them."""
        results = self._results()
        self._write(results, made_with, [{}] * len(results))

    def _results(self) -> list[nn.Module]:
        """The students that are the result: the last ones, or the best ones."""
        results = []
        for _, learner, name in self.each():
            best = self._run.best_of(name)
            if best is None:
                results.append(learner.result)
            else:
                picked = load_generator(best, arch=self._config.arch)
                results.append(self._compute.move(picked.network))
        return results

    def _write(
        self,
        results: Sequence[nn.Module],
        made_with: Mapping[str, Any],
        figures: Sequence[Mapping[str, Any]],
    ) -> None:
        """Write the run's outputs, each with its `figures` on the card."""
        if not self._processes.first:
            return
        for direction, picked, network, output, found in zip(
            self._directions, self.selected(), results, self._config.outputs, figures, strict=True
        ):
            selected = {"selected": dataclasses.asdict(picked)} if picked else {}
            card = self._card(direction, {**made_with, **selected, **found}, output)
            save_generator(output, network, card)

    def check(self) -> None:
        """Make sure that the students are worth writing to a file.

        Raises:
            FloatingPointError: the weights, or images, are not all numbers.
        """
        for direction, learner in zip(self._directions, self._trainer.learners, strict=True):
            generated = self._compute.generate(learner.result, direction.validation.inputs[0])
            weights = learner.result.state_dict().values()
            if not all(bool(t.isfinite().all()) for t in (generated, *weights)):
                raise FloatingPointError("the student's images stopped being numbers")

    def fidelity(self, networks: Sequence[nn.Module]) -> tuple[Fidelity | None, ...]:
        """How near each network comes to what it should generate, on validation images."""
        return tuple(
            direction.validation.fidelity(network)
            for direction, network in zip(self._directions, networks, strict=True)
        )

    def watch(self, step: int) -> None:
        """A grid of images, and figures of a few more, so that the run can be watched."""
        values: dict[str, float] = {}
        if not self._processes.first:
            return
        for direction, learner, name in self.each():
            network = learner.result if step else direction.student
            found, bands, rows = direction.validation.watch(network)
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

    def _card(self, direction: TrainingDirection, more: Mapping[str, Any], file: Path) -> Card:
        """The card of a student that lies where `file` does."""
        pair = direction.pair
        made_with = {**self._made_with, **pair.described, **pair.digests, **more}
        made_with["learning_rate"] = self._trainer.rate
        return pair.card(self._config.command, made_with, file)
