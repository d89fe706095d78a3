"""How wide every layer of the student becomes: given, uniform, or where width is worth most."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from wkdc.errors import TargetError
from wkdc.onnx.rewrites import LANES
from wkdc.pruning.channels import ChannelGroup
from wkdc.pruning.cost_model import Cost, Counted

Prefer = Literal["fidelity", "balance", "speed"]

TOLERANCE = 0.02
"""How far, relatively, parameters or MACs may be from what was asked."""


PACE: dict[Prefer, float] = {"fidelity": float("inf"), "balance": 1.1, "speed": 0.93}
"""How long the student may take, as a share of what uniform widths would.

For a tenth more time than theirs a student comes 2 dB nearer to its teacher; docs/results.md has
the figures.
"""

STEPS = (16, 8, 4, 2, 1)
"""Widths are multiples of the first of these with which a target can be met."""

MOVES = 250
"""About how many changes of one group are tried in each step of a search; pairs are its square."""

NOTHING = 1e-6
"""A mean squared error that nobody sees: 66 dB."""


def smallest_widths(groups: Sequence[ChannelGroup], *, drop: int) -> list[int]:
    """One channel a group, and `drop` blocks fewer."""
    inside = [number for number, group in enumerate(groups) if group.block is not None]
    gone = inside[len(inside) - drop :]
    return [0 if number in gone else 1 for number in range(len(groups))]


def check_feasible(
    cost: Cost, groups: Sequence[ChannelGroup], quantity: Counted, target: float, *, drop: int
) -> None:
    """Raise TargetError, which names the smallest network, if `target` is out of reach.

    Args:
        drop: how many blocks may go.
    """
    total = cost.of(quantity, [group.channels for group in groups])
    least = cost.of(quantity, smallest_widths(groups, drop=drop))
    # A time is only modelled here; where it is a target, the smallest network is measured.
    if quantity != "clock" and target < least * (1 - TOLERANCE):
        unit = "parameters" if quantity == "params" else "MACs"
        raise TargetError(
            f"infeasible: {target:,.0f} {unit}, ratio {total / target:g}; the smallest network has "
            f"{least:,.0f} {unit}, ratio {total / least:.1f}"
        )


def uniform_widths(
    groups: Sequence[ChannelGroup],
    cost: Cost,
    quantity: Counted,
    target: float,
    *,
    step: int = 1,
    dropped: frozenset[int] = frozenset(),
) -> list[int]:
    """The same share of every group, such that the network costs `target` within 2 %.

    Only if rounding misses that, single steps more or less where they come nearest.

    Args:
        step: widths are multiples of it, or the teacher's.
        dropped: numbers of the groups whose blocks go.

    Raises:
        TargetError: it cannot be met; the message names the nearest, or the smallest network.
    """
    check_feasible(cost, groups, quantity, target, drop=len(dropped))
    levels = [
        [0] if number in dropped else _levels(group, step, drop=False)
        for number, group in enumerate(groups)
    ]

    def price(widths: Sequence[int]) -> float:
        return cost.of(quantity, widths)

    widths = _even_widths(levels, groups, price, target)
    while abs(price(widths) - target) > TOLERANCE * 0.9 * target:
        change = 1 if price(widths) < target else -1
        indices = [row.index(width) + change for row, width in zip(levels, widths, strict=True)]
        moves = [
            [*widths[:i], levels[i][index], *widths[i + 1 :]]
            for i, index in enumerate(indices)
            if 0 <= index < len(levels[i])
        ]
        best = min(moves, key=lambda k: abs(price(k) - target), default=widths)
        if abs(price(best) - target) >= abs(price(widths) - target):
            break
        widths = best
    # A time is corrected by measuring, so it need not be met here.
    if quantity == "clock":
        return widths
    return check_met(widths, groups, cost, quantity, target, step)


def check_met(
    widths: list[int],
    groups: Sequence[ChannelGroup],
    cost: Cost,
    quantity: Counted,
    target: float,
    step: int = 1,
) -> list[int]:
    """`widths`, if they meet `target` within 2 % and make something smaller.

    Raises:
        TargetError: they do not.
    """
    total = cost.of(quantity, [group.channels for group in groups])
    ratio = total / target
    reached = total / cost.of(quantity, widths)
    if abs(reached / ratio - 1) > TOLERANCE:
        raise TargetError(
            f"ratio {ratio:g} cannot be met within {TOLERANCE:.0%}: widths are "
            f"{'whole' if step == 1 else f'multiples of {step}'}; the nearest found is "
            f"{reached:.3g}"
        )
    if widths == [group.channels for group in groups]:
        raise TargetError(f"ratio {ratio:g} would remove nothing; give a larger one")
    return widths


def search_widths(
    groups: Sequence[ChannelGroup],
    cost: Cost,
    damage: Sequence[Tensor],
    quantity: Counted,
    target: float,
    *,
    pace: float,
    step: int | None = None,
    drop: int | None = None,
) -> list[int]:
    """The widths that cost `target` within 2 % and increase the image's error least.

    Steepest descent over all changes of one or two groups at a time, from uniform widths and from
    the teacher's: thousands of candidates, each at the price of a table look-up.

    Args:
        damage: for each group, what each width from 0 on adds to the image's mean squared error;
            see `wkdc.pruning.sensitivity`. Groups add up.
        pace: how long the student may take, as a share of what uniform widths would. It gives way
            where nothing of the wanted cost is that fast.
        step: widths are multiples of it, or the teacher's; by default of the largest of `STEPS`
            that meets the target.
        drop: how many blocks go; None leaves that to the search.

    Raises:
        TargetError: the target cannot be met.
    """
    inside = [n for n, group in enumerate(groups) if group.block is not None]
    most = max(0, len(inside) - 1)  # one block stays
    check_feasible(cost, groups, quantity, target, drop=most if drop is None else drop)
    table = torch.full((len(groups), max(len(d) for d in damage)), torch.inf).double()
    for number, row in enumerate(damage):
        table[number, : len(row)] = row
    even = _even_widths(
        [_levels(group, 1, drop=False) for group in groups],
        groups,
        lambda widths: cost.of(quantity, widths),
        target,
    )
    limit = pace * cost.of("clock", even)

    def objective(widths: Tensor) -> Tensor:
        """The logarithm of the error, and what makes a candidate no answer."""
        error = table.gather(1, widths.T.long()).sum(0) + NOTHING
        spent = cost.of_each(quantity, widths) / target
        missed = (spent - 1).clamp_min(0) + (1 - TOLERANCE / 2 - spent).clamp_min(0)
        late = (cost.of_each("clock", widths) / limit - 1).clamp_min(0)
        gone = (widths[:, inside] == 0).sum(1)
        missed = missed + (gone - most).clamp_min(0)
        if drop is not None:
            missed = missed + (gone - drop).abs()
        return error.log() + 1000 * missed + 100 * late

    found: list[tuple[float, list[int]]] = []
    for multiple in STEPS if step is None else (step,):
        levels = [_levels(group, multiple, drop != 0) for group in groups]
        for start in (even, [group.channels for group in groups]):
            found.append(_descend(_nearest_levels(levels, start), levels, objective))
        best = min(found)[1]
        met = abs(cost.of(quantity, best) / target - 1) <= TOLERANCE
        if met and multiple <= LANES // 2:
            break
    # A time is corrected by measuring, so it need not be met here.
    if quantity == "clock":
        return best
    return check_met(best, groups, cost, quantity, target, step or 1)


def _even_widths(
    levels: Sequence[Sequence[int]],
    groups: Sequence[ChannelGroup],
    price: Callable[[Sequence[int]], float],
    target: float,
) -> list[int]:
    """The same share of every group, rounded to `levels`, whose price is nearest to `target`."""

    def share_of(share: float) -> list[int]:
        return _nearest_levels(levels, [share * group.channels for group in groups])

    # Stock widths are multiples of 64, and of them 64ths are whole: 24, 48, 96, not 24, 47, 95.
    stock = min(
        (share_of(number / 64) for number in range(1, 64)), key=lambda k: abs(price(k) - target)
    )
    if abs(price(stock) - target) <= TOLERANCE * target:
        return stock
    return _nearest(share_of, price, target)


def _nearest(
    share_of: Callable[[float], list[int]], price: Callable[[Sequence[int]], float], target: float
) -> list[int]:
    """The widths of the share at which the price crosses `target`."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if price(share_of(middle)) < target else (low, middle)
    return min(share_of(low), share_of(high), key=lambda widths: abs(price(widths) - target))


def _levels(group: ChannelGroup, step: int, drop: bool) -> list[int]:
    """The widths that a group may have."""
    levels = sorted({*range(step, group.channels, step), group.channels})
    return [0, *levels] if drop and group.block is not None else levels


def _nearest_levels(levels: Sequence[Sequence[int]], wanted: Sequence[float]) -> list[int]:
    return [
        min(row, key=lambda level: abs(level - width))
        for row, width in zip(levels, wanted, strict=True)
    ]


def _descend(
    start: list[int], levels: Sequence[Sequence[int]], objective: Callable[[Tensor], Tensor]
) -> tuple[float, list[int]]:
    """The lowest value that changes of one or two widths at a time lead to, and its widths."""
    here = torch.tensor([start]).double()
    value = float(objective(here))
    while True:
        singles = [
            (number, level)
            for number, row in enumerate(levels)
            for level in _near(row, int(here[0, number]), len(levels))
        ]
        if not singles:
            return value, start
        if len(singles) > 2 * MOVES:  # of many groups, pairs of the best alone
            alone = here.repeat(len(singles), 1)
            for row, (number, level) in enumerate(singles):
                alone[row, number] = level
            order = objective(alone).argsort(stable=True).tolist()
            wider = [n for n in order if singles[n][1] > here[0, singles[n][0]]]
            narrower = [n for n in order if singles[n][1] < here[0, singles[n][0]]]
            # Of both, as a pair of them keeps the cost.
            singles = [singles[n] for n in (*wider[: MOVES // 2], *narrower[: MOVES // 2])]
        changes = torch.tensor(
            list(itertools.combinations_with_replacement(range(len(singles)), 2))
        )
        group, width = torch.tensor(singles).unbind(1)
        moved = here.repeat(len(changes), 1)
        rows = torch.arange(len(changes))
        for side in (0, 1):
            moved[rows, group[changes[:, side]]] = width[changes[:, side]].double()
        values = objective(moved)
        best = int(values.argmin())
        if not float(values[best]) < value - 1e-6:
            return value, [int(width) for width in here[0]]
        here, value = moved[best : best + 1], float(values[best])


def _near(levels: Sequence[int], at: int, groups: int) -> list[int]:
    """The levels to try instead of `at`: all, or fewer the further away where there are many."""
    index, most = levels.index(at), max(2, MOVES // groups)
    if len(levels) > most:
        steps = [sign * far for far in (1, 2, 3, 4, 6, 8, 12, 16) for sign in (-1, 1)][:most]
        near = {levels[index + s] for s in steps if 0 <= index + s < len(levels)}
    else:
        near = set(levels)
    return sorted((near | ({0} if levels[0] == 0 else set())) - {at})
