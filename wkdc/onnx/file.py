"""A network <-> a .onnx file. The only home of torch.onnx."""

import collections
import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wkdc.checkpoints.card import Card, check_facts, read_card
from wkdc.checkpoints.weight_files import is_exported
from wkdc.data.images import images_to_pixels, pixels_to_images
from wkdc.errors import CheckpointError, one_line
from wkdc.networks.architecture import Architecture
from wkdc.onnx.constants import check_constants
from wkdc.onnx.providers import open_session, provider_on
from wkdc.onnx.rewrites import lowered
from wkdc.system.files import text_of

OPSET = 18
"""ONNX operator set of the files that wkdc writes."""

PIXELS = "uint8 NHWC"
"""The layout in the metadata of a file that takes and returns bytes."""


def write_onnx(
    network: nn.Module,
    path: Path,
    architecture: Architecture,
    *,
    metadata: Mapping[str, Any] | None = None,
    pixels: bool = False,
) -> None:
    """Write `network`, lowered, as one self-contained file with batch, height and width left open.

    The input is called `image`, the output `picture`. Both are float32 N×C×H×W in [-1, 1], or with
    `pixels` uint8 N×H×W×C, as cameras, files and screens have them.

    Args:
        architecture: of `network`, or of what it was pruned from: its channels and sizes.
        metadata: plain values, stored as JSON under their names, prefixed with `wkdc.`.
    """
    import onnx

    batch, rows, columns = (torch.export.Dim(name) for name in ("batch", "rows", "columns"))
    # Without these bounds the exporter traces the network a second time to find them.
    multiple, smallest = architecture.multiple, architecture.smallest
    strict, in_channels = architecture.strict, int(architecture.options["in_channels"])
    height: Any = multiple * rows if strict else torch.export.Dim("height", min=smallest)
    width: Any = multiple * columns if strict else torch.export.Dim("width", min=smallest)
    side = max(2 * multiple, smallest)
    example = torch.zeros(2, in_channels, side, side + multiple)
    across = 2
    body, metadata = lowered(network), metadata or {}
    if pixels:
        body, across = OnPixels(body), 1
        example = torch.zeros(2, side, side + multiple, in_channels, dtype=torch.uint8)
        metadata = {**metadata, "layout": PIXELS}
    with _silence():
        program = torch.onnx.export(
            body,
            (example,),
            dynamo=True,
            input_names=["image"],
            output_names=["picture"],
            dynamic_shapes=({0: batch, across: height, across + 1: width},),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise CheckpointError("the exporter of PyTorch returned nothing; try another PyTorch")
    model = program.model_proto
    for name, value in metadata.items():
        model.metadata_props.add(key=f"wkdc.{name}", value=json.dumps(value))
    onnx.save_model(model, str(path))


class OnPixels(nn.Module):
    """A network that takes and returns uint8 N×H×W×C."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return images_to_nhwc(self.network(nhwc_to_images(pixels)))


def nhwc_to_images(pixels: Tensor) -> Tensor:
    """uint8 N×H×W×C -> N×C×H×W in [-1, 1]."""
    return pixels_to_images(pixels.permute(0, 3, 1, 2))


def images_to_nhwc(images: Tensor) -> Tensor:
    """N×C×H×W in [-1, 1] -> uint8 N×H×W×C."""
    return images_to_pixels(images).permute(0, 2, 3, 1)


def wrap_uint8(run: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
    """`run`, which takes and returns uint8 N×H×W×C arrays, as a function of N×C×H×W in [-1, 1]."""

    def call(images: Tensor) -> Tensor:
        outputs = np.array(run(images_to_nhwc(images).contiguous().numpy()))
        return nhwc_to_images(torch.from_numpy(outputs))

    return call


def onnx_feed(images: Tensor, *, pixels: bool) -> dict[str, Any]:
    """The input of a file of `write_onnx`, by name, for N×C×H×W in [-1, 1]."""
    given = images_to_nhwc(images) if pixels else images
    return {"image": given.contiguous().numpy()}


def check_onnx(path: Path) -> None:
    """Check the file with `onnx.checker`.

    Raises:
        CheckpointError: it is not valid ONNX.
    """
    import onnx

    name = text_of(path)
    try:
        onnx.checker.check_model(name, full_check=True)
    except Exception as error:  # which class depends on what is wrong
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not valid ONNX: {said}") from None


class OnnxNetwork:
    """A .onnx file in ONNX Runtime, called with images N×C×H×W.

    Args:
        threads: for one image; None leaves it to ONNX Runtime.
        device: `cpu`, or `cuda`, `cuda:N` where ONNX Runtime's CUDA provider works.

    Raises:
        CheckpointError: the file cannot be read, or does not take one batch of images.
        DeviceError: ONNX Runtime cannot use the device.

    Attributes:
        shape: of the input as N×C×H×W, None where a dimension is open.
        out_channels: of the output, None where they are open.
        metadata: what wkdc stored in the file, by name.
        pixels: whether the file takes and returns uint8 N×H×W×C.
    """

    def __init__(self, path: Path, *, threads: int | None = None, device: str = "cpu") -> None:
        if not path.is_file():
            raise CheckpointError(f"{path} does not exist; give a .onnx file")
        self._path = path
        check_constants(path)
        on = torch.device(device)
        self._session = open_session(path, threads=threads, device=on, provider=provider_on(on))
        try:
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
            stored = self._session.get_modelmeta().custom_metadata_map
            shapes = [one.shape for one in (*inputs[:2], *outputs[:1])]
            self._name = inputs[0].name if inputs else ""
        except UnicodeDecodeError:
            raise CheckpointError(f"{path} has names that are no text; export it again") from None
        if len(inputs) != 1 or [len(shape) for shape in shapes] != [4, 4]:
            raise CheckpointError(
                f"{path} does not turn one batch of images (N×C×H×W) into another"
            )
        self.metadata: dict[str, Any] = _own_metadata(stored, path)
        self.pixels = self.metadata.get("layout") == PIXELS
        given, made = (
            tuple(side if isinstance(side, int) else None for side in one[0].shape)
            for one in (inputs, outputs)
        )
        self.shape = (given[0], given[3], given[1], given[2]) if self.pixels else given
        self.out_channels = made[3 if self.pixels else 1]

    def __call__(self, images: Tensor) -> Tensor:
        """Translate float32 N×C×H×W in [-1, 1], also where the file takes and returns bytes."""
        if self.pixels:
            return wrap_uint8(self._run)(images)
        return torch.from_numpy(np.asarray(self._run(images.numpy())))

    def _run(self, images: Any) -> Any:
        try:
            return self._session.run(None, {self._name: images})[0]
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            raise CheckpointError(
                f"{self._path} cannot translate {images.shape} {images.dtype} images: "
                f"{one_line(error)}"
            ) from None


@dataclass(frozen=True)
class OnnxInterface:
    """What a .onnx file says about itself.

    Attributes:
        opset: version of the standard operators.
        inputs, outputs: names, element types and shapes, such as `image: float N×3×height×width`.
        operators: the number of nodes of each kind.
        metadata: what wkdc stored in it, by name; empty for other files.
    """

    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: Mapping[str, int]
    metadata: Mapping[str, Any]


def read_interface(path: Path) -> OnnxInterface:
    """Read what a file says about itself, without running it.

    Raises:
        CheckpointError: it is missing, or is not ONNX.
    """
    import onnx

    if not path.is_file():
        raise CheckpointError(f"{path} does not exist; give a .onnx file")
    try:
        model = onnx.load(str(path), load_external_data=False)
        opsets = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
        weights = {tensor.name for tensor in model.graph.initializer}
        inputs = [_described(value) for value in model.graph.input if value.name not in weights]
        outputs = [_described(value) for value in model.graph.output]
        operators = collections.Counter(str(node.op_type) for node in model.graph.node)
        stored = {str(entry.key): entry.value for entry in model.metadata_props}
    except Exception:  # a broken file makes protobuf raise nearly anything
        raise CheckpointError(f"{path} is no ONNX file, or a broken one") from None
    if not operators:
        raise CheckpointError(f"{path} is no ONNX file, or a broken one")
    return OnnxInterface(
        max(opsets, default=0),
        tuple(inputs),
        tuple(outputs),
        dict(operators.most_common()),
        _own_metadata(stored, path),
    )


def card_of(path: Path) -> Card | None:
    """The card in a .pth, or in a .onnx that was made of one; None where there is none.

    Raises:
        CheckpointError: the file is missing or broken, or its card is.
    """
    if path.suffix.lower() == ".onnx":
        card: Card | None = read_interface(path).metadata.get("card")
        return card
    return None if is_exported(path) else read_card(path)


def _described(value: Any) -> str:
    import onnx

    kind = value.type.tensor_type
    shape = "×".join(d.dim_param or str(d.dim_value) for d in kind.shape.dim)
    names = {number: name.lower() for name, number in onnx.TensorProto.DataType.items()}
    return f"{value.name}: {names.get(kind.elem_type, f'type {kind.elem_type}')} {shape}"


def _own_metadata(stored: Mapping[str, str], path: Path) -> dict[str, Any]:
    """What wkdc stored in the file `path`.

    Raises:
        CheckpointError: it is broken.
    """
    own = {key: value for key, value in stored.items() if key.startswith("wkdc.")}
    try:
        said = {key.removeprefix("wkdc."): json.loads(value) for key, value in own.items()}
    except (ValueError, RecursionError):
        raise CheckpointError(
            f"{path}: what wkdc wrote into it is broken; export it again"
        ) from None
    check_facts(said, path)
    return said


def count_onnx_params(path: Path) -> int:
    """Number of weights in the file's graph, of any precision.

    A quantised weight counts once; its scales and zero points do not.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    kinds = onnx.TensorProto
    floats = {kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16, kinds.DOUBLE}
    quantised = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    weights = {node.input[0] for node in quantised}
    scales = {name for node in quantised for name in node.input[1:]}
    return sum(
        int(np.prod(tensor.dims))
        for tensor in graph.initializer
        if tensor.name not in scales and (tensor.data_type in floats or tensor.name in weights)
    )


@contextlib.contextmanager
def _silence() -> Any:
    """Keep the exporter's messages off the console."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
