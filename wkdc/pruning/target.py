"""How small the student shall be: the one target that was given, checked."""

import math
from dataclasses import dataclass
from typing import Literal

from wkdc.errors import OptionError
from wkdc.networks.complexity import Complexity

Quantity = Literal["params", "macs", "latency"]

QUANTITIES: tuple[Quantity, ...] = ("params", "macs", "latency")


@dataclass(frozen=True)
class Target:
    """What the student may cost.

    Attributes:
        quantity: what is counted.
        amount: parameters, MACs for one image, or milliseconds; None where only a ratio to the
            teacher's latency, which is still to be measured, is known.
        ratio: the teacher's over the student's; None for a latency in milliseconds.
    """

    quantity: Quantity
    amount: float | None
    ratio: float | None


def read_target(
    teacher: Complexity,
    *,
    ratio: float | None = None,
    by: Quantity | None = None,
    params: int | None = None,
    macs: int | None = None,
    latency_ms: float | None = None,
) -> Target | None:
    """The one target that is given; None without any.

    Raises:
        OptionError: two targets, an unknown quantity, or a target that makes nothing smaller.
    """
    given = {"ratio": ratio, "params": params, "macs": macs, "latency": latency_ms}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise OptionError(
            f"{' and '.join(named)} were given; give one of ratio, params, macs and latency"
        )
    if by is not None and by not in QUANTITIES:
        raise OptionError(f"by {by!r} is not known; choose {', '.join(QUANTITIES)}")
    if by is not None and ratio is None:
        what = f"{named[0]} was given, no ratio" if named else "no ratio was given"
        raise OptionError(f"by {by} says what a ratio counts, but {what}")
    wanted: tuple[tuple[int | None, int, Quantity], ...] = (
        (params, teacher.params, "params"),
        (macs, teacher.macs, "macs"),
    )
    for count, total, quantity in wanted:
        if count is not None and not 0 < count < total:
            raise OptionError(
                f"{quantity} is {count:,}; give 1 or more, fewer than the teacher's {total:,}"
            )
        if count is not None:
            return Target(quantity, count, total / count)
    if latency_ms is not None:
        if not (math.isfinite(latency_ms) and latency_ms > 0):
            raise OptionError(f"latency {latency_ms:g} is not allowed; give milliseconds above 0")
        return Target("latency", latency_ms, None)
    if ratio is None:
        return None
    if not math.isfinite(ratio) or ratio <= 1:
        raise OptionError(f"ratio {ratio:g} is not allowed; give a number above 1, such as 7")
    match by or "params":
        case "latency":
            return Target("latency", None, ratio)
        case "macs":
            return Target("macs", teacher.macs / ratio, ratio)
        case _:
            return Target("params", teacher.params / ratio, ratio)
