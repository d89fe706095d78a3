"""What is measured of a teacher before widths are chosen: what its channels are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from wkdc.checkpoints.checkpoint import Generator
from wkdc.networks.architecture import valid_side
from wkdc.pruning.activations import Observation, observe
from wkdc.pruning.channels import CONVOLUTIONS, ChannelGroup, example_image, trace_flow
from wkdc.pruning.constraints import must_differ
from wkdc.pruning.cost_model import Cost
from wkdc.pruning.importance import Importance, Ranking, accumulate_gradients, rank
from wkdc.pruning.plan import Plan
from wkdc.pruning.sensitivity import CROP, image_damage


@dataclass(frozen=True)
class TeacherAnalysis:
    """What is known of the teacher.

    Attributes:
        left: see `Plan`.
        cost: of every choice of widths.
        rankings: of each group's channels.
        damage: of each group, see `image_damage`; none without images.
        observed: the teacher at work; None without images.
        apart: see `must_differ`.
    """

    teacher: Generator
    groups: list[ChannelGroup]
    left: tuple[str, ...]
    cost: Cost
    rankings: list[Ranking]
    damage: list[Tensor]
    observed: Observation | None
    apart: tuple[tuple[int, int], ...]

    def plan(self, widths: Sequence[int], step: int = 1) -> Plan:
        """The plan of these widths, one for each group; a `step` off where two are equal."""
        widths = list(widths)
        for first, second in self.apart:
            if widths[first] == widths[second]:
                widths[first] += -step if widths[first] > step else step
        kept = tuple(
            sorted(ranking.order[:width])
            for ranking, width in zip(self.rankings, widths, strict=True)
        )
        error = None
        if self.damage:
            error = sum(float(row[k]) for row, k in zip(self.damage, widths, strict=True))
        groups = tuple(self.groups)
        return Plan(self.teacher, groups, kept, self.left, self.cost, self.observed, error)


def analyze_teacher(
    teacher: Generator,
    network: nn.Module,
    groups: list[ChannelGroup],
    cost: Cost,
    images: Sequence[Tensor],
    importance: Importance,
    *,
    seed: int,
    tell: Callable[[str, float], None],
) -> TeacherAnalysis:
    """Run the teacher, rank the channels of every group, and see what narrowing it does.

    Args:
        network, groups: what `traced` made of the teacher; gradients may be left in the first.
        images: calibration images, see `make_plan`.
        importance, seed: see `rank`.
        tell: called with what is being done, and the share of it all that is done.

    Raises:
        OptionError: see `rank`.
    """
    observed = None
    if images:
        observed = observe(
            teacher.network,
            images,
            on_image=lambda share: tell("running the teacher", 0.55 * share),
        )
    if importance == "taylor":
        accumulate_gradients(network, images)
    rankings = []
    moments = observed.moments if observed is not None else {}
    for number, group in enumerate(groups, 1):
        rankings.append(
            rank(
                group,
                importance,
                network=teacher.network,
                moments=moments,
                seed=seed,
            )
        )
        tell("ranking channels", 0.55 + 0.1 * number / len(groups))
    damage: list[Tensor] = []
    if observed is not None:
        damage = image_damage(
            teacher.network,
            groups,
            rankings,
            observed,
            side=valid_side(CROP, teacher.architecture),
            on_group=lambda share: tell("narrowing one group at a time", 0.65 + 0.35 * share),
        )
    return TeacherAnalysis(
        teacher,
        groups,
        _left(teacher, groups),
        cost,
        rankings,
        damage,
        observed,
        must_differ(network, groups),
    )


def _left(teacher: Generator, groups: Sequence[ChannelGroup]) -> tuple[str, ...]:
    """The layers with kernels or matrices that no group shrinks, but could.

    The one before the image cannot, nor can those of a single channel, such as scores.
    """
    network, smallest = teacher.network, teacher.architecture.smallest
    flow = trace_flow(network, example_image(teacher.in_channels, smallest))
    made = {name for group in groups for name in group.producers} | {flow.order[-1]}
    return tuple(
        name
        for name, layer in network.named_modules()
        if name not in made
        and not list(layer.children())
        and any(parameter.dim() > 1 for parameter in layer.parameters())
        and not (isinstance(layer, CONVOLUTIONS) and layer.out_channels == 1)
    )
