"""Weight files as dicts of tensors and plain types. The only home of torch.load and torch.save."""

import errno
import hashlib
import io
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wkdc.errors import CheckpointError
from wkdc.system.files import UNPACKED_RATIO, most_unpacked_bytes, write_atomically

ONNX_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"
"""The tags of what may follow the version of an ONNX file: its fields 2 to 8."""

EXPORTED = (".onnx", ".tflite", ".ncnn.param")
"""Endings of files that runtimes other than PyTorch read."""


def is_exported(path: str | Path) -> bool:
    """Whether the file's name says that it is none of PyTorch's."""
    return str(path).lower().endswith(EXPORTED)


def load_plain(path: Path) -> dict[str, Any]:
    """The dict of tensors and plain types in a .pth file, on the CPU.

    Raises:
        CheckpointError: the file is missing, is not one, or carries code.
    """
    if path.is_dir() and path.suffix == ".mlpackage":
        raise CheckpointError(
            f"{path} is a Core ML package, which Apple's apps run and wkdc only writes; give the "
            ".pth file that it was exported from"
        )
    if not path.is_file():
        what = "is a folder, not a weight file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}; give a .pth file, or make one with wkdc prune")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path} is empty; copy or download it again")
    try:
        _check_unpacked_size(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the age of the format
            content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} {_refusal(path, str(error))}") from None
    except OSError as error:
        if error.errno in (None, errno.EINVAL):  # it asks for places that a cut file lacks
            raise CheckpointError(f"{path} {_refusal(path, '')}") from None
        reason = error.strerror or str(error)
        raise CheckpointError(f"{path} cannot be read: {reason}; copy it elsewhere") from None
    except Exception:  # a broken file makes torch.load raise nearly anything
        raise CheckpointError(f"{path} {_refusal(path, '')}") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a state dict; save the network's "
            "state_dict() instead"
        )
    return dict(content)


def save_plain(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain types to `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()  # on a full disk torch.save itself does not say what went wrong
    torch.save(dict(content), buffer)
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(buffer.getbuffer()))


def save_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain types with their digest, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
    sealed = torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)
    save_plain(path, {"sha256": digest, "content": sealed})


def load_sealed(path: Path) -> dict[str, Any]:
    """What `save_sealed` wrote, on the CPU.

    Raises:
        CheckpointError: the file is missing, or not byte for byte what was written.
    """
    outer = load_plain(path)
    sealed = outer.get("content")
    content = sealed.numpy().tobytes() if isinstance(sealed, Tensor) else b""
    if hashlib.sha256(content).hexdigest() != outer.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its digest is another")
    return dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def _refusal(path: Path, message: str) -> str:
    """Why the file is refused; text read as a pickle seems to carry code, so its start decides."""
    other = _other_format(path)
    if other is not None:
        return other
    with path.open("rb") as file:
        pickled = file.read(2).startswith((b"PK", b"\x80"))
    if pickled and any(sign in message for sign in ("GLOBAL", "Unsupported", "not an allowed")):
        return (
            "carries code, not only weights, and is refused; save the network's state_dict() "
            "in the environment that made the file"
        )
    return "cannot be read: it is truncated, or no PyTorch file; copy or download it again"


def _other_format(path: Path) -> str | None:
    """What a file of another program's format is, and what to give instead of it."""
    with path.open("rb") as file:
        start = file.read(16)
    if is_exported(path) and path.suffix.lower() != ".onnx":
        return (
            "is a network of a phone's runtime, no weight file; give the .pth file that it was "
            "exported from"
        )
    if _is_torchscript(path):
        return (
            "is a TorchScript archive, which carries code; give its weights alone: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        )
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return (
            "is an HDF5 file, as Keras writes .h5; wkdc reads networks of PyTorch alone: give a "
            ".pth file"
        )
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header <= path.stat().st_size - 8:
        return (
            "is a safetensors file; give a .pth file: "
            f"torch.save(safetensors.torch.load_file({path.name!r}), 'weights.pth')"
        )
    # ONNX is a protobuf message that starts with its version (field 1) and another field up to 8.
    if len(start) > 2 and start[0] == 0x08 and start[2] in ONNX_FIELDS:
        return "is an ONNX file, no weight file; give the .pth file that it was exported from"
    return None


def _check_unpacked_size(path: Path) -> None:
    """Refuse a small zip that would fill the memory; whatever zipfile raises, it is broken."""
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > most_unpacked_bytes(path):
        raise CheckpointError(
            f"{path} is compressed and would take {unpacked / 2**20:.0f} MiB of memory, more than "
            f"{UNPACKED_RATIO} times its size; save the network's state_dict() again with "
            "torch.save"
        )


def _is_torchscript(path: Path) -> bool:
    """Whether the file is a zip that holds code, or the constants of code."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    return any(name.startswith("code/") or name == "constants.pkl" for name in names)
