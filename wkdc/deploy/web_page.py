"""A generator -> a static page that translates photos in the browser."""

import dataclasses
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.folders import Data
from wkdc.data.layouts import Direction
from wkdc.deploy.web_runtime import describe_runtime, find_runtime
from wkdc.errors import CheckpointError
from wkdc.export import ExportResult, Progress, export
from wkdc.networks.complexity import count_params
from wkdc.system.files import sha256_of, write_folder
from wkdc.system.units import counted
from wkdc.system.version import __version__

MODEL = "model.onnx"

# The slider and the colours of reports.
_FROM_REPORT = ("slider.js", "style.css")
_OWN = ("index.html", "app.css", "app.js", "pixels.js", "worker.js")
_LICENCE = "LICENSE.txt"


@dataclass(frozen=True)
class WebResult:
    """A page, and how near its model is to the source.

    Attributes:
        size_bytes: of all files, of which a browser loads a part.
        runtime: the runtime's package and version.
    """

    folder: Path
    exported: ExportResult
    size_bytes: int
    runtime: str


def export_web(
    model: Generator | str | Path,
    folder: str | Path,
    *,
    runtime_files: str | Path | None = None,
    tolerance: float | None = None,
    data: Data | None = None,
    direction: Direction = "AtoB",
    on_progress: Progress | None = None,
) -> WebResult:
    """Write a page that translates photos with `model` in the browser, for any static web server.

    The page makes requests to its own server only, and works at any path. The model is what
    `export` writes; photos are padded and cropped as by `translate`.

    Args:
        folder: the page's folder, which does not exist yet or is empty.
        runtime_files: the npm package onnxruntime-web, see `wkdc.deploy.web_runtime.find_runtime`.
        tolerance, data, direction, on_progress: see `export`.

    Raises:
        CheckpointError: the network reads or returns other than 1 or 3 channels, or see `export`.
        PackageError: see `wkdc.deploy.web_runtime.find_runtime`.
        OutputError: `folder` is in use, or cannot be written.
        ParityError, OptionError, DatasetError, ImageError: see `export`.
    """
    generator = model if isinstance(model, Generator) else load_generator(model)
    channels = {generator.in_channels, generator.out_channels}
    if not channels <= {1, 3}:
        raise CheckpointError(
            f"{generator.path} turns {counted(generator.in_channels, 'channel')} into "
            f"{generator.out_channels}; a browser has images of 1 or 3"
        )
    target = Path(folder)
    results: list[ExportResult] = []

    def write(site: Path) -> None:
        runtime = find_runtime(None if runtime_files is None else Path(runtime_files))
        results.append(
            export(
                generator,
                output=site / MODEL,
                tolerance=tolerance,
                data=data,
                direction=direction,
                on_progress=on_progress,
            )
        )
        _write_page(site, generator)
        _write_runtime(site / "runtime", runtime)

    write_folder(target, write)
    size_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    exported = dataclasses.replace(results[0], output=target / MODEL)
    described = describe_runtime()
    return WebResult(target, exported, size_bytes, f"{described['package']} {described['version']}")


def _write_page(site: Path, generator: Generator) -> None:
    for package, names in (("wkdc.reporting", _FROM_REPORT), ("wkdc.deploy", _OWN)):
        for name in names:
            (site / name).write_bytes((files(package) / name).read_bytes())
    facts = json.dumps(_describe(site / MODEL, generator), indent=1)
    (site / "model.json").write_text(facts + "\n", encoding="utf-8")


def _describe(model: Path, generator: Generator) -> dict[str, Any]:
    """The facts about the model that the page uses or shows."""
    architecture = generator.architecture
    return {
        "name": generator.path.stem,
        "file": model.name,
        "size_bytes": model.stat().st_size,
        "sha256": sha256_of(model),
        "source_sha256": generator.sha256,
        "params": count_params(generator.network),
        "in_channels": generator.in_channels,
        "out_channels": generator.out_channels,
        "multiple": architecture.multiple,
        "smallest": architecture.smallest,
        "runtime": describe_runtime(),
        "made_by": f"wkdc {__version__}",
    }


def _write_runtime(folder: Path, runtime: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, content in runtime.items():
        (folder / name).write_bytes(content)
    (folder / _LICENCE).write_bytes((files("wkdc.deploy") / _LICENCE).read_bytes())
