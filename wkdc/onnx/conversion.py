"""A generator -> a .onnx file in the precision that was asked for."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.networks.complexity import count_params
from wkdc.onnx.equalization import equalised
from wkdc.onnx.file import write_onnx
from wkdc.onnx.precision import Precision, to_float16
from wkdc.onnx.quantization import quantise


def write_generator(
    generator: Generator,
    path: Path,
    float32: Path,
    *,
    precision: Precision,
    pixels: bool,
    calibration: Sequence[Tensor],
    on_layer: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """Write `generator` to `path`, and in float32 to `float32`; return the layers left in float32.

    Args:
        pixels: see `write_onnx`.
        calibration: the images from which int8 takes its ranges, 1×C×H×W in [-1, 1].
        on_layer: see `quantise`.
    """
    network = generator.network
    write_onnx(
        equalised(network, calibration) if precision == "int8" else network,
        float32,
        generator.architecture,
        metadata={**facts_of(generator), "precision": precision},
        pixels=pixels,
    )
    shutil.copyfile(float32, path)
    match precision:
        case "float16":
            to_float16(path)
        case "int8":
            return quantise(path, calibration, on_layer=on_layer)
    return ()


def facts_of(generator: Generator) -> dict[str, Any]:
    """What an exported file says of its network, as JSON has it."""
    architecture = generator.architecture
    return {
        "card": generator.card,
        "source_sha256": generator.sha256,
        "family": architecture.family,
        "options": architecture.options,
        "params": count_params(generator.network),
        "multiple": architecture.multiple,
        "smallest": architecture.smallest,
        "range": [-1, 1],
    }
