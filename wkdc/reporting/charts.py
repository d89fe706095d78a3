"""Charts by matplotlib, readable in grey and on a dark page."""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wkdc.errors import MissingExtraError
from wkdc.system.units import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Placeholder for the colour of the text around an inline chart, which may be light."""

COLOURS = ("#808080", "#c8690a", "#2b7bd3", "#2f9a5d", "#a24fc0")
"""Of lines and bars, visible on white and on black."""

LINES = ("--", "-.", "-", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKS = "s^oDv"
ROLES = {"input": 0, "before training": 1, "student": 2}
"""Models that have the same colour in every chart."""

PANEL = (4.6, 3.2)
"""Inches of an inline chart, whose text stays readable at a phone's width."""

DETAILS = ("lh", "hl", "hh")

Values = Sequence[float | None]
"""Numbers from JSON, where None stands for infinite or undefined."""


def check_matplotlib(what: str, extra: str, instead: str = "") -> None:
    """Check that charts can be plotted.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise MissingExtraError(
            f"{what} needs matplotlib: pip install 'wkdc[{extra}]'{instead}"
        ) from None


def save_figure(path: Path, suffix: str, draw: Sequence[Callable[["Axes"], None]]) -> None:
    """Draw charts side by side into a file; the same charts give the same .svg.

    Args:
        suffix: the format: .svg, .png or .pdf.
    """
    from matplotlib.figure import Figure

    undated = {"Date": None} if suffix.lower() == ".svg" else None
    with _style(ink="black", salt="wkdc"):
        figure = Figure(figsize=(5.5 * len(draw), 4.2), layout="constrained")
        for axes, one in zip(figure.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
            one(axes)
        figure.savefig(path, format=suffix.lower().removeprefix("."), dpi=150, metadata=undated)


def inline_svg(draw: Callable[["Axes"], None], description: str) -> str:
    """A chart as an `<svg>` element for a page, in the colour of the text around it.

    Args:
        description: what it shows, for screen readers.
    """
    from matplotlib.figure import Figure

    text, told = io.StringIO(), printable(description)
    with _style(ink=INK, salt=told):
        figure = Figure(figsize=PANEL, layout="constrained")
        draw(figure.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(told)}"', 1)


def plot_errors(axes: "Axes", errors: Mapping[str, Mapping[str, float | None]]) -> None:
    """The error in each wavelet level, a line for each model.

    Args:
        errors: of each model, by band: `lh1` (finest) to `hh4` and `ll4`; 0 is a copy.
    """
    levels = max(int(band[2:]) for of in errors.values() for band in of)
    order = range(levels, 0, -1)
    for number, (name, of) in enumerate(errors.items()):
        means = [
            math.sqrt(sum(_number(of[f"{band}{n}"]) ** 2 for band in DETAILS) / len(DETAILS))
            for n in order
        ]
        axes.plot(
            [_number(of[f"ll{levels}"]), *means],
            **_line(ROLES.get(name, number)),
            label=printable(name),
        )
    axes.set_xticks(range(levels + 1), ["coarse", *(f"level {n}" for n in order)])
    axes.set(title="error in each wavelet level (0 is a copy)", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()


def plot_spectra(
    axes: "Axes", spectra: Mapping[str, Values], teacher: Values, real: Values | None
) -> None:
    """Power over the teacher's by spatial frequency, a line for each model.

    Args:
        spectra: of each model, as `wkdc.metrics.spectrum.radial_power` has it.
        teacher, real: of the teacher's images, and of true ones.
    """
    from matplotlib.ticker import LogLocator

    cycles = [number / (2 * len(teacher)) for number in range(1, len(teacher))]

    def ratio(power: Values) -> list[float]:
        pairs = zip(power[1:], teacher[1:], strict=True)
        return [_number(a) / _number(b) if b else math.nan for a, b in pairs]

    if real is not None:
        axes.plot(cycles, ratio(real), color="0.6", alpha=0.6, linewidth=4, label="true images")
    for number, (name, power) in enumerate(spectra.items()):
        style = _line(ROLES.get(name, number)) | {"marker": ""}
        axes.plot(cycles, ratio(power), **style, label=printable(name))
    axes.axhline(1, color=axes.spines["bottom"].get_edgecolor(), linewidth=0.8)
    axes.set(
        title="power over the teacher's (1 is equal detail)",
        xlabel="cycles per pixel",
        xlim=(0, 0.5),
        yscale="log",
    )
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # more labels would run into each other
    for put in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        put("{x:.2g}")
    axes.grid(alpha=0.3)
    axes.legend()


def plot_widths(axes: "Axes", stages: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Channels of each layer, the teacher's beside the student's.

    Args:
        stages: name, the teacher's widths and the student's, of which there may be fewer.
    """
    names, wide, narrow = [], [], []
    for name, before, after in stages:
        for index in range(max(len(before), len(after))):
            names.append(name if len(before) == 1 else f"{name} {index + 1}")
            wide.append(before[index] if index < len(before) else 0)
            narrow.append(after[index] if index < len(after) else 0)
    positions = range(len(names))
    axes.bar([p - 0.2 for p in positions], wide, 0.4, label="teacher", **_bar(axes, 0))
    axes.bar([p + 0.2 for p in positions], narrow, 0.4, label="student", **_bar(axes, 1))
    axes.margins(y=0.3)  # room for the legend
    axes.set_xticks(positions, list(map(printable, names)), rotation=90)
    axes.set(title="channels of each layer")
    axes.legend()


def plot_times(axes: "Axes", times: Mapping[str, Mapping[str, float]]) -> None:
    """Milliseconds of an image, a bar for each model in each runtime.

    Args:
        times: by runtime, by model.
    """
    models = list(dict.fromkeys(name for of in times.values() for name in of))
    height = 0.8 / len(models)
    for number, model in enumerate(models):
        offset = (number - (len(models) - 1) / 2) * height
        bars = axes.barh(
            [row + offset for row in range(len(times))],
            [of.get(model, 0.0) for of in times.values()],
            height,
            label=printable(model),
            **_bar(axes, number),
        )
        axes.bar_label(bars, fmt="%.0f ms", padding=2)
    axes.set_yticks(range(len(times)), list(map(printable, times)))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set(title="time for one image")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)  # not over a figure


def plot_curves(
    axes: "Axes", curves: Mapping[str, Sequence[tuple[float, float]]], title: str
) -> None:
    """Values over training steps, a line for each curve."""
    for number, (name, points) in enumerate(curves.items()):
        across, up = zip(*points, strict=True)
        few = len(points) <= 20
        axes.plot(
            across, up, **_line(number + 2) | ({} if few else {"marker": ""}), label=printable(name)
        )
    axes.set(title=title, xlabel="step")
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend()


def _line(number: int) -> dict[str, Any]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKS[number % len(MARKS)],
        "markersize": 4,
    }


def _bar(axes: "Axes", number: int) -> dict[str, Any]:
    """The first model's bars are hollow, so that they differ in grey too."""
    ink = axes.spines["bottom"].get_edgecolor()
    return {
        "facecolor": COLOURS[(number + 1) % len(COLOURS)] if number else "none",
        "edgecolor": ink,
        "linewidth": 0.8,
    }


def _number(value: float | None) -> float:
    return math.inf if value is None else value


@contextmanager
def _style(ink: str, salt: str = "") -> Iterator[None]:
    """Plot with text and frames in the colour `ink`, and text as text, not as math or outlines."""
    import matplotlib

    with matplotlib.rc_context(
        {
            "text.color": ink,
            "axes.edgecolor": ink,
            "axes.labelcolor": ink,
            "xtick.color": ink,
            "ytick.color": ink,
            "grid.color": "#808080",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.framealpha": 0.0,
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.titlesize": 10,
            "legend.fontsize": 8,
            "text.parse_math": False,
            "svg.fonttype": "none",
            "svg.hashsalt": salt or None,
        }
    ):
        yield
