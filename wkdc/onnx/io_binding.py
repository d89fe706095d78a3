"""A .onnx file called with one batch again and again, without copies or allocations."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wkdc.errors import CheckpointError, one_line
from wkdc.onnx.providers import Provider, open_session

TYPES = {
    "tensor(float)": (torch.float32, np.float32),
    "tensor(float16)": (torch.float16, np.float16),
    "tensor(uint8)": (torch.uint8, np.uint8),
}
"""Types of inputs and outputs, by ONNX Runtime's names."""

FIRST_RUNS = 3
"""Runs in which ONNX Runtime chooses algorithms and records a CUDA graph."""


class IoBoundNetwork:
    """A .onnx file in ONNX Runtime whose input and output stay on the device.

    Batch, height and width are fixed, so that ONNX Runtime folds what depends on them, and can
    record a CUDA graph, which holds the addresses of input and output.

    Args:
        images: the input, N×C×H×W, or uint8 N×H×W×C for a file that takes pixels.
        device: the CPU, or a GPU.

    Raises:
        CheckpointError: the file cannot be read, or does not take such images.
        DeviceError: ONNX Runtime cannot use the device; see `open_session`.
    """

    def __init__(
        self,
        path: Path,
        images: Tensor,
        *,
        device: torch.device,
        provider: Provider,
        threads: int | None = None,
    ) -> None:
        self._path = path
        self._session = open_session(
            path,
            threads=threads,
            device=device,
            provider=provider,
            sides=_open_sides(path, images.shape),
        )
        self._images = images.to(device).contiguous()
        self._binding = self._session.io_binding()
        into, out = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._bind(self._binding.bind_input, into, self._images)
        shape = self._output_shape(out)
        self._output = torch.empty(shape, dtype=self._types(out)[0], device=device)
        self._bind(self._binding.bind_output, out, self._output)
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # ONNX Runtime computes in a stream of its own
            for _ in range(FIRST_RUNS):
                self._run()

    def __call__(self) -> Tensor:
        """The output, once it is computed; the next call writes into the same tensor."""
        self._run()
        return self._output

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            raise CheckpointError(
                f"{self._path} cannot translate {tuple(self._images.shape)} images: "
                f"{one_line(error)}"
            ) from None

    def _types(self, value: Any) -> tuple[torch.dtype, Any]:
        if value.type not in TYPES:
            raise CheckpointError(
                f"{self._path} has {value.type} as {value.name}; known are {', '.join(TYPES)}"
            )
        return TYPES[value.type]

    def _bind(self, bind: Any, value: Any, tensor: Tensor) -> None:
        expected, kind = self._types(value)
        if tensor.dtype != expected:
            raise CheckpointError(f"{self._path} takes {value.type}, and was given {tensor.dtype}")
        device = tensor.device
        bind(
            value.name, device.type, device.index or 0, kind, tuple(tensor.shape), tensor.data_ptr()
        )

    def _output_shape(self, out: Any) -> tuple[int, ...]:
        """As ONNX Runtime infers it, or else as one run returns it."""
        if all(isinstance(side, int) for side in out.shape):
            return tuple(out.shape)
        device = self._images.device
        self._binding.bind_output(out.name, device.type, device.index or 0)
        self._run()
        shape = tuple(self._binding.get_outputs()[0].shape())
        self._binding.clear_binding_outputs()
        return shape


def _open_sides(path: Path, shape: torch.Size) -> dict[str, int]:
    """The dimensions of the input that the file leaves open, with what they are in `shape`."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    (into,) = (value for value in graph.input if value.name not in weights)
    dims = into.type.tensor_type.shape.dim
    return {dim.dim_param: side for dim, side in zip(dims, shape, strict=True) if dim.dim_param}
