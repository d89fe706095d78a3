"""Results as plain types: what `--json` prints and a report reads."""

import dataclasses
import datetime
import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from wkdc.errors import OptionError
from wkdc.system.version import __version__


@dataclass(frozen=True)
class Made:
    """What made a result, on which machine.

    Attributes:
        processor: name of the processor or GPU that computed; `cores` of the machine.
        date: ISO 8601, UTC.
    """

    command: str
    version: str
    torch: str
    onnxruntime: str
    processor: str
    cores: int
    date: str

    @classmethod
    def by(cls, command: str, device: str = "cpu") -> "Made":
        """This process, now."""
        return cls(
            command=command,
            version=__version__,
            torch=str(torch.__version__),
            onnxruntime=_onnxruntime_version(),
            processor=(
                torch.cuda.get_device_name(device)
                if device.startswith("cuda")
                else _processor_name()
            ),
            cores=os.cpu_count() or 1,
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )


def to_plain(result: Any) -> Any:
    """Dataclasses, paths and tuples as JSON types; infinite and undefined numbers as None."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {
            field.name: to_plain(getattr(result, field.name))
            for field in dataclasses.fields(result)
        }
    match result:
        case dict():
            return {str(key): to_plain(value) for key, value in result.items()}
        case list() | tuple():
            return [to_plain(value) for value in result]
        case float() if not math.isfinite(result):
            return None
        case None | bool() | int() | float() | str():
            return result
        case _:
            return str(result)


def read_result(path: str | Path, commands: Sequence[str]) -> dict[str, Any]:
    """Read what one of `commands` printed with `--json` into a file.

    Raises:
        OptionError: the file cannot be read, or holds something else.
    """
    allowed = ", ".join(f"wkdc {command} --json" for command in commands)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        command = found["made"]["command"]
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise OptionError(f"{path} is no result; give what {allowed} printed") from None
    if command not in commands:
        raise OptionError(f"{path} is of wkdc {command}; give what {allowed} printed")
    return dict(found)


def _onnxruntime_version() -> str:
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"


def _processor_name() -> str:
    listed = Path("/proc/cpuinfo")
    if listed.is_file():
        for line in listed.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("model name", "hardware"):
                return value.strip()
    return platform.processor() or platform.machine()
