"""Devices, and the precision in which they are fast."""

import torch

from wkdc.errors import DeviceError
from wkdc.system.units import counted


def check_device(name: str) -> torch.device:
    """The device called `name`.

    Raises:
        DeviceError: an unknown name, or a GPU that does not exist.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(f"device {name!r} is not known; choose cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        # PyTorch keeps the number in 8 bits, so it is read from the name.
        if int(name.partition(":")[2] or 0) >= count:
            raise DeviceError(
                f"device {name} was asked for, but PyTorch sees "
                f"{counted(count, 'CUDA device') if count else 'no CUDA device'}; use --device cpu"
            )
    elif device.type != "cpu":
        raise DeviceError(f"device {name!r} is not supported; choose cpu, cuda or cuda:N")
    return device


def default_device() -> str:
    """`cuda` where PyTorch sees one, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fast_autocast(device: torch.device) -> torch.autocast:
    """A context in which convolutions compute in bfloat16, where that is faster on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device))


def bfloat16_pays(device: torch.device) -> bool:
    """Whether `device` is faster in bfloat16 than in float32.

    With AVX512-BF16 AMD's CPUs are; Intel's also need AMX (figures in docs/performance.md).
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    abilities = torch.cpu.get_capabilities()
    vector = abilities.get("avx512_bf16") and "Intel" not in abilities.get("cpu_name", "")
    return bool(vector or abilities.get("amx_bf16"))
