"""Charts, drawn by matplotlib onto axes that are given; they read in grey, and on a dark page."""

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wkdc.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"
"""Stands for the colour of the text around an inline chart, which may be light."""

COLOURS = ("#808080", "#c8690a", "#2b7bd3", "#2f9a5d", "#a24fc0")
"""Of the lines and bars, dark enough on white and light enough on black."""

LINES = ("--", "-.", "-", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKS = "s^oDv"
ROLES = {"input": 0, "before training": 1, "student": 2}
"""What has the same colour in every chart."""

PANEL = (4.6, 3.2)
"""Inches of an inline chart: at a phone's width its text is still 9 points high."""

DETAILS = ("lh", "hl", "hh")

Values = Sequence[float | None]
"""Numbers as JSON has them: None is one that it does not have."""


def check_matplotlib(what: str, extra: str, instead: str = "") -> None:
    """Make sure that charts can be drawn, before anything else is done.

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
    """Draw charts side by side into a file.

    Args:
        suffix: its kind: .svg, .png or .pdf.
    """
    from matplotlib.figure import Figure

    with _style(ink="black"):
        figure = Figure(figsize=(5.5 * len(draw), 4.2), layout="constrained")
        for axes, one in zip(figure.subplots(1, len(draw), squeeze=False)[0], draw, strict=True):
            one(axes)
        figure.savefig(path, format=suffix.lower().removeprefix("."), dpi=150)


def inline_svg(draw: Callable[["Axes"], None], description: str) -> str:
    """A chart as an `<svg>` element for a page, in the colour of the text around it.

    Args:
        description: what it shows, for those who do not see it.
    """
    from matplotlib.figure import Figure

    text = io.StringIO()
    with _style(ink=INK, salt=description):
        figure = Figure(figsize=PANEL, layout="constrained")
        draw(figure.add_subplot())
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    used = set(re.findall(r"#([\w-]+)", svg))
    svg = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", svg)
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)


def plot_errors(axes: "Axes", errors: Mapping[str, Mapping[str, float | None]]) -> None:
    """The error in each wavelet level, a line for each model.

    Args:
        errors: of each model, by band: `lh1` (finest) to `hh4` and `ll4`; 0 is a copy.
    """
    levels = max(int(band[2:]) for of in errors.values() for band in of)
    places = range(levels, 0, -1)
    for number, (name, of) in enumerate(errors.items()):
        means = [
            math.sqrt(sum(_number(of[f"{band}{n}"]) ** 2 for band in DETAILS) / len(DETAILS))
            for n in places
        ]
        axes.plot(
            [_number(of[f"ll{levels}"]), *means], **_line(ROLES.get(name, number)), label=name
        )
    axes.set_xticks(range(levels + 1), ["coarse", *(f"level {n}" for n in places)])
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
    cycles = [number / (2 * len(teacher)) for number in range(1, len(teacher))]

    def ratio(power: Values) -> list[float]:
        pairs = zip(power[1:], teacher[1:], strict=True)
        return [_number(a) / _number(b) if b else math.nan for a, b in pairs]

    if real is not None:
        axes.plot(cycles, ratio(real), color="0.6", alpha=0.6, linewidth=4, label="true images")
    for number, (name, power) in enumerate(spectra.items()):
        style = _line(ROLES.get(name, number)) | {"marker": ""}
        axes.plot(cycles, ratio(power), **style, label=name)
    axes.axhline(1, color=axes.spines["bottom"].get_edgecolor(), linewidth=0.8)
    axes.set(
        title="power, of the teacher's (1 is as much detail)",
        xlabel="cycles per pixel",
        xlim=(0, 0.5),
        yscale="log",
    )
    for put in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        put("{x:.2g}")
    axes.grid(alpha=0.3)
    axes.legend()


def plot_widths(axes: "Axes", stages: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Channels layer by layer, the teacher's and the student's side by side.

    Args:
        stages: name, the teacher's widths and the student's, of which there may be fewer.
    """
    names, wide, narrow = [], [], []
    for name, before, after in stages:
        for place in range(max(len(before), len(after))):
            names.append(name if len(before) == 1 else f"{name} {place + 1}")
            wide.append(before[place] if place < len(before) else 0)
            narrow.append(after[place] if place < len(after) else 0)
    places = range(len(names))
    axes.bar([p - 0.2 for p in places], wide, 0.4, label="teacher", **_bar(axes, 0))
    axes.bar([p + 0.2 for p in places], narrow, 0.4, label="student", **_bar(axes, 1))
    axes.margins(y=0.3)  # room for the legend
    axes.set_xticks(places, names, rotation=90)
    axes.set(title="channels of each layer")
    axes.legend()


def plot_times(axes: "Axes", times: Mapping[str, Mapping[str, float]]) -> None:
    """Milliseconds an image, a bar for each model in each runtime.

    Args:
        times: by runtime, by model.
    """
    models = list(dict.fromkeys(name for of in times.values() for name in of))
    height = 0.8 / len(models)
    for number, model in enumerate(models):
        places = [place + (number - (len(models) - 1) / 2) * height for place in range(len(times))]
        bars = axes.barh(
            places,
            [of.get(model, 0.0) for of in times.values()],
            height,
            label=model,
            **_bar(axes, number),
        )
        axes.bar_label(bars, fmt="%.0f ms", padding=2)
    axes.set_yticks(range(len(times)), list(times))
    axes.invert_yaxis()
    axes.margins(x=0.18)
    axes.set(title="time for one image")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2)  # not over a figure


def plot_curves(
    axes: "Axes", curves: Mapping[str, Sequence[tuple[float, float]]], title: str
) -> None:
    """Figures over training steps, a line for each."""
    for number, (name, points) in enumerate(curves.items()):
        across, up = zip(*points, strict=True)
        few = len(points) <= 20
        axes.plot(across, up, **_line(number + 2) | ({} if few else {"marker": ""}), label=name)
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
    """The first model's bars are hollow, so that they differ in grey, too."""
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
    """Names are taken as they stand, text stays text, and frames have the colour `ink`."""
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
