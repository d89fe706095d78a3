"""wkdc info."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wkdc.cli import options, render, values
from wkdc.system import units

if TYPE_CHECKING:
    from wkdc.info import InfoResult


def info(
    file: Annotated[Path, typer.Argument(help="A .pth or .onnx file.")],
    size: Annotated[
        str | None, typer.Option(help="Size for MACs: 256 or 192x320.", show_default="256")
    ] = None,
    norm: options.Norm = None,
    key: options.Key = None,
    arch: options.Arch = None,
    json: options.Json = False,
) -> None:
    """Say what a weight file holds, and how it was made."""
    import wkdc

    side = None if size is None else values.parse_size(size)
    found = wkdc.info(file, size=side, norm=norm, key=key, arch=arch)
    if json:
        render.print_json(_as_json(found))
    else:
        _show(found)


def _as_json(found: "InfoResult") -> dict[str, Any]:
    plain = dataclasses.asdict(found)
    architecture = plain.pop("architecture")
    family, settings = None, None
    if architecture is not None:
        family, settings = architecture["family"], architecture["options"]
    return {"path": plain.pop("path"), "family": family, "options": settings, **plain}


def _show(found: "InfoResult") -> None:
    rows: list[tuple[str, str]] = []
    if found.architecture is not None:
        settings = found.architecture.options
        rows.append(("family", found.architecture.family))
        rows += [(f"{stage} channels", widths) for stage, widths in found.architecture.stages()]
        reads, writes = settings.get("in_channels"), settings.get("out_channels")
        rows.append(("channels in, out", f"{reads}, {writes or 'scores'}"))
        if "norm" in settings:
            affine = "affine" if settings["affine"] else "without parameters"
            rows.append(("norm", f"{settings['norm']}, {affine}"))
        if "upsampling" in settings:
            down = settings.get("downsampling", "strided")
            rows.append(("down, up", f"{down}, {settings['upsampling']}"))
    rows.append(("parameters", units.millions(found.params)))
    if found.size is not None:
        height, width = found.size
        rows.append((f"MACs at {height}x{width}", units.billions(found.macs)))
        rows.append(("MACs, as papers count", units.billions(found.macs_output_resolution)))
    rows += [("file", units.megabytes(found.size_bytes)), ("SHA-256", found.sha256)]
    if found.precision is not None:
        rows.append(("precision", found.precision))
    if found.interface is not None:
        rows.append(("ONNX opset", str(found.interface.opset)))
        rows.append(("input", "; ".join(found.interface.inputs)))
        rows.append(("output", "; ".join(found.interface.outputs)))
        counted = [f"{count} {name}" for name, count in found.interface.operators.items()]
        rows.append(("operators", ", ".join(counted)))
    if found.source_sha256 is not None:
        rows.append(("made from SHA-256", found.source_sha256))
    if found.teacher is not None:
        reading = (found.card or {})["teacher"].get("reading") or {}
        read = "".join(f", {name.replace('_', ' ')} {value}" for name, value in reading.items())
        rows.append(("teacher", f"{found.teacher.path} ({found.teacher.presence}){read}"))
    render.facts(str(found.path), rows)
    for entry in (found.card or {}).get("history", []):
        settings_shown = [
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in entry["options"].items()
            if value and isinstance(value, str | int | float) and not name.endswith("sha256")
        ]
        when = entry["date"][:16].replace("T", " ")
        render.tell(f"{when}  wkdc {entry['command']}: {', '.join(settings_shown)}")
    if found.card is None:
        exported = found.source_sha256 is not None
        render.tell("exported from a file of other code" if exported else "not written by wkdc")
    render.say_notes(found.notes)
