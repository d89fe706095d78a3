"""One HTML file that shows what became of a teacher: it needs no network and no other file."""

import base64
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from wkdc.checkpoints.run_record import Record
from wkdc.data.images import images_to_pixels
from wkdc.reporting import charts
from wkdc.reporting.results import Made
from wkdc.system import units

MAX_POINTS = 200
"""Points of a curve; more are averaged."""


@dataclass(frozen=True)
class File:
    """A weight file: what it is called, and what it is."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Picture:
    """One input and what is made of it, 1×C×H×W in [-1, 1] each.

    Attributes:
        detail: left, top and side of the square where teacher and student differ most.
    """

    name: str
    shown: Tensor
    teacher: Tensor
    student: Tensor
    psnr_db: float
    detail: tuple[int, int, int]


@dataclass(frozen=True)
class Exported:
    """The student as .onnx, and its largest difference from the .pth at each size."""

    file: File
    differences: tuple[tuple[str, float], ...]
    precision: str


@dataclass(frozen=True)
class Facts:
    """All that a page says.

    Attributes:
        widths: name of a stage, the teacher's widths and the student's.
        history: of the student's card.
        profile, evaluation, analysis: as `--json` prints them.
        labels: what models are called, by their digests.
        record: of the run that taught the student; `exported` its .onnx; None where there is none.
        made: by what the page was.
    """

    teacher: File
    student: File
    widths: tuple[tuple[str, Sequence[int], Sequence[int]], ...]
    history: Sequence[Mapping[str, Any]]
    profile: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    analysis: Mapping[str, Any]
    labels: Mapping[str, str]
    pictures: Sequence[Picture]
    record: Record | None
    exported: Exported | None
    warnings: Sequence[str]
    made: Made


def render_page(facts: Facts) -> str:
    """The page as HTML; needs the packages of the extra `report`."""
    import jinja2

    folder = files("wkdc.reporting")
    script = (folder / "slider.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "millions": units.millions,
        "billions": units.billions,
        "megabytes": units.megabytes,
        "duration": units.duration,
        "moment": lambda date: date[:16].replace("T", " ") + " UTC",
        "told": _told,
        "url": _url,
        "detail": _cut,
    }
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    teacher, student = facts.profile["models"][0], _profiled(facts)
    return template.render(
        facts=facts,
        profiled=(teacher, student),
        tiles=list(summarise(facts)),
        scores=_scores(facts),
        lacks=list(_lacks(facts)),
        charts={name: _svg(chart) for name, chart in _charts(facts, teacher, student)},
        to_truth=any(score["to_truth"] for score in facts.evaluation["scores"]),
        data=Path(facts.evaluation["protocol"]["data"]).name,
        style=_safe((folder / "style.css").read_text(encoding="utf-8")),
        script=_safe(script),
        script_digest=digest,
    )


@dataclass(frozen=True)
class _Chart:
    """What is drawn, and the same in words."""

    draw: Any
    description: str


def _charts(
    facts: Facts, teacher: Mapping[str, Any], student: Mapping[str, Any]
) -> Iterator[tuple[str, _Chart]]:
    times = {
        runtime: {"teacher": one["median"], "student": student["latency_ms"][runtime]["median"]}
        for runtime, one in teacher["latency_ms"].items()
        if runtime in student["latency_ms"]
    }
    if times:
        told = "; ".join(
            f"{runtime}: teacher {of['teacher']:.0f} ms, student {of['student']:.0f} ms"
            for runtime, of in times.items()
        )
        yield "times", _Chart(lambda axes: charts.plot_times(axes, times), told)
    if facts.widths:
        told = "; ".join(
            f"{name}: teacher {', '.join(map(str, wide))}, student {', '.join(map(str, narrow))}"
            for name, wide, narrow in facts.widths
        )
        yield "widths", _Chart(lambda axes: charts.plot_widths(axes, facts.widths), told)
    models = {_label(facts, one): one for one in facts.analysis["models"]}
    errors = {name: one["error"] for name, one in models.items()}
    told = "Error in each wavelet level. " + ". ".join(facts.analysis["sentences"])
    yield "errors", _Chart(lambda axes: charts.plot_errors(axes, errors), told)
    spectra = {name: one["power"] for name, one in models.items()}
    wanted, real = facts.analysis["teacher_power"], facts.analysis["real_power"]
    told = "Power by spatial frequency, of the teacher's."
    yield (
        "spectra",
        _Chart(lambda axes: charts.plot_spectra(axes, spectra, wanted, real), told),
    )
    if facts.record is not None:
        yield from _curves(facts.record)


def _curves(record: Record) -> Iterator[tuple[str, _Chart]]:
    """What was logged while training: figures of a few test images, and losses."""
    for key, title in (("psnr_db", "PSNR, dB"), ("high_band_error", "high-band error")):
        points = [(one["step"], one[key]) for one in record.validation if one.get(key) is not None]
        if len(points) > 1:
            told = f"{title}: {points[0][1]:.3g} at first, {points[-1][1]:.3g} at the end"
            yield key, _curve({title: points}, f"{title}, while training", told)
    known = ("step", "seconds", "total")  # the total of weighted losses would dwarf them
    names = [name for name in (record.losses or ({},))[-1] if name not in known]
    if len(record.losses) > 1:
        losses = {
            name: _thinned([(one["step"], one[name]) for one in record.losses if name in one])
            for name in names
        }
        yield "losses", _curve(losses, "losses", f"losses over {len(record.losses)} steps")


def _curve(curves: Mapping[str, Any], title: str, told: str) -> _Chart:
    return _Chart(lambda axes: charts.plot_curves(axes, curves, title), told)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of so many neighbours that `MAX_POINTS` are left."""
    every = -(-len(points) // MAX_POINTS)
    parts = [points[place : place + every] for place in range(0, len(points), every)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts if part]


def summarise(facts: Facts) -> Iterator[tuple[str, str, str]]:
    """The answer in four figures: value, what it is, and of what."""
    teacher, student = facts.profile["models"][0], _profiled(facts)
    sizes = f"{units.megabytes(teacher['size_bytes'])} to {units.megabytes(student['size_bytes'])}"
    yield (
        f"{teacher['params'] / student['params']:.1f}×",
        "fewer parameters",
        f"{units.millions(teacher['params'])} to {units.millions(student['params'])}; file {sizes}",
    )
    runtimes = sorted(set(teacher["latency_ms"]) & set(student["latency_ms"]))
    if runtimes:  # ONNX Runtime's comes before PyTorch's
        before, after = (one["latency_ms"][runtimes[0]]["median"] for one in (teacher, student))
        height, width = facts.profile["size"]
        yield (
            f"{max(before / after, after / before):.1f}×",
            "faster" if after <= before else "slower",
            f"{before:.0f} ms to {after:.0f} ms for {height}×{width} in {runtimes[0]} on "
            f"{facts.profile['made']['processor']}, {facts.profile['threads']} threads (medians)",
        )
    scores = {_label(facts, score): score["to_teacher"] for score in facts.evaluation["scores"]}
    mine, unchanged = scores["student"], scores.get("input")
    if mine is not None:
        beside = f"; the unchanged input: {_db(unchanged)}" if unchanged else ""
        pictures = facts.evaluation["protocol"]["inputs"]
        counted = "1 image" if pictures == 1 else f"mean of {pictures} images"
        yield _db(mine), "PSNR to the teacher's images", f"{counted}{beside}"
        error = mine["high_band_error"]["mean"]
        others = [
            f"{called}: {scores[name]['high_band_error']['mean']:.0%}"
            for name, called in (("input", "the unchanged input"), ("before training",) * 2)
            if scores.get(name) and scores[name]["high_band_error"]["mean"] is not None
        ]
        yield (
            "–" if error is None else f"{error:.0%}",
            "error in fine detail",
            f"0 % is a copy; {'; '.join(others)}",
        )


def _lacks(facts: Facts) -> Iterator[tuple[str, str]]:
    """What a model is called, and what it lacks most."""
    models = [one for one in facts.analysis["models"] if one["sha256"] is not None]
    for model, sentence in zip(models, facts.analysis["sentences"], strict=True):
        yield _label(facts, model), sentence.removeprefix(model["name"]).strip()


_Row = tuple[str, list[tuple[str, str]]]
"""Name, and of each model a value and its interval, empty where there is none."""


def _scores(facts: Facts) -> tuple[list[str], list[_Row]]:
    """The table of scores: names of its columns, and rows; models without any are left out."""
    names = [_label(facts, score) for score in facts.evaluation["scores"]]
    rows = [*_likeness_rows(facts), *_distance_rows(facts)]
    kept = [place for place in range(len(names)) if any(cells[place][0] for _, cells in rows)]
    return (
        [names[place] for place in kept],
        [(name, [cells[place] for place in kept]) for name, cells in rows],
    )


def _likeness_rows(facts: Facts) -> Iterator[_Row]:
    for side, key in (("to the teacher", "to_teacher"), ("to true images", "to_truth")):
        found = [score[key] for score in facts.evaluation["scores"]]
        if any(found):
            for figure, name, digits in (
                ("psnr_db", "PSNR (dB)", 1),
                ("ssim", "SSIM", 3),
                ("high_band_error", "high-band error", 3),
                ("lpips", "LPIPS", 3),
            ):
                if not any(one and one[figure] for one in found):
                    continue
                cells = [_cell(one[figure], digits) if one else ("", "") for one in found]
                yield f"{name} {side}", cells


def _distance_rows(facts: Facts) -> Iterator[_Row]:
    for side, key in (("to the teacher", "from_teacher"), ("to the domain", "from_domain")):
        found = [score[key] for score in facts.evaluation["scores"]]
        if any(found):
            yield (
                f"KID × 1000 {side}",
                [
                    (f"{1e3 * one['kid']:.2f}", f"± {1e3 * one['kid_std']:.2f}")
                    if one
                    else ("", "")
                    for one in found
                ],
            )
            yield f"FID {side}", [(f"{one['fid']:.1f}", "") if one else ("", "") for one in found]


def _cell(estimate: Mapping[str, float | None], digits: int) -> tuple[str, str]:
    def shown(value: float | None) -> str:
        return "∞" if value is None else f"{value:.{digits}f}"

    return shown(estimate["mean"]), f"{shown(estimate['low'])}–{shown(estimate['high'])}"


def _db(likeness: Mapping[str, Any]) -> str:
    mean = likeness["psnr_db"]["mean"]
    return "∞ dB" if mean is None else f"{mean:.1f} dB"


def _label(facts: Facts, model: Mapping[str, Any]) -> str:
    """What a model of a result is called on the page."""
    if model["sha256"] is None:
        return "input"
    return facts.labels.get(model["sha256"], Path(model["name"]).name)


def _profiled(facts: Facts) -> Mapping[str, Any]:
    found: list[Mapping[str, Any]] = [
        one for one in facts.profile["models"] if facts.labels.get(one["sha256"]) == "student"
    ]
    return found[0]


def _told(options: Mapping[str, Any], within: str = "") -> list[tuple[str, str]]:
    """Options that say something, those of a recipe among them."""
    rows: list[tuple[str, str]] = []
    for name, value in options.items():
        match value:
            case None | False | "" | [] | {}:
                continue
            case dict():
                rows += _told(value, f"{within}{name}: ")
            case float():
                rows.append((within + name.replace("_", " "), f"{value:g}"))
            case list():
                rows.append((within + name.replace("_", " "), ", ".join(map(str, value))))
            case _:
                rows.append((within + name.replace("_", " "), str(value)))
    return rows


def _cut(images: Tensor, box: tuple[int, int, int]) -> Tensor:
    left, top, side = box
    return images[..., top : top + side, left : left + side]


def _url(images: Tensor) -> str:
    """An image inside the page, pixel by pixel what was drawn."""
    pixels = images_to_pixels(images[0])
    array = pixels.expand(3, *pixels.shape[1:]).permute(1, 2, 0).numpy()
    held = io.BytesIO()
    Image.fromarray(array).save(held, "webp", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(held.getvalue()).decode()}"


def _svg(chart: _Chart) -> Any:
    return _safe(charts.inline_svg(chart.draw, chart.description))


def _safe(text: str) -> Any:
    """Text that the template takes as it is."""
    from markupsafe import Markup

    return Markup(text)
