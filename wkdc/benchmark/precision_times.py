"""Latency of a precision beside float32: the same network as two .onnx files, timed in turn."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wkdc.benchmark.latency import time_in_turn
from wkdc.errors import WkdcError
from wkdc.inference.runtimes import OpenVinoNetwork, runtimes_on
from wkdc.onnx.file import OnnxNetwork

ROUNDS = 7
"""Timed rounds, both files in turn."""


@dataclass(frozen=True)
class PrecisionTimes:
    """Latency of a precision and of float32.

    Attributes:
        latency_ms, float32_latency_ms: median of one call, by runtime: `onnx-cpu` and, where
            OpenVINO is installed, `openvino-cpu`.
        float32_size_bytes: of the file in float32.
        left_out: a sentence for each runtime that failed.
    """

    latency_ms: dict[str, float]
    float32_latency_ms: dict[str, float]
    float32_size_bytes: int
    left_out: tuple[str, ...] = ()

    def slower_in(self) -> list[str]:
        """The runtimes that are not faster than in float32."""
        return [
            f"{runtime} ({self.latency_ms[runtime]:.1f} instead of {before:.1f} ms)"
            for runtime, before in self.float32_latency_ms.items()
            if self.latency_ms[runtime] >= before
        ]


def time_precision(path: Path, float32: Path, images: Tensor) -> PrecisionTimes:
    """Time both files on `images`, N×C×H×W in [-1, 1], with as many threads as PyTorch uses.

    Raises:
        CheckpointError: ONNX Runtime cannot read a file.
    """
    now: dict[str, float] = {}
    before: dict[str, float] = {}
    left_out: list[str] = []
    for runtime in runtimes_on(torch.device("cpu")):
        if runtime in ("onnx", "openvino"):
            try:
                calls = {file: _call(runtime == "onnx", file, images) for file in (path, float32)}
                timed = time_in_turn(calls, ROUNDS)
            except WkdcError as error:
                if runtime == "onnx":
                    raise
                left_out.append(f"{error}; it is not timed in OpenVINO")
                continue
            now[f"{runtime}-cpu"] = timed[path].median
            before[f"{runtime}-cpu"] = timed[float32].median
    return PrecisionTimes(now, before, float32.stat().st_size, tuple(left_out))


def _call(in_onnxruntime: bool, file: Path, images: Tensor) -> Callable[[], Tensor]:
    kind = OnnxNetwork if in_onnxruntime else OpenVinoNetwork
    network = kind(file, threads=torch.get_num_threads())
    return lambda: network(images)
