"""The paper's claims, tested: every cell is a run of wkdc's functions with its JSON beside it.

    python tests/benchmarks/claims.py --teacher teacher.pth --data photo2vintage [CLAIM ...]
    python tests/benchmarks/claims.py --table

A claim (see docs/paper.md) is a table of cells: a setting, a start, a seed. A cell whose JSON is in
`--results` is not run again, so a killed script goes on where it was. A cell that was made with
other settings is refused, and one that is damaged is made again. `--table` writes docs/paper.md's
tables and figures from the JSON alone.

Weights are chosen by `c-weights`, on images set aside from trainA; testA decides nothing. Every
student is the last one of its run.
"""

import argparse
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import wkdc
from wkdc.checkpoints.card import make_card
from wkdc.checkpoints.checkpoint import load_generator, save_generator
from wkdc.data.images import list_images
from wkdc.data.photos import photo_paths
from wkdc.networks.layers import initialise
from wkdc.networks.stock import stock_architecture
from wkdc.reporting.results import Made, to_plain
from wkdc.system.files import write_atomically
from wkdc.training.recipe import FAITHFUL, PAPER, Recipe

CLAIMS = ("a", "b", "c-weights", "c", "d", "discriminator", "peers")
RESULTS = Path(__file__).parents[2] / "docs" / "paper"

STEPS = {"a": 300, "c-weights": 100, "c": 200, "d": 200, "discriminator": 200}
"""Of 4 crops of 128x128 each, all cells of a claim alike."""

RATIOS = (2.0, 7.0, 15.0, 40.0)
FRESH_NGF = 24
"""The paper's student: a seventh of the parameters of ngf 64."""

SET_ASIDE = 8
"""Of trainA, evenly spread over the names: what weights are chosen on."""

RUNTIME = "onnx-cpu"
"""ONNX Runtime, whose times claim (b) is about; two threads on two cores."""

SAME_CROPS: dict[str, Any] = {"crop": 128, "load_size": 160, "batch": 4, "reuse": 6}

GUIDED = dataclasses.replace(
    FAITHFUL, wavelet_weight=0.0, pixel=1.0, features=0.0, name="guided", **SAME_CROPS
)
"""Pixels to the teacher's, and nothing else: what `prune`'s student is taught by."""

ADVERSARIAL = dataclasses.replace(
    PAPER, wavelet_weight=0.0, cycle=0.0, name="adversarial", **SAME_CROPS
)
"""The paper's other losses, but for the cycle, which needs a generator of the other direction."""

BANDS: dict[str, dict[str, Any]] = {
    "none": {},
    "pixel": {"pixel": 1.0},
    "low": {"wavelet_weight": 1.0, "bands": "low"},
    "all": {"wavelet_weight": 1.0, "bands": "all"},
    "high": {"wavelet_weight": 1.0, "bands": "high"},
    "high + pixel": {"wavelet_weight": 1.0, "bands": "high", "pixel": 1 / 16},
}
"""Claim (c): what is compared with the teacher's image; each is scaled by its weight."""

WEIGHTS = {"fresh": (1.0, 10.0, 100.0), "pruned": (16.0,)}
"""That are tried. `prune`'s student has no other loss, and SOAP, as Adam, does not see the scale of
one."""

NDF = (64, 32, 16, 8, 0)
"""Claim (d): channels of the discriminator's first layer; 0 is none."""

ADVERSARIAL_WEIGHTS = (0.0, 0.01, 0.03, 0.1)
"""Weights of a discriminator beside the losses of `faithful`."""

OWN_COLOURS = "none, own colours"
"""Without a discriminator and without jitter, as beside one, which is to see true colours."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        start: `fresh` weights of ngf 24, or `pruned`; `untrained` where nothing is trained; of
            peers their minutes, where `paper` is fresh.
        settings: all that it depends on; what its JSON must agree with.
    """

    claim: str
    setting: str
    start: str
    seed: int
    settings: Mapping[str, Any]

    @property
    def fresh(self) -> bool:
        return self.start.startswith("fresh") or self.settings.get("recipe") == "paper"

    @property
    def name(self) -> str:
        words = f"{self.claim} {self.start} {self.setting} seed {self.seed}"
        return "-".join(words.replace("+", "and").replace(",", "").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=", ".join(CLAIMS))
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--data", type=Path, help="trainA, trainB, testA and testB")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path("runs/claims"), help="students, runs")
    parser.add_argument("--steps", type=int, help="instead of each claim's own number")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--start", choices=["fresh", "pruned", "untrained"], help="only these cells"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--table", action="store_true", help="write docs/paper.md's tables")
    options = parser.parse_args()
    unknown = [claim for claim in options.claims if claim not in CLAIMS]
    if unknown:
        sys.exit(f"{', '.join(unknown)} is no claim; choose {', '.join(CLAIMS)}")
    if options.table:
        from claims_page import write_tables

        write_tables(options.results, options.results.parent / "paper.md")
        return
    if options.teacher is None or options.data is None:
        sys.exit("give --teacher and --data, or --table")
    try:
        run_all(options)
    except wkdc.errors.WkdcError as error:
        sys.exit(f"{error}")


def run_all(options: argparse.Namespace) -> None:
    """Run what is missing of each claim, and say how long the rest may take."""
    for claim in options.claims or CLAIMS:
        cells = list(cells_of(claim, options))
        if options.start:
            cells = [cell for cell in cells if cell.start.startswith(options.start)]
        missing = [cell for cell in cells if not known(options.results, cell)]
        for number, cell in enumerate(missing):
            started = time.monotonic()
            write(options.results, cell, run(cell, options))
            minutes = (time.monotonic() - started) / 60
            rest = minutes * (len(missing) - number - 1)
            print(f"{cell.name}: {minutes:.1f} min; {rest:.0f} min left of {claim}", flush=True)


def cells_of(claim: str, options: argparse.Namespace) -> Iterator[Cell]:
    """All cells of a claim, seed by seed, so that a half-finished table is of whole seeds."""
    steps = options.steps or STEPS.get(claim)
    for seed in range(1 if claim == "c-weights" else options.seeds):
        match claim:
            case "a":
                for ratio in RATIOS:
                    for trained in (0, steps):
                        start = f"pruned {ratio:g}x" if trained else f"untrained {ratio:g}x"
                        yield _cell(claim, "pixel", start, seed, trained, GUIDED, ratio=ratio)
            case "b":
                for by, ratio in (("params", 7.0), ("latency", 6.8)):
                    settings = {"by": by, "ratio": ratio, "minutes": 30.0, "recipe": "faithful"}
                    yield Cell(claim, f"by {by}", "pruned", seed, settings)
            case "c-weights":
                for start, setting in _starts_and_bands():
                    tried = WEIGHTS[start] if setting != "none" else ()
                    for weight in tried if len(tried) > 1 else ():
                        recipe = banded(start, setting, weight)
                        name = f"{setting} x{weight:g}"
                        yield _cell(claim, name, start, seed, steps, recipe, chosen_on="set aside")
            case "c":
                for start, setting in _starts_and_bands():
                    near, sharp = chosen_weights(start, setting, options.results)
                    yield _cell(claim, setting, start, seed, steps, banded(start, setting, near))
                    if sharp != near:
                        recipe = banded(start, setting, sharp)
                        yield _cell(claim, setting, f"{start}, sharpest", seed, steps, recipe)
            case "d":
                for start in ("fresh", "pruned"):
                    for ndf in NDF:
                        recipe = against(ndf)
                        yield _cell(
                            claim, f"ndf {ndf}" if ndf else "none", start, seed, steps, recipe
                        )
            case "discriminator":
                for weight in ADVERSARIAL_WEIGHTS:
                    recipe = dataclasses.replace(FAITHFUL, adversarial=weight, **SAME_CROPS)
                    setting = f"weight {weight:g}" if weight else "none"
                    yield _cell(claim, setting, "pruned", seed, steps, recipe)
                plain = dataclasses.replace(FAITHFUL, jitter=0.0, **SAME_CROPS)
                yield _cell(claim, OWN_COLOURS, "pruned", seed, steps, plain)
            case "peers":  # beside `faithful` of half an hour, which is of claim (b)
                for minutes, way in ((4.0, "paper"), (4.0, "faithful"), (30.0, "paper")):
                    settings = {"minutes": minutes, "recipe": way, "ratio": 7.0}
                    yield Cell(claim, way, f"{minutes:g} minutes", seed, settings)


def _cell(
    claim: str, setting: str, start: str, seed: int, steps: int, recipe: Recipe, **more: Any
) -> Cell:
    settings = {"steps": steps, "ratio": 7.0, "recipe": dataclasses.asdict(recipe), **more}
    return Cell(claim, setting, start, seed, settings)


def _starts_and_bands() -> Iterator[tuple[str, str]]:
    for start in ("fresh", "pruned"):
        for setting in BANDS:
            if start == "fresh" or setting != "none":  # where nothing else trains
                yield start, setting


def banded(start: str, setting: str, weight: float) -> Recipe:
    """Claim (c): the losses of a start with one more, to the teacher's image."""
    base = ADVERSARIAL if start == "fresh" else GUIDED
    scaled = {k: v if k == "bands" else v * weight for k, v in BANDS[setting].items()}
    return dataclasses.replace(base, **{"reduction": "pixels", "pixel": 0.0, **scaled})


def against(ndf: int) -> Recipe:
    """Claim (d): the paper's losses against a discriminator of `ndf`, 0 for none."""
    recipe = dataclasses.replace(PAPER, cycle=0.0, **SAME_CROPS)
    if not ndf:
        return dataclasses.replace(recipe, adversarial=0.0)
    return dataclasses.replace(recipe, ndf=ndf)


def chosen_weights(start: str, setting: str, results: Path) -> tuple[float, float]:
    """The weights whose students were nearest on the images set aside: by PSNR, and in detail.

    The first tells of the coarse image, the second of the high bands alone. The same figures decide
    for all settings.
    """
    if setting == "none" or len(WEIGHTS[start]) == 1:
        return WEIGHTS[start][0], WEIGHTS[start][0]
    found = {}
    for weight in WEIGHTS[start]:
        path = results / f"{Cell('c-weights', f'{setting} x{weight:g}', start, 0, {}).name}.json"
        if not path.is_file():
            sys.exit(f"{path.name} is missing; run c-weights first")
        found[weight] = json.loads(path.read_text())["student"]
    near = max(found, key=lambda weight: found[weight]["psnr_db"]["mean"])
    return near, min(found, key=lambda weight: found[weight]["high_band_error"]["mean"])


def known(results: Path, cell: Cell) -> bool:
    """Whether the cell has been run, with these settings."""
    path = results / f"{cell.name}.json"
    if not path.is_file():
        return False
    try:
        settings = json.loads(path.read_text())["settings"]
    except (ValueError, KeyError, TypeError):
        print(f"{path} is damaged; the cell is run again", flush=True)
        return False
    wanted = json.loads(json.dumps(cell.settings))
    differs = sorted(k for k in {*settings, *wanted} if settings.get(k) != wanted.get(k))
    if differs:
        told = "; ".join(f"{k}: {settings.get(k)} there, {wanted.get(k)} now" for k in differs)
        sys.exit(f"{path} was made with other settings ({told}); move it away, or keep them")
    return True


def write(results: Path, cell: Cell, found: Mapping[str, Any]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{cell.name}.json"
    content = {"claim": cell.claim, "setting": cell.setting, "start": cell.start}
    content |= {"seed": cell.seed, "settings": cell.settings, **found}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(to_plain(content), indent=1) + "\n")
    part.replace(path)


def run(cell: Cell, options: argparse.Namespace) -> dict[str, Any]:
    """Make the cell's student, and measure it."""
    folder = options.work / cell.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = options.data
    if cell.settings.get("chosen_on") == "set aside":
        data = set_aside(options.data, options.work / "set-aside")
    student, started = folder / "student.pth", time.monotonic()
    pruned = started_student(cell, student, options, data)
    found: dict[str, Any] = {"made": Made.by("claims", options.device), "pruned": pruned}
    steps, minutes = cell.settings.get("steps"), cell.settings.get("minutes")
    if steps or minutes:
        recipe = cell.settings["recipe"]
        named = {"faithful": FAITHFUL, "paper": dataclasses.replace(PAPER, cycle=0.0)}
        result = wkdc.distill(
            data,
            student=student,
            teacher=options.teacher,
            recipe=Recipe(**recipe) if isinstance(recipe, dict) else named[recipe],
            steps=steps,
            minutes=minutes,
            seed=cell.seed,
            device=options.device,
            runs=folder / "runs",
            cache=None if minutes else options.work / "targets",  # so that all minutes are equal
        )
        found["training"] = {
            "steps": result.steps,
            "seconds": result.seconds,
            "images_per_second": result.images_per_second,
            "losses": result.losses,
        }
    found |= measured(student, options, data)
    if cell.claim == "b":
        found |= timed(student, options, data)
        sheet = options.work / f"{cell.name}.jpg"
        wkdc.compare([student], photo_paths()[0].parent, output=sheet, teacher=options.teacher)
    found["minutes"] = (time.monotonic() - started) / 60
    return found


def started_student(
    cell: Cell, output: Path, options: argparse.Namespace, data: Path
) -> dict[str, Any] | None:
    """Write the student that the cell starts from; what `prune` said of it."""
    if cell.fresh:
        fresh_student(output, options.teacher, cell.seed)
        return None
    ratio, by = cell.settings["ratio"], cell.settings.get("by")
    name = f"pruned {ratio:g} {by or 'params'} of {data.name} seed {cell.seed}"
    made, said = (options.work / f"{name}.{ending}" for ending in ("pth", "json"))
    if not said.is_file():  # other cells start from the same student
        result = wkdc.prune(
            options.teacher, ratio=ratio, by=by, output=made, data=data, seed=cell.seed
        )
        found = {
            "params_ratio": result.params_ratio,
            "macs_ratio": result.macs_ratio,
            "psnr_db": result.psnr_db,
        }
        write_atomically(said, lambda file: file.write_text(json.dumps(found)))
    shutil.copy(made, output)
    pruned: dict[str, Any] = json.loads(said.read_text())
    return pruned


def fresh_student(output: Path, teacher: Path, seed: int) -> None:
    """Write the paper's student: random weights of ngf 24, with its teacher on its card."""
    architecture = stock_architecture("resnet", ngf=FRESH_NGF, blocks=9, norm="instance", side=256)
    torch.manual_seed(seed)
    network = architecture.build()
    initialise(network)
    taught_by = {"path": str(teacher.resolve()), "sha256": load_generator(teacher).sha256}
    save_generator(output, network, make_card(architecture, taught_by, []))


def measured(student: Path, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """PSNR, high-band error, KID and the bands of the student and of its teacher."""
    enough = len(list_images(data / "testA")) > SET_ASIDE  # for a distance between sets
    scores = wkdc.evaluate(
        [student],
        data,
        teacher=options.teacher,
        features="efficientnet" if enough else None,
        device=options.device,
    ).scores
    bands = wkdc.analyze([student], data, teacher=options.teacher, device=options.device)
    model = to_plain(scores[-1])
    return {
        "student": {
            **near(model),
            "from_teacher": model["from_teacher"],
            "from_domain": model["from_domain"],
            "error": bands.models[-1].error,
            "energy": bands.models[-1].energy,
        },
        "teacher": {"from_domain": to_plain(scores[1])["from_domain"]},
        "images": bands.images,
    }


def timed(student: Path, options: argparse.Namespace, data: Path) -> dict[str, Any]:
    """Time in ONNX Runtime beside the teacher's in float32, and what int8 costs."""
    teacher = options.work / "teacher.onnx"
    if not teacher.is_file():
        wkdc.export(options.teacher, output=teacher)
    found: dict[str, Any] = {}
    for precision in ("float32", "int8"):
        output = student.with_name(f"{precision}.onnx")
        wkdc.export(student, output=output, precision=precision, data=data)
        times = wkdc.profile([teacher, output])
        found[precision] = {
            "teacher_ms": times.models[0].latency_ms[RUNTIME].median,
            "student_ms": times.models[1].latency_ms[RUNTIME].median,
            "speedup": times.speedup[RUNTIME],
            "interval": times.interval[RUNTIME],
            "warnings": times.warnings,
        }
    int8 = wkdc.evaluate([output], data, teacher=options.teacher, features=None).scores[-1]
    found["int8"] |= near(to_plain(int8))
    return {"time": found}


def near(score: Mapping[str, Any]) -> dict[str, Any]:
    """How near to the teacher's images, of an entry of `evaluate`."""
    return {name: score["to_teacher"][name] for name in ("psnr_db", "high_band_error")}


def set_aside(data: Path, folder: Path) -> Path:
    """A copy of the data whose testA is a part of trainA, and whose trainA lacks it."""
    if (folder / "testA").is_dir():
        return folder
    paths = list_images(data / "trainA")
    chosen = set(paths[:: max(1, len(paths) // SET_ASIDE)][:SET_ASIDE])
    made = folder.with_suffix(".part")
    shutil.rmtree(made, ignore_errors=True)
    for part, files in (
        ("testA", chosen),
        ("trainA", [path for path in paths if path not in chosen]),
        ("trainB", list_images(data / "trainB")),
    ):
        (made / part).mkdir(parents=True)
        for path in files:
            shutil.copy(path, made / part)
    made.rename(folder)
    return folder


if __name__ == "__main__":
    main()
