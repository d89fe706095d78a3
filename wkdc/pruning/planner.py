"""Teacher and target -> the plan of a student."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wkdc.checkpoints.checkpoint import Generator
from wkdc.errors import CheckpointError, OptionError, TargetError
from wkdc.networks.complexity import kernel_positions
from wkdc.pruning.channels import ChannelGroup, example_image, slice_channels
from wkdc.pruning.constraints import Constraints, check_constraints, spell_out
from wkdc.pruning.cost_model import Cost, Counted
from wkdc.pruning.latency_target import meet_latency
from wkdc.pruning.plan import Plan, traced
from wkdc.pruning.target import Target
from wkdc.pruning.teacher_analysis import TeacherAnalysis, analyze_teacher
from wkdc.pruning.width_search import (
    PACE,
    check_feasible,
    search_widths,
    smallest_widths,
    uniform_widths,
)
from wkdc.system.units import counted


def make_plan(
    teacher: Generator,
    target: Target | None,
    images: Sequence[Tensor],
    constraints: Constraints,
    *,
    size: tuple[int, int],
    device: str = "cpu",
    on_progress: Callable[[str, float], None] | None = None,
) -> Plan:
    """Rank the channels of `teacher`, and choose how many of each group stay.

    Args:
        target: None where the widths are given as numbers.
        images: calibration images, 1×C×H×W in [-1, 1], all of one size; without any, widths
            cannot be searched.
        size: height and width that MACs are counted and latency is measured at.
        device: on which latency is measured, where the target is one.
        on_progress: called with what is being done, and the share of the planning that is done.

    Raises:
        OptionError: constraints that do not go together, or widths that do not fit the network.
        TargetError: the target is out of reach, or nothing in the network can be pruned.
        CheckpointError: a network of the user's own code does not run with fewer channels.
        DeviceError: ONNX Runtime cannot use the device.
    """
    tell = on_progress or (lambda stage, share: None)
    if constraints.widths is None:
        constraints = replace(constraints, widths="search" if images else "uniform")
    check_constraints(constraints, target, bool(images))
    network, _, groups = traced(teacher)
    if not groups:
        raise TargetError(
            f"nothing can be pruned in {teacher.path}: no convolution's channels can go without "
            "changing a layer that wkdc leaves alone"
        )
    if teacher.architecture.family == "custom":
        _check_sliceable(teacher)
    given = (
        None
        if isinstance(constraints.widths, str | None)
        else spell_out(constraints.widths, groups)
    )
    _check_dropped(constraints.drop_blocks, groups)
    cost = Cost(network, groups, kernel_positions(teacher.network, teacher.in_channels, size))
    if target is not None and target.amount is not None and target.quantity != "latency":
        # Said before anything slow.
        check_feasible(
            cost, groups, target.quantity, target.amount, drop=_most_dropped(groups, constraints)
        )
    analysis = analyze_teacher(
        teacher,
        network,
        groups,
        cost,
        images,
        constraints.importance,
        seed=constraints.seed,
        tell=lambda stage, share: tell(stage, 0.9 * share),
    )
    tell("choosing widths", 0.9)
    if given is not None:
        _check_apart(analysis, given)
        return analysis.plan(given)
    if target is None:
        raise OptionError("nothing says how small")
    step = constraints.round_to or 1
    if target.quantity == "latency":
        return meet_latency(
            lambda budget: analysis.plan(_choose(analysis, "clock", budget, constraints), step),
            analysis.plan(smallest_widths(groups, drop=_most_dropped(groups, constraints))),
            target,
            size,
            device,
            lambda stage, share: tell(stage, 0.9 + 0.1 * share),
        )
    return analysis.plan(_choose(analysis, target.quantity, target.amount or 0, constraints), step)


def _check_apart(analysis: TeacherAnalysis, widths: Sequence[int]) -> None:
    """Raise OptionError for widths that are equal and may not be; see `must_differ`."""
    for pair in analysis.apart:
        first, second = (next(iter(analysis.groups[n].producers)) for n in pair)
        if widths[pair[0]] == widths[pair[1]]:
            raise OptionError(
                f"{first} and {second} are both given {widths[pair[0]]} channels; give them "
                "different ones, or the original code would add a skip between them"
            )


def _check_dropped(count: int | None, groups: Sequence[ChannelGroup]) -> None:
    """Make sure that `count` residual blocks can be dropped.

    Raises:
        OptionError: there are not so many, or none would be left.
    """
    blocks = sum(group.block is not None for group in groups)
    if (count or 0) > max(0, blocks - 1):
        raise OptionError(
            f"drop_blocks is {count}; of {counted(blocks, 'block')}, one has to stay"
            if blocks
            else f"drop_blocks is {count}; this network has no residual blocks"
        )


def _check_sliceable(teacher: Generator) -> None:
    """Run a network of the user's own code with one channel in every group.

    Raises:
        CheckpointError: it cannot; the message ends in what PyTorch says of it.
    """
    network, graph, groups = traced(teacher)
    slice_channels(network, graph, groups, [[0]] * len(groups))
    options = teacher.architecture.options
    image = example_image(teacher.in_channels, teacher.architecture.smallest)
    try:
        with torch.no_grad():
            made = network(image)
    except Exception as error:  # whatever the user's code raises
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{options['factory']} does not run without some of its channels: something in its "
            f"forward pass counts them, as a view or a constant of their number does ({reason})"
        ) from None
    if made.shape[1:] != (teacher.out_channels, *image.shape[2:]):
        raise CheckpointError(
            f"{options['factory']} returns {counted(made.shape[1], 'channel')} of {made.shape[2]}x"
            f"{made.shape[3]} without some of its channels; it has to return the same image"
        )


def _choose(
    analysis: TeacherAnalysis, quantity: Counted, amount: float, constraints: Constraints
) -> list[int]:
    """The widths that cost so much."""
    if constraints.widths == "search":
        return search_widths(
            analysis.groups,
            analysis.cost,
            analysis.damage,
            quantity,
            amount,
            pace=math.inf if quantity == "clock" else PACE[constraints.prefer or "balance"],
            step=constraints.round_to,
            drop=constraints.drop_blocks,
        )
    return uniform_widths(
        analysis.groups,
        analysis.cost,
        quantity,
        amount,
        step=constraints.round_to or 1,
        dropped=_least_missed(analysis.groups, analysis.damage, constraints.drop_blocks or 0),
    )


def _most_dropped(groups: Sequence[ChannelGroup], constraints: Constraints) -> int:
    """How many blocks may go."""
    if constraints.drop_blocks is not None or constraints.widths != "search":
        return constraints.drop_blocks or 0
    return max(0, sum(group.block is not None for group in groups) - 1)


def _least_missed(
    groups: Sequence[ChannelGroup], damage: Sequence[Tensor], count: int
) -> frozenset[int]:
    """The insides of the `count` blocks without which the image changes least."""
    inner = [n for n, group in enumerate(groups) if group.block is not None]
    if not count:
        return frozenset()
    return frozenset(sorted(inner, key=lambda n: float(damage[n][0]))[:count])
