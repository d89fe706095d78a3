"""A plan: which channels of a teacher stay, what that costs, and how near the student will be."""

import copy
import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.pruning.activations import Observation
from wkdc.pruning.channels import ChannelGroup, channel_groups, slice_channels
from wkdc.pruning.cost_model import Cost
from wkdc.pruning.width_search import TOLERANCE


@dataclass(frozen=True)
class Clock:
    """Milliseconds for one image in ONNX Runtime, teacher and student in turn.

    Attributes:
        expected_ms: what the cost model, scaled by the teacher's time, says; None where it was
            another network that was pruned, as of `--antialias`.
        wanted_ms: what was asked for; None where no time was.
    """

    teacher_ms: float
    student_ms: float
    expected_ms: float | None
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
        teacher: whose student it is, without the blurs that are dropped.
        groups: the channels that go together, in the order of the forward pass.
        kept: of each group, the channels that stay; none where a block goes.
        left: layers that stay as they are, by name, but the one that makes the image.
        cost: of every choice of widths.
        observed: the teacher at work; None without images.
        expected_error: the image's mean squared error without training, as the measured error
            increase of each group adds up; None without images.
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
            next(iter(group.producers)): (group.channels, len(kept))
            for group, kept in zip(self.groups, self.kept, strict=True)
        }

    @property
    def expected_psnr_db(self) -> float | None:
        """`expected_error` as PSNR in dB, of images in [-1, 1]."""
        if self.expected_error is None:
            return None
        return 10 * math.log10(4 / max(self.expected_error, 1e-12))

    def sliced(self) -> nn.Module:
        """A network of the channels that stay, with the teacher's weights and names of layers."""
        network, graph, groups = traced(self.teacher)
        slice_channels(network, graph, groups, self.kept)
        return network


def traced(teacher: Generator) -> tuple[nn.Module, Any, list[ChannelGroup]]:
    """A copy of the teacher's network, Torch-Pruning's graph of it, and its groups."""
    network = copy.deepcopy(teacher.network).requires_grad_(True)
    graph, groups = channel_groups(
        network, in_channels=teacher.in_channels, smallest=teacher.architecture.smallest
    )
    return network, graph, groups
