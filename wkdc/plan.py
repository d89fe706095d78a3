"""The plan of a student: which channels stay, what that costs, and how near it will be."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from wkdc.channels import ChannelGroup, channel_groups, slice_channels
from wkdc.checkpoint import Generator
from wkdc.complexity import kernel_positions
from wkdc.errors import OptionError, TargetError
from wkdc.importance import Importance, Ranking, accumulate_gradients, rank
from wkdc.latency import onnx_calls, time_in_turn
from wkdc.observation import Observation, observe
from wkdc.recognition import drawable_side
from wkdc.sensitivity import CROP, picture_damage
from wkdc.targets import Target
from wkdc.widths import (
    PACE,
    TOLERANCE,
    Cost,
    Counted,
    Prefer,
    check_feasible,
    search_widths,
    smallest_widths,
    uniform_widths,
)

ATTEMPTS = 5
"""How often widths are corrected by the time that they really take."""

ROUNDS = 7
"""How often each is timed for it."""

Widths = Literal["uniform", "search"] | Sequence[int]


@dataclass(frozen=True)
class Wishes:
    """What is asked of a plan besides its target.

    Attributes:
        widths: `uniform`, `search`, or one number for each group in the order of the forward pass
            (0 drops a residual block); for a ResNet also encoder, stream, one number for the inside
            of all blocks, decoder. By default `search` where there are pictures.
        prefer: what the search is after: `fidelity` whatever the time, `balance` in no more time
            than uniform widths would take (the default), `speed` in much less.
        round_to: widths are multiples of it.
        drop_blocks: how many residual blocks go; by default as many as the search finds good.
        importance: see `wkdc.importance.rank`.
        seed: of the importance `random`.
    """

    widths: Widths | None = None
    prefer: Prefer | None = None
    round_to: int | None = None
    drop_blocks: int | None = None
    importance: Importance = "magnitude"
    seed: int = 0


@dataclass(frozen=True)
class Clock:
    """Milliseconds for one picture in ONNX Runtime, teacher and student in turn.

    Attributes:
        expected_ms: what the model of `wkdc.widths.Cost`, scaled by the teacher's time, says.
    """

    teacher_ms: float
    student_ms: float
    expected_ms: float
    size: tuple[int, int]
    device: str


@dataclass(frozen=True)
class Plan:
    """Which channels stay.

    Attributes:
        teacher: whose student it is.
        groups: the channels that go together, in the order of the forward pass.
        kept: of each group, the channels that stay; none where a block goes.
        cost: of every choice of widths.
        observed: the teacher at work; None without pictures.
        expected_error: the picture's mean squared error without training, as the measured harm of
            each group adds up; None without pictures.
        clock: where the time was measured.
    """

    teacher: Generator
    groups: tuple[ChannelGroup, ...]
    kept: tuple[list[int], ...]
    cost: Cost
    observed: Observation | None
    expected_error: float | None
    clock: Clock | None = None

    @property
    def widths(self) -> dict[str, tuple[int, int]]:
        """The teacher's and the student's, by the first layer that makes the channels."""
        return {
            next(iter(group.makers)): (group.channels, len(kept))
            for group, kept in zip(self.groups, self.kept, strict=True)
        }

    @property
    def expected_psnr_db(self) -> float | None:
        """`expected_error` as PSNR in dB, of pictures in [-1, 1]."""
        if self.expected_error is None:
            return None
        return 10 * math.log10(4 / max(self.expected_error, 1e-12))

    def sliced(self) -> nn.Module:
        """A network of the channels that stay, with the teacher's weights and names of layers."""
        network, graph, groups = _traced(self.teacher)
        slice_channels(network, graph, groups, self.kept)
        return network


@dataclass(frozen=True)
class _Survey:
    """What is known of the teacher before widths are chosen."""

    teacher: Generator
    groups: list[ChannelGroup]
    cost: Cost
    rankings: list[Ranking]
    damage: list[Tensor]
    observed: Observation | None

    def plan(self, widths: Sequence[int]) -> Plan:
        kept = tuple(
            sorted(ranking.order[:width])
            for ranking, width in zip(self.rankings, widths, strict=True)
        )
        error = None
        if self.damage:
            error = sum(float(row[k]) for row, k in zip(self.damage, widths, strict=True))
        return Plan(self.teacher, tuple(self.groups), kept, self.cost, self.observed, error)


def make_plan(
    teacher: Generator,
    target: Target | None,
    images: Sequence[Tensor],
    wishes: Wishes,
    *,
    size: tuple[int, int],
    device: str = "cpu",
    on_progress: Callable[[str, float], None] | None = None,
) -> Plan:
    """Rank the channels of `teacher`, and choose how many of each group stay.

    Args:
        target: None where the wished widths are numbers.
        images: calibration pictures, 1×C×H×W in [-1, 1], all of one size; without any, widths
            cannot be searched.
        size: height and width that MACs are counted and latency is measured at.
        device: on which latency is measured, where the target is one.
        on_progress: called with what is being done, and the share of the planning that is done.

    Raises:
        OptionError: wishes that do not go together, or widths that do not fit the network.
        TargetError: the target is out of reach, or the network cannot be pruned.
        DeviceError: ONNX Runtime cannot use the device.
    """
    tell = on_progress or (lambda stage, share: None)
    if wishes.widths is None:
        wishes = replace(wishes, widths="search" if images else "uniform")
    _check(wishes, target, bool(images))
    network, _, groups = _traced(teacher)
    told = None if isinstance(wishes.widths, str | None) else _spell_out(wishes.widths, groups)
    blocks = sum(group.block is not None for group in groups)
    if (wishes.drop_blocks or 0) > max(0, blocks - 1):
        raise OptionError(
            f"drop_blocks is {wishes.drop_blocks}; this network has {blocks}, of which one stays"
            if blocks
            else f"drop_blocks is {wishes.drop_blocks}; this network has no residual blocks"
        )
    cost = Cost(network, groups, kernel_positions(network, teacher.in_channels, size))
    if target is not None and target.amount is not None and target.quantity != "latency":
        # Said before anything slow.
        check_feasible(cost, groups, target.quantity, target.amount, drop=_may_drop(wishes))
    observed = None
    if images:
        observed = observe(
            teacher.network, images, on_image=lambda share: tell("the teacher draws", 0.5 * share)
        )
    if wishes.importance == "taylor":
        accumulate_gradients(network, images)
    rankings = []
    moments = observed.moments if observed is not None else {}
    for number, group in enumerate(groups, 1):
        rankings.append(
            rank(
                group,
                wishes.importance,
                network=teacher.network,
                moments=moments,
                seed=wishes.seed,
            )
        )
        tell("ranking channels", 0.5 + 0.1 * number / len(groups))
    damage: list[Tensor] = []
    if observed is not None:
        damage = picture_damage(
            teacher.network,
            groups,
            rankings,
            observed,
            side=drawable_side(CROP, teacher.architecture),
            on_group=lambda share: tell("narrowing one group at a time", 0.6 + 0.3 * share),
        )
    survey = _Survey(teacher, groups, cost, rankings, damage, observed)
    tell("choosing widths", 0.9)
    if told is not None:
        return survey.plan(told)
    if target is None:
        raise OptionError("nothing says how small")
    if target.quantity == "latency":
        return _plan_for_latency(survey, target, wishes, size, device, tell)
    return survey.plan(_choose(survey, target.quantity, target.amount or 0, wishes))


def measure_clock(plan: Plan, size: tuple[int, int], device: str) -> Clock:
    """Teacher and student of `plan` in ONNX Runtime, in turn."""
    with _stopwatch(plan.teacher, size, device) as clock_of:
        return clock_of(plan)


@contextmanager
def _stopwatch(
    teacher: Generator, size: tuple[int, int], device: str
) -> Iterator[Callable[[Plan], Clock]]:
    """A function that measures the student of a plan beside its teacher."""
    with onnx_calls(
        in_channels=teacher.in_channels,
        multiple=teacher.architecture.multiple,
        size=size,
        device=device,
    ) as call_of:
        teacher_call = call_of(teacher.network)

        def clock_of(plan: Plan) -> Clock:
            calls = {"teacher": teacher_call, "student": call_of(plan.sliced())}
            times = time_in_turn(calls, ROUNDS)
            before, after = times["teacher"].median, times["student"].median
            whole = plan.cost.of("clock", [group.channels for group in plan.groups])
            share = plan.cost.of("clock", [len(kept) for kept in plan.kept]) / whole
            return Clock(before, after, before * share, size, device)

        yield clock_of


def _traced(teacher: Generator) -> tuple[nn.Module, Any, list[ChannelGroup]]:
    """A copy of the teacher's network, Torch-Pruning's graph of it, and its groups."""
    network = copy.deepcopy(teacher.network).requires_grad_(True)
    graph, groups = channel_groups(
        network, in_channels=teacher.in_channels, smallest=teacher.architecture.smallest
    )
    return network, graph, groups


def _choose(survey: _Survey, quantity: Counted, amount: float, wishes: Wishes) -> list[int]:
    """The widths that cost so much."""
    if wishes.widths == "search":
        return search_widths(
            survey.groups,
            survey.cost,
            survey.damage,
            quantity,
            amount,
            pace=math.inf if quantity == "clock" else PACE[wishes.prefer or "balance"],
            step=wishes.round_to,
            drop=wishes.drop_blocks,
        )
    return uniform_widths(
        survey.groups,
        survey.cost,
        quantity,
        amount,
        step=wishes.round_to or 1,
        dropped=_least_missed(survey.groups, survey.damage, wishes.drop_blocks or 0),
    )


def _plan_for_latency(
    survey: _Survey,
    target: Target,
    wishes: Wishes,
    size: tuple[int, int],
    device: str,
    tell: Callable[[str, float], None],
) -> Plan:
    """The plan whose student takes so long, found by measuring and correcting.

    The model of `Cost` says how times relate; the measured student says how far it is off.
    """
    where = f"on this machine ({device}, {size[0]}x{size[1]})"
    with _stopwatch(survey.teacher, size, device) as clock_of:
        tell("measuring the teacher in ONNX Runtime", 0.9)
        least = survey.plan(smallest_widths(survey.groups, drop=_may_drop(wishes)))
        floor = clock_of(least)
        wanted = target.amount or floor.teacher_ms / (target.ratio or 1)
        if wanted >= floor.teacher_ms:
            raise OptionError(
                f"latency {wanted:.4g} ms is no less than the teacher's {floor.teacher_ms:.4g} ms "
                f"{where}; give less"
            )
        if wanted < floor.student_ms:
            raise TargetError(
                f"infeasible: {wanted:.4g} ms; the smallest network takes {floor.student_ms:.3g} "
                f"ms {where}, its teacher {floor.teacher_ms:.4g}"
            )
        whole = survey.cost.of("clock", [group.channels for group in survey.groups])
        budget = whole * wanted / floor.teacher_ms
        found: list[tuple[float, Plan]] = []
        for attempt in range(ATTEMPTS):
            tell(f"choosing widths and measuring, {attempt + 1}", 0.92 + 0.015 * attempt)
            plan = survey.plan(_choose(survey, "clock", budget, wishes))
            clock = clock_of(plan)
            if target.amount is None:  # a ratio does not care how fast the machine is just now
                over = clock.student_ms / clock.teacher_ms * (target.ratio or 1)
            else:
                over = clock.student_ms / wanted
            found.append((abs(over - 1), replace(plan, clock=clock)))
            if found[-1][0] <= TOLERANCE:
                break
            budget /= over
    return min(found, key=lambda pair: pair[0])[1]


def _may_drop(wishes: Wishes) -> bool:
    """Whether blocks can go at all."""
    return bool(wishes.drop_blocks) or (wishes.widths == "search" and wishes.drop_blocks is None)


def _check(wishes: Wishes, target: Target | None, pictures: bool) -> None:
    """Raise OptionError for wishes that do not go together."""
    told = not isinstance(wishes.widths, str)
    if not told and wishes.widths not in ("uniform", "search"):
        raise OptionError(
            f"widths {wishes.widths!r} is not known; choose uniform, search, or numbers: "
            "32,96,144,69,96,32"
        )
    if told == (target is not None):
        said = "a target and widths in numbers were given" if told else "nothing says how small"
        raise OptionError(f"{said}; give one of ratio, params, macs, latency and widths")
    if wishes.prefer not in (None, *PACE):
        raise OptionError(f"prefer {wishes.prefer!r} is not known; choose {', '.join(PACE)}")
    searched = wishes.widths == "search"
    if wishes.prefer is not None and not searched:
        raise OptionError(f"prefer {wishes.prefer} is for a search of widths; leave it out")
    if wishes.prefer is not None and target is not None and target.quantity == "latency":
        raise OptionError(
            f"prefer {wishes.prefer} says how fast, and so does a latency; leave one of them out"
        )
    if searched and not pictures:
        raise OptionError("a search of widths needs pictures to see what is missed; calibrate")
    if told and (wishes.round_to is not None or wishes.drop_blocks is not None):
        raise OptionError("widths in numbers are taken as they are; round_to and drop_blocks not")
    if wishes.round_to is not None and wishes.round_to < 1:
        raise OptionError(f"round_to is {wishes.round_to}; give 1 or more, such as 16")
    if wishes.drop_blocks is not None and wishes.drop_blocks < 0:
        raise OptionError(f"drop_blocks is {wishes.drop_blocks}; give 0 or more")
    if wishes.drop_blocks and not pictures:
        raise OptionError("dropping blocks needs pictures to see which is missed least; calibrate")


def _spell_out(numbers: Sequence[int], groups: Sequence[ChannelGroup]) -> list[int]:
    """One width for each group, from as many, or from one for the inside of all blocks.

    Raises:
        OptionError: another length, or a width that a group cannot have.
    """
    inner = [n for n, group in enumerate(groups) if group.block is not None]
    widths = list(numbers)
    if inner and len(widths) == len(groups) - len(inner) + 1:
        first = inner[0]
        widths[first : first + 1] = [widths[first]] * len(inner)
    full = ",".join(str(group.channels) for group in groups)
    if len(widths) != len(groups):
        raise OptionError(f"{len(numbers)} widths were given; the teacher has {full}")
    for width, group in zip(widths, groups, strict=True):
        least = 0 if group.block is not None else 1
        if not least <= width <= group.channels:
            raise OptionError(
                f"width {width} is not allowed for {next(iter(group.makers))}; give {least} to "
                f"{group.channels} (the teacher has {full})"
            )
    if inner and not any(widths[n] for n in inner):
        raise OptionError("these widths leave no residual block; keep one")
    if widths == [group.channels for group in groups]:
        raise OptionError("these are the teacher's widths; give smaller ones")
    return widths


def _least_missed(
    groups: Sequence[ChannelGroup], damage: Sequence[Tensor], count: int
) -> frozenset[int]:
    """The insides of the `count` blocks without which the picture changes least."""
    inner = [n for n, group in enumerate(groups) if group.block is not None]
    if not count:
        return frozenset()
    return frozenset(sorted(inner, key=lambda n: float(damage[n][0]))[:count])
