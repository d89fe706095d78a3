"""Damage to bytes and to JSON, by a seed; the undamaged files that it begins with; its outcome."""

import json
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from wkdc.errors import WkdcError

NUMBERS = (0, 1, 2, 3, 127, 128, 255, 256, 4095, 32767, 32768, 60000, 65535, 2**24, 2**31 - 1)
NUMBERS += (2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)

ODD_JSON: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 0.5, 1e308, 10**30, 2**63, "", "x", "../../x", "\x00", "\n", "é" * 300),
    *([], {}, [1], [[]], {"a": 1}, [None] * 3, "1", "nan", float("nan"), float("inf")),
)


def check_refusal(error: WkdcError) -> None:
    """It says something, in one line that can be read."""
    said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < 1500


def outcome(read: Callable[[], Any]) -> bool:
    """Whether it was taken; if not, it was refused in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except WkdcError as error:
            check_refusal(error)
            return False
    return True


@dataclass(frozen=True)
class Whole:
    """The undamaged files, in a folder that all processes share: see `make_whole`."""

    folder: Path

    def bytes(self, name: str) -> bytes:
        return _read(self.folder / name)

    def names(self, kind: str) -> list[str]:
        found = sorted(path for path in (self.folder / kind).rglob("*") if path.is_file())
        return [path.relative_to(self.folder).as_posix() for path in found]


@cache
def _read(path: Path) -> bytes:
    return path.read_bytes()


def _overwritten(content: bytearray, at: int, pick: random.Random) -> None:
    """A number of one to eight bytes that programs do not expect, in either order."""
    size = pick.choice((1, 2, 4, 4, 8))
    number = pick.choice(NUMBERS) % 2 ** (8 * size)
    content[at : at + size] = number.to_bytes(size, pick.choice(("little", "big")))


def mutated(content: bytes, pick: random.Random) -> bytes:
    """`content` with one to eight damages; headers are hit more often than what follows."""
    data = bytearray(content)
    for _ in range(pick.choice((1, 1, 2, 3, 8))):
        if not data:
            break
        near = min(len(data), pick.choice((32, 256, 2048, len(data))))
        at = pick.randrange(near) if pick.random() < 0.8 else len(data) - 1 - pick.randrange(near)
        match pick.randrange(9):
            case 0 | 1:
                data[at] ^= 1 << pick.randrange(8)
            case 2:
                data[at] = pick.randrange(256)
            case 3 | 4 | 5:
                _overwritten(data, at, pick)
            case 6:
                del data[at : at + pick.choice((1, 4, 100, len(data)))]
            case 7:
                data[at:at] = data[at : at + pick.choice((1, 16, 1000))]
            case _:
                data[at:at] = pick.randbytes(pick.choice((1, 8, 300)))
    return bytes(data)


def entries(holder: Any) -> Any:
    """Every entry of nested dicts and lists, as its holder and key."""
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    for key in keys:
        yield holder, key
        if isinstance(holder[key], dict | list) and len(holder[key]) < 100:
            yield from entries(holder[key])


def mutated_json(text: str, pick: random.Random) -> str:
    """JSON with wrong values, names or nesting; or text that is none."""
    if pick.random() < 0.2:
        return mutated(text.encode(), pick).decode("utf-8", "replace")
    if pick.random() < 0.05:
        return pick.choice(("[" * 100_000, '{"a":' * 50_000, "", "null", "[]", "5", '"x"', "{"))
    try:
        outer = {"": json.loads(text)}
    except (ValueError, RecursionError):  # it is damaged already
        return mutated(text.encode(), pick).decode("utf-8", "replace")
    for _ in range(pick.choice((1, 1, 2, 4))):
        holder, key = pick.choice(list(entries(outer)))
        match pick.randrange(4):
            case 0 if holder is not outer:
                holder.pop(key)
            case 1 if isinstance(holder, dict) and holder is not outer:
                holder[pick.choice(("steps", "extra", ""))] = holder.pop(key)
            case _:
                holder[key] = pick.choice(ODD_JSON)
        if "" not in outer:
            break
    return json.dumps(outer[""])
