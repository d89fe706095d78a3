"""The runtimes of a network: PyTorch, ONNX Runtime, and OpenVINO where it is installed."""

import importlib.util
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wkdc.errors import CheckpointError, DeviceError, MissingExtraError
from wkdc.onnx.file import wrap_uint8
from wkdc.system.files import text_of

Runtime = Literal["torch", "onnx", "openvino", "openvino-bf16"]

_KEPT: list[Any] = []
"""OpenVINO's networks, which are never freed. Each installs an alternate signal stack in the main
thread; freed in another order than last in, first out, they make Ctrl-C crash the process."""


def runtimes_on(device: torch.device) -> tuple[Runtime, ...]:
    """The runtimes that work on a device of this machine, the reference first."""
    if device.type != "cpu" or importlib.util.find_spec("openvino") is None:
        return ("torch", "onnx")
    try:
        half: tuple[Runtime, ...] = ("openvino-bf16",) if _has_bfloat16() else ()
    except ImportError:  # a part of it is missing
        return ("torch", "onnx")
    return ("torch", "onnx", "openvino", *half)


class OpenVinoNetwork:
    """A .onnx file in OpenVINO on the CPU, called with images N×C×H×W.

    Args:
        threads: for one image; None leaves it to OpenVINO.
        bfloat16: whether to compute in bfloat16, which is faster and less exact.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        CheckpointError: the file cannot be read.
        DeviceError: the CPU does not compute in bfloat16.
    """

    def __init__(self, path: Path, *, threads: int | None = None, bfloat16: bool = False) -> None:
        try:
            openvino = _import_openvino()
        except ImportError:
            raise MissingExtraError(
                "OpenVINO is not installed: pip install 'wkdc[openvino]'"
            ) from None
        if bfloat16 and not _has_bfloat16():
            raise DeviceError(
                "this processor does not compute in bfloat16; use the runtime openvino instead"
            )
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        name = text_of(path)
        try:
            self._network = openvino.Core().compile_model(name, "CPU", settings)
        except Exception as error:  # OpenVINO raises RuntimeError for everything
            reason = str(error).strip().splitlines()[-1]
            raise CheckpointError(f"{path} cannot be read by OpenVINO: {reason}") from None
        _KEPT.append(self._network)
        self._request = self._network.create_infer_request()
        self._pixels = self._network.input(0).element_type == openvino.Type.u8

    def __call__(self, images: Tensor) -> Tensor:
        """Translate float32 N×C×H×W in [-1, 1], also where the file takes and returns bytes."""
        if self._pixels:
            return wrap_uint8(self._run)(images)
        return torch.from_numpy(np.array(self._run(images.numpy())))

    def _run(self, images: Any) -> Any:
        return self._request.infer({0: images})[0]


def _has_bfloat16() -> bool:
    return "BF16" in _import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which would report the import and write into the home.

    Raises:
        ImportError: it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as if not there
    import openvino

    return openvino
