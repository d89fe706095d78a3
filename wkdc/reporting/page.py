"""A report as one HTML file that needs no network and no other file."""

import base64
import hashlib
import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from wkdc.data.images import as_rgb, images_to_pixels
from wkdc.reporting.facts import Facts, student_profile
from wkdc.reporting.page_charts import page_charts
from wkdc.reporting.page_tables import lacks, score_table, summarise
from wkdc.system import units


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
        "option_rows": _option_rows,
        "url": _url,
        "detail": _cut,
    }
    template = environment.from_string((folder / "report.html.j2").read_text(encoding="utf-8"))
    teacher, student = facts.profile["models"][0], student_profile(facts)
    return template.render(
        facts=facts,
        profiled=(teacher, student),
        tiles=list(summarise(facts)),
        scores=score_table(facts),
        lacks=list(lacks(facts)),
        charts={name: _safe(svg) for name, svg in page_charts(facts)},
        to_truth=any(score["to_truth"] for score in facts.evaluation["scores"]),
        data=Path(facts.evaluation["protocol"]["data"]).name,
        style=_safe((folder / "style.css").read_text(encoding="utf-8")),
        script=_safe(script),
        script_digest=digest,
    )


def _option_rows(options: Mapping[str, Any], within: str = "") -> list[tuple[str, str]]:
    """Names and values of the options that are set; those of a nested group too."""
    rows: list[tuple[str, str]] = []
    for name, value in options.items():
        match value:
            case None | False | "" | [] | {}:
                continue
            case dict():
                rows += _option_rows(value, f"{within}{name}: ")
            case float():
                rows.append((within + name.replace("_", " "), f"{value:g}"))
            case list():
                rows.append((within + name.replace("_", " "), ", ".join(map(str, value))))
            case _:
                rows.append((within + name.replace("_", " "), str(value)))
    return rows


def _cut(images: Tensor, box: tuple[int, int, int]) -> Tensor:
    """The square `box`: left, top and side."""
    left, top, side = box
    return images[..., top : top + side, left : left + side]


def _url(images: Tensor) -> str:
    """1×C×H×W in [-1, 1] as a data URL, without loss."""
    pixels = images_to_pixels(images[0])
    array = as_rgb(pixels).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "webp", lossless=True, method=6)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _safe(text: str) -> Any:
    """Text that the template does not escape."""
    from markupsafe import Markup

    return Markup(text)
