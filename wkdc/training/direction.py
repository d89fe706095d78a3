"""One direction of a run: a student, its teacher, and the images of each step."""

import copy
import dataclasses
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoints.card import Card, find_teacher, history_entry, make_card, relative_to
from wkdc.checkpoints.checkpoint import Generator
from wkdc.data.folders import evenly_spread
from wkdc.data.images import pixels_to_images
from wkdc.data.inputs import Reader, part_loader
from wkdc.data.layouts import Layout
from wkdc.metrics.fidelity import psnr_db
from wkdc.networks.architecture import valid_side
from wkdc.system.files import sha256_of
from wkdc.system.version import __version__
from wkdc.training.crops import Crops
from wkdc.training.device import Compute, trainable
from wkdc.training.distributed import Processes
from wkdc.training.features import LAYERS, BlockFeatures, FeatureLoss
from wkdc.training.objective import Batch, Objective, fresh_discriminator
from wkdc.training.recipe import Recipe
from wkdc.training.teacher_targets import TargetCache, Targets
from wkdc.training.trainer import Averager, Learner
from wkdc.training.validation import IMAGES, Validation

FITTED = 16
"""Crops that tell how near the student starts, and that the maps of features begin from."""

TOGETHER = 4
"""Of these, so many are computed at once."""

MEASURE_SIZE = 256
"""Images are compared at this height and width, or at the next that the network takes."""


@dataclass(frozen=True)
class Pair:
    """A student, its teacher, their images, and the discriminator, as loaded.

    Attributes:
        teacher: None for a network that learns from true images alone.
        discriminator: to start from; None for a fresh one, where the recipe needs one.
    """

    student: Generator
    teacher: Generator | None
    layout: Layout
    discriminator: Generator | None = None

    @functools.cached_property
    def digests(self) -> dict[str, str | None]:
        """Of the files: what a run that goes on has to find again."""
        inputs = [*self.layout.train, *self.layout.real, *self.layout.selection]
        images = self.layout.parts(inputs)
        data = hashlib.sha256("".join(sha256_of(path) for path in images).encode())
        return {
            "student_sha256": self.student.sha256,
            "teacher_sha256": None if self.teacher is None else self.teacher.sha256,
            "discriminator_sha256": self.discriminator.sha256 if self.discriminator else None,
            "data_sha256": data.hexdigest(),
        }

    @property
    def described(self) -> dict[str, Any]:
        """Which images play which part, for a card."""
        layout = self.layout
        return {
            "data_kind": layout.kind,
            "direction": layout.direction,
            "pictures": {
                "train": len(layout.train),
                "real": len(layout.real),
                "validation": len(layout.validation),
                "selection": len(layout.selection),
                "held_out": layout.held_out,
            },
        }

    def card(self, command: str, made_with: Mapping[str, Any], file: Path) -> Card:
        """The student's card with this run added to its history, as it is written into `file`."""
        earlier = self.student.card or {}
        teacher = earlier.get("teacher")
        if self.teacher is not None:
            here = relative_to(self.teacher.path, file.parent)
            if teacher is None or teacher["sha256"] != self.teacher.sha256:
                teacher = {"path": here, "sha256": self.teacher.sha256}
            elif not find_teacher(file, teacher)[1]:
                teacher = {**teacher, "path": here}
            if said := self.teacher.reading.for_card():
                teacher = {**teacher, "reading": said}
        entry = history_entry(command, **made_with)
        return make_card(self.student.architecture, teacher, [*earlier.get("history", []), entry])


class TrainingDirection:
    """A `Pair` at work: networks on their device, crops, and what the teacher makes of them.

    Args:
        seed: of the crops, and of the pool that the discriminator sees.
        processes: those that train it; each has crops of its own.
    """

    def __init__(
        self, pair: Pair, recipe: Recipe, compute: Compute, processes: Processes, *, seed: int
    ) -> None:
        self.pair = pair
        self._recipe, self._compute, self._seed, self._processes = recipe, compute, seed, processes
        self._forward = compute.in_steps
        self.student = trainable(compute.move(copy.deepcopy(pair.student.network)))
        self.teacher = None if pair.teacher is None else compute.move(pair.teacher.network)
        layout, student = pair.layout, pair.student
        self._reader = reader = Reader(layout, student.in_channels, student.out_channels)
        size, crop = recipe.load_size, recipe.crop
        self._crops = Crops(
            layout.train,
            reader.load,
            load_size=size,
            crop=crop,
            seed=seed,
            jitter=0.0 if layout.labels else recipe.jittered,
        )
        self._real = None
        if layout.real:
            load_real = part_loader(layout, student.out_channels, student.out_channels)
            self._real = Crops(layout.real, load_real, load_size=size, crop=crop, seed=seed + 1)
        known = [one.architecture for one in (student, pair.teacher) if one is not None]
        side = valid_side(MEASURE_SIZE, *known)
        self.validation, self.selection = (
            Validation(
                [reader.squares(path, side) for path in evenly_spread(paths, IMAGES)],
                self.teacher,
                compute.generate,
                reader.shown,
            )
            for paths in (layout.validation, layout.selection)
        )
        self._ahead: list[Targets] = []
        self._features: BlockFeatures | None = None
        if recipe.features and self.teacher is not None:
            self._features = BlockFeatures(self.teacher)
        self._targets: Targets | None = None
        self._cache: TargetCache | None = None

    def learner(self, back: nn.Module | None, *, prefix: str = "") -> Learner:
        """The student with its losses; see `Objective` for `back`."""
        conditional = self.pair.layout.kind == "paired"
        discriminator: nn.Module | None = None
        if self._recipe.adversarial:
            given = self.pair.discriminator
            if given is not None:
                discriminator = copy.deepcopy(given.network).requires_grad_(True).train()
            else:
                discriminator = fresh_discriminator(
                    self.pair.student, self._recipe, conditional=conditional
                )
            discriminator = self._compute.move(discriminator)
        objective = Objective(
            self._recipe,
            discriminator,
            conditional=conditional,
            back=back,
            forward=self._forward,
            layer_outputs=self._compute.layer_outputs,
            seed=self._seed + self._processes.index,
        )
        average, features = Averager(self.student), None
        if self._features is not None and self.pair.teacher is not None:
            # after the average is made: what watches the student is none of its copy's
            ours, theirs = self.pair.student.architecture, self.pair.teacher.architecture
            width = ours.options["stream"], theirs.options["stream"]
            features = FeatureLoss(self.student, [width] * LAYERS)
            features.maps.to(self._compute.device)
        return Learner(self.student, objective, average, prefix, features)

    def nearness_db(self) -> float:
        """PSNR of the student to its teacher, over all of the first images of the training."""
        generated: list[Tensor] = []
        wanted: list[Tensor] = []
        for one in self._first():
            if one.targets is not None:
                generated.append(self._compute.generate(self.student, one.inputs))
                wanted.append(one.targets.cpu())
        return psnr_db(torch.cat(generated), torch.cat(wanted)) if generated else -math.inf

    def _first(self) -> list[Batch]:
        """The first images of the training, the same in every process and for every batch."""
        return [self._images(start, TOGETHER) for start in range(0, FITTED, TOGETHER)]

    def fit_maps(self, features: FeatureLoss) -> None:
        """Start the maps of features from the first images; the same in all processes."""
        student, forward = self.student, self._compute.forward
        features.fit(
            (functools.partial(forward, student, one.inputs), one.features) for one in self._first()
        )
        features.maps.load_state_dict(self._processes.share(features.maps.state_dict()))

    def compute_ahead(self, number: int) -> None:
        """Compute the teacher's targets of batch `number`, for steps to come.

        Those that the cache had are there already.
        """
        if number < len(self._ahead):
            return
        parts = self._crops.batch(self._first_of(number), self._recipe.batch)
        inputs, *_ = self._reader.images(parts)
        targets, features = self._teacher_outputs(inputs)
        kept = tuple(one.half().cpu() for one in features)
        self._ahead.append(Targets(parts, targets.half().cpu(), kept))

    def open_cache(self, folder: Path, on_notice: Callable[[str], None]) -> tuple[int, float]:
        """Take from the cache the targets of an earlier run like this one.

        How many batches there are, and for how long a run in seconds they are enough.
        """
        self._cache = TargetCache(folder, self._cache_key(), on_notice=on_notice)
        found = self._cache.load()
        if found is None:
            return 0, 0.0
        targets, seconds = found
        self._ahead = targets.split(self._recipe.batch)
        return len(self._ahead), seconds

    def fill_cache(self, seconds: float) -> None:
        """Keep the targets for later runs; see `open_cache`."""
        if self._cache is not None:
            self._cache.save(Targets.joined(self._ahead), seconds)

    def _cache_key(self) -> dict[str, Any]:
        """All that the teacher's targets depend on."""
        if self.pair.teacher is None:
            raise RuntimeError("there is no teacher")
        layout, recipe, compute = self.pair.layout, self._recipe, self._compute
        return {
            "teacher": self.pair.teacher.sha256,
            "architecture": dataclasses.asdict(self.pair.teacher.architecture),
            "data": self.pair.digests["data_sha256"],
            "pictures": [layout.kind, layout.direction, len(layout.train), layout.value_range],
            "features": None if self._features is None else self._features.described,
            "crop": [recipe.load_size, recipe.crop, recipe.batch, self._seed, recipe.jittered],
            "process": [self._processes.index, self._processes.count, torch.get_num_threads()],
            "numbers": [str(compute.device), compute.precision, compute.compiled],
            "versions": [__version__, str(torch.__version__)],
        }

    def use_targets(self, batches: int) -> None:
        """From now on, steps use so many batches of targets of each process."""
        everywhere = self._processes.gather(self._ahead[:batches])
        rounds = zip(*everywhere, strict=True)
        self._targets = Targets.joined([one for round_ in rounds for one in round_])
        self._ahead = []

    def _first_of(self, number: int) -> int:
        """The first crop of this process's batch `number`."""
        return (number * self._processes.count + self._processes.index) * self._recipe.batch

    def batch(self, number: int) -> Batch:
        """The images of step `number`."""
        return self._images(self._first_of(number), self._recipe.batch)

    def _images(self, start: int, count: int) -> Batch:
        recipe, device, layout = self._recipe, self._compute.device, self.pair.layout
        targets: Tensor | None = None
        features: tuple[Tensor, ...] = ()
        if self._targets is not None:
            parts, targets, features = self._targets.batch(start, count, self._seed)
            targets, features = targets.to(device), tuple(one.to(device) for one in features)
        else:
            parts = self._crops.batch(start, count)
        images = self._reader.images([part.to(device) for part in parts])
        inputs, truth = images[0], images[1] if len(images) > 1 else None
        adversarial = recipe.adversarial > 0
        guided = bool(recipe.wavelet_weight or recipe.pixel or recipe.features)
        if targets is None and (guided or (adversarial and layout.kind == "inputs")):
            targets, features = self._teacher_outputs(inputs)
        real, same = truth, None
        alike = self.pair.student.in_channels == self.pair.student.out_channels
        unchanged = recipe.identity > 0 and alike
        if self._real is not None and (adversarial or unchanged):
            (pixels,) = self._real.batch(start, count)
            real = pixels_to_images(pixels).to(device)
            same = real if unchanged else None
        elif layout.kind == "inputs":
            real = targets
        return Batch(inputs, targets, real, truth, same, features)

    @torch.no_grad()
    def _teacher_outputs(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The teacher's outputs, and its features where they are compared."""
        if self.teacher is None:
            raise RuntimeError("there is no teacher")
        in_steps = len(inputs) == self._recipe.batch
        generated = (self._forward if in_steps else self._compute.forward)(self.teacher, inputs)
        return generated, () if self._features is None else tuple(self._features.take())
