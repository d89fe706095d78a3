"""Everything that only a GPU can tell, in a given time.

    python tests/benchmarks/gpu.py --minutes 8 [--output gpu]

Four parts, each row in a `try` of its own, so that a missing library loses one row:

- `runtimes`: teacher and student at 256 and 512, batch 1 and 8, in PyTorch (eager and compiled),
  ONNX Runtime (bound, and as a CUDA graph) and TensorRT, in float32 and float16, timed in turn.
- `step`: a training step beside the reference's, see reference_step.py.
- `bands` and `discriminators`: claims (c) and (d) of claims.py on the bundled photos or `--data`,
  one seed, with as many steps as the time allows.

The teacher is vintagify's, unless `--teacher` names another. The table is printed; `gpu.json` and a
sheet of images lie in `--output`; `gpu.json` grows row by row, so what was measured stays when
the time is up. `--device cpu` rehearses all of it.
"""

import argparse
import itertools
import json
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import reference_step
import torch
from claims import BANDS, NDF, against, banded, fresh_student
from torch import Tensor

import wkdc
from wkdc.benchmark.calls import Engine, engines_on
from wkdc.benchmark.entries import calls_of, open_entry
from wkdc.benchmark.latency import clock_on, time_in_bursts
from wkdc.benchmark.machine import versions
from wkdc.checkpoints.reading import Reading
from wkdc.data.example_input import example_input
from wkdc.data.photos import photo_paths
from wkdc.demo import teacher_file
from wkdc.reporting.results import Made, to_plain
from wkdc.training.recipe import Recipe

WEIGHT = 10.0
"""Of what is compared with the teacher's image in `bands`, beside the paper's other losses."""


class Report:
    """Rows as they come, kept in a file; and the time that is left."""

    def __init__(self, output: Path, minutes: float, device: str) -> None:
        self.path = output / "gpu.json"
        self._deadline = time.monotonic() + 60 * minutes
        self._content: dict[str, Any] = {
            "made": to_plain(Made.by("gpu", device)),
            "versions": versions(),
            "rows": [],
        }

    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._deadline - time.monotonic())

    def row(
        self, part: str, name: str, measure: Callable[[], Mapping[str, Any]], until: float = -1.0
    ) -> None:
        """Measure one row, or keep what went wrong.

        Args:
            until: seconds that have to be left for others; by default it is measured in any case.
        """
        row: dict[str, Any] = {"part": part, "name": name}
        if self.left() <= until:
            row["problem"] = "no time was left"
        else:
            started = time.monotonic()
            try:
                row |= measure()
            except Exception as error:
                row["problem"] = f"{type(error).__name__}: {error}".splitlines()[0]
                row["traceback"] = traceback.format_exc()
            row["seconds"] = round(time.monotonic() - started, 1)
        self._content["rows"].append(row)
        self.path.write_text(json.dumps(to_plain(self._content), indent=1) + "\n")
        shown = {k: v for k, v in row.items() if k not in ("part", "name", "traceback", "seconds")}
        print(f"| {part} | {name} | {json.dumps(to_plain(shown))} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--teacher", type=Path, help="default: vintagify's")
    parser.add_argument("--data", type=Path, help="trainA, trainB, testA; default: bundled photos")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--output", type=Path, default=Path("gpu"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    report = Report(options.output, options.minutes, options.device)
    with TemporaryDirectory() as folder:
        options.work = Path(folder)
        options.teacher = options.teacher or teacher_file()
        options.data = options.data or bundled(options.work / "photos")
        options.student = options.work / "student.pth"
        report.row("prune", "ratio 7", lambda: prune(options))
        rest = 1.0
        for measure, share in PARTS:
            until = report.left() * (1 - share / rest)
            rest -= share
            measure(report, options, until)
        report.row("images", "sheet.png", lambda: sheet(options))


def bundled(folder: Path) -> Path:
    """The bundled photos as an unpaired data set: the target domain's are other photos."""
    parts = ("trainA", "trainB", "testA")
    for path, part in zip(photo_paths(), itertools.cycle(parts), strict=False):
        (folder / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / part)
    return folder


def prune(options: argparse.Namespace) -> dict[str, Any]:
    result = wkdc.prune(options.teacher, ratio=7, output=options.student, data=options.data)
    return {"params_ratio": result.params_ratio, "macs_ratio": result.macs_ratio}


def runtimes(report: Report, options: argparse.Namespace, until: float) -> None:
    """Milliseconds of teacher and student, in turn, in each runtime, at each size and batch."""
    device = torch.device(options.device)
    entries = [open_entry(path, Reading()) for path in (options.teacher, options.student)]
    cases = list(itertools.product(options.batches, options.sizes))
    # What compiles comes last: it takes longest, and what does not fit the time is left out.
    engines = sorted(engines_on(device, compiled=True), key=lambda engine: "compile" in engine)
    for engine, (batch, size) in itertools.product(engines, cases):
        name = f"{engine}, {size}x{size}, batch {batch}"
        image = example_input(3, (size, size)).expand(batch, -1, -1, -1)
        images = {entry.path: image for entry in entries}

        def timed(engine: Engine = engine, images: dict[Path, Tensor] = images) -> dict[str, Any]:
            calls, left_out = calls_of(entries, [engine], options.work, images, 1, device)
            if left_out:
                return {"problem": left_out[0]}
            clock = clock_on(device)
            found = time_in_bursts({"": calls[engine]}, options.rounds, clock=clock, bursts=1)[""]
            teacher, student = (found[entry.path].median for entry in entries)
            return {"teacher_ms": teacher, "student_ms": student, "speedup": teacher / student}

        report.row("runtimes", name, timed, until)


def steps(report: Report, options: argparse.Namespace, until: float) -> None:
    """Milliseconds of a training step, the reference's and ours, lever by lever."""
    for name in ("reference", *reference_step.LEVERS):

        def timed(name: str = name) -> dict[str, Any]:
            step, before = reference_step.made(name, options.sizes[0], options.device, options.work)
            times = [reference_step.timed(step, options.device) for _ in range(options.rounds)]
            return {"ms": 1000 * (min(times) + before)}

        report.row("step", name, timed, until)


def bands(report: Report, options: argparse.Namespace, until: float) -> None:
    """Claim (c), from fresh weights: what is compared with the teacher's image."""
    recipes = {name: banded("fresh", name, WEIGHT) for name in BANDS}
    trained(report, options, until, "bands", recipes)


def discriminators(report: Report, options: argparse.Namespace, until: float) -> None:
    """Claim (d), from fresh weights: how wide the discriminator is."""
    recipes = {f"ndf {ndf}" if ndf else "none": against(ndf) for ndf in NDF}
    trained(report, options, until, "discriminators", recipes)


def trained(
    report: Report, options: argparse.Namespace, until: float, part: str, recipes: dict[str, Recipe]
) -> None:
    """One student a recipe, for equal numbers of steps: as many as the time allows."""
    first, trial = next(iter(recipes.values())), 4
    student = options.work / "trial.pth"
    started = time.monotonic()
    seconds = 0.0

    def warm_up() -> dict[str, Any]:
        nonlocal seconds
        fresh_student(student, options.teacher, seed=0)
        result = taught(student, first, trial, options)
        seconds = result.steps * first.batch / result.images_per_second / result.steps
        return {"ms": 1000 * seconds}

    report.row(part, "a step", warm_up, until)
    if not seconds:
        return
    besides = time.monotonic() - started - trial * seconds  # opening, measuring: once a run
    share = (report.left() - until) / len(recipes) - besides
    steps = max(trial, int(share / seconds))
    for name, recipe in recipes.items():

        def run(recipe: Recipe = recipe, name: str = name) -> dict[str, Any]:
            student = options.work / f"{part}-{name.replace(' ', '')}.pth"
            fresh_student(student, options.teacher, seed=0)
            result = taught(student, recipe, steps, options)
            after = result.after
            found = {"steps": steps, "images_per_second": result.images_per_second}
            found |= {"psnr_db": after.psnr_db, "high_band_error": after.high_band_error}
            return found | {"losses": result.losses}

        report.row(part, name, run, 0.0)


def taught(
    student: Path, recipe: Recipe, steps: int, options: argparse.Namespace
) -> wkdc.DistillResult:
    return wkdc.distill(
        options.data,
        student=student,
        teacher=options.teacher,
        recipe=recipe,
        steps=steps,
        device=options.device,
        runs=options.work / "runs",
        cache=options.work / "targets",
    )


def sheet(options: argparse.Namespace) -> dict[str, Any]:
    """What teacher and students make of test images, beside each other."""
    paths = [options.teacher, options.student, *sorted(options.work.glob("[bd]*-*.pth"))]
    result = wkdc.compare(
        paths[1:], options.data, teacher=paths[0], output=options.output / "sheet.png", count=3
    )
    return {"file": result.output.name}


PARTS = ((runtimes, 0.45), (steps, 0.15), (bands, 0.2), (discriminators, 0.2))
"""In their order, with their share of the time; what one leaves goes to the next."""


if __name__ == "__main__":
    main()
