"""How wide every layer of the student becomes: told, uniform, or where width is worth most."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wkdc.channels import CONVOLUTIONS, ChannelGroup, reads
from wkdc.complexity import count_params
from wkdc.errors import TargetError

Counted = Literal["params", "macs", "clock"]
Prefer = Literal["fidelity", "balance", "speed"]

TOLERANCE = 0.02
"""How far, relatively, parameters or MACs may be from what was asked."""

LANES = 16
"""Channels that a processor multiplies at once: ONNX Runtime pads to whole multiples of it."""

WRITE, READ = 250, 115
"""What one value written or read costs, in multiply-accumulates."""

PACE: dict[Prefer, float] = {"fidelity": float("inf"), "balance": 1.0, "speed": 0.72}
"""How long the student may take, as a share of what uniform widths would."""

STEPS = (16, 8, 4, 2, 1)
"""Widths are multiples of the first of these with which a target can be met."""

MOVES = 250
"""About how many changes of one group are tried in each step of a search; pairs are its square."""

NOTHING = 1e-6
"""A mean squared error that nobody sees: 66 dB."""


class Cost:
    """What a network costs as a function of its groups' widths, without building it.

    A convolution's weight has in x out x kernel entries, each used at every position; either axis
    is a sum of groups' widths and a part that belongs to no group.

    Args:
        positions: of `wkdc.complexity.kernel_positions`.
    """

    def __init__(
        self, network: nn.Module, groups: Sequence[ChannelGroup], positions: Mapping[str, int]
    ) -> None:
        made: dict[nn.Module, dict[int, int]] = {}
        read: dict[nn.Module, dict[int, int]] = {}
        blocks = {group.block: n for n, group in enumerate(groups) if group.block is not None}
        for number, group in enumerate(groups):
            for dependency, channels in group.members:
                layer = dependency.layer
                side = read if isinstance(layer, CONVOLUTIONS) and reads(dependency) else made
                side.setdefault(layer, {})[number] = len(channels)
        self._groups = len(groups)
        self._layers: list[_Layer] = []
        for name, layer in network.named_modules():
            own = count_params(layer) if not list(layer.children()) else 0
            block = next((n for b, n in blocks.items() if name.startswith(f"{b}.")), None)
            if own and isinstance(layer, CONVOLUTIONS):
                inputs = _Axis(layer.in_channels, read.get(layer, {}), groups)
                outputs = _Axis(layer.out_channels, made.get(layer, {}), groups)
                kernel = layer.weight.numel() // (layer.in_channels * layer.out_channels)
                each = 0 if layer.bias is None else 1
                grows = layer.stride[0] ** 2 if isinstance(layer, nn.ConvTranspose2d) else 1
                at = positions[name]
                self._layers.append(_Layer(inputs, outputs, kernel, each, at, at * grows, block))
            elif own:  # a norm: so many parameters a channel
                width = int(next(layer.parameters()).numel())
                outputs = _Axis(width, made.get(layer, {}), groups)
                self._layers.append(_Layer(None, outputs, 0, own // width, 0, 0, block))

    def of(self, quantity: Counted, widths: Sequence[int]) -> float:
        """The cost of the network whose groups have these widths."""
        return float(self.of_each(quantity, torch.tensor([widths], dtype=torch.float64)))

    def of_each(self, quantity: Counted, widths: Tensor) -> Tensor:
        """The costs of many: float64 N×groups -> N.

        Args:
            quantity: `params`; `macs`; or `clock`: how long ONNX Runtime takes, in
                multiply-accumulates: those of channels padded to `LANES`, and the values read and
                written. Fitted to 32 ResNets of random widths on a CPU of 16 lanes, of whose
                times it tells 97 % (root mean square).
        """
        total = torch.zeros(len(widths), dtype=torch.float64)
        for layer in self._layers:
            alive = 1.0 if layer.block is None else (widths[:, layer.block] > 0).double()
            makes = layer.outputs.at(widths)
            takes = layer.inputs.at(widths) if layer.inputs is not None else torch.zeros(1)
            match quantity:
                case "params":
                    cost = (layer.kernel * takes + layer.each) * makes
                case "macs":
                    cost = layer.kernel * takes * makes * layer.positions
                case "clock":
                    # The picture's few channels are not padded where they are read.
                    takes = torch.where(takes < LANES, takes, _padded(takes))
                    makes = _padded(makes)
                    cost = layer.kernel * takes * makes * layer.positions
                    cost = cost + layer.pixels * (WRITE * makes + READ * takes)
            total += alive * cost
        return total


@dataclass(frozen=True)
class _Layer:
    """One layer's axes, entries of its kernel, parameters a channel, positions of its kernel,
    pixels that it writes, and the group that it vanishes with."""

    inputs: "_Axis | None"
    outputs: "_Axis"
    kernel: int
    each: int
    positions: int
    pixels: int
    block: int | None


class _Axis:
    """One channel axis of a layer: `fixed` channels and those of some groups."""

    def __init__(self, size: int, members: dict[int, int], groups: Sequence[ChannelGroup]) -> None:
        self._fixed = size - sum(members.values())
        self._shares = [(n, count / groups[n].channels) for n, count in members.items()]

    def at(self, widths: Tensor) -> Tensor:
        total = torch.full((len(widths),), float(self._fixed), dtype=torch.float64)
        for number, share in self._shares:
            total += share * widths[:, number]
        return total


def _padded(channels: Tensor) -> Tensor:
    return (channels / LANES).ceil() * LANES


def smallest_widths(groups: Sequence[ChannelGroup], *, drop: bool) -> list[int]:
    """One channel a group, and one block where the others may be dropped."""
    first = next((n for n, group in enumerate(groups) if group.block is not None), None)
    return [
        0 if drop and group.block is not None and number != first else 1
        for number, group in enumerate(groups)
    ]


def check_feasible(
    cost: Cost, groups: Sequence[ChannelGroup], quantity: Counted, target: float, *, drop: bool
) -> None:
    """Raise TargetError, which names the smallest network, if `target` is out of reach."""
    total = cost.of(quantity, [group.channels for group in groups])
    least = cost.of(quantity, smallest_widths(groups, drop=drop))
    if target < least * (1 - TOLERANCE):
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
        step: widths are multiples of it, or 1.
        dropped: numbers of the groups whose blocks go.

    Raises:
        TargetError: it cannot be met; the message names the nearest, or the smallest network.
    """
    check_feasible(cost, groups, quantity, target, drop=bool(dropped))

    def price(widths: Sequence[int]) -> float:
        return cost.of(quantity, widths)

    def share_of(share: float) -> list[int]:
        return [
            0
            if number in dropped
            else min(group.channels, max(1, round(share * group.channels / step) * step))
            for number, group in enumerate(groups)
        ]

    # Stock widths are multiples of 64, and of them 64ths are whole: 24, 48, 96, not 24, 47, 95.
    even = [share_of(number / 64) for number in range(1, 64)]
    widths = min(even, key=lambda k: abs(price(k) - target))
    if abs(price(widths) - target) > TOLERANCE * target:
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if price(share_of(middle)) < target else (low, middle)
        widths = min(share_of(low), share_of(high), key=lambda k: abs(price(k) - target))
    while abs(price(widths) - target) > TOLERANCE * 0.9 * target:
        change = step if price(widths) < target else -step
        moves = [
            [*widths[:i], width + change, *widths[i + 1 :]]
            for i, width in enumerate(widths)
            if i not in dropped and 1 <= width + change <= groups[i].channels
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
    if widths == [group.channels for group in groups]:
        raise TargetError(f"ratio {ratio:g} would remove nothing; give a larger one")
    reached = total / cost.of(quantity, widths)
    if abs(reached / ratio - 1) > TOLERANCE:
        raise TargetError(
            f"ratio {ratio:g} cannot be met within {TOLERANCE:.0%}: widths are "
            f"{'whole' if step == 1 else f'multiples of {step}'}; the nearest found is "
            f"{reached:.3g}"
        )
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
    """The widths that cost `target` within 2 % and harm the picture least.

    Steepest descent over all changes of one or two groups at a time, from uniform widths and from
    the teacher's: thousands of candidates, each at the price of a table look-up.

    Args:
        damage: for each group, what each width from 0 on adds to the picture's mean squared error;
            see `wkdc.sensitivity`. Groups add up.
        pace: how long the student may take, as a share of what uniform widths would. It gives way
            where nothing of the wanted cost is that fast.
        step: widths are multiples of it, or of the largest of `STEPS` that meets the target.
        drop: how many blocks go; None leaves that to the search.

    Raises:
        TargetError: the target cannot be met.
    """
    inside = [n for n, group in enumerate(groups) if group.block is not None]
    check_feasible(cost, groups, quantity, target, drop=drop != 0)
    table = torch.full((len(groups), max(len(d) for d in damage)), torch.inf).double()
    for number, row in enumerate(damage):
        table[number, : len(row)] = row
    even = _shares(groups, cost, quantity, target)
    limit = pace * cost.of("clock", even)

    def objective(widths: Tensor) -> Tensor:
        """The logarithm of the error, and what makes a candidate no answer."""
        error = table.gather(1, widths.T.long()).sum(0) + NOTHING
        spent = cost.of_each(quantity, widths) / target
        missed = (spent - 1).clamp_min(0) + (1 - TOLERANCE / 2 - spent).clamp_min(0)
        late = (cost.of_each("clock", widths) / limit - 1).clamp_min(0)
        gone = (widths[:, inside] == 0).sum(1)
        missed = missed + (gone - len(inside) + 1).clamp_min(0)  # one block stays
        if drop is not None:
            missed = missed + (gone - drop).abs()
        return error.log() + 1000 * missed + 30 * late

    found: list[tuple[float, list[int]]] = []
    for multiple in STEPS if step is None else (step,):
        levels = [_levels(group, multiple, drop != 0) for group in groups]
        for start in (even, [group.channels for group in groups]):
            nearest = [
                min(row, key=lambda level: abs(level - width))
                for row, width in zip(levels, start, strict=True)
            ]
            found.append(_descend(nearest, levels, objective))
        best = min(found)[1]
        met = abs(cost.of(quantity, best) / target - 1) <= TOLERANCE
        if met and multiple <= LANES // 2:
            break
    # A time is corrected by measuring, so it need not be met here.
    if quantity == "clock":
        return best
    return check_met(best, groups, cost, quantity, target, step or 1)


def _shares(
    groups: Sequence[ChannelGroup], cost: Cost, quantity: Counted, target: float
) -> list[int]:
    """Uniform widths as near to `target` as they come."""
    low, high = 0.0, 1.0
    for _ in range(40):
        share = (low + high) / 2
        widths = [max(1, round(share * group.channels)) for group in groups]
        low, high = (share, high) if cost.of(quantity, widths) < target else (low, share)
    return widths


def _levels(group: ChannelGroup, step: int, drop: bool) -> list[int]:
    """The widths that a group may have."""
    levels = sorted({*range(step, group.channels, step), group.channels})
    return [0, *levels] if drop and group.block is not None else levels


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
    place, most = levels.index(at), MOVES // groups
    if len(levels) > most:
        steps = [sign * far for far in (1, 2, 3, 4, 6, 8, 12, 16) for sign in (-1, 1)][:most]
        near = {levels[place + s] for s in steps if 0 <= place + s < len(levels)}
    else:
        near = set(levels)
    return sorted((near | ({0} if levels[0] == 0 else set())) - {at})
