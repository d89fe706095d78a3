"""How the values of options are read: sizes, counts, times, lists of numbers."""

import math
import re
from typing import Literal

from wkdc.errors import OptionError

NUMBER = r"\d{1,9}"
"""A whole number in an option. Python refuses to read one of some thousand digits."""


def parse_size(text: str) -> tuple[int, int]:
    """`256` -> (256, 256), `192x320` -> (192, 320): height by width.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(f"({NUMBER})(?:x({NUMBER}))?", text.strip().lower())
    if found is None:
        raise OptionError(f"size {text!r} is not understood; give 256, or height x width: 192x320")
    height = int(found[1])
    return height, int(found[2] or height)


def parse_count(text: str) -> int:
    """`1606000`, `700k`, `1.6M` or `7G` -> the number.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*([kKMG]?)", text.strip())
    if found is None:
        raise OptionError(
            f"{text!r} is not understood; give a number, with k, M or G where it is large: 1.6M"
        )
    scale = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}[found[2]]
    return round(float(found[1]) * scale)


def parse_milliseconds(text: str) -> float:
    """`80`, `80ms` or `0.08s` -> milliseconds.

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,15})?)\s*(ms|s)?", text.strip())
    if found is None:
        raise OptionError(f"latency {text!r} is not understood; give milliseconds, such as 80ms")
    return float(found[1]) * (1000 if found[2] == "s" else 1)


def parse_widths(text: str) -> Literal["uniform", "search"] | list[int]:
    """`uniform`, `search`, or `32,96,144,69,96,32` -> the numbers.

    Raises:
        OptionError: anything else.
    """
    match text.strip():
        case "uniform":
            return "uniform"
        case "search":
            return "search"
    parts = text.split(",")
    if not all(re.fullmatch(NUMBER, part.strip()) for part in parts):
        raise OptionError(
            f"widths {text!r} is not understood; give uniform, search, or numbers with commas: "
            "32,96,144,69,96,32"
        )
    return [int(part) for part in parts]


def parse_shard(text: str) -> tuple[int, int]:
    """`3/16` -> (3, 16).

    Raises:
        OptionError: anything else.
    """
    found = re.fullmatch(f"({NUMBER})/({NUMBER})", text.strip())
    if found is None:
        raise OptionError(f"shard {text!r} is not understood; give a part of all: 3/16")
    return int(found[1]), int(found[2])


def parse_step(text: str) -> int | None:
    """`8`, `16` -> the number; `auto` -> None.

    Raises:
        OptionError: anything else.
    """
    if text.strip() == "auto":
        return None
    if not re.fullmatch(NUMBER, text.strip()):
        raise OptionError(f"round-to {text!r} is not understood; give auto, or a number such as 16")
    return int(text)


def parse_range(text: str) -> tuple[float, float]:
    """`0,4096` -> (0, 4096).

    Raises:
        OptionError: anything else than two finite numbers.
    """
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        low = high = math.nan
    if not math.isfinite(low) or not math.isfinite(high):
        raise OptionError(f"range {text!r} is not understood; give LOW,HIGH, such as 0,4096")
    return low, high


def parse_bands(text: str) -> tuple[int, ...]:
    """`3,2,1` -> (3, 2, 1).

    Raises:
        OptionError: anything else than whole numbers.
    """
    if not all(re.fullmatch(NUMBER, part.strip()) for part in text.split(",")):
        raise OptionError(f"bands {text!r} is not understood; give numbers, such as 3,2,1")
    return tuple(map(int, text.split(",")))
