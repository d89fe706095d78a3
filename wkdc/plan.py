"""The plan of a student: which channels stay, what that costs, and how near it will be."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from wkdc.channels import (
    ChannelGroup,
    channel_groups,
    example_picture,
    slice_channels,
    trace_flow,
)
from wkdc.checkpoint import Generator
from wkdc.complexity import kernel_positions
from wkdc.cost import Cost, Counted
from wkdc.custom import examine
from wkdc.errors import CheckpointError, OptionError, TargetError
from wkdc.importance import Ranking, accumulate_gradients, rank
from wkdc.latency import onnx_calls, time_in_turn
from wkdc.observation import Observation, observe
from wkdc.recognition import drawable_side
from wkdc.sensitivity import CROP, picture_damage
from wkdc.targets import Target
from wkdc.widths import (
    PACE,
    TOLERANCE,
    check_feasible,
    search_widths,
    smallest_widths,
    uniform_widths,
)
from wkdc.wishes import Wishes, check_wishes, spell_out

ATTEMPTS = 5
"""How often widths are corrected by the time that they really take."""

ROUNDS = 7
"""How often each is timed for it."""


@dataclass(frozen=True)
class Clock:
    """Milliseconds for one picture in ONNX Runtime, teacher and student in turn.

    Attributes:
        expected_ms: what the model of `wkdc.cost.Cost`, scaled by the teacher's time, says.
        wanted_ms: what was asked for; None where no time was.
    """

    teacher_ms: float
    student_ms: float
    expected_ms: float
    size: tuple[int, int]
    device: str
    wanted_ms: float | None = None

    @property
    def met(self) -> bool:
        """Whether the student takes what was asked for, within 2 %."""
        return self.wanted_ms is None or abs(self.student_ms / self.wanted_ms - 1) <= TOLERANCE


@dataclass(frozen=True)
class Plan:
    """Which channels stay.

    Attributes:
        teacher: whose student it is.
        groups: the channels that go together, in the order of the forward pass.
        kept: of each group, the channels that stay; none where a block goes.
        left: layers that stay as they are, by name, but the one that draws the picture.
        cost: of every choice of widths.
        observed: the teacher at work; None without pictures.
        expected_error: the picture's mean squared error without training, as the measured harm of
            each group adds up; None without pictures.
        clock: where the time was measured.
    """

    teacher: Generator
    groups: tuple[ChannelGroup, ...]
    kept: tuple[list[int], ...]
    left: tuple[str, ...]
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
    left: tuple[str, ...]
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
        groups = tuple(self.groups)
        return Plan(self.teacher, groups, kept, self.left, self.cost, self.observed, error)


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
        TargetError: the target is out of reach, or nothing in the network can be pruned.
        CheckpointError: a network of the user's own code does not draw with fewer channels.
        DeviceError: ONNX Runtime cannot use the device.
    """
    tell = on_progress or (lambda stage, share: None)
    if wishes.widths is None:
        wishes = replace(wishes, widths="search" if images else "uniform")
    check_wishes(wishes, target, bool(images))
    network, _, groups = _traced(teacher)
    if not groups:
        raise TargetError(
            f"nothing can be pruned in {teacher.path}: no convolution's channels can go without "
            "changing a layer that wkdc leaves alone"
        )
    if teacher.architecture.family == "custom":
        _check_sliceable(teacher)
    told = None if isinstance(wishes.widths, str | None) else spell_out(wishes.widths, groups)
    blocks = sum(group.block is not None for group in groups)
    if (wishes.drop_blocks or 0) > max(0, blocks - 1):
        raise OptionError(
            f"drop_blocks is {wishes.drop_blocks}; this network has {blocks}, of which one stays"
            if blocks
            else f"drop_blocks is {wishes.drop_blocks}; this network has no residual blocks"
        )
    cost = Cost(network, groups, kernel_positions(teacher.network, teacher.in_channels, size))
    if target is not None and target.amount is not None and target.quantity != "latency":
        # Said before anything slow.
        check_feasible(
            cost, groups, target.quantity, target.amount, drop=_most_dropped(groups, wishes)
        )
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
    left = _left(teacher, groups)
    survey = _Survey(teacher, groups, left, cost, rankings, damage, observed)
    tell("choosing widths", 0.9)
    if told is not None:
        return survey.plan(told)
    if target is None:
        raise OptionError("nothing says how small")
    if target.quantity == "latency":
        return _plan_for_latency(survey, target, wishes, size, device, tell)
    return survey.plan(_choose(survey, target.quantity, target.amount or 0, wishes))


def _check_sliceable(teacher: Generator) -> None:
    """Let a network of the user's own code draw with one channel in every group.

    Raises:
        CheckpointError: it cannot.
    """
    network, graph, groups = _traced(teacher)
    slice_channels(network, graph, groups, [[0]] * len(groups))
    options = teacher.architecture.options
    try:
        same = examine(network, options["factory"]) == {
            key: options[key] for key in ("in_channels", "out_channels", "multiple", "smallest")
        }
    except CheckpointError:
        same = False
    if not same:
        raise CheckpointError(
            f"{options['factory']} does not draw without some of its channels: something in its "
            "forward pass counts them, as a view or a constant of their number does"
        )


def _left(teacher: Generator, groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """The layers with kernels or matrices that no group shrinks, but the one before the picture."""
    network, smallest = teacher.network, teacher.architecture.smallest
    flow = trace_flow(network, example_picture(teacher.in_channels, smallest))
    made = {name for group in groups for name in group.makers} | {flow.order[-1]}
    return tuple(
        name
        for name, layer in network.named_modules()
        if name not in made
        and not list(layer.children())
        and any(parameter.dim() > 1 for parameter in layer.parameters())
    )


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
        smallest=teacher.architecture.smallest,
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
        drop = _most_dropped(survey.groups, wishes)
        least = survey.plan(smallest_widths(survey.groups, drop=drop))
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
        full = [group.channels for group in survey.groups]
        whole = survey.cost.of("clock", full)
        bounds = survey.cost.of("clock", [len(kept) for kept in least.kept]), 0.99 * whole
        budget = whole * wanted / floor.teacher_ms
        found: list[tuple[float, Plan]] = []
        tried: list[tuple[float, float]] = []
        for attempt in range(ATTEMPTS):
            tell(f"choosing widths and measuring, {attempt + 1}", 0.92 + 0.015 * attempt)
            budget = min(max(budget, bounds[0]), bounds[1])
            plan = survey.plan(_choose(survey, "clock", budget, wishes))
            clock = clock_of(plan)
            # A ratio does not care how fast the machine is just now.
            now = target.amount or clock.teacher_ms / (target.ratio or 1)
            over = clock.student_ms / now
            found.append((abs(over - 1), replace(plan, clock=replace(clock, wanted_ms=now))))
            if found[-1][0] <= TOLERANCE:
                break
            tried.append((budget, over))
            budget = _corrected(tried)
    return min(found, key=lambda pair: pair[0])[1]


def _corrected(tried: Sequence[tuple[float, float]]) -> float:
    """The next budget, from those tried and how many times too long each one's student took.

    Between the nearest that was too short and the nearest that was too long, where there are both.
    """
    short = max((pair for pair in tried if pair[1] < 1), default=None)
    long = min((pair for pair in tried if pair[1] >= 1), default=None)
    if short is None or long is None or short[0] >= long[0]:
        budget, over = tried[-1]
        return budget / over
    share = math.log(1 / short[1]) / math.log(long[1] / short[1])
    between: float = short[0] * (long[0] / short[0]) ** share
    return between


def _most_dropped(groups: Sequence[ChannelGroup], wishes: Wishes) -> int:
    """How many blocks may go."""
    if wishes.drop_blocks is not None or wishes.widths != "search":
        return wishes.drop_blocks or 0
    return max(0, sum(group.block is not None for group in groups) - 1)


def _least_missed(
    groups: Sequence[ChannelGroup], damage: Sequence[Tensor], count: int
) -> frozenset[int]:
    """The insides of the `count` blocks without which the picture changes least."""
    inner = [n for n, group in enumerate(groups) if group.block is not None]
    if not count:
        return frozenset()
    return frozenset(sorted(inner, key=lambda n: float(damage[n][0]))[:count])
