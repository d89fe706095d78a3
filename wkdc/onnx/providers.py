"""ONNX Runtime's execution providers: the one that was asked for, or an error, never another."""

import contextlib
import ctypes
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from wkdc.errors import CheckpointError, DeviceError, one_line
from wkdc.system.files import text_of

Provider = Literal["cpu", "cuda", "cuda-graph", "tensorrt", "tensorrt-fp16"]
"""`cuda-graph` is CUDA with each call recorded and launched as one graph, at fixed shapes."""

SILENT = 4
"""ONNX Runtime's log level for fatal errors only: errors are raised, too."""


def provider_on(device: torch.device) -> Provider:
    """The default provider of a device."""
    return "cpu" if device.type == "cpu" else "cuda"


def has_tensorrt() -> bool:
    """Whether this ONNX Runtime was built for TensorRT, whose libraries may yet be missing."""
    import onnxruntime

    return "TensorrtExecutionProvider" in onnxruntime.get_available_providers()


def open_session(
    path: Path,
    *,
    threads: int | None = None,
    device: torch.device,
    provider: Provider,
    sides: Mapping[str, int] | None = None,
    trace: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession` that computes with `provider`.

    Where a library of a GPU's provider is missing, ONNX Runtime itself warns and takes the CPU.

    Args:
        threads: for one image; None leaves it to ONNX Runtime.
        device: the CPU, or which GPU.
        sides: sizes of dimensions that the file leaves open, by name.
        trace: prefix of the file in which ONNX Runtime records the time of every node.

    Raises:
        CheckpointError: the file cannot be read.
        DeviceError: the provider, or a library that it needs, is missing.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = SILENT
    if threads is not None:
        options.intra_op_num_threads = threads
    # Idle threads would spin on after a run and slow down whatever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    for name, side in (sides or {}).items():
        options.add_free_dimension_override_by_name(name, side)
    if trace is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(trace)
    wanted, name = _in_order(provider, device), text_of(path)
    first = wanted[0][0]
    try:
        with _preloaded(provider):
            session = onnxruntime.InferenceSession(
                name, options, providers=wanted, enable_fallback=0
            )
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        if provider != "cpu" and (reason := _load_error(first)):
            raise _not_loaded(device, first, reason) from None
        raise CheckpointError(f"{path} cannot be read by ONNX Runtime: {one_line(error)}") from None
    if session.get_providers()[0] != first:
        raise _not_loaded(device, first, _load_error(first) or "it gives no reason")
    return session


def _in_order(provider: Provider, device: torch.device) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers with their options; nodes go to the first that takes them.

    Raises:
        DeviceError: this ONNX Runtime was built without it.
    """
    import onnxruntime

    here = {"device_id": str(device.index or 0)}
    cpu: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    cuda = ("CUDAExecutionProvider", here)
    match provider:
        case "cpu":
            return [cpu]
        case "cuda":
            wanted = [cuda, cpu]
        case "cuda-graph":
            wanted = [(cuda[0], here | {"enable_cuda_graph": "1"}), cpu]
        case "tensorrt" | "tensorrt-fp16":
            half = str(int(provider == "tensorrt-fp16"))
            wanted = [("TensorrtExecutionProvider", here | {"trt_fp16_enable": half}), cuda, cpu]
        case _:
            raise DeviceError(f"provider {provider!r} is not known")
    available = onnxruntime.get_available_providers()
    if wanted[0][0] not in available:
        raise DeviceError(
            f"device {device} was asked for, but this ONNX Runtime has only "
            f"{', '.join(available)}; install onnxruntime-gpu, or use --device cpu"
        )
    return wanted


@contextlib.contextmanager
def _preloaded(provider: Provider) -> Any:
    """Load NVIDIA's libraries before the block, without messages on the console."""
    import onnxruntime

    if provider == "cpu":
        yield
        return
    onnxruntime.set_default_logger_severity(SILENT)
    with contextlib.redirect_stdout(io.StringIO()):
        onnxruntime.preload_dlls()
        if importlib.util.find_spec("tensorrt") is not None:
            # It brings the libraries that the provider needs, and loads them where it can.
            with contextlib.suppress(ImportError, OSError):
                import tensorrt  # noqa: F401
        yield


def _load_error(provider: str) -> str | None:
    """Why the library of a provider does not load, in the words of the system."""
    import onnxruntime

    kind = provider.removesuffix("ExecutionProvider").lower()
    folder = Path(onnxruntime.__file__).parent / "capi"
    for part in ("shared", kind):
        found = sorted(folder.glob(f"*onnxruntime_providers_{part}.*"))
        if not found:
            return f"no onnxruntime_providers_{part} in {folder}"
        try:
            ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            return one_line(error)
    return None


def _not_loaded(device: torch.device, provider: str, reason: str) -> DeviceError:
    return DeviceError(
        f"device {device} was asked for, but ONNX Runtime cannot load its {provider}: {reason}; "
        "install what is missing, or use --device cpu"
    )
