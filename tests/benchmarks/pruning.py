"""What pruning gives, before and after training: tables, an image and a figure.

    python tests/benchmarks/pruning.py ratios|front --teacher teacher.pth --data FOLDER

FOLDER holds trainA, to calibrate and train on, and testA, to measure on. Rows go to a JSON file in
--output as they are made, so that a run that was stopped goes on where it was.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import wkdc
from wkdc.benchmark.latency import onnx_calls, time_in_turn
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.image_writing import save_pixels
from wkdc.data.images import grid, load_square
from wkdc.data.photos import photo_paths
from wkdc.metrics.fidelity import mean_fidelity
from wkdc.networks.complexity import measure_complexity

FRONT = (3.0, 5.0, 6.8, 10.0)
"""How many times faster than their teacher students are asked to be."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=["ratios", "front"])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=Path("pruning"))
    parser.add_argument("--steps", type=int, default=200, help="of training each student")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    if options.table == "ratios":
        ratios(options)
    else:
        front(options)


def ratios(options: argparse.Namespace) -> None:
    """Ratios 2 to 40, sliced and reconstructed, not trained."""
    table, files = Table(options, "ratios"), list[Path]()
    wanted = (2, 4, 7, 15, 40)
    for ratio in wanted:
        for name, how in (("sliced", {"calibrate": 0}), ("reconstructed", {})):
            path = options.output / f"ratio {ratio}, {name}.pth"
            data = None if how else options.data
            if not table.holds(path.stem):
                made = wkdc.prune(options.teacher, ratio=ratio, output=path, data=data, **how)
                table.add(path.stem, made, measure(options.teacher, path, pictures(options)))
            files.append(path)
    table.clock(files)
    # Two rows: the input and images of the sliced, the teacher's and those of the reconstructed.
    (path,) = (path for path in photo_paths() if path.stem == SHOWN)
    photo = load_square(path, 256)
    with torch.inference_mode():
        generated = [load_generator(path).network(photo) for path in (options.teacher, *files)]
    titles = ("input / teacher", *(f"{ratio}: sliced / reconstructed" for ratio in wanted))
    rows = [[photo, *generated[1::2]], [generated[0], *generated[2::2]]]
    save_pixels(options.output / "ratios.png", grid(rows, titles))
    table.print()


def front(options: argparse.Namespace) -> None:
    """Students of some times, over seeds, each trained as long."""
    table, files = Table(options, "front"), list[Path]()
    names = [f"{speed:g} times faster" for speed in FRONT]
    for seed in range(options.seeds):
        for speed, name in zip(FRONT, names, strict=True):
            path = options.output / f"{name}, seed {seed}.pth"
            if not table.holds(path.stem):
                made = wkdc.prune(
                    options.teacher,
                    ratio=speed,
                    by="latency",
                    output=path,
                    data=options.data,
                    seed=seed,
                )
                before = measure(options.teacher, path, pictures(options))
                table.add(path.stem, made, before, train(options, path, seed))
            files.append(path)
    table.clock(files)
    table.plot()
    table.print_spread(names)


def train(options: argparse.Namespace, path: Path, seed: int) -> dict[str, Any]:
    """Train the student in `path`; what it then generates.

    All see as many crops, not as many minutes: most of a step is not the student's, and the time
    of a step depends on what else the machine does.
    """
    wkdc.distill(
        options.data,
        student=path,
        steps=options.steps,
        seed=seed,
        runs=options.output / "runs",
    )
    return measure(options.teacher, path, pictures(options)) | {"steps": options.steps}


def pictures(options: argparse.Namespace) -> list[torch.Tensor]:
    return [load_square(path, 256) for path in sorted((options.data / "testA").iterdir())]


def measure(teacher: Path, path: Path, images: Sequence[torch.Tensor]) -> dict[str, Any]:
    """PSNR and high-band error of a student to its teacher's images."""
    guide, learner = load_generator(teacher).network, load_generator(path).network

    def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        with torch.inference_mode():
            for image in images:
                yield learner(image), guide(image)

    found = mean_fidelity(pairs())
    return {"psnr_db": found.psnr_db, "high_band_error": found.high_band_error}


SHOWN = "categorization_windmill"
"""The bundled photo that is shown."""

ROUNDS = 15
"""How often each student is timed."""


class Table:
    """Rows that outlive the process, one JSON file."""

    def __init__(self, options: argparse.Namespace, name: str) -> None:
        self._options = options
        self._path = options.output / f"{name}.json"
        self._rows: dict[str, Any] = (
            json.loads(self._path.read_text()) if self._path.exists() else {}
        )

    def holds(self, row: str) -> bool:
        return row in self._rows

    def add(
        self,
        row: str,
        made: wkdc.PruneResult,
        before: dict[str, Any],
        after: dict[str, Any] | None = None,
    ) -> None:
        self._rows[row] = {
            "widths": [student for _, student in made.widths.values()],
            "params": made.student.params,
            "macs": made.student.macs,
            "expected_psnr_db": made.expected_psnr_db,
            "before": before,
            "after": after,
        }
        self._write()
        print(row, json.dumps(self._rows[row]), flush=True)

    def clock(self, files: list[Path]) -> None:
        """Time all files in ONNX Runtime, in turn with their teacher."""
        paths = [self._options.teacher, *files]
        with onnx_calls(load_generator(paths[0]).architecture, (256, 256)) as call_of:
            calls = {path: call_of(load_generator(path).network) for path in paths}
            times = time_in_turn(calls, ROUNDS)
        teacher, *took = (times[path].fastest for path in paths)
        for path, ms in zip(files, took, strict=True):
            self._rows[path.stem] |= {"latency_ms": ms, "speedup": teacher / ms}
            print(f"{path.stem}: {ms:.1f} ms, {teacher / ms:.2f}x", flush=True)
        self._write()

    def print(self) -> None:
        """The rows in Markdown."""
        whole = measure_complexity(load_generator(self._options.teacher).network, 3, (256, 256))
        for name, row in self._rows.items():
            cells = [
                name,
                f"{whole.params / row['params']:.2f}x",
                f"{whole.macs / row['macs']:.2f}x",
                f"{row['latency_ms']:.1f} ms, {row['speedup']:.2f}x",
                *(_quality(row[stage]) for stage in ("before", "after") if row[stage]),
            ]
            print(f"| {' | '.join(cells)} |")

    def print_spread(self, names: list[str]) -> None:
        """Each of `names` over its seeds in Markdown: mean, and largest less smallest."""
        whole = measure_complexity(load_generator(self._options.teacher).network, 3, (256, 256))
        for name in names:
            rows = [row for key, row in self._rows.items() if key.startswith(f"{name}, seed")]
            cells = [name]
            columns: list[tuple[list[float], int, str]] = [
                ([whole.params / row["params"] for row in rows], 1, "x"),
                ([whole.macs / row["macs"] for row in rows], 1, "x"),
                ([row["latency_ms"] for row in rows], 0, " ms"),
                ([row["speedup"] for row in rows], 2, "x"),
            ]
            for stage in ("before", "after"):
                columns.append(([row[stage]["psnr_db"] for row in rows], 1, " dB"))
                columns.append(([row[stage]["high_band_error"] for row in rows], 3, ""))
            for found, digits, unit in columns:
                spread = max(found) - min(found)
                cells.append(f"{statistics.mean(found):.{digits}f}{unit} ({spread:.{digits}f})")
            print(f"| {' | '.join(cells)} |")

    def plot(self) -> None:
        """Fidelity over time, before and after training; hollow and filled, so grey will do."""
        import matplotlib as mpl

        mpl.use("svg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        marks = {"before": ("white", "not trained"), "after": ("black", "trained")}
        for stage, (fill, label) in marks.items():
            times = [row["latency_ms"] for row in self._rows.values()]
            heights = [row[stage]["psnr_db"] for row in self._rows.values()]
            axes.scatter(times, heights, c=fill, edgecolors="black", label=label, zorder=2)
        for row in self._rows.values():
            low, high = row["before"]["psnr_db"], row["after"]["psnr_db"]
            axes.plot([row["latency_ms"]] * 2, [low, high], color="0.7", zorder=1)
        axes.set_xlabel("ONNX Runtime, milliseconds for 256x256")
        axes.set_ylabel("PSNR to the teacher's images, dB")
        axes.margins(0.12)
        axes.grid(visible=True, color="0.92")
        axes.legend(loc="lower right")
        figure.savefig(self._path.with_suffix(".svg"))

    def _write(self) -> None:
        self._path.write_text(json.dumps(self._rows, indent=1))


def _quality(found: dict[str, Any]) -> str:
    return f"{found['psnr_db']:.1f} dB, {found['high_band_error']:.3f}"


if __name__ == "__main__":
    main()
