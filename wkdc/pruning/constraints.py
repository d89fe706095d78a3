"""What is asked of a plan besides its target, and what does not go together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from wkdc.errors import OptionError
from wkdc.networks.animegan import InvertedBlock
from wkdc.pruning.channels import ChannelGroup
from wkdc.pruning.importance import Importance
from wkdc.pruning.target import Target
from wkdc.pruning.width_search import PACE, Prefer

Widths = Literal["uniform", "search"] | Sequence[int]


@dataclass(frozen=True)
class Constraints:
    """What is asked of a plan besides its target.

    Attributes:
        widths: `uniform`, `search`, or one number for each group in the order of the forward pass
            (0 drops a residual block); for a ResNet also encoder, stream, one number for the inside
            of all blocks, decoder. By default `search` where there are images.
        prefer: what the search is after: `fidelity` whatever the time, `balance` in at most a tenth
            more time than uniform widths would take (the default), `speed` in less than they.
        round_to: widths are multiples of it.
        drop_blocks: how many residual blocks go; by default as many as the search finds good.
        importance: see `wkdc.pruning.importance.rank`.
        seed: of the importance `random`.
    """

    widths: Widths | None = None
    prefer: Prefer | None = None
    round_to: int | None = None
    drop_blocks: int | None = None
    importance: Importance = "magnitude"
    seed: int = 0


def check_constraints(constraints: Constraints, target: Target | None, images: bool) -> None:
    """Raise OptionError for constraints that do not go together."""
    numbers_given = not isinstance(constraints.widths, str)
    if not numbers_given and constraints.widths not in ("uniform", "search"):
        raise OptionError(
            f"widths {constraints.widths!r} is not known; choose uniform, search, or numbers: "
            "32,96,144,69,96,32"
        )
    if numbers_given == (target is not None):
        said = (
            "a target and widths in numbers were given"
            if numbers_given
            else "nothing says how small"
        )
        raise OptionError(f"{said}; give one of ratio, params, macs, latency and widths")
    if constraints.prefer not in (None, *PACE):
        raise OptionError(f"prefer {constraints.prefer!r} is not known; choose {', '.join(PACE)}")
    searched = constraints.widths == "search"
    if constraints.prefer is not None and not searched:
        raise OptionError(f"prefer {constraints.prefer} is for a search of widths; leave it out")
    if constraints.prefer is not None and target is not None and target.quantity == "latency":
        raise OptionError(
            f"prefer {constraints.prefer} says how fast, and so does a latency; leave one out"
        )
    if searched and not images:
        raise OptionError("a search of widths needs images to see what is missed; calibrate")
    if numbers_given and (constraints.round_to is not None or constraints.drop_blocks is not None):
        raise OptionError("widths in numbers are taken as they are; round_to and drop_blocks not")
    if constraints.round_to is not None and constraints.round_to < 1:
        raise OptionError(f"round_to is {constraints.round_to}; give 1 or more, such as 16")
    if constraints.drop_blocks is not None and constraints.drop_blocks < 0:
        raise OptionError(f"drop_blocks is {constraints.drop_blocks}; give 0 or more")
    if constraints.drop_blocks and not images:
        raise OptionError("dropping blocks needs images to see which is missed least; calibrate")


def must_differ(network: nn.Module, groups: Sequence[ChannelGroup]) -> tuple[tuple[int, int], ...]:
    """Pairs of groups that may not have one width: before and behind a block without a skip.

    The original code of AnimeGANv2 adds a skip where a block makes as many channels as it reads.
    """
    made = {name: number for number, group in enumerate(groups) for name in group.producers}
    read = {name: number for number, group in enumerate(groups) for name in group.readers}
    blocks = [
        name
        for name, block in network.named_modules()
        if isinstance(block, InvertedBlock) and not block.skips
    ]
    ends = [(f"{name}.layers.0.1", f"{name}.layers.2") for name in blocks]
    return tuple((read[a], made[b]) for a, b in ends if a in read and b in made)


def spell_out(numbers: Sequence[int], groups: Sequence[ChannelGroup]) -> list[int]:
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
                f"width {width} is not allowed for {next(iter(group.producers))}; give {least} to "
                f"{group.channels} (the teacher has {full})"
            )
    if inner and not any(widths[n] for n in inner):
        raise OptionError("these widths leave no residual block; keep one")
    if widths == [group.channels for group in groups]:
        raise OptionError("these are the teacher's widths; give smaller ones")
    return widths
