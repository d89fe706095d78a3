"""A generator -> a model repository for Triton Inference Server or KServe."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from wkdc.checkpoints.checkpoint import Generator, load_generator
from wkdc.data.folders import Data
from wkdc.data.layouts import Direction
from wkdc.errors import OptionError
from wkdc.export import ExportResult, Progress, export
from wkdc.onnx.precision import Precision
from wkdc.system.files import write_folder
from wkdc.system.version import __version__

MAX_BATCH = 8
QUEUE_DELAY_US = 2000
"""How long an image may wait for others of its size."""


@dataclass(frozen=True)
class TritonResult:
    """A model in a repository, and how near it is to its source.

    Attributes:
        repository: the folder that the server is given; `config` is the model's config.pbtxt.
    """

    repository: Path
    config: Path
    exported: ExportResult


def export_triton(
    model: Generator | str | Path,
    repository: str | Path,
    *,
    max_batch: int = MAX_BATCH,
    tolerance: float | None = None,
    pixels: bool = False,
    precision: Precision = "float32",
    data: Data | None = None,
    direction: Direction = "AtoB",
    on_progress: Progress | None = None,
) -> TritonResult:
    """Write `model` as `repository`/NAME/1/model.onnx with the config.pbtxt that serves it.

    NAME is the model's file name without its ending. Height and width stay open; the server puts
    images of one size, from several requests, into one batch.

    Args:
        repository: may exist, and hold other models.
        max_batch: most images in a batch.
        tolerance, pixels, precision, data, direction, on_progress: see `export`. Requests carry
            float32 in every precision, or bytes with `pixels`.

    Raises:
        OptionError: `max_batch` is below 1; or see `export`.
        OutputError: the repository has a model of this name, or cannot be written.
        CheckpointError, ParityError, DatasetError, ImageError, DeviceError: see `export`.
    """
    if max_batch < 1:
        raise OptionError(f"max-batch {max_batch} is not allowed; give 1 or more")
    generator = model if isinstance(model, Generator) else load_generator(model)
    folder = Path(repository) / generator.path.stem
    results: list[ExportResult] = []

    def write(made: Path) -> None:
        (made / "1").mkdir()
        output = made / "1" / "model.onnx"
        results.append(
            export(
                generator,
                output=output,
                tolerance=tolerance,
                pixels=pixels,
                precision=precision,
                data=data,
                direction=direction,
                on_progress=on_progress,
            )
        )
        config = _config(generator, max_batch=max_batch, pixels=pixels)
        (made / "config.pbtxt").write_text(config, encoding="utf-8")

    write_folder(folder, write)
    exported = dataclasses.replace(results[0], output=folder / "1" / "model.onnx")
    return TritonResult(Path(repository), folder / "config.pbtxt", exported)


def _config(generator: Generator, *, max_batch: int, pixels: bool) -> str:
    """Triton's ModelConfig as text; `dims` are without the batch."""
    architecture = generator.architecture
    kind = "TYPE_UINT8" if pixels else "TYPE_FP32"
    layout = "FORMAT_NHWC" if pixels else "FORMAT_NCHW"
    given, made = (
        f"-1, -1, {channels}" if pixels else f"{channels}, -1, -1"
        for channels in (generator.in_channels, generator.out_channels)
    )
    return f"""\
# Written by wkdc {__version__}; the source has SHA-256 {generator.sha256}.
name: {json.dumps(generator.path.stem, ensure_ascii=False)}
backend: "onnxruntime"
max_batch_size: {max_batch}
input [
  {{
    name: "image"
    data_type: {kind}
    format: {layout}
    dims: [ {given} ]
  }}
]
output [
  {{
    name: "picture"
    data_type: {kind}
    dims: [ {made} ]
  }}
]
dynamic_batching {{
  max_queue_delay_microseconds: {QUEUE_DELAY_US}
}}
instance_group [
  {{
    kind: KIND_AUTO
    count: 1
  }}
]
# Height and width of images: multiples of the one, and at least the other.
parameters {{
  key: "wkdc.multiple"
  value {{ string_value: "{architecture.multiple}" }}
}}
parameters {{
  key: "wkdc.smallest"
  value {{ string_value: "{architecture.smallest}" }}
}}
"""
