"""Teacher -> student: group channels, choose a width for each group, rank, slice.

Torch-Pruning's dependency graph says which channels must go together: those of the residual
stream in every block that reads or writes it, those of a U-Net's skip in both of its readers.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch_pruning
from torch import nn

from wkdc.checkpoint import (
    Generator,
    history_entry,
    load_generator,
    make_card,
    relative_to,
    save_generator,
)
from wkdc.complexity import Complexity, count_params, measure_complexity
from wkdc.errors import OptionError, TargetError
from wkdc.recognition import Architecture, recognise

Importance = Literal["magnitude", "random"]

TOLERANCE = 0.02
"""How far, relatively, the parameter ratio may be from what was asked."""

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


@dataclass(frozen=True)
class PruneResult:
    """A student, how it compares with its teacher, and where it was written.

    Attributes:
        architecture: the student's; `teacher_architecture` the teacher's.
        teacher, student: parameters, and MACs for one picture of `size` (height, width).
        teacher_bytes, student_bytes: sizes of the two files.
    """

    output: Path
    architecture: Architecture
    teacher_architecture: Architecture
    teacher: Complexity
    student: Complexity
    size: tuple[int, int]
    teacher_bytes: int
    student_bytes: int

    @property
    def params_ratio(self) -> float:
        return self.teacher.params / self.student.params

    @property
    def macs_ratio(self) -> float:
        return self.teacher.macs / self.student.macs


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that can only be removed together, in every layer that makes or reads them.

    Attributes:
        root: the convolution whose output channels stand for the group.
        channels: how many there are.
        members: Torch-Pruning's list of (layer, which side of it, which of its channels).
    """

    root: nn.Module
    channels: int
    members: Any


def prune(
    teacher: Generator | str | Path,
    *,
    ratio: float,
    output: str | Path = "student.pth",
    importance: Importance = "magnitude",
    seed: int = 0,
) -> PruneResult:
    """Write a student with `ratio` times fewer parameters than `teacher`.

    Every group of channels keeps the same share; which channels stay is decided by `importance`.
    The picture's own channels are untouched.

    Args:
        teacher: a file, or a generator that was loaded from one.
        ratio: above 1; met within 2 %.
        output: the file to write, replaced whole if it exists.
        importance: `magnitude` keeps the channels with the largest weights, summed over all layers
            of their group; `random` is the control that any ranking has to beat.
        seed: for `random`.

    Raises:
        OptionError: a ratio that is no number above 1, or an unknown importance.
        TargetError: the ratio cannot be reached; the message names the largest that can.
        CheckpointError, OutputError: see `load_generator` and `save_generator`.
    """
    if not math.isfinite(ratio) or ratio <= 1:
        raise OptionError(f"ratio {ratio:g} is not allowed; give a number above 1, such as 7")
    generator = teacher if isinstance(teacher, Generator) else load_generator(teacher)
    output = Path(output)
    if output.resolve() == generator.path.resolve():
        raise OptionError(
            f"the student would overwrite its teacher {output}; give another --output"
        )
    network = copy.deepcopy(generator.network).requires_grad_(True)
    graph, groups = channel_groups(network, generator)
    widths = choose_widths(network, groups, ratio)
    kept = [
        rank(group, importance, seed)[:width] for group, width in zip(groups, widths, strict=True)
    ]
    slice_channels(graph, groups, kept)

    options = generator.architecture.options
    recognition = recognise(
        network.state_dict(),
        norm=options["norm"],
        block_padding=options.get("block_padding"),
        upsampling=options.get("upsampling"),
    )
    architecture = recognition.architecture
    student = architecture.build()
    student.load_state_dict(recognition.state_dict)
    size = (256, 256)
    before = measure_complexity(generator.network, generator.in_channels, size)
    after = measure_complexity(student, generator.in_channels, size)
    made_from: dict[str, Any] = {
        "path": relative_to(generator.path, output.parent),
        "sha256": generator.sha256,
        "params": before.params,
        "macs": before.macs,
    }
    entry = history_entry("prune", ratio=ratio, importance=importance, seed=seed)
    save_generator(output, student, make_card(architecture, made_from, [entry]))
    return PruneResult(
        output,
        architecture,
        generator.architecture,
        before,
        after,
        size,
        generator.path.stat().st_size,
        output.stat().st_size,
    )


def channel_groups(network: nn.Module, generator: Generator) -> tuple[Any, list[ChannelGroup]]:
    """Torch-Pruning's dependency graph of `network`, and its groups of removable channels.

    Args:
        network: a copy of `generator.network` whose weights require gradients, which the graph
            is traced along.
    """
    multiple = max(generator.architecture.multiple, 32)
    example = torch.zeros(1, generator.in_channels, multiple, multiple)
    graph = torch_pruning.DependencyGraph().build_dependency(network, example)
    # Modules are registered in the order of the forward pass: the last convolution draws.
    picture = [layer for layer in network.modules() if isinstance(layer, CONVOLUTIONS)][-1]
    groups = [
        ChannelGroup(members[0].dep.layer, len(members[0].idxs), members)
        for members in graph.get_all_groups(
            ignored_layers=[picture], root_module_types=list(CONVOLUTIONS)
        )
    ]
    return graph, groups


def choose_widths(network: nn.Module, groups: Sequence[ChannelGroup], ratio: float) -> list[int]:
    """How many channels each group keeps, so that parameters shrink by `ratio` within 2 %.

    The same share everywhere, rounded; then, only if that misses, single channels more or less in
    the groups where the relative change is smallest.

    Raises:
        TargetError: even one channel a group is too many; the message names the largest ratio.
    """
    params = _ParameterCount(network, groups)
    total = params.of([group.channels for group in groups])
    smallest = params.of([1] * len(groups))
    target = total / ratio
    if target < smallest * (1 - TOLERANCE):
        raise TargetError(
            f"infeasible: ratio {ratio:g}; the smallest network has {smallest:,} parameters, "
            f"ratio {total / smallest:.1f}"
        )

    def uniform(share: float) -> list[int]:
        return [max(1, round(share * group.channels)) for group in groups]

    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if params.of(uniform(middle)) < target else (low, middle)
    widths = uniform(low)  # at least the ratio that was asked for, where the tolerance allows
    if params.of(widths) < target * (1 - TOLERANCE):
        widths = min(widths, uniform(high), key=lambda k: abs(params.of(k) - target))
    while abs(params.of(widths) - target) > TOLERANCE * 0.9 * target:
        step = 1 if params.of(widths) < target else -1
        moves = [
            [*widths[:i], width + step, *widths[i + 1 :]]
            for i, width in enumerate(widths)
            if 1 <= width + step <= groups[i].channels
        ]
        best = min(moves, key=lambda k: abs(params.of(k) - target), default=widths)
        if abs(params.of(best) - target) >= abs(params.of(widths) - target):
            break
        widths = best
    reached = total / params.of(widths)
    if abs(reached / ratio - 1) > TOLERANCE:
        raise TargetError(
            f"ratio {ratio:g} cannot be met within {TOLERANCE:.0%}: channels are whole; "
            f"the nearest is {reached:.3g}"
        )
    return widths


def rank(group: ChannelGroup, importance: Importance, seed: int = 0) -> list[int]:
    """The group's channels, most important first.

    Raises:
        OptionError: an unknown importance.
    """
    match importance:
        case "magnitude":
            scores = torch_pruning.importance.GroupMagnitudeImportance(p=2)(group.members)
            order: list[int] = torch.argsort(scores, descending=True, stable=True).tolist()
            return order
        case "random":
            generator = torch.Generator().manual_seed(seed)
            return list(torch.randperm(group.channels, generator=generator).tolist())
        case _:
            raise OptionError(f"importance {importance!r} is not known; choose magnitude or random")


def slice_channels(graph: Any, groups: Sequence[ChannelGroup], kept: Sequence[list[int]]) -> None:
    """Remove from the traced network, in place, every channel that is not in `kept`."""
    for group, channels in zip(groups, kept, strict=True):
        removed = sorted(set(range(group.channels)) - set(channels))
        if removed:
            pruning_fn = graph.get_pruner_of_module(group.root).prune_out_channels
            graph.get_pruning_group(group.root, pruning_fn, removed).prune()


class _ParameterCount:
    """Parameters as a function of the groups' widths, without building the network.

    A layer's weight has (in × out × a constant) entries; each axis is a sum of groups' widths and
    a part that belongs to no group.
    """

    def __init__(self, network: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        made: dict[nn.Module, dict[int, int]] = {}
        read: dict[nn.Module, dict[int, int]] = {}
        for number, group in enumerate(groups):
            for dependency, channels in group.members:
                layer = dependency.layer
                reads = isinstance(layer, CONVOLUTIONS) and dependency.pruning_fn.__name__ in (
                    "prune_in_channels",
                    "prune_conv_in_channels",
                )
                (read if reads else made).setdefault(layer, {})[number] = len(channels)
        self._layers: list[tuple[float, float, _Axis, _Axis]] = []
        for layer in network.modules():
            own = count_params(layer) if not list(layer.children()) else 0
            if not own:
                continue
            if isinstance(layer, CONVOLUTIONS):
                inputs = _Axis(layer.in_channels, read.get(layer, {}), groups)
                makes = _Axis(layer.out_channels, made.get(layer, {}), groups)
                area = layer.weight.numel() / (layer.in_channels * layer.out_channels)
                each = 0.0 if layer.bias is None else 1.0
            else:  # a norm: so many parameters a channel
                width = int(next(layer.parameters()).numel())
                inputs, makes = _Axis(0, {}, groups), _Axis(width, made.get(layer, {}), groups)
                area, each = 0.0, own / width
            self._layers.append((area, each, inputs, makes))

    def of(self, widths: Sequence[int]) -> int:
        """Parameters of the network whose groups have these widths."""
        return round(
            sum(
                (area * reads.at(widths) + each) * makes.at(widths)
                for area, each, reads, makes in self._layers
            )
        )


class _Axis:
    """One channel axis of a layer: `fixed` channels and those of some groups."""

    def __init__(self, size: int, members: dict[int, int], groups: Sequence[ChannelGroup]) -> None:
        self.fixed = size - sum(members.values())
        self.shares = [(n, count / groups[n].channels) for n, count in members.items()]

    def at(self, widths: Sequence[int]) -> float:
        return self.fixed + sum(widths[n] * share for n, share in self.shares)
