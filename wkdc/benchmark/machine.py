"""What the machine tells of itself while something is measured: clocks, energy, versions."""

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")
POWER = Path("/sys/class/powercap")
MHZ = re.compile(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Clock:
    """MHz of the slowest and the fastest core at one moment.

    A virtual machine says what its host promises, whatever the cores really run at.
    """

    lowest_mhz: float
    highest_mhz: float


def read_clock(cpus: Path = CPUS, listed: Path = Path("/proc/cpuinfo")) -> Clock | None:
    """The clock of the processor's cores now; None where the system does not tell."""
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
    """Under which something was measured.

    Attributes:
        versions: of the runtimes that are installed, by package.
        clock_before, clock_after: None where the system does not tell.
    """

    versions: dict[str, str]
    clock_before: Clock | None
    clock_after: Clock | None


class EnergyMeter:
    """Joules that the processor's packages have taken, by their running average power limit.

    Args:
        folder: where the kernel lists the counters, one `intel-rapl:N` a package, AMD's too.
    """

    def __init__(self, folder: Path = POWER) -> None:
        # Not their parts (`intel-rapl:0:0`), nor the whole platform, which would count twice.
        self._packages = [
            path
            for path in sorted(folder.glob("intel-rapl:*"))
            if path.name.count(":") == 1 and _text(path / "name").startswith("package")
        ]
        self._last: dict[Path, int] = {}
        self._sum = 0.0

    def read(self) -> float | None:
        """Joules since the first call; None where the system does not tell, or not to this user."""
        for package in self._packages:
            now = _number(package / "energy_uj")
            if now is None:
                return None
            before = self._last.get(package, now)
            if now < before:  # the counter began anew
                highest = _number(package / "max_energy_range_uj")
                if highest is None:
                    return None
                before -= highest
            self._sum += (now - before) / 1e6
            self._last[package] = now
        return self._sum if self._last else None


def versions() -> dict[str, str]:
    """Of what computes here, those that are installed."""
    found = {}
    for name in ("torch", "onnxruntime-gpu", "onnxruntime", "openvino", "tensorrt", "triton"):
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
