"""What ONNX Runtime draws with: the provider that was asked for, or an error, but no other one."""

import contextlib
import ctypes
import importlib.util
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from wkdc.errors import CheckpointError, DeviceError

Provider = Literal["cpu", "cuda", "cuda-graph", "tensorrt", "tensorrt-fp16"]
"""`cuda-graph` is CUDA's with all of a call recorded and launched at once, at fixed shapes."""

SILENT = 4
"""Of ONNX Runtime's log levels: what goes wrong is raised, too."""


def provider_on(place: torch.device) -> Provider:
    """What draws on a device where nothing else is asked for."""
    return "cpu" if place.type == "cpu" else "cuda"


def has_tensorrt() -> bool:
    """Whether this ONNX Runtime was built for TensorRT, whose libraries may yet be missing."""
    import onnxruntime

    return "TensorrtExecutionProvider" in onnxruntime.get_available_providers()


def open_session(
    path: Path,
    *,
    threads: int | None = None,
    place: torch.device,
    provider: Provider,
    sides: Mapping[str, int] | None = None,
    trace: Path | None = None,
) -> Any:
    """An `onnxruntime.InferenceSession` that draws with `provider`.

    Where a library of a GPU's provider is missing, ONNX Runtime itself warns and takes the CPU.

    Args:
        threads: that one image may use; None leaves it to ONNX Runtime.
        place: the CPU, or which GPU.
        sides: numbers for dimensions that the file leaves open, by their names.
        trace: beginning of the file name under which ONNX Runtime notes the time of every node.

    Raises:
        CheckpointError: the file cannot be read.
        DeviceError: the provider is not there, or a library that it needs.
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
    wanted = _in_order(provider, place)
    first = wanted[0][0]
    try:
        with _preloaded(provider):
            session = onnxruntime.InferenceSession(
                str(path), options, providers=wanted, enable_fallback=0
            )
    except Exception as error:  # ONNX Runtime raises its own, unrelated classes
        if provider != "cpu" and (reason := _load_error(first)):
            raise _not_loaded(place, first, reason) from None
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} cannot be read by ONNX Runtime: {reason}") from None
    if session.get_providers()[0] != first:
        raise _not_loaded(place, first, _load_error(first) or "it gives no reason")
    return session


def _in_order(provider: Provider, place: torch.device) -> list[tuple[str, dict[str, str]]]:
    """ONNX Runtime's providers with their options; nodes go to the first that takes them.

    Raises:
        DeviceError: this ONNX Runtime was built without it.
    """
    import onnxruntime

    here = {"device_id": str(place.index or 0)}
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
            f"device {place} was asked for, but this ONNX Runtime has only "
            f"{', '.join(available)}; install onnxruntime-gpu, or use --device cpu"
        )
    return wanted


@contextlib.contextmanager
def _preloaded(provider: Provider) -> Any:
    """For the time of the block, NVIDIA's libraries are loaded, and what is said of it is not."""
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
            return str(error).splitlines()[0]
    return None


def _not_loaded(place: torch.device, provider: str, reason: str) -> DeviceError:
    return DeviceError(
        f"device {place} was asked for, but ONNX Runtime cannot load its {provider}: {reason}; "
        "install what is missing, or use --device cpu"
    )
