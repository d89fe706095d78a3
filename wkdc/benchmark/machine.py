"""Conditions of a measurement: clock frequency, energy, versions of the runtimes."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
POWER = Path("/sys/class/powercap")
PACKAGES = (
    "torch",
    "onnxruntime-gpu",
    "onnxruntime",
    "openvino",
    "tensorrt",
    "triton",
    "ai-edge-litert",
    "ncnn",
)
"""The runtimes' packages."""

MHZ = re.compile(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Clock:
    """Frequency of the slowest and the fastest core at one moment, in MHz.

    A virtual machine reports a nominal value.
    """

    lowest_mhz: float
    highest_mhz: float


def read_clock(cpus: Path = CPUS, listed: Path = Path("/proc/cpuinfo")) -> Clock | None:
    """The current clock of the processor's cores; None if the system does not report it."""
    found = [
        value / 1000  # of kHz
        for path in cpus.glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        if (value := _number(path)) is not None
    ]
    if not found and listed.is_file():
        text = listed.read_text(encoding="utf-8", errors="replace")
        found = [float(mhz) for mhz in MHZ.findall(text)]
    return Clock(min(found), max(found)) if found else None


@dataclass(frozen=True)
class Conditions:
    """Conditions of a measurement.

    Attributes:
        versions: of the installed runtimes, by package.
        clock_before, clock_after: None if the system does not report it.
    """

    versions: dict[str, str]
    clock_before: Clock | None
    clock_after: Clock | None


class EnergyMeter:
    """Energy of the processor's packages in joules, from RAPL (running average power limit).

    Args:
        folder: of the kernel's counters, one `intel-rapl:N` a package, on AMD too.
    """

    def __init__(self, folder: Path = POWER) -> None:
        # Neither their parts (`intel-rapl:0:0`) nor the whole platform: they would count twice.
        self._packages = [
            path
            for path in sorted(folder.glob("intel-rapl:*"))
            if path.name.count(":") == 1 and _text(path / "name").startswith("package")
        ]
        self._last: dict[Path, int] = {}
        self._sum = 0.0

    def read(self) -> float | None:
        """Joules since the first call; None if the system does not report it to this user."""
        for package in self._packages:
            now = _number(package / "energy_uj")
            if now is None:
                return None
            before = self._last.get(package, now)
            if now < before:  # the counter wrapped around
                highest = _number(package / "max_energy_range_uj")
                if highest is None:
                    return None
                before -= highest
            self._sum += (now - before) / 1e6
            self._last[package] = now
        return self._sum if self._last else None


def versions() -> dict[str, str]:
    """Versions of the installed runtimes, by package."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
