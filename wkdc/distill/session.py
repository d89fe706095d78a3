"""One training run from the first measurement to the last."""

import copy
import dataclasses
import functools
import hashlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wkdc.checkpoint import (
    Card,
    Generator,
    history_entry,
    make_card,
    relative_to,
    save_generator,
)
from wkdc.devices import bfloat16_pays
from wkdc.distill.data import Crops, Drawings
from wkdc.distill.interrupt import Stopped
from wkdc.distill.loop import StepReport, Trainer, run_steps
from wkdc.distill.objective import Batch, Objective
from wkdc.distill.request import Request
from wkdc.distill.run import RunFolder
from wkdc.errors import DivergedError
from wkdc.files import sha256_of
from wkdc.images import pixels_to_images, pixels_to_square
from wkdc.layouts import Layout, part_loader
from wkdc.metrics import Fidelity, mean_fidelity
from wkdc.networks.layers import Norm
from wkdc.networks.patchgan import PatchGAN, patchgan_widths
from wkdc.recognition import drawable_side

MEASURE_SIZE = 256
"""Pictures are compared at this height and width, or at the next that the network can draw."""

MEASURE_PICTURES = 32
"""At most so many pictures are compared, evenly spread over their names."""

WATCHED = 8
"""Of these, at most so many are also compared on the way."""

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""Noise that the teacher's pictures do not have."""

SAMPLE_ROWS = 4
"""Rows of a sample grid."""

MAX_DRAWINGS = 4096
"""Crops that the teacher draws ahead at most: 0.6 GB at 128x128."""

DRAWING_SHARE = 0.2
"""Share of a time budget that the teacher may spend on drawing ahead."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `Session.train` did; `wkdc.distill.DistillResult` says what the fields are."""

    steps: int
    seconds: float
    images_per_second: float
    losses: dict[str, float]
    before: Fidelity
    after: Fidelity
    interrupted: bool


class Session:
    """The networks on their device, the pictures, and the order of things.

    Args:
        run: an open run folder, to be written into.
        discriminator: to start from, where the recipe has one; else a fresh one.
    """

    def __init__(
        self,
        student: Generator,
        teacher: Generator,
        layout: Layout,
        request: Request,
        run: RunFolder,
        *,
        discriminator: Generator | None,
    ) -> None:
        recipe, seed, precision = request.recipe, request.seed, request.precision
        torch.manual_seed(seed)
        self._student, self._layout, self._recipe, self._run = student, layout, recipe, run
        self._request, self._budget, self._seed = request, request.budget, seed
        self._device = torch.device(request.device)
        self._teacher_file, self._discriminator_file = teacher, discriminator
        pays = precision == "auto" and bfloat16_pays(self._device)
        self._bfloat16 = pays or precision == "bfloat16"
        self._teacher = self._place(teacher.network)
        network = self._place(copy.deepcopy(student.network)).requires_grad_(True).train()
        for module in network.modules():
            if isinstance(module, DROPOUTS):
                module.eval()
        self._trainer = Trainer(network, self._objective(), recipe)
        self._load = part_loader(layout, student.in_channels, student.out_channels)
        size, crop = recipe.load_size, recipe.crop
        self._crops = Crops(layout.train, self._load, load_size=size, crop=crop, seed=seed)
        self._real = self._crops
        if layout.real:
            load_real = part_loader(layout, student.out_channels, student.out_channels)
            self._real = Crops(layout.real, load_real, load_size=size, crop=crop, seed=seed + 1)

    def begin(self) -> None:
        """Write down what the run is made with, and keep the student as it was."""
        self._write_options(finished=False)
        self._run.keep_start(self._student.path)

    def train(
        self,
        state: Mapping[str, Any] | None = None,
        *,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> Outcome:
        """Measure, draw ahead, train, write the output, measure again.

        Args:
            state: that an earlier process left in the run folder, to go on from.

        Raises:
            DivergedError: the loss, or what the student draws, stopped being numbers.
        """
        started = time.monotonic()
        output, made_with = Path(self._request.output), self.made_with
        inputs = self._measured_inputs()
        wanted = [self._draw(self._teacher, images) for images in inputs]
        before = self._fidelity(self._trainer.student, inputs, wanted)
        first = 0 if state is None else int(state["step"])
        losses, done = self._run.rewind(first), first
        if not first:
            self._sample(0, self._trainer.student, inputs, wanted)
        if state is not None:
            self._trainer.load_state_dict(state["trainer"])
        train_started = started
        drawings: Drawings | None = None

        def stepped(report: StepReport) -> None:
            nonlocal done
            if report.phase == "train":
                done = report.step
                losses.append(report.losses)
                self._run.log(report.step, time.monotonic() - started, report.losses)
            if on_step is not None:
                on_step(report)

        def marked(step: int) -> None:
            result = self._trainer.result
            self._check(result, inputs[0])
            self._run.save_checkpoint(step, result, self._card({**made_with, "steps": step}))
            self._sample(step, result, inputs, wanted)

        def saved(step: int) -> None:
            self._run.save_state(
                step,
                {
                    "seconds": time.monotonic() - started,
                    "drawings": 0 if drawings is None else len(drawings.targets),
                    "trainer": self._trainer.state_dict(),
                },
            )

        interrupted = False
        try:
            try:
                again = None if state is None else int(state["drawings"])
                drawings = self._draw_ahead(started, stepped, again)
                train_started = time.monotonic()
                if state is not None:
                    started = train_started - float(state["seconds"])
                run_steps(
                    self._trainer,
                    self._next_batch(drawings),
                    self._budget,
                    started=started,
                    first=first,
                    save_every=self._request.save_every,
                    on_step=stepped,
                    on_mark=marked,
                    on_save=saved,
                )
            except Stopped:
                interrupted = True
                saved(done)
            except KeyboardInterrupt:
                interrupted = True
            self._check(self._trainer.result, inputs[0])
        except FloatingPointError as error:
            raise DivergedError(
                f"{error} after step {done}; the last good student is "
                f"{self._run.latest}, {output} is untouched; try a lower --learning-rate"
            ) from None
        trained = time.monotonic() - train_started
        steps, result = done, self._trainer.result
        if not steps:  # stopped before anything was learned
            return Outcome(0, time.monotonic() - started, 0.0, {}, before, before, interrupted)
        made_with = made_with | {"steps": steps, "seconds": round(time.monotonic() - started, 1)}
        save_generator(output, result, self._card(made_with))
        after = self._fidelity(result, inputs, wanted)
        figures = {"before": dataclasses.asdict(before), "after": dataclasses.asdict(after)}
        save_generator(output, result, self._card(made_with | figures))
        self._sample(steps, result, inputs, wanted)
        if not interrupted:
            self._write_options(finished=True)
            self._run.forget_states()
        return Outcome(
            steps,
            time.monotonic() - started,
            (steps - first) * self._recipe.batch / trained,
            mean_losses(losses[-max(1, steps // 10) :]),
            before,
            after,
            interrupted,
        )

    def _place(self, network: nn.Module) -> nn.Module:
        return network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def _forward(self, network: nn.Module, images: Tensor) -> Tensor:
        """Call a network at the run's device and precision; float32 comes back."""
        images = images.to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            out: Tensor = network(images)
        return out.float()

    @torch.no_grad()
    def _draw(self, network: nn.Module, images: Tensor) -> Tensor:
        """1×C×H×W as `network` draws it in evaluation mode and float32, on the CPU."""
        training = network.training
        out: Tensor = network.eval()(images.to(self._device))
        network.train(training)
        for module in network.modules():
            if isinstance(module, DROPOUTS):
                module.eval()
        return out.cpu()

    def _check(self, network: nn.Module, images: Tensor) -> None:
        """Make sure that `network` is worth writing to a file.

        Raises:
            FloatingPointError: its weights, or what it draws from 1×C×H×W, are not all numbers.
        """
        drawn = self._draw(network, images)
        if not all(bool(t.isfinite().all()) for t in (drawn, *network.state_dict().values())):
            raise FloatingPointError("the student's pictures stopped being numbers")

    def _objective(self) -> Objective:
        """The losses, with a discriminator where the recipe asks for one."""
        conditional = self._layout.kind == "paired"
        discriminator: nn.Module | None = None
        if self._recipe.adversarial:
            discriminator = self._place(self._ready_discriminator(conditional))
        return Objective(
            self._recipe,
            discriminator,
            conditional=conditional,
            forward=self._forward,
            seed=self._seed,
        )

    def _ready_discriminator(self, conditional: bool) -> nn.Module:
        """The one that was given, or one of random weights, ready to be trained."""
        if self._discriminator_file is not None:
            return copy.deepcopy(self._discriminator_file.network).requires_grad_(True).train()
        channels = self._student.out_channels
        channels += self._student.in_channels if conditional else 0
        batch_norm = any(
            isinstance(layer, nn.BatchNorm2d) for layer in self._student.network.modules()
        )
        norm: Norm = "batch" if batch_norm else "instance"
        network = PatchGAN(channels, widths=patchgan_widths(self._recipe.ndf), norm=norm)
        for layer in network.modules():
            if isinstance(layer, nn.Conv2d):  # as CycleGAN initialises its networks
                nn.init.normal_(layer.weight, 0.0, 0.02)
        return network

    def _draw_ahead(
        self, started: float, on_step: Callable[[StepReport], None], again: int | None
    ) -> Drawings | None:
        """What the teacher draws before training, or None where it draws at every step.

        Args:
            again: how many it drew when the run began, where it goes on.
        """
        recipe, steps = self._recipe, self._budget.steps
        if recipe.reuse == 1:
            return None
        wanted = again or MAX_DRAWINGS
        if steps is not None and again is None:
            wanted = min(wanted, -(-steps * recipe.batch // recipe.reuse))
        parts: list[tuple[Tensor, ...]] = []
        targets: list[Tensor] = []
        while (count := len(parts) * recipe.batch) < wanted:
            share = self._budget.progress(0, time.monotonic() - started)
            if parts and share > DRAWING_SHARE and again is None:
                break
            parts.append(self._crops.batch(count, recipe.batch))
            with torch.no_grad():
                drawn = self._forward(self._teacher, pixels_to_images(parts[-1][0]))
            targets.append(drawn.half().cpu())
            on_step(StepReport("draw", count + recipe.batch, share, {}, 0.0, 0.0))
        stacked = tuple(torch.cat(part) for part in zip(*parts, strict=True))
        return Drawings(stacked, torch.cat(targets))

    def _next_batch(self, drawings: Drawings | None) -> Callable[[int], Batch]:
        """The pictures of each step."""
        recipe, device = self._recipe, self._device
        guided = recipe.wavelet_weight > 0 or recipe.pixel > 0
        judged = recipe.adversarial > 0

        def batch(step: int) -> Batch:
            start = step * recipe.batch
            targets: Tensor | None = None
            if drawings is not None:
                parts, targets = drawings.batch(start, recipe.batch, self._seed)
                targets = targets.to(device)
            else:
                parts = self._crops.batch(start, recipe.batch)
            pictures = [pixels_to_images(part).to(device) for part in parts]
            inputs, truth = pictures[0], pictures[1] if len(pictures) > 1 else None
            if targets is None and (guided or (judged and self._layout.kind == "inputs")):
                with torch.no_grad():
                    targets = self._forward(self._teacher, inputs)
            real = truth
            if judged and self._layout.kind == "unpaired":
                (pixels,) = self._real.batch(start, recipe.batch)
                real = pixels_to_images(pixels).to(device)
            elif judged and self._layout.kind == "inputs":
                real = targets
            return Batch(inputs, targets, real, truth)

        return batch

    def _measured_inputs(self) -> list[Tensor]:
        """The validation inputs, 1×C×H×W each, all squares of one size."""
        size = drawable_side(
            MEASURE_SIZE, self._student.architecture, self._teacher_file.architecture
        )
        paths = self._layout.validation
        step = max(1, len(paths) // MEASURE_PICTURES)
        chosen = paths[::step][:MEASURE_PICTURES]
        return [pixels_to_square(self._load(path)[0], size) for path in chosen]

    def _fidelity(
        self, network: nn.Module, inputs: Sequence[Tensor], wanted: Sequence[Tensor]
    ) -> Fidelity:
        pairs = zip(inputs, wanted, strict=True)
        return mean_fidelity((self._draw(network, image), target) for image, target in pairs)

    def _sample(
        self, step: int, network: nn.Module, inputs: Sequence[Tensor], wanted: Sequence[Tensor]
    ) -> None:
        """A grid of pictures, and figures of a few more, so that the run can be watched."""
        apart = max(1, len(inputs) // WATCHED)
        rows = [
            (image, target, self._draw(network, image))
            for image, target in list(zip(inputs, wanted, strict=True))[::apart][:WATCHED]
        ]
        found = mean_fidelity((drawn, target) for _, target, drawn in rows)
        self._run.log_validation(step, dataclasses.asdict(found))
        self._run.save_sample(step, rows[:SAMPLE_ROWS])

    def _write_options(self, *, finished: bool) -> None:
        kept = {"request": self._request.as_plain(), "finished": finished}
        self._run.write_options(self.made_with | kept)

    @functools.cached_property
    def made_with(self) -> dict[str, Any]:
        """What the run is made with, for its folder and for the student's card."""
        pictures = [*self._layout.train, *self._layout.real]
        digest = hashlib.sha256("".join(sha256_of(path) for path in pictures).encode())
        return {
            "recipe": dataclasses.asdict(self._recipe),
            "budget": dataclasses.asdict(self._budget),
            "data": relative_to(Path(self._request.data), Path.cwd()),
            "data_kind": self._layout.kind,
            "data_sha256": digest.hexdigest(),
            "pictures": {
                "train": len(self._layout.train),
                "real": len(self._layout.real),
                "validation": len(self._layout.validation),
                "held_out": self._layout.held_out,
            },
            "student_sha256": self._student.sha256,
            "teacher_sha256": self._teacher_file.sha256,
            "discriminator_sha256": None
            if self._discriminator_file is None
            else self._discriminator_file.sha256,
            "direction": self._layout.direction,
            "device": str(self._device),
            "precision": "bfloat16" if self._bfloat16 else "float32",
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "seed": self._seed,
            "run": str(self._run.path),
        }

    def _card(self, made_with: dict[str, Any]) -> Card:
        """The student's card with this run added to its history."""
        earlier = self._student.card or {}
        teacher = earlier.get("teacher")
        if teacher is None or teacher["sha256"] != self._teacher_file.sha256:
            teacher = {
                "path": str(self._teacher_file.path.resolve()),
                "sha256": self._teacher_file.sha256,
            }
        entry = history_entry("distill", **made_with)
        return make_card(self._student.architecture, teacher, [*earlier.get("history", []), entry])


def mean_losses(steps: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each loss over `steps`; empty where there are none."""
    if not steps:
        return {}
    return {name: statistics.fmean(losses[name] for losses in steps) for name in steps[0]}
