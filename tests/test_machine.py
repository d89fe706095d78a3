"""What the machine tells of itself, read from folders as the kernel lays them out."""

import importlib.metadata
from pathlib import Path

import pytest

from wkdc.benchmark.machine import Clock, EnergyMeter, read_clock, versions


def package(folder: Path, name: str, kind: str, energy: int) -> Path:
    counter = folder / name
    counter.mkdir(parents=True)
    (counter / "name").write_text(f"{kind}\n")
    (counter / "energy_uj").write_text(f"{energy}\n")
    (counter / "max_energy_range_uj").write_text("10000000\n")
    return counter


def test_the_clock_is_that_of_every_core(tmp_path: Path) -> None:
    for core, khz in enumerate(["2300000", "3100000", "offline"]):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
    assert read_clock(tmp_path, tmp_path / "none") == Clock(2300.0, 3100.0)


def test_the_clock_of_proc_where_the_kernel_sets_none(tmp_path: Path) -> None:
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\ncpu MHz\t\t: 2300.000\n\ncpu MHz\t\t: 2450.500\n")
    assert read_clock(tmp_path / "none", listed) == Clock(2300.0, 2450.5)


@pytest.mark.parametrize("text", [None, "", "model name: something\n", "cpu MHz : unknown\n"])
def test_no_clock_where_the_system_does_not_tell(tmp_path: Path, text: str | None) -> None:
    listed = tmp_path / "cpuinfo"
    if text is not None:
        listed.write_text(text)
    assert read_clock(tmp_path / "none", listed) is None


def test_joules_of_all_packages_and_of_nothing_twice(tmp_path: Path) -> None:
    one = package(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    other = package(tmp_path, "intel-rapl:1", "package-1", 9_000_000)
    part = package(tmp_path, "intel-rapl:0:0", "core", 500_000)
    whole = package(tmp_path, "intel-rapl:2", "psys", 500_000)
    meter = EnergyMeter(tmp_path)
    assert meter.read() == 0
    (one / "energy_uj").write_text("3500000")
    (other / "energy_uj").write_text("500000")  # began anew after 10 J: 1.5 J
    for counter in (part, whole):
        (counter / "energy_uj").write_text("9000000")
    assert meter.read() == pytest.approx(2.5 + 1.5)


def test_no_joules_where_the_system_does_not_tell(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "none").read() is None
    (package(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj").unlink()
    assert EnergyMeter(tmp_path).read() is None


def test_the_runtimes_that_are_installed_have_versions() -> None:
    found = versions()
    assert found["torch"] == importlib.metadata.version("torch")
    assert {"onnxruntime", "onnxruntime-gpu"} & set(found)
