"""LiteRT: a generator as a .tflite file of one size, and such a file at work on the CPU."""

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wkdc.checkpoints.card import check_facts
from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import CheckpointError, ImageError, MissingExtraError
from wkdc.onnx.file import OnPixels, wrap_uint8
from wkdc.phones.litert_layers import lowered_for_litert
from wkdc.phones.litert_precision import requantise
from wkdc.phones.sources import ChannelsLast, described, quiet, reason_of
from wkdc.system.files import text_of

ENDING = ".tflite"

FACTS = "wkdc"
"""Name of the file's metadata, JSON."""


def write_litert(
    generator: Generator,
    path: Path,
    size: tuple[int, int],
    *,
    pixels: bool,
    precision: Literal["float32", "float16", "int8"],
) -> None:
    """Write `generator` for one image of `size` (height, width), N×H×W×C.

    Args:
        pixels: whether it takes and gives uint8 instead of float32 in [-1, 1].
        precision: of its convolutions; see `requantise`.

    Raises:
        MissingExtraError: the converter litert-torch is not installed.
        CheckpointError: it does not convert the network.
    """
    try:
        with quiet():
            import litert_torch
    except ImportError:
        raise MissingExtraError("LiteRT is not installed: pip install 'wkdc[litert]'") from None
    body = lowered_for_litert(generator.network)
    network = (OnPixels(body) if pixels else ChannelsLast(body)).eval()
    example = torch.zeros(1, *size, generator.in_channels)
    if pixels:
        example = example.to(torch.uint8)
    try:
        with quiet():
            litert_torch.convert(network, (example,)).export(str(path))
    except Exception as error:  # of any of its layers
        raise CheckpointError(
            f"{generator.path} is not converted for LiteRT by litert-torch: {reason_of(error)}"
        ) from None
    facts = described(generator, precision) | {"range": [0, 255] if pixels else [-1, 1]}
    _add_metadata(path, FACTS, json.dumps(facts).encode())
    if precision != "float32":
        requantise(path, precision)


class LiteRtNetwork:
    """A .tflite file in LiteRT on the CPU (XNNPACK), called with images N×C×H×W.

    Attributes:
        size: height and width that it takes.
        pixels: whether it takes and gives bytes.
        facts: see `described`; empty for a file that wkdc did not write.

    Raises:
        MissingExtraError: LiteRT is not installed.
        CheckpointError: the file cannot be read, or is no network from image to image.
    """

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        try:
            with quiet():
                from ai_edge_litert.interpreter import Interpreter
        except ImportError:
            raise MissingExtraError("LiteRT is not installed: pip install 'wkdc[litert]'") from None
        name = text_of(path)
        try:
            with quiet():
                self._interpreter = Interpreter(name, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError, OSError) as error:
            raise CheckpointError(f"{path} cannot be read by LiteRT: {reason_of(error)}") from None
        (given, *more), (made, *others) = (
            self._interpreter.get_input_details(),
            self._interpreter.get_output_details(),
        )
        if more or others or len(given["shape"]) != 4 or len(made["shape"]) != 4:
            raise CheckpointError(f"{path} does not turn one image N×H×W×C into another")
        self._path, self._given, self._made = path, given["index"], made["index"]
        _, height, width, self.in_channels = map(int, given["shape"])
        self.out_channels = int(made["shape"][-1])
        self.size = height, width
        self.facts = _read_facts(path)
        self.pixels = given["dtype"] == np.uint8
        self._call = wrap_uint8(self._run) if self.pixels else self._run_floats

    def __call__(self, images: Tensor) -> Tensor:
        """Translate float32 N×C×H×W in [-1, 1], also where the file takes and gives bytes.

        Raises:
            ImageError: another height or width.
        """
        if tuple(images.shape[-2:]) != self.size:
            given, taken = ("x".join(map(str, one)) for one in (images.shape[-2:], self.size))
            raise ImageError(
                f"{self._path} takes images of {taken} alone, not {given}; resize them, or export "
                "another with --size"
            )
        return torch.cat([self._call(image.unsqueeze(0)) for image in images])

    def _run(self, images: np.ndarray) -> np.ndarray:
        """1×H×W×C of the file's own numbers -> the same."""
        self._interpreter.set_tensor(self._given, images)
        self._interpreter.invoke()
        made: np.ndarray = self._interpreter.get_tensor(self._made)
        return made

    def _run_floats(self, images: Tensor) -> Tensor:
        given = images.float().permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(self._run(given)).permute(0, 3, 1, 2).contiguous()


def _read_facts(path: Path) -> dict[str, Any]:
    """What `write_litert` put into the file; empty where it is another's.

    Raises:
        CheckpointError: it is broken.
    """
    try:
        content = _metadata_of(path.read_bytes(), FACTS)
        facts = {} if content is None else dict(json.loads(content))
    except Exception:  # the reader of flatbuffers raises nearly anything
        raise CheckpointError(
            f"{path}: what wkdc wrote into it is broken; export it again"
        ) from None
    check_facts(facts, path)
    return facts


def _metadata_of(held: bytes, name: str) -> bytes | None:
    """The entry `name` of a file's metadata; None where there is none."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(held, 0)
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry.Name() == name.encode():
            buffer = model.Buffers(entry.Buffer())
            start, size = buffer.Offset(), buffer.Size()  # behind the model, as quantizers write
            return held[start : start + size] if size else bytes(buffer.DataAsNumpy())
    return None


def _add_metadata(path: Path, name: str, content: bytes) -> None:
    """Put one more entry of metadata into the file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(content, np.uint8)
    entry.name, entry.buffer = name, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
