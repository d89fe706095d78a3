"""A .onnx file in float32 -> one with convolutions in int8, except those that lose most."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from wkdc.errors import CheckpointError
from wkdc.metrics.fidelity import psnr_db
from wkdc.onnx.file import OnnxNetwork, onnx_feed
from wkdc.onnx.precision import VISIBLE_DB
from wkdc.system.temporary import libraries_in_scratch, said_full, scratch_folder

AIM_DB = VISIBLE_DB + 2
"""PSNR to float32 for which layers stay in float32; other images may be worse."""

MOST_KEPT = 0.5
"""Largest share of the layers between the first and the last that stays in float32."""

MEASURED = 4
"""Every fourth image measures the error of a layer; the others set the ranges, since a range that
is too narrow only shows on other images."""

MARGIN = 1.25
"""Factor by which ranges are wider than observed, for images that exceed the observed range."""

TRIED_ON = 2
"""Number of measuring images that rank the layers; all decide how many stay in float32."""


def quantise(
    path: Path,
    images: Sequence[Tensor],
    *,
    on_layer: Callable[[int, int], None] | None = None,
) -> tuple[str, ...]:
    """Rewrite the float32 file `path` with convolutions in int8, in QDQ form.

    Weights are symmetric, with a scale for every output channel; inputs and outputs of layers are
    uint8, with the range over `images`. The first and the last layer stay in float32: with few
    channels int8 saves no time there. Of the others, those with the largest error stay too, as few
    as give `AIM_DB`, and at most `MOST_KEPT`. Norms and everything else stay in float32.

    Args:
        images: 1×C×H×W in [-1, 1] each, of any size that the network takes.
        on_layer: called with the number of layers tried, and of all.

    Returns:
        The names in PyTorch of the layers that stay in float32, in order.

    Raises:
        CheckpointError: the file has fewer than three convolutions.
    """
    import onnx

    layers = _layers(onnx.load(str(path)))
    if len(layers) < 3:
        raise CheckpointError(
            f"int8 needs a layer between the first and the last one, but there are {len(layers)}; "
            "export in float32 or float16"
        )
    inner = list(layers)[1:-1]
    with libraries_in_scratch(), scratch_folder() as folder, said_full(4 * path.stat().st_size):
        source = folder / "float32.onnx"  # ONNX Runtime leaves files beside it where it fails
        shutil.copyfile(path, source)
        trial = _trial(source, layers, images, folder)
        loss: dict[str, float] = {}
        for number, name in enumerate(inner, 1):
            loss[name] = trial.worst_db([name], TRIED_ON)
            if on_layer is not None:
                on_layer(number, len(inner))
        order = sorted(inner, key=lambda name: loss[name])
        kept = _fewest(order, int(MOST_KEPT * len(inner)), trial.worst_db)
        chosen = [name for name in inner if name not in kept]
        _write(source, path, trial.nodes(chosen), trial.ranges)
    return tuple(name for name in layers if name not in chosen)


@dataclass(frozen=True)
class _Trial:
    """A file whose layers are tried in int8.

    Attributes:
        layers: names of nodes by layer.
        ranges: of their inputs and outputs.
        pairs: images, and the outputs of the file in float32.
    """

    source: Path
    output: Path
    layers: Mapping[str, Sequence[str]]
    ranges: Any
    pairs: Sequence[tuple[Tensor, Tensor]]

    def nodes(self, names: Sequence[str]) -> list[str]:
        return [node for name in names for node in self.layers[name]]

    def worst_db(self, names: Sequence[str], count: int | None = None) -> float:
        """The lowest PSNR to float32 with these layers in int8, over the first `count` images."""
        _write(self.source, self.output, self.nodes(names), self.ranges)
        network = OnnxNetwork(self.output)
        return min(psnr_db(network(image), expected) for image, expected in self.pairs[:count])


def _trial(
    path: Path, layers: Mapping[str, Sequence[str]], images: Sequence[Tensor], folder: Path
) -> _Trial:
    measuring = images[::MEASURED]
    ranging = [image for n, image in enumerate(images) if n % MEASURED] or measuring
    float32 = OnnxNetwork(path)
    ranges = _ranges(path, ranging, folder, pixels=float32.pixels)
    pairs = [(image, float32(image)) for image in measuring]
    return _Trial(path, folder / "trial.onnx", layers, ranges, pairs)


def _fewest(
    order: Sequence[str], most: int, worst_db: Callable[[Sequence[str]], float]
) -> Sequence[str]:
    """The fewest of the layers in `order` without which the others reach `AIM_DB`; or `most`."""
    most = min(most, len(order) - 1)
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        if worst_db(order[middle:]) >= AIM_DB:
            high = middle
        else:
            low = middle + 1
    return order[:low]


def _layers(model: Any) -> dict[str, list[str]]:
    """Names of the nodes of each convolution of the network; several where it was rewritten."""
    found: dict[str, list[str]] = {}
    for number, node in enumerate(model.graph.node):
        if node.op_type == "Conv":
            node.name = node.name or f"conv_{number}"
            found.setdefault(_layer_of(node), []).append(node.name)
    return found


def _layer_of(node: Any) -> str:
    """`model.19.phases.0.weight` -> `model.19`, as PyTorch calls it."""
    found = re.fullmatch(r"(?:network\.)?(.+?)(?:\.phases\.\d+|\.conv)?\.weight", node.input[1])
    return found[1] if found else str(node.name)


def _ranges(path: Path, images: Sequence[Tensor], folder: Path, *, pixels: bool) -> Any:
    """The ranges of the inputs and outputs of the convolutions, with the margin."""
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import TensorData

    calibrator = create_calibrator(
        path,
        ["Conv"],
        augmented_model_path=str(folder / "ranges.onnx"),
        calibrate_method=CalibrationMethod.MinMax,
    )
    calibrator.set_execution_providers(["CPUExecutionProvider"])
    calibrator.collect_data(_Feeds(images, pixels))
    ranges, margin = calibrator.compute_data(), np.float32(MARGIN)
    for name, seen in list(ranges.items()):
        ranges[name] = TensorData(lowest=margin * seen.lowest, highest=margin * seen.highest)
    return ranges


class _Feeds:
    """Images in the form that ONNX Runtime's calibrator reads."""

    def __init__(self, images: Sequence[Tensor], pixels: bool) -> None:
        self._left = iter(images)
        self._pixels = pixels

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._left, None)
        return None if image is None else onnx_feed(image, pixels=self._pixels)

    def __iter__(self) -> "_Feeds":
        return self

    def __next__(self) -> dict[str, Any]:
        feed = self.get_next()
        if feed is None:
            raise StopIteration
        return feed


def _write(source: Path, output: Path, nodes: Sequence[str], ranges: Any) -> None:
    """Write `source` with these nodes in int8."""
    import onnx
    from onnxruntime.quantization import QDQQuantizer, QuantType

    model = onnx.load(str(source))
    _layers(model)  # names the nodes alike every time
    quantizer = QDQQuantizer(
        model, True, False, QuantType.QInt8, QuantType.QUInt8, ranges, nodes, [], ["Conv"], {}
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    onnx.save(quantizer.model.model, str(output))
