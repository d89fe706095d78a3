"""The tables and figures of docs/paper.md, from the JSON of claims.py alone."""

import json
import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wkdc.reporting.charts import DETAILS, plot_errors, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cell = dict[str, Any]
Row = tuple[str, str]
Rows = Mapping[Row, Mapping[int, Cell]]
"""Cells by start and setting, then by seed."""

Figure = Callable[[Cell], float | None]

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""Student's t for 95 %, by degrees of freedom."""

LEVELS = 4


def psnr(cell: Cell) -> float:
    return float(cell["student"]["psnr_db"]["mean"])


def high_band_error(cell: Cell) -> float:
    return float(cell["student"]["high_band_error"]["mean"])


def kid(other: str) -> Figure:
    """The distance to the teacher's images or to the `domain`'s; None where too few were there."""
    return lambda cell: (cell["student"][f"from_{other}"] or {}).get("kid")


def error(level: int) -> Figure:
    """The root mean square of the three details' errors at a level, 1 the finest."""
    return lambda cell: root_mean_square([cell["student"]["error"][f"{d}{level}"] for d in DETAILS])


def energy(cell: Cell) -> float:
    """Of the finest details, as a share of the teacher's."""
    return float(statistics.mean(cell["student"]["energy"][f"{d}1"] for d in DETAILS))


def time(precision: str, what: str) -> Figure:
    """In ONNX Runtime, beside the teacher in float32."""
    return lambda cell: float(cell["time"][precision][what])


NEARNESS: dict[str, Figure] = {"PSNR, dB": psnr, "high-band error": high_band_error}
TO_TEACHER = {"KID to the teacher": kid("teacher")}
FIGURES: dict[str, dict[str, Figure]] = {
    "a": {
        "coarse": lambda cell: cell["student"]["error"][f"ll{LEVELS}"],
        **{f"level {level}": error(level) for level in range(LEVELS, 0, -1)},
        "energy, level 1": energy,
        "its diagonal": lambda cell: cell["student"]["energy"]["hh1"],
    },
    "b": {
        **NEARNESS,
        **TO_TEACHER,
        "KID to the domain": kid("domain"),
        "less the teacher's": lambda cell: (
            cell["student"]["from_domain"]["kid"] - cell["teacher"]["from_domain"]["kid"]
        ),
        "times fewer parameters": lambda cell: cell["pruned"]["params_ratio"],
        "ms": time("float32", "student_ms"),
        "times as fast": time("float32", "speedup"),
        "int8: ms": time("int8", "student_ms"),
        "int8: times as fast": time("int8", "speedup"),
        "int8: PSNR, dB": lambda cell: cell["time"]["int8"]["psnr_db"]["mean"],
    },
    "c-weights": NEARNESS,
    "c": {**NEARNESS, **TO_TEACHER},
    "d": {
        **NEARNESS,
        **TO_TEACHER,
        "discriminator's loss": lambda cell: cell["training"]["losses"].get("discriminator"),
    },
    "discriminator": {**NEARNESS, **TO_TEACHER, "KID to the domain": kid("domain")},
    "peers": {**NEARNESS, **TO_TEACHER, "KID to the domain": kid("domain")},
}
DIGITS = {"KID to the teacher": 4, "KID to the domain": 4, "less the teacher's": 4}
DIGITS |= dict.fromkeys(("PSNR, dB", "int8: PSNR, dB", "times fewer parameters"), 2)
DIGITS |= {"ms": 1, "int8: ms": 1, "times as fast": 2, "int8: times as fast": 2}
"""Of a column; three elsewhere."""

BASES = {
    "c": ("pixel", "all"),
    "d": ("none",),
    "discriminator": ("none, own colours",),
    "peers": ("paper",),
}
"""The settings that the others of a claim are compared with, seed by seed."""

ORDER = ("none", "none, own colours", "ndf 8", "ndf 16", "ndf 32", "ndf 64")
ORDER += ("pixel", "low", "all", "high")
"""Of settings, as far as they are named here; others follow by name."""

COMPARED = ("PSNR, dB", "high-band error", "KID to the teacher")


def write_tables(results: Path, page: Path) -> None:
    """Fill the page's marked places, `<!-- table c -->` to `<!-- end -->`, and draw its figures.

    The same JSON gives the same bytes.
    """
    by_claim: dict[str, list[Cell]] = defaultdict(list)
    for path in sorted(results.glob("*.json")):
        cell = json.loads(path.read_text())
        by_claim[cell["claim"]].append(cell)
    by_claim["a"] = [  # where a start says nothing of the training
        cell | {"start": re.sub("^pruned", "trained", cell["start"])} for cell in by_claim["a"]
    ]
    halves = [cell for cell in by_claim["b"] if cell["settings"]["by"] == "params"]
    by_claim["peers"] += [c | {"start": "30 minutes", "setting": "faithful"} for c in halves]

    def filled(found: re.Match[str]) -> str:
        claim = found[1]
        return f"<!-- table {claim} -->\n{table(claim, by_claim[claim])}<!-- end -->"

    pattern = re.compile(r"<!-- table (\S+) -->\n.*?<!-- end -->", re.DOTALL)
    page.write_text(pattern.sub(filled, page.read_text()))
    for claim in ("a", "c"):
        if by_claim[claim]:
            draw_errors(page.parent / "images" / f"paper-{claim}.svg", claim, by_claim[claim])


def table(claim: str, cells: Sequence[Cell]) -> str:
    """One claim: mean and standard deviation over seeds, and paired differences to its bases."""
    if not cells:
        return "Not run yet.\n"
    rows, figures, bases = in_rows(cells), FIGURES[claim], BASES.get(claim, ())
    same = len({setting for _, setting in rows}) == 1  # which then says nothing
    heads = ["start", *([] if same else ["setting"]), "seeds", *figures]
    heads += [f"less `{base}`'s: {name}" for base in bases for name in COMPARED]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (start, setting), seeds in rows.items():
        fields = [start, *([] if same else [setting]), str(len(seeds))]
        fields += [
            mean_and_spread([figure(cell) for cell in seeds.values()], DIGITS.get(name, 3))
            for name, figure in figures.items()
        ]
        for base in bases:
            others = rows.get((start, base), {}) if setting != base else {}
            fields += [
                paired(figures[name], seeds, others, DIGITS.get(name, 3)) for name in COMPARED
            ]
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines) + "\n\n" + made_with(cells) + "\n"


def in_rows(cells: Sequence[Cell]) -> Rows:
    rows: dict[Row, dict[int, Cell]] = defaultdict(dict)
    for cell in sorted(cells, key=place):
        rows[cell["start"], cell["setting"]][cell["seed"]] = cell
    return rows


def place(cell: Cell) -> tuple[list[str | int], int, str, int]:
    """Where a cell stands: by its start, whose numbers count as such, then by its setting."""
    setting = cell["setting"]
    rank = ORDER.index(setting) if setting in ORDER else len(ORDER)
    parts = re.split(r"(\d+)", cell["start"])
    start = [int(part) if part.isdigit() else part for part in parts]
    return start, rank, setting, cell["seed"]


def mean_and_spread(values: Sequence[float | None], digits: int) -> str:
    """Mean and standard deviation, or nothing where there is no such figure."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) < 2 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


def paired(
    figure: Figure, ours: Mapping[int, Cell], theirs: Mapping[int, Cell], digits: int
) -> str:
    """The mean difference over the seeds that both have, and its 95 % interval (Student's t)."""
    values = []
    for seed in sorted(ours.keys() & theirs.keys()):
        mine, other = figure(ours[seed]), figure(theirs[seed])
        if mine is not None and other is not None:
            values.append(mine - other)
    if len(values) < 2:
        return ", ".join(f"{value:+.{digits}f}" for value in values)
    half = T_95[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return f"{mean:+.{digits}f} ({mean - half:+.{digits}f} to {mean + half:+.{digits}f})"


def made_with(cells: Sequence[Cell]) -> str:
    """Steps, images, machine and dates."""
    steps = sorted({cell["settings"].get("steps") or 0 for cell in cells} - {0})
    processors = sorted(
        {f"{cell['made']['processor']}, {cell['made']['cores']} cores" for cell in cells}
    )
    dates = sorted({cell["made"]["date"][:10] for cell in cells})
    images = sorted({cell["images"] for cell in cells})
    told = [f"{'/'.join(map(str, steps))} steps"] if steps else []
    told += [
        f"{'/'.join(map(str, images))} test images",
        *processors,
        " to ".join({dates[0]: 0, dates[-1]: 0}),
    ]
    return f"{'; '.join(told)}; {sum(cell['minutes'] for cell in cells):.0f} minutes in all."


def draw_errors(path: Path, claim: str, cells: Sequence[Cell]) -> None:
    """The error in each wavelet level, a line for each setting, by start; seeds averaged."""
    charts: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (start, setting), seeds in in_rows(cells).items():
        if setting == "none":  # so that the others look alike in all charts
            continue
        chart, line = (start.split()[0], start) if claim == "a" else (start, setting)
        errors = [cell["student"]["error"] for cell in seeds.values()]
        charts[chart][line] = {
            band: statistics.mean(error[band] for error in errors) for band in errors[0]
        }
    for title, lines in charts.items():  # a setting whose sharpest weight is the nearest one, too
        base = charts.get(title.partition(",")[0], lines)
        charts[title] = {name: lines.get(name, of) for name, of in base.items()}
    top = 1.05 * max(max(of.values()) for lines in charts.values() for of in lines.values())
    save_figure(path, ".svg", [partial(chart_of, title, of, top) for title, of in charts.items()])


def chart_of(
    title: str, errors: Mapping[str, Mapping[str, float]], top: float, axes: "Axes"
) -> None:
    plot_errors(axes, errors)
    axes.set_ylim(0, top)  # of all charts, so that they can be compared
    axes.set_title(f"{title}: error in each wavelet level")


def root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(statistics.mean(value**2 for value in values))
