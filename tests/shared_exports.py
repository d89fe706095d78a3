"""PyTorch's ONNX exporter, called once a session for each network: it takes seconds a call.

Everything that wkdc does before and after it is done every time.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import onnx
import torch
from torch import Tensor, nn

PLAIN = (int, float, str, bool, tuple, list, type(None))
FIXED = ("wkdc.", "torch.nn.", "custom_networks")
"""Modules whose code is the same in every test."""


@contextmanager
def shared_exports(folder: Path) -> Iterator[None]:
    """For the time of the block, `torch.onnx.export` returns what it has in `folder`."""
    export: Callable[..., Any] = torch.onnx.export

    def shared(network: nn.Module, inputs: tuple[Tensor, ...], **settings: Any) -> Any:
        key = fingerprint(network, inputs, settings)
        if key is None:
            return export(network, inputs, **settings)
        path = folder / f"{key}.onnx"
        if not path.exists():
            program = export(network, inputs, **settings)
            draft = path.with_suffix(f".{os.getpid()}")
            onnx.save_model(program.model_proto, str(draft))
            draft.rename(path)
        return SimpleNamespace(model_proto=onnx.load(str(path)))

    with mock.patch("torch.onnx.export", shared):
        yield


def fingerprint(
    network: nn.Module, inputs: tuple[Tensor, ...], settings: dict[str, Any]
) -> str | None:
    """A digest of all that the exported file depends on; None where code of one test is in it."""
    digest = hashlib.sha256(repr(sorted(settings.items())).encode())
    for name, layer in network.named_modules():
        kind = type(layer)
        hooked = layer._forward_hooks or layer._forward_pre_hooks
        if hooked or not kind.__module__.startswith(FIXED):
            return None
        plain = sorted((k, v) for k, v in vars(layer).items() if isinstance(v, PLAIN))
        digest.update(repr((name, kind.__module__, kind.__qualname__, plain)).encode())
    tensors = [*network.named_parameters(), *network.named_buffers(), *enumerate(inputs)]
    for label, tensor in tensors:
        digest.update(repr((label, tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
