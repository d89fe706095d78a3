"""A .onnx file drawing one batch again and again, with nothing to copy or to allocate."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wkdc.errors import CheckpointError
from wkdc.onnx.providers import Provider, open_session

TYPES = {
    "tensor(float)": (torch.float32, np.float32),
    "tensor(float16)": (torch.float16, np.float16),
    "tensor(uint8)": (torch.uint8, np.uint8),
}
"""What a file may take and give, by ONNX Runtime's names."""

FIRST_RUNS = 3
"""In which ONNX Runtime chooses algorithms and records a CUDA graph, or fails to."""


class BoundNetwork:
    """A .onnx file in ONNX Runtime whose input and output stay where it computes.

    Batch, height and width are fixed, so that ONNX Runtime folds what depends on them, and a CUDA
    graph can be recorded: it holds the addresses of both.

    Args:
        given: what the file takes: N×C×H×W, or of a file of pixels uint8 N×H×W×C.
        place: the CPU, or a GPU.

    Raises:
        CheckpointError: the file cannot be read, or does not draw such images.
        DeviceError: ONNX Runtime cannot use the device; see `open_session`.
    """

    def __init__(
        self,
        path: Path,
        given: Tensor,
        *,
        place: torch.device,
        provider: Provider,
        threads: int | None = None,
    ) -> None:
        self._path = path
        self._session = open_session(
            path,
            threads=threads,
            place=place,
            provider=provider,
            sides=_open_sides(path, given.shape),
        )
        self._given = given.to(place).contiguous()
        self._binding = self._session.io_binding()
        into, out = self._session.get_inputs()[0], self._session.get_outputs()[0]
        self._bind(self._binding.bind_input, into, self._given)
        shape = self._drawn_shape(out)
        self._drawn = torch.empty(shape, dtype=self._types(out)[0], device=place)
        self._bind(self._binding.bind_output, out, self._drawn)
        if place.type == "cuda":
            torch.cuda.synchronize(place)  # ONNX Runtime computes in a stream of its own
            for _ in range(FIRST_RUNS):
                self._run()

    def __call__(self) -> Tensor:
        """Draw; ONNX Runtime returns when it is done. The next call draws into the same tensor."""
        self._run()
        return self._drawn

    def _run(self) -> None:
        try:
            self._session.run_with_iobinding(self._binding)
        except Exception as error:  # ONNX Runtime raises its own, unrelated classes
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{self._path} cannot draw {tuple(self._given.shape)} images: {reason}"
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
        place = tensor.device
        bind(value.name, place.type, place.index or 0, kind, tuple(tensor.shape), tensor.data_ptr())

    def _drawn_shape(self, out: Any) -> tuple[int, ...]:
        """The output's: what ONNX Runtime infers, or else finds by drawing once."""
        if all(isinstance(side, int) for side in out.shape):
            return tuple(out.shape)
        place = self._given.device
        self._binding.bind_output(out.name, place.type, place.index or 0)
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
