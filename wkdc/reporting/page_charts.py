"""The charts of a report's page, each with a description in words."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wkdc.checkpoints.run_record import Record
from wkdc.reporting import charts
from wkdc.reporting.charts import inline_svg
from wkdc.reporting.facts import Facts, label_of, student_profile

MAX_POINTS = 200
"""Points of a curve; more are averaged."""


def page_charts(facts: Facts) -> Iterator[tuple[str, str]]:
    """Name and `<svg>` element of each chart."""
    yield from _size_charts(facts)
    yield from _band_charts(facts)
    if facts.record is not None:
        yield from _training_charts(facts.record)


def _size_charts(facts: Facts) -> Iterator[tuple[str, str]]:
    """Latency by runtime, and channels by layer."""
    teacher, student = facts.profile["models"][0], student_profile(facts)
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
        yield "times", inline_svg(lambda axes: charts.plot_times(axes, times), told)
    if facts.widths:
        told = "; ".join(
            f"{name}: teacher {', '.join(map(str, wide))}, student {', '.join(map(str, narrow))}"
            for name, wide, narrow in facts.widths
        )
        yield "widths", inline_svg(lambda axes: charts.plot_widths(axes, facts.widths), told)


def _band_charts(facts: Facts) -> Iterator[tuple[str, str]]:
    """Errors by wavelet level, and spectra."""
    models = {label_of(facts, one): one for one in facts.analysis["models"]}
    errors = {name: one["error"] for name, one in models.items()}
    told = "Error in each wavelet level. " + ". ".join(facts.analysis["sentences"])
    yield "errors", inline_svg(lambda axes: charts.plot_errors(axes, errors), told)
    spectra = {name: one["power"] for name, one in models.items()}
    teacher, real = facts.analysis["teacher_power"], facts.analysis["real_power"]
    told = "Power by spatial frequency, over the teacher's."
    yield (
        "spectra",
        inline_svg(lambda axes: charts.plot_spectra(axes, spectra, teacher, real), told),
    )


def _training_charts(record: Record) -> Iterator[tuple[str, str]]:
    """What was logged while training: scores of a few test images, and losses."""
    for key, title in (("psnr_db", "PSNR, dB"), ("high_band_error", "high-band error")):
        points = [(one["step"], one[key]) for one in record.validation if one.get(key) is not None]
        if len(points) > 1:
            told = f"{title}: {points[0][1]:.3g} at first, {points[-1][1]:.3g} at the end"
            yield key, _curves_svg({title: points}, f"{title}, while training", told)
    known = ("step", "seconds", "total")  # the total of weighted losses would dwarf the others
    names = [name for name in (record.losses or ({},))[-1] if name not in known]
    if len(record.losses) > 1:
        losses = {
            name: _thinned([(one["step"], one[name]) for one in record.losses if name in one])
            for name in names
        }
        yield "losses", _curves_svg(losses, "losses", f"losses over {len(record.losses)} steps")


def _curves_svg(curves: Mapping[str, Any], title: str, told: str) -> str:
    return inline_svg(lambda axes: charts.plot_curves(axes, curves, title), told)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbouring points, at most `MAX_POINTS` of them."""
    every = -(-len(points) // MAX_POINTS)
    parts = [points[start : start + every] for start in range(0, len(points), every)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts if part]
