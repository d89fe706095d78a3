"""Which devices are taken, and which are refused with a way out."""

import pytest
import torch

from wkdc.errors import DeviceError
from wkdc.system.devices import bfloat16_pays, check_device, default_device


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def test_the_cpu_is_always_there() -> None:
    assert check_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:", "cuda:-1", "cuda:one", "cuda:0.5"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(DeviceError, match=f"device {name!r} is not known; choose cpu, cuda"):
        check_device(name)


@pytest.mark.parametrize("name", ["mps", "mps:0", "meta", "xpu"])
@pytest.mark.parametrize("gpus", [0, 1])
def test_other_devices_of_pytorch_are_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, gpus: int
) -> None:
    pretend_gpus(monkeypatch, gpus)
    with pytest.raises(DeviceError, match=f"device {name!r} is not supported; choose cpu, cuda"):
        check_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is present")
@pytest.mark.parametrize("name", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_is_refused_on_this_machine_without_any(name: str) -> None:
    with pytest.raises(DeviceError, match=f"{name} was .* sees no CUDA device; use --device cpu"):
        check_device(name)


@pytest.mark.parametrize(
    ("gpus", "name"), [(1, "cuda"), (1, "cuda:0"), (2, "cuda"), (2, "cuda:1"), (128, "cuda:127")]
)
def test_a_gpu_that_pytorch_sees_is_taken(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str
) -> None:
    pretend_gpus(monkeypatch, gpus)
    assert check_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("gpus", "name", "seen"),
    [
        (0, "cuda", "no CUDA device;"),
        (0, "cuda:0", "no CUDA device;"),
        (1, "cuda:1", "1 CUDA device;"),
        (2, "cuda:2", "2 CUDA devices;"),
    ],
)
def test_a_gpu_that_pytorch_does_not_see_is_refused(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str, seen: str
) -> None:
    pretend_gpus(monkeypatch, gpus)
    with pytest.raises(DeviceError, match=f"device {name} was asked for, .* sees {seen}"):
        check_device(name)


@pytest.mark.parametrize("gpus", [0, 1])
@pytest.mark.parametrize("number", [128, 200, 255, 256, 300])
def test_a_number_beyond_pytorchs_eight_bits_is_refused(
    monkeypatch: pytest.MonkeyPatch, number: int, gpus: int
) -> None:
    pretend_gpus(monkeypatch, gpus)
    with pytest.raises(DeviceError, match=f"cuda:{number}"):
        check_device(f"cuda:{number}")


@pytest.mark.parametrize(("gpus", "name"), [(0, "cpu"), (1, "cuda")])
def test_the_default_is_a_gpu_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, gpus: int, name: str
) -> None:
    pretend_gpus(monkeypatch, gpus)
    assert default_device() == name
    assert check_device(default_device()) == torch.device(name)


@pytest.mark.parametrize(
    ("abilities", "pays"),
    [
        ({}, False),
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "amx_bf16": False, "cpu_name": "Intel Xeon"}, False),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, True),
    ],
)
def test_bfloat16_pays_on_a_cpu_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], pays: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert bfloat16_pays(torch.device("cpu")) is pays


def test_bfloat16_does_not_pay_where_pytorch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bfloat16_pays(torch.device("cpu")) is False


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_pays_on_a_gpu_that_does_not_emulate_it(
    monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    # An older GPU says yes as long as emulation counts.
    monkeypatch.setattr(
        torch.cuda,
        "is_bf16_supported",
        lambda including_emulation=True: including_emulation or native,
    )
    assert bfloat16_pays(torch.device("cuda")) is native
