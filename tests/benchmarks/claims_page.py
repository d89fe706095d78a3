"""The tables of docs/paper.md, from the JSON of claims.py alone."""

import json
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
Row = tuple[str, str]

T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}
"""Student's t for 95 %, by degrees of freedom."""

FIGURES: dict[str, Callable[[Cell], float | None]] = {
    "PSNR, dB": lambda cell: cell["student"]["psnr_db"]["mean"],
    "high-band error": lambda cell: cell["student"]["high_band_error"]["mean"],
    "missing of hh1": lambda cell: 1 - cell["student"]["energy"]["hh1"],
    "KID to the teacher": lambda cell: (cell["student"]["from_teacher"] or {}).get("kid"),
    "KID to the domain": lambda cell: (cell["student"]["from_domain"] or {}).get("kid"),
}
DIGITS = {"PSNR, dB": 2, "missing of hh1": 3, "high-band error": 3}

BASES = {"c": "pixel", "d": "none"}
"""The setting that the others of a claim are compared with, seed by seed."""


def write_tables(results: Path) -> None:
    """Fill the page's marked places, `<!-- table c -->` to `<!-- end -->`, with tables.

    The page is `paper.md` beside the folder of results. The same JSON gives the same bytes.
    """
    page = results.parent / "paper.md"
    cells = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    by_claim: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        by_claim[cell["claim"]].append(cell)

    def filled(found: re.Match[str]) -> str:
        claim = found[1]
        return f"<!-- table {claim} -->\n{table(claim, by_claim[claim])}<!-- end -->"

    pattern = re.compile(r"<!-- table (\S+) -->\n.*?<!-- end -->", re.DOTALL)
    page.write_text(pattern.sub(filled, page.read_text()))


def table(claim: str, cells: Sequence[Cell]) -> str:
    """One claim: mean and standard deviation over seeds, and the paired difference to a base."""
    if not cells:
        return "Not run yet.\n"
    rows: dict[Row, dict[int, Cell]] = defaultdict(dict)
    for cell in cells:
        rows[cell["start"], cell["setting"]][cell["seed"]] = cell
    shown = {
        name: figure
        for name, figure in FIGURES.items()
        if all(figure(cell) is not None for cell in cells)
    }
    base = BASES.get(claim)
    heads = ["start", "setting", "seeds", *shown]
    if base:
        heads.append(f"PSNR, less `{base}`'s")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for (start, setting), seeds in rows.items():
        fields = [start, setting, str(len(seeds))]
        for name, figure in shown.items():
            values = [float(figure(cell) or 0.0) for cell in seeds.values()]
            fields.append(mean_and_spread(values, DIGITS.get(name, 4)))
        if base:
            fields.append(paired(seeds, rows.get((start, base), {})) if setting != base else "")
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines) + "\n\n" + made_with(cells) + "\n"


def mean_and_spread(values: Sequence[float], digits: int) -> str:
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def paired(ours: dict[int, Cell], theirs: dict[int, Cell]) -> str:
    """The mean difference in PSNR over the seeds that both have, and its 95 % interval."""
    psnr = FIGURES["PSNR, dB"]
    seeds = sorted(ours.keys() & theirs.keys())
    values = [float(psnr(ours[seed]) or 0) - float(psnr(theirs[seed]) or 0) for seed in seeds]
    if len(values) < 2:
        return ", ".join(f"{value:+.2f}" for value in values)
    half = T_95[len(values) - 1] * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.mean(values)
    return f"{mean:+.2f} ({mean - half:+.2f} to {mean + half:+.2f})"


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
